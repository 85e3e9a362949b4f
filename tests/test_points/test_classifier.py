"""Points of mmpretrain's classifiers, compared with mmpretrain's own results."""
import numpy as np
import pytest
import torch
from support.classifiers import batch, conformer, needs_mmpretrain, pair, resnet, swin, vit
from torch.nn.functional import cross_entropy, softmax

needs_mmpretrain()

from conftest import build, observe, step  # noqa: E402

from mmkd.compare.classes import match_classes  # noqa: E402
from mmkd.points import Classifier, family_of, find_point, points_of  # noqa: E402
from mmkd.points.recorder import recording  # noqa: E402

KD = dict(type='mmkd.KDLoss', on='cls')


def levels_at(model, name, inputs):
    """Return the point, and its levels in a plain forward pass."""
    point = find_point(model, name)
    modules = {path: model.get_submodule(path) for path in point.watched}
    with torch.no_grad(), recording(model, modules) as records:
        model(inputs, mode='tensor')
    return point, point.levels(records)


@pytest.mark.parametrize(('config', 'is_multi'), [
    (resnet(), False), (resnet(head='StackedLinearClsHead', mid_channels=[6]), False),
    (resnet(head='MultiLabelLinearClsHead'), True), (vit(), False), (swin(), False),
    (conformer(), False), (resnet(head='EfficientFormerClsHead'), False),
    (vit(kind='DistilledVisionTransformer', head='DeiTClsHead'), False)],
    ids=['linear', 'stacked', 'multi-label', 'vit', 'swin', 'conformer', 'two heads', 'deit'])
def test_class_logits_are_those_of_predict(config, is_multi):
    model = build(config, 'mmpretrain')
    model.init_weights()
    model.eval()
    assert isinstance(family_of(model), Classifier)
    data = batch(model, training=False)
    point, (logits, ) = levels_at(model, 'cls', data['inputs'])
    with torch.no_grad():
        predicted = torch.stack([one.pred_score for one in model(**data, mode='predict')])
    assert point.use_sigmoid is is_multi
    assert (point.num_classes, point.num_named) == (4, 4)
    torch.testing.assert_close(logits.sigmoid() if is_multi else softmax(logits, 1), predicted)


def test_columns_of_heads_that_do_not_count_their_classes():
    vig = build(resnet(head='VigClsHead', hidden_dim=6), 'mmpretrain')
    assert points_of(vig)['cls'].num_classes == 4
    csra = build(dict(resnet(out=(3, )), neck=None, head=dict(
        type='CSRAClsHead', num_classes=4, in_channels=64, num_heads=2, lam=0.1)), 'mmpretrain')
    assert (points_of(csra)['cls'].num_classes, points_of(csra)['cls'].use_sigmoid) == (4, True)
    bare = build(dict(resnet(), neck=None, backbone=dict(type='LeNet5', num_classes=7),
                      head=dict(type='ClsHead')), 'mmpretrain')
    assert points_of(bare)['cls'].num_classes == 7


def test_tokens_of_vit_become_maps_without_the_class_token():
    model = build(vit('raw', size=(64, 32)), 'mmpretrain').eval()
    model.head = None
    inputs = torch.randn(2, 3, 64, 32)
    _, (level, ) = levels_at(model, 'backbone', inputs)
    with torch.no_grad():
        tokens = model.extract_feat(inputs)[0]
    assert (tokens.shape, level.shape) == ((2, 9, 24), (2, 24, 4, 2))
    torch.testing.assert_close(level[1, :, 3, 1], tokens[1, 1 + 3 * 2 + 1])
    _, (inner, ) = levels_at(model, 'backbone.layers.0', inputs)
    assert inner.shape == (2, 24, 4, 2)
    assert not torch.equal(inner, level)


def test_tokens_of_swin_become_maps():
    model = build(swin(), 'mmpretrain').eval()
    inputs = torch.randn(1, 3, 64, 96)
    _, levels = levels_at(model, 'backbone', inputs)
    assert [tuple(one.shape) for one in levels] == [
        (1, 8, 16, 24), (1, 16, 8, 12), (1, 32, 4, 6), (1, 64, 2, 3)]
    # Patches are merged between stages, so a stage returns half the size, without the norm.
    _, (stage, ) = levels_at(model, 'backbone.stages.3', inputs)
    assert stage.shape == (1, 64, 2, 3)
    torch.testing.assert_close(model.backbone.norm3(stage.permute(0, 2, 3, 1)),
                               levels[3].permute(0, 2, 3, 1))


@pytest.mark.parametrize(('student', 'teacher', 'on', 'shapes'), [
    (resnet(), resnet(16), 'backbone', [(64, 16, 16), (64, 8, 8), (64, 4, 4), (64, 2, 2)]),
    (resnet(), swin(), 'backbone', None),
    (resnet(out=(2, 3)), vit(), dict(student='backbone.layer3', teacher='backbone.layers.1'), None),
    (vit(), resnet(), dict(student='backbone.layers.1', teacher='backbone.layer3'), None),
    (resnet(), resnet(16), 'neck', None)], ids=['maps', 'swin', 'vit', 'vit learns', 'vectors'])
def test_features_are_compared_and_teach(student, teacher, on, shapes):
    if teacher.get('neck') is None and isinstance(on, dict):
        student = dict(student, head=dict(student['head'], in_channels=64))
    model = pair(student, teacher, dict(type='mmkd.MSELoss', on=on))
    losses, *_ = step(model, *batch(model).values())
    values, = [value for name, value in losses.items() if 'mse' in name]
    sum(values).backward()
    assert any(one.grad is not None and one.grad.abs().sum() > 0
               for one in model.student.backbone.parameters())


def test_a_teacher_sees_its_own_normalisation():
    other = dict(resnet(), data_preprocessor=dict(
        type='ClsDataPreprocessor', mean=[1., 2., 3.], std=[9., 8., 7.], to_rgb=False))
    model = pair(resnet(), other, KD)
    model.prepare()
    data = batch(model)
    del data['data_samples'][0].img_shape  # as in the test pipelines of CIFAR
    _, told = observe(model, data['inputs'], data['data_samples'])
    teacher = model.teacher.model
    own = batch(teacher)['inputs']
    with torch.no_grad():
        expected = teacher(own, mode='tensor')
    answer, = told[''].values()
    torch.testing.assert_close(answer.levels[0], expected, rtol=1e-4, atol=1e-5)


# --- labels ---------------------------------------------------------------------------------------


def dkd(student, teacher, labels, beta=0.5):
    """Equation 7 of DKD in float64."""
    p, q = (softmax(one.double(), 1) for one in (student, teacher))
    total = 0.
    for one, other, label in zip(p, q, labels):
        b, c = (torch.stack([side[label], 1 - side[label]]) for side in (one, other))
        rest = [k for k in range(len(one)) if k != label]
        s, t = (side[rest] / side[rest].sum() for side in (one, other))
        total += (c * (c / b).log()).sum() + beta * (t * (t / s).log()).sum()
    return total / len(labels)


@pytest.mark.parametrize('settings', [
    dict(), dict(loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, num_classes=4)),
    dict(loss=dict(type='CrossEntropyLoss', use_soft=True), pre=dict(to_onehot=True))],
    ids=['labels', 'smooth', 'one-hot'])
def test_labels_reach_a_loss_that_asks_for_them(settings):
    model = pair(resnet(**settings), resnet(16), dict(type='mmkd.DKDLoss', on='cls', beta=0.5))
    data = batch(model, (3, 1, 0, 0))
    losses, seen, told = step(model, *data.values())
    student = model.terms[0].student_point.levels(seen)[0]
    teacher = next(iter(told[''].values())).levels[0]
    torch.testing.assert_close(losses['loss_cls_dkd'][0].double(),
                               dkd(student, teacher, (3, 1, 0, 0)), rtol=1e-4, atol=1e-6)


def test_mixed_images_have_the_label_of_the_greater_share():
    mixup = dict(batch_augments=dict(augments=[dict(type='Mixup', alpha=0.8)]))
    model = pair(resnet(pre=mixup), resnet(16), dict(type='mmkd.DKDLoss', on='cls', beta=0.5))
    torch.manual_seed(5)  # Mixup draws the permutation with torch, the ratio with numpy
    np.random.seed(3)
    data = batch(model, (3, 1, 0, 0))
    scores = torch.stack([one.gt_score for one in data['data_samples']])
    assert (scores.max(1).values < 1).any()  # some images are mixed
    losses, seen, told = step(model, *data.values())
    teacher = next(iter(told[''].values())).levels[0]
    student = model.terms[0].student_point.levels(seen)[0]
    expected = dkd(student, teacher, scores.argmax(1).tolist())
    torch.testing.assert_close(losses['loss_cls_dkd'][0].double(), expected, rtol=1e-4, atol=1e-6)


def test_sum_of_conformers_classifiers_is_compared():
    model = pair(conformer(), resnet(), dict(type='mmkd.DKDLoss', on='cls', beta=0.5))
    losses, seen, told = step(model, *batch(model, (2, 2, 1, 0)).values())
    conv, tokens = seen['head'][0].output
    teacher = next(iter(told[''].values())).levels[0]
    torch.testing.assert_close(losses['loss_cls_dkd'][0].double(),
                               dkd(conv + tokens, teacher, (2, 2, 1, 0)), rtol=1e-4, atol=1e-6)


def test_alpha_mixes_soft_and_hard_targets():
    model = pair(resnet(), resnet(16), dict(KD, tau=4., alpha=0.9))
    losses, seen, told = step(model, *batch(model, (3, 1, 0, 0)).values())
    student = model.terms[0].student_point.levels(seen)[0]
    teacher = next(iter(told[''].values())).levels[0]
    hard = cross_entropy(student, torch.tensor([3, 1, 0, 0]))
    p, q = softmax(student / 4, 1), softmax(teacher / 4, 1)
    torch.testing.assert_close(losses['loss'], 0.1 * hard)
    torch.testing.assert_close(losses['loss_cls_kd'][0],
                               0.9 * 16 * (q * (q / p).log()).sum(1).mean(), rtol=1e-4, atol=1e-5)


MULTI = dict(head='MultiLabelLinearClsHead')


def test_several_labels_are_independent_probabilities():
    model = pair(resnet(**MULTI), resnet(16, **MULTI), KD)
    losses, seen, told = step(model, *batch(model, ([0, 2], [1], [3, 1], [0])).values())
    student = model.terms[0].student_point.levels(seen)[0]
    p, q = student.sigmoid(), next(iter(told[''].values())).levels[0].sigmoid()
    each = q * (q / p).log() + (1 - q) * ((1 - q) / (1 - p)).log()
    torch.testing.assert_close(losses['loss_cls_kd'][0], each.sum(1).mean(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(('student', 'teacher', 'entry', 'words'), [
    (resnet(**MULTI), resnet(**MULTI), dict(type='mmkd.DKDLoss', on='cls'), 'may have several'),
    (resnet(**MULTI), resnet(**MULTI), dict(type='mmkd.NKDLoss', on='cls', use_sigmoid=False),
     'mmkd.KDLoss or mmkd.DISTLoss'),
    (resnet(), resnet(**MULTI), KD, 'teacher by sigmoid'),
    (resnet(), resnet(), dict(KD, alpha=0.5, replaces='background'), 'which have none'),
    (resnet(head='ArcFaceClsHead'), resnet(), KD, 'adds a margin'),
    (dict(resnet(), head=None), resnet(), KD, 'it has no head'),
    (resnet(), resnet(classes=5), KD, 'columns for 5 classes'),
    (resnet(), resnet(), dict(type='mmkd.FGDLoss', on='backbone'), 'does not contain'),
])
def test_bad_entries_are_refused_before_the_first_batch(student, teacher, entry, words):
    with pytest.raises(ValueError, match=words):
        pair(student, teacher, entry).prepare()


# --- predictions for other classes ----------------------------------------------------------------


def predicted(score, label):
    from mmpretrain.structures import DataSample
    return DataSample().set_pred_score(torch.tensor(score)).set_pred_label(label)


def test_predictions_are_converted_to_other_classes():
    one = Classifier.relabel(predicted([0.1, 0.7, 0.2], 1), [2, 0])
    assert (one.pred_score.tolist(), one.pred_label.tolist()) == ([pytest.approx(0.2),
                                                                   pytest.approx(0.1)], [0])
    several = Classifier.relabel(predicted([0.9, 0.1, 0.8], [0, 2]), [2, 1])
    assert several.pred_label.tolist() == [0]
    assert Classifier.relabel(predicted([0.1, 0.9], 1), None).pred_label.tolist() == [1]


def test_equal_lists_of_classes_may_have_one_name_twice():
    """ImageNet has two classes named crane. In another order they cannot be matched."""
    assert match_classes(['crane', 'ox', 'crane'], ['crane', 'ox', 'crane']) is None
    with pytest.raises(ValueError, match='of the same name, crane'):
        match_classes(['ox', 'crane', 'crane'], ['crane', 'ox', 'crane'])
