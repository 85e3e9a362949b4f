"""Soft targets that replace hard targets, everywhere or only on the background."""
from types import SimpleNamespace

import pytest
import torch
from conftest import build, distiller, retinanet, save_teacher, segmentor, two_stage
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import nn

from mmkd.compare.spec import TermSpec
from mmkd.losses import KDLoss
from mmkd.points.background import background_of
from mmkd.training.targets import HEEDFUL, hard_targets_mixed

KD = dict(type='mmkd.KDLoss', on='cls')


def prepared(student, teacher, *entries, scope='mmdet'):
    torch.manual_seed(3)
    model = build(distiller(student, teacher, *entries), scope)
    model.init_weights()
    return model.train()


def batch(model):
    torch.manual_seed(5)
    return model.data_preprocessor(
        demo_mm_inputs(2, (3, 64, 96), num_items=[2, 1], num_classes=3), True)


def losses_of(model, data):
    torch.manual_seed(7)
    losses = model(**data, mode='loss')
    return {name: torch.stack(list(value)).sum() if isinstance(value, list) else value
            for name, value in losses.items()}


@pytest.mark.parametrize('kind', [retinanet, two_stage, lambda: two_stage('cascade-rcnn')])
def test_alpha_is_the_share_of_the_soft_targets(tmp_path, kind):
    import numpy
    teacher = save_teacher(tmp_path / 't.pth', kind())
    found = {}
    for alpha in (None, 0., 0.25, 1.):
        model = prepared(kind(), teacher, dict(KD, alpha=alpha))
        numpy.random.seed(0)
        found[alpha] = losses_of(model, batch(model))
    names = [name for name in found[None] if name.endswith('loss_cls')]
    assert names
    for alpha in (0., 0.25, 1.):
        for name, value in found[None].items():
            share = 1 - alpha if name in names else alpha if name == 'loss_cls_kd' else 1
            torch.testing.assert_close(found[alpha][name], share * value, rtol=1e-5, atol=1e-7)


def test_alpha_of_the_loss_does_not_mix_targets(tmp_path):
    """DKD and PGD have an argument α of their own."""
    import numpy
    teacher = save_teacher(tmp_path / 't.pth', two_stage())
    found = {}
    for alpha in (1., 2.5):
        entry = dict(type='mmkd.DKDLoss', on='cls', alpha=alpha, beta=0.)
        model = prepared(two_stage(), teacher, entry)
        assert model.terms[0].loss.alpha == alpha
        assert model.terms[0].spec.alpha is None
        numpy.random.seed(0)
        found[alpha] = losses_of(model, batch(model))
    assert found[1.]['loss_cls'] > 0
    for name, value in found[1.].items():
        torch.testing.assert_close(found[2.5][name], value * (2.5 if 'dkd' in name else 1))
    spec = TermSpec.of(dict(type='mmkd.PGDClsLoss', on='neck', alpha=5e-5))
    assert spec.build_loss().alpha == 5e-5
    assert spec.alpha is None


def test_segmentor_mixes_the_head_that_is_compared(tmp_path):
    teacher = save_teacher(tmp_path / 't.pth', segmentor(), scope='mmseg', classes=range(19))
    data = street()
    found = [losses_of(prepared(segmentor(dropout_ratio=0.), teacher, dict(KD, alpha=alpha),
                                scope='mmseg'), data) for alpha in (None, 0.25)]
    torch.testing.assert_close(found[1]['decode.loss_ce'], 0.75 * found[0]['decode.loss_ce'])
    torch.testing.assert_close(found[1]['loss_cls_kd'], 0.25 * found[0]['loss_cls_kd'])
    assert found[1]['aux.loss_ce'] > 0


def street():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 19, (2, 1, 64, 64), generator=generator)
    labels[:, :, :32] = 255
    samples = [SegDataSample(gt_sem_seg=PixelData(data=one), metainfo=dict(
        img_shape=(64, 64), ori_shape=(64, 64))) for one in labels]
    return dict(inputs=torch.randn(2, 3, 64, 64, generator=generator), data_samples=samples)


def test_background_alone(tmp_path):
    """Labels keep their full weight at positive anchors. Elsewhere soft targets replace a part."""
    teacher = save_teacher(tmp_path / 't.pth', retinanet(width=12))
    entry = dict(KD, alpha=0.5, replaces='background', per_anchor=True)
    model = prepared(retinanet(), teacher, entry)
    data = batch(model)
    calls = []
    focal = model.bbox_head.loss_cls.forward
    model.bbox_head.loss_cls.forward = lambda *args, **kwargs: calls.append(
        (args, kwargs)) or focal(*args, **kwargs)
    losses = model(**data, mode='loss')
    model.bbox_head.loss_cls.forward = focal
    with torch.no_grad():
        told = model.teacher.model
        told = told.bbox_head(told.extract_feat(data['inputs']))[0]
    assert len(calls) == 5
    for (args, kwargs), found, hard, teacher_logits in zip(
            calls, losses['loss_cls_kd'], losses['loss_cls'], told):
        logits, labels, weight = args
        is_background = labels == 3
        # The weight that the loss gets: 1, or a half on the background.
        assert set(weight[~is_background].tolist()) <= {1.}
        assert set(weight[is_background].tolist()) <= {0.5, 0.}
        torch.testing.assert_close(hard, focal(logits, labels, weight, **kwargs))
        if is_background.any():
            rows = teacher_logits.permute(0, 2, 3, 1).reshape(-1, 3)
            expected = 0.5 * KDLoss(use_sigmoid=True)(logits[is_background], rows[is_background])
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-8)
    assert sum((args[1] < 3).sum() for args, _ in calls) > 0


def test_background_of_rois(tmp_path):
    teacher = save_teacher(tmp_path / 't.pth', two_stage(depth=34))
    model = prepared(two_stage(), teacher, dict(KD, alpha=1., replaces='background'))
    losses = losses_of(model, batch(model))
    losses['loss_cls_kd'].backward()
    assert model.roi_head.bbox_head.fc_cls.weight.grad.any()


def test_unlabelled_pixels_are_a_segmentors_background(tmp_path):
    """The loss on labels is unchanged, because ignored pixels have none. The term counts only
    there.
    """
    teacher = save_teacher(tmp_path / 't.pth', segmentor(), scope='mmseg', classes=range(19))
    plain, model = (prepared(segmentor(dropout_ratio=0.), teacher, entry, scope='mmseg')
                    for entry in (KD, dict(KD, alpha=1., replaces='background')))
    data = street()
    one, other = losses_of(plain, data), losses_of(model, data)
    assert one['decode.loss_ce'] == other['decode.loss_ce']
    masked = prepared(segmentor(dropout_ratio=0.), teacher, dict(KD, region='valid'), scope='mmseg')
    valid = losses_of(masked, data)['loss_cls_kd']
    # Half of the pixels have labels: the mean over all is the mean of the means of both halves.
    torch.testing.assert_close(one['loss_cls_kd'], (valid + other['loss_cls_kd']) / 2)


def test_loss_that_ignores_weights_is_refused(tmp_path):
    student = segmentor()
    student['decode_head']['loss_decode'] = dict(type='LovaszLoss', reduction='none')
    teacher = save_teacher(tmp_path / 't.pth', segmentor(), scope='mmseg', classes=range(19))
    model = prepared(student, teacher, dict(KD, alpha=0.5, replaces='background'), scope='mmseg')
    with pytest.raises(ValueError, match='LovaszLoss, the loss of the student, does not support '
                                         "them: it stays .*write `replaces='all'`"):
        losses_of(model, street())


def mixed(scores, labels, **criterion):
    """Return the loss with half of the hard targets on the background, and the loss module."""
    with DefaultScope.overwrite_default_scope('mmdet'):  # whichever scope another test has left
        model = nn.ModuleDict(dict(loss=MODELS.build(dict(criterion, num_classes=3))))
    point = SimpleNamespace(criteria=['loss'], num_classes=4, num_named=3, use_sigmoid=False)
    with hard_targets_mixed(model, point, 0.5, 'background'):
        return model['loss'](scores, labels), model['loss']


def test_loss_with_state_is_checked_on_a_copy():
    """The check uses a copy. Equalization loss ignores weights, Seesaw loss does not; both count
    labels.
    """
    scores, labels = torch.randn(8, 5), torch.tensor([0, 1, 2, 3, 3, 3, 0, 0])
    with pytest.raises(ValueError, match='EQLV2Loss, .* it stays the same when all are 0'):
        mixed(scores[:, :4], labels, type='EQLV2Loss')
    seesaw = dict(type='SeesawLoss', return_dict=False)
    loss, criterion = mixed(scores, labels, **seesaw)
    assert criterion in HEEDFUL
    assert criterion.cum_samples.tolist() == [3, 1, 1, 3]
    apart = MODELS.build(dict(seesaw, num_classes=3))
    torch.testing.assert_close(loss, apart(scores, labels, torch.where(labels == 3, 0.5, 1.)))


@pytest.mark.parametrize(('entry', 'message'), [
    (dict(alpha=1.5), '`alpha` must be between 0 and 1'),
    (dict(alpha='half'), '`alpha` must be a number'),
    (dict(alpha=0.5, replaces='foreground'), '`replaces` must be one of'),
    (dict(replaces='background'), '`replaces=.background.` needs `alpha`'),
])
def test_mistakes_are_named(entry, message):
    with pytest.raises((TypeError, ValueError), match=message):
        build(distiller(retinanet(), dict(config=dict(model={}), checkpoint=None),
                        dict(KD, **entry)))


@pytest.mark.parametrize(('entry', 'message'), [
    (dict(type='mmkd.MSELoss', on='neck', alpha=0.5),
     'does not know which loss this is for `neck`'),
    (dict(KD, alpha=0.5, replaces='background'), '9 anchors at a position.*`per_anchor=True`'),
])
def test_what_cannot_be_mixed_is_refused_before_training(tmp_path, entry, message):
    teacher = save_teacher(tmp_path / 't.pth', retinanet())
    with pytest.raises(ValueError, match=message):
        prepared(retinanet(), teacher, entry)


def test_labels_of_anchors_are_ordered_by_position():
    labels = torch.arange(2 * 3 * 4 * 5) % 7 == 0  # image, height, width, anchor
    weight, = background_of([labels], [torch.Size((10, 9, 3, 4))], anchors=5)
    for image in range(2):
        for y in range(3):
            for x in range(4):
                for anchor in range(5):
                    number = ((image * 3 + y) * 4 + x) * 5 + anchor
                    assert weight[image * 5 + anchor, y, x] == (number % 7 == 0)
