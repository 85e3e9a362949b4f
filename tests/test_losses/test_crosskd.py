"""CrossKD compared with loops and the authors' numbers, layer by layer, and by its method."""
import copy
import math

import pytest
import torch
from conftest import build, distiller, retinanet, save_teacher
from loops import images
from mmengine.config import Config
from support.authors import cases

from mmkd import CrossKDBinsLoss, CrossKDBoxLoss, CrossKDCenternessLoss, CrossKDLoss
from mmkd.files.zoo import config_path
from mmkd.inspection import entries_of, inspect_pair
from mmkd.losses.boxes import aligned_giou
from mmkd.networks.continued import rescaled

AUTHORS = {settings['head']: (inputs, outputs) for settings, inputs, outputs in cases('crosskd')}


def tower(convs=4, channels=16, **more):
    """A RetinaNet with ``convs`` convolutions in each tower."""
    model = retinanet(channels=channels, **more)
    model['bbox_head']['stacked_convs'] = convs
    return model


def other_head(config, channels=16):
    """A detector of the zoo with the backbone and neck of :func:`retinanet`."""
    found = Config.fromfile(config_path(f'mmdet::{config}')).model.to_dict()
    norm = dict(type='GN', num_groups=4, requires_grad=True)
    model = dict(retinanet(channels=channels), type=found['type'], bbox_head=dict(
        found['bbox_head'], num_classes=3, in_channels=channels, feat_channels=channels,
        norm_cfg=norm), test_cfg=dict(found['test_cfg'], score_thr=0.))
    model.pop('train_cfg')
    return dict(model, **({'train_cfg': found['train_cfg']} if 'train_cfg' in found else {}))


HEADS = dict(GFL='gfl/gfl_r50_fpn_1x_coco.py', ATSS='atss/atss_r50_fpn_1x_coco.py',
             FCOS='fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py')


def entries(model, method='crosskd'):
    pair = inspect_pair(*(Config(dict(default_scope='mmdet', model=copy.deepcopy(model)))
                          for _ in range(2)))
    return entries_of(method, pair)


def named_of(inputs, number):
    return dict(label_weights=inputs['label_weights'][number],
                num_positives=torch.tensor(inputs['num_positives']),
                **({'centerness_sum': inputs['centerness_sum']}
                   if 'centerness_sum' in inputs else {}))


@pytest.mark.parametrize('head', ['GFL', 'RetinaNet', 'ATSS', 'FCOS'])
def test_as_the_authors(head):
    """Compared with the loss functions of the authors' detectors, level by level."""
    inputs, outputs = AUTHORS[head]
    student = [one.requires_grad_() for one in inputs['student']]
    more = {}
    if head == 'FCOS':
        more = dict(divide_by='centerness')
    loss = CrossKDLoss(loss_weight=0.4 if more else 1., **more)
    found = sum(loss(one, other, **named_of(inputs, number))
                for number, (one, other) in enumerate(zip(student, inputs['teacher'])))
    torch.testing.assert_close(found, outputs['classes'], rtol=1e-6, atol=0)
    for mine, theirs in zip(torch.autograd.grad(found, student), outputs['gradients']):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-9)
    if head == 'GFL':
        bins = [one.requires_grad_() for one in inputs['student_bins']]
        found = CrossKDBinsLoss()(bins, inputs['teacher_bins'],
                                  label_weights=inputs['label_weights'],
                                  teacher_also=[[one] for one in inputs['teacher']])
        for mine, theirs in zip(torch.autograd.grad(found, bins), outputs['gradients_of_boxes']):
            torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-9)
    else:
        loss = CrossKDBoxLoss('iou', loss_weight=0.75, **more) if more else CrossKDBoxLoss()
        found = sum(loss(one, other, teacher_also=[inputs['teacher'][number]],
                         **named_of(inputs, number)) for number, (one, other) in enumerate(
                             zip(inputs['student_boxes'], inputs['teacher_boxes'])))
    torch.testing.assert_close(found, outputs['boxes'], rtol=1e-6, atol=0)


def test_centerness_as_the_authors():
    inputs, outputs = AUTHORS['ATSS']
    student = [one.requires_grad_() for one in inputs['student_centerness']]
    found = sum(CrossKDCenternessLoss()(
        one, other, labels=labels, num_positives=torch.tensor(inputs['num_positives']),
        teacher_also=[logits]) for one, other, labels, logits in zip(
            student, inputs['teacher_centerness'], inputs['labels'], inputs['teacher']))
    torch.testing.assert_close(found, outputs['centerness'].double(), rtol=1e-6, atol=0)
    for mine, theirs in zip(torch.autograd.grad(found, student),
                            outputs['gradients_of_centerness']):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-9)


def test_scaled_features_as_the_authors():
    inputs, outputs = AUTHORS['any']
    student = inputs['student'].requires_grad_()
    found = rescaled(student, inputs['teacher'])
    torch.testing.assert_close(found, outputs['value'])
    gradient, = torch.autograd.grad((found * inputs['factor']).sum(), student)
    torch.testing.assert_close(gradient, outputs['gradient'], rtol=1e-6, atol=1e-9)


def test_bins_by_loops():
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 2, 12, 2, 3).double()
    logits, weights = torch.randn(2, 3, 2, 3).double(), (torch.rand(2, 2, 3) > 0.3).double()
    top, bottom = 0., 0.
    for n in range(2):
        for y in range(2):
            for x in range(3):
                if not weights[n, y, x]:
                    continue
                score = max(1 / (1 + math.exp(-c)) for c in logits[n, :, y, x].tolist())
                bottom += score
                for e in range(4):
                    p, q = ([math.exp(v / 2) for v in side[n, 3 * e:3 * e + 3, y, x].tolist()]
                            for side in (teacher, student))
                    p, q = ([v / sum(side) for v in side] for side in (p, q))
                    top += score * 4 * sum(a * math.log(a / b) for a, b in zip(p, q)) / 4
    found = CrossKDBinsLoss(tau=2., loss_weight=1.)(
        student, teacher, label_weights=weights, teacher_also=[logits])
    assert abs(found.item() - top / bottom) < 1e-10


def test_nothing_to_compare():
    """Label weights of 0, no positives, and no positions."""
    bins, boxes = torch.randn(2, 1, 12, 2, 2), torch.rand(2, 1, 4, 2, 2)
    logits, none = torch.randn(1, 3, 2, 2), torch.zeros(1, 2, 2)
    one = dict(label_weights=none, num_positives=torch.tensor(1.))
    values = [CrossKDBinsLoss()(*bins, label_weights=none, teacher_also=[logits]),
              CrossKDBoxLoss()(*boxes, teacher_also=[logits], **one),
              CrossKDLoss()(logits, logits + 1, **one),
              CrossKDCenternessLoss()(logits[:, :1], logits[:, 1:2], teacher_also=[logits],
                                      labels=none.long() + 3, num_positives=torch.tensor(1.))]
    assert [value.item() for value in values] == [0.] * 4
    empty = torch.zeros(1, 4, 0, 2, requires_grad=True)
    value = CrossKDBoxLoss()(empty, empty, teacher_also=[empty], num_positives=torch.tensor(1.),
                             label_weights=torch.zeros(1, 0, 2))
    value.backward()
    assert value == 0


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    torch.manual_seed(0)
    bins, logits = torch.randn(2, 1, 12, 2, 2).to(dtype), torch.randn(2, 1, 3, 2, 2).to(dtype)
    corner = torch.rand(1, 2, 2, 2) * 9
    boxes = torch.cat([corner, corner + 5], 1)
    one = dict(label_weights=torch.ones(1, 2, 2), num_positives=torch.tensor(2.))

    def values(bins, logits):
        return torch.stack([
            CrossKDBinsLoss()(*bins, label_weights=one['label_weights'], teacher_also=[logits[1]]),
            CrossKDBoxLoss()(boxes, boxes + 1, teacher_also=[logits[1]], **one),
            CrossKDLoss()(*logits, **one)])

    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = values(bins, logits)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, values(bins.float(), logits.float()))


def test_what_does_not_fit_is_refused():
    logits, one = torch.randn(1, 3, 2, 2), dict(label_weights=torch.ones(1, 2, 2),
                                                num_positives=torch.tensor(2.))
    with pytest.raises(ValueError, match='CrossKDLoss needs a sigmoid for each class.* softmax'):
        CrossKDLoss(use_sigmoid=False)(logits, logits, **one)
    with pytest.raises(ValueError, match="divide_by='centerness', but .* has no centerness; write"):
        CrossKDLoss('centerness')(logits, logits, **one)
    with pytest.raises(ValueError, match="CrossKDBoxLoss compares boxes .* got 3 columns"):
        CrossKDBoxLoss()(logits, logits, teacher_also=[logits], **one)
    with pytest.raises(ValueError, match='CrossKDBinsLoss compares distributions'):
        CrossKDBinsLoss()(logits, logits, teacher_also=[logits],
                          label_weights=one['label_weights'])
    for make in (lambda: CrossKDLoss('all'), lambda: CrossKDBoxLoss('diou')):
        with pytest.raises(ValueError, match='must be .*; write one of the two'):
            make()


def test_teachers_head_is_applied_to_scaled_student_features(tmp_path):
    """The box part, compared layer by layer. The tower has two convolutions here."""
    teacher = save_teacher(tmp_path / 't.pth', tower(2, width=12))
    torch.manual_seed(3)
    model = build(distiller(tower(2), teacher, *entries(tower(2))))
    model.init_weights()
    data = model.data_preprocessor(images((0, 1)), True)
    losses = model(data['inputs'], data['data_samples'], mode='loss')
    network, head = model.teacher.model, model.teacher.model.bbox_head
    anchors = head.prior_generator.grid_priors([(8, 8), (4, 4), (2, 2), (1, 1), (1, 1)],
                                               device='cpu')
    for level, (x, other) in enumerate(zip(model.student.extract_feat(data['inputs']),
                                           network.extract_feat(data['inputs']))):
        own, its = model.student.bbox_head.reg_convs[0](x), head.reg_convs[0](other)
        scaled = rescaled(own, its).relu()
        both = [head.retina_reg(head.reg_convs[1](one)) for one in (scaled, its)]
        with torch.no_grad():
            scores = head.retina_cls(head.cls_convs[1](head.cls_convs[0](other)))
        size = x.shape[2:]
        rows = [one.permute(0, 2, 3, 1).reshape(-1, 4) for one in both]
        mine, theirs = (head.bbox_coder.decode(anchors[level].repeat(2, 1), one) for one in rows)
        score = scores.permute(0, 2, 3, 1).reshape(-1, 3).amax(1).sigmoid()
        assert len(score) == 2 * 9 * size[0] * size[1]
        target = model.student.bbox_head.get_targets(
            [list(anchors)] * 2, [[torch.ones(len(one)).bool() for one in anchors]] * 2,
            [one.gt_instances for one in data['data_samples']],
            [one.metainfo for one in data['data_samples']])
        score = score * (target[1][level].flatten() > 0)
        positives = sum((one < 3).sum() for one in target[0])
        expected = (score * (1 - aligned_giou(mine, theirs))).sum() / positives
        torch.testing.assert_close(losses['loss_boxes_crosskd'][level], expected, rtol=1e-4,
                                   atol=1e-6)


def test_students_prediction_layers_get_no_gradient(tmp_path):
    teacher = save_teacher(tmp_path / 't.pth', tower(4, width=12))
    model = build(distiller(tower(4), teacher, *entries(tower(4))))
    model.init_weights()
    data = model.data_preprocessor(images((0, 1)), True)
    losses = model(data['inputs'], data['data_samples'], mode='loss')
    sum(sum(losses[name]) for name in ('loss_cls_crosskd', 'loss_boxes_crosskd')).backward()
    head = model.student.bbox_head
    for branch in (head.cls_convs, head.reg_convs):
        assert all(branch[n].conv.weight.grad.abs().sum() > 0 for n in range(3))
        assert branch[3].conv.weight.grad is None  # replaced by the teacher's layers
    assert head.retina_cls.weight.grad is head.retina_reg.weight.grad is None
    assert all(p.grad is None for p in model.teacher.model.parameters())


@pytest.mark.parametrize('head', list(HEADS))
def test_by_its_method(head, tmp_path):
    """The method has the entries for each head, and all of them are trained."""
    model = other_head(HEADS[head])
    found = entries(model)
    path = 'bbox_head.cls_convs.1' if head == 'FCOS' else 'bbox_head.cls_convs.2'
    assert found[0]['through'] == dict(student=path, teacher=path, rescale='relu')
    kinds = dict(GFL=['', 'Bins'], ATSS=['', 'Box', 'Centerness'], FCOS=['', 'Box'])[head]
    assert [one['type'] for one in found] == [f'mmkd.CrossKD{kind}Loss' for kind in kinds]
    weights = dict(GFL=[1, 4], ATSS=[1, 1, 1], FCOS=[0.4, 0.75])[head]
    torch.manual_seed(3)
    built = build(distiller(model, save_teacher(tmp_path / 't.pth', other_head(HEADS[head])),
                            *found))
    built.init_weights()
    assert [term.loss.loss_weight for term in built.terms] == weights
    data = built.data_preprocessor(images((0, 1)), True)
    losses = built(data['inputs'], data['data_samples'], mode='loss')
    for term in built.terms:
        value = sum(losses[term.name])
        assert 0 < value < 100
        gradient, = torch.autograd.grad(
            value, built.student.bbox_head.cls_convs[0].conv.weight if term is built.terms[0] else
            built.student.bbox_head.reg_convs[0].conv.weight, retain_graph=True)
        assert gradient.abs().sum() > 0


def test_divided_by_the_sum_of_the_centerness(tmp_path):
    """The sum is that of the student's own FCOS loss, averaged over processes."""
    model = other_head(HEADS['FCOS'])
    torch.manual_seed(3)
    built = build(distiller(model, save_teacher(tmp_path / 't.pth', model), *entries(model)))
    built.init_weights()
    data = built.data_preprocessor(images((0, 1)), True)
    targets, forward = [], built.student.bbox_head.loss_centerness.forward
    built.student.bbox_head.loss_centerness.forward = lambda *args, **kwargs: (
        targets.append(args[1].sum()), forward(*args, **kwargs))[1]
    values = []
    for divide_by in ('centerness', 'positives'):
        for term in built.terms:
            term.loss.divide_by = divide_by
        losses = built(data['inputs'], data['data_samples'], mode='loss')
        values.append(sum(losses['loss_boxes_crosskd']).item())
    head = built.student.bbox_head
    labels, _ = head.get_targets(
        head.prior_generator.grid_priors([(8, 8), (4, 4), (2, 2), (1, 1), (1, 1)], device='cpu'),
        [one.gt_instances for one in data['data_samples']])
    positives = sum((one < 3).sum() for one in labels).item()
    assert values[0] * targets[0].item() == pytest.approx(values[1] * positives, rel=1e-4)
    assert targets[0] < positives


def test_heads_without_such_towers_are_refused():
    with pytest.raises(ValueError, match='`crosskd` has nothing to compare .* no point '
                       '`bbox_head.cls_convs'):
        entries(dict(other_head('tood/tood_r50_fpn_1x_coco.py')))
