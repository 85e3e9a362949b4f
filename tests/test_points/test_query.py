"""Queries have no order: those of teacher and student are paired by class and box."""
import copy
import itertools

import numpy as np
import pytest
import torch
from conftest import build, distiller, retinanet, save_teacher, step
from mmengine.config import Config
from support.queries import ZOO, batch, detector
from support.rows import slow_but

from mmkd import KDLoss
from mmkd.compare.pair_queries import generalized_iou, in_order, pair_queries
from mmkd.files.zoo import config_path
from mmkd.points.queries import Queries

SPARSE = {
    'sparse': 'sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco.py',
    'queryinst': 'queryinst/queryinst_r50_fpn_1x_coco.py',
}


@pytest.mark.parametrize('kind', slow_but(('detr', ), ((kind, kind) for kind in ZOO)))
def test_learns_from_a_teacher_with_more_queries(tmp_path, kind):
    teacher = save_teacher(tmp_path / 't.pth', detector(kind, queries=9))
    torch.manual_seed(3)
    model = build(distiller(detector(kind), teacher, dict(type='mmkd.KDLoss', on='cls'),
                            dict(type='mmkd.DISTLoss', on='cls.0')))
    model.init_weights()
    inputs, samples = batch()
    losses, seen, told_of = step(model, inputs, samples)
    (own, ), (told, ) = model.terms[0].levels(seen, told_of)
    columns = model.bbox_head.cls_out_channels
    assert own.shape == told.shape == (2, columns, 6)
    torch.testing.assert_close(
        losses['loss_cls_kd'][0],
        KDLoss(use_sigmoid=bool(model.bbox_head.loss_cls.use_sigmoid))(own, told))

    # The student's queries are its matching queries in some order, without the denoising queries,
    # which come first, and without DDQ's dense queries, of which it has 1.5 times as many.
    raw = seen['bbox_head'][0].output[0][-1][:, slice(-15, -9) if kind == 'ddq' else
                                                     slice(-6, None)]
    for image in range(2):
        assert {tuple(row) for row in own[image].T.tolist()} == {
            tuple(row) for row in raw[image].tolist()}
    # The teacher's queries are those of a separate forward pass.
    network = model.teacher.model
    with torch.no_grad():
        outputs = network.bbox_head.forward(**{
            name: value for name, value in network.forward_transformer(
                network.extract_feat(inputs), samples).items()
            if name in ('hidden_states', 'references')})
    for image in range(2):
        theirs = outputs[0][-1][image]
        for row in told[image].T:
            assert (theirs - row).abs().sum(1).min() < 1e-3
    (losses['loss_cls_kd'][0] + losses['loss_cls_0_dist'][0]).backward()
    assert model.backbone.conv1.weight.grad.abs().sum() > 0


def pairs_by_trying(costs):
    """Return the best partner of each row, by trying all assignments."""
    rows, columns = len(costs), len(costs[0])
    best = min(itertools.permutations(range(columns), rows),
               key=lambda order: sum(costs[i][k] for i, k in enumerate(order)))
    return list(best)


def test_pairs_are_the_cheapest_of_all_assignments():
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 4, 4), torch.randn(2, 4, 5)
    boxes = [torch.rand(2, 4, count) / 2 + 0.1 for count in (4, 5)]
    got = pair_queries(Queries(student, boxes[0], False), Queries(teacher, boxes[1], False))
    for image in range(2):
        costs = [[((student[image, :, i].softmax(0) - teacher[image, :, k].softmax(0)).abs().sum() +
                   5 * (boxes[0][image, :, i] - boxes[1][image, :, k]).abs().sum() -
                   2 * giou(boxes[0][image, :, i], boxes[1][image, :, k])).item()
                  for k in range(5)] for i in range(4)]
        assert got[image][0].tolist() == [0, 1, 2, 3]
        assert got[image][1].tolist() == pairs_by_trying(costs)


def test_masks_are_paired_by_class_pixels_and_overlap():
    torch.manual_seed(0)
    logits = [torch.randn(1, 3, count) for count in (3, 4)]
    masks = [3 * torch.randn(1, count, 6, 5) for count in (3, 4)]
    got, = pair_queries(*(Queries(*side, False) for side in zip(logits, masks)))
    costs = []
    for i in range(3):
        row = []
        for k in range(4):
            p, q = masks[0][0, i].sigmoid().double(), masks[1][0, k].sigmoid().double()
            divergence = (q * (q / p).log() + (1 - q) * ((1 - q) / (1 - p)).log()).mean()
            dice = 1 - (2 * (p * q).sum() + 1) / ((p * p).sum() + (q * q).sum() + 1)
            classes = (logits[0][0, :, i].softmax(0) - logits[1][0, :, k].softmax(0)).abs().sum()
            row.append((classes + 5 * divergence + 5 * dice).item())
        costs.append(row)
    assert got[1].tolist() == pairs_by_trying(costs)


def test_masks_of_another_size_are_enlarged_to_be_paired():
    torch.manual_seed(0)
    masks = torch.randn(1, 5, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3) * 5
    logits, order = torch.zeros(1, 3, 5), torch.tensor([3, 0, 4, 1, 2])
    small = torch.nn.functional.avg_pool2d(masks[:, order], 2)
    (_, found), = pair_queries(Queries(logits, masks, False), Queries(logits, small, False))
    assert order[found].tolist() == [0, 1, 2, 3, 4]


def test_boxes_are_not_paired_with_masks():
    boxes = Queries(torch.zeros(1, 3, 4), torch.rand(1, 4, 4), False, 'boxes')
    with pytest.raises(ValueError, match=r'boxes are coded as boxes, the teacher\'s as masks'):
        pair_queries(boxes, boxes._replace(where=torch.zeros(1, 4, 8, 8), coding='masks'))
    with pytest.raises(ValueError, match="have 3 class columns, the teacher's 2"):
        pair_queries(boxes, boxes._replace(logits=torch.zeros(1, 2, 4)))


def giou(a, b):
    """GIoU of two boxes, from areas of rectangles."""
    (ax, ay, aw, ah), (bx, by, bw, bh) = a.tolist(), b.tolist()
    left, right = max(ax - aw / 2, bx - bw / 2), min(ax + aw / 2, bx + bw / 2)
    top, bottom = max(ay - ah / 2, by - bh / 2), min(ay + ah / 2, by + bh / 2)
    shared = max(right - left, 0) * max(bottom - top, 0)
    union = aw * ah + bw * bh - shared
    hull = ((max(ax + aw / 2, bx + bw / 2) - min(ax - aw / 2, bx - bw / 2)) *
            (max(ay + ah / 2, by + bh / 2) - min(ay - ah / 2, by - bh / 2)))
    return torch.tensor(shared / union - (hull - union) / hull)


def test_generalized_iou_of_known_boxes():
    a = torch.tensor([[0.5, 0.5, 0.2, 0.2], [0.2, 0.2, 0.2, 0.2]])
    b = torch.tensor([[0.5, 0.5, 0.2, 0.2], [0.4, 0.2, 0.2, 0.2], [0.3, 0.2, 0.2, 0.2]])
    got = generalized_iou(a, b)
    assert got[0, 0] == 1
    torch.testing.assert_close(got[1, 1], torch.tensor(0.), atol=1e-6, rtol=0)
    torch.testing.assert_close(got[1, 2], torch.tensor(1 / 3))
    torch.testing.assert_close(got, torch.stack([torch.stack([giou(x, y) for y in b]) for x in a]))
    assert generalized_iou(a * 0, b * 0).isfinite().all()


def test_order_of_a_set_does_not_matter():
    torch.manual_seed(0)
    logits, boxes = torch.randn(1, 3, 7), torch.rand(1, 4, 7) / 2 + 0.1
    order = torch.randperm(7)
    (mine, theirs), = pair_queries(Queries(logits, boxes, True),
                                Queries(logits[:, :, order], boxes[:, :, order], True))
    assert torch.equal(in_order(logits, [mine], -1),
                       in_order(logits[:, :, order], [theirs], -1))


@pytest.mark.slow
def test_boxes_of_the_pairs_are_a_point_too(tmp_path):
    teacher = save_teacher(tmp_path / 't.pth', detector('dab', queries=9))
    model = build(distiller(detector('detr'), teacher, dict(type='mmkd.MSELoss', on='reg')))
    # DETR uses softmax, DAB sigmoid. Their boxes have the same coding.
    with pytest.raises(ValueError, match="have 4 class columns, the teacher's 3"):
        model.init_weights()
    teacher = save_teacher(tmp_path / 't.pth', detector('detr', queries=9))
    model = build(distiller(detector('detr'), teacher, dict(type='mmkd.MSELoss', on='reg')))
    model.init_weights()
    inputs, samples = batch()
    loss, = model(inputs, samples, mode='loss')['loss_reg_mse']
    assert model.terms[0].fitting.shapes[0] == [(1, 4, 6)]
    loss.backward()
    assert model.bbox_head.reg_ffn.layers[0][0].weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in model.bbox_head.fc_cls.parameters())


def sparse(kind, queries=6):
    config = Config.fromfile(config_path(f'mmdet::{SPARSE[kind]}'))
    model = config.model
    model.backbone.update(depth=18, base_channels=8, init_cfg=None, frozen_stages=-1)
    model.neck.in_channels = [8 * 2**i for i in range(4)]
    model.rpn_head.num_proposals = queries
    for head in model.roi_head.bbox_head:
        head.update(num_classes=3, feedforward_channels=32)
        head.dynamic_conv_cfg.feat_channels = 4
    for head in model.roi_head.get('mask_head', []):
        head.num_classes = 3
    return model.to_dict()


@pytest.mark.slow
@pytest.mark.parametrize('kind', SPARSE)
def test_sparse_rcnn_uses_its_own_queries(tmp_path, kind):
    from mmdet.structures.bbox import bbox2roi
    from mmdet.structures.mask import BitmapMasks
    teacher = save_teacher(tmp_path / 't.pth', sparse('sparse', queries=9))
    torch.manual_seed(3)
    model = build(distiller(sparse(kind), teacher, dict(type='mmkd.KDLoss', on='cls'),
                            dict(type='mmkd.MSELoss', on='reg.0')))
    model.init_weights()
    inputs, samples = batch()
    for sample in samples:
        sample.gt_instances.masks = BitmapMasks(np.ones((2, 96, 96), dtype=np.uint8), 96, 96)
    losses, seen, told_of = step(model, inputs, samples)
    (own, ), (told, ) = model.terms[0].levels(seen, told_of)
    assert own.shape == told.shape == (2, 3, 6)
    (loss, ) = losses['loss_cls_kd']
    torch.testing.assert_close(loss, KDLoss(use_sigmoid=True)(own, told))

    # The teacher's logits and boxes are those of mmdet's own test, stage by stage.
    network = model.teacher.model
    with torch.no_grad():
        features = network.extract_feat(inputs)
        found = network.rpn_head.predict(features, samples)
        queries = torch.stack([one.features for one in found])
        boxes = [one.bboxes for one in found]
        metas = [sample.metainfo for sample in samples]
        for stage in range(6):
            results = network.roi_head._bbox_forward(
                stage, features, bbox2roi(boxes), queries, metas)
            boxes, queries = results['detached_proposals'], results['object_feats']
            if stage == 0:
                first = torch.stack(boxes) / 96
    for image in range(2):
        theirs = results['cls_score'][image]
        for row in told[image].T:
            assert (theirs - row).abs().sum(1).min() < 1e-4
    _, (told, ) = model.terms[1].levels(seen, told_of)
    for image in range(2):
        centres, sizes = told[image, :2], told[image, 2:]
        for row in torch.cat([centres - sizes / 2, centres + sizes / 2]).T:
            assert (first[image] - row).abs().sum(1).min() < 1e-4
    loss.backward()
    assert model.backbone.conv1.weight.grad.abs().sum() > 0


def test_a_set_is_not_compared_with_a_map(tmp_path):
    teacher = save_teacher(tmp_path / 't.pth', retinanet())
    model = build(distiller(sparse('sparse'), teacher, dict(type='mmkd.KDLoss', on='cls')))
    with pytest.raises(ValueError, match='of the student predicts for queries, `cls` of the teacher'
                       ' for a grid.*Points of this pair that can be compared: .*`neck` through a '
                       'connector'):
        model.init_weights()


def test_half_precision_does_not_disturb_the_pairs():
    torch.manual_seed(0)
    masks = 4 * torch.randn(1, 8, 256, 256)
    order = torch.randperm(8)
    one, other = Queries(torch.zeros(1, 3, 8), masks, False), Queries(
        torch.zeros(1, 3, 8), masks[:, order], False)
    with torch.autocast('cpu', dtype=torch.float16):
        (_, found), = pair_queries(one, other)
    assert order[found].tolist() == list(range(8))


def test_nan_predictions_are_refused():
    boxes = Queries(torch.zeros(1, 3, 4), torch.rand(1, 4, 4), False)
    with pytest.raises(ValueError, match='infinite or NaN; check whether the training'):
        pair_queries(boxes, boxes._replace(where=torch.full((1, 4, 4), float('nan'))))


@pytest.mark.parametrize(('kind', 'path'), [
    ('detr', 'bbox_head.fc_cls'), ('detr', 'decoder'), ('sparse', 'roi_head.bbox_head.5.fc_cls'),
    ('sparse', 'roi_head.bbox_roi_extractor.5')])
def test_queries_are_not_compared_by_index(tmp_path, kind, path):
    make = sparse if kind == 'sparse' else detector
    teacher = save_teacher(tmp_path / 't.pth', make(kind, queries=9))
    with pytest.raises(ValueError, match="no common order; compare 'cls' or 'reg'"):
        build(distiller(make(kind), teacher, dict(type='mmkd.MSELoss', on=path)))


@pytest.mark.slow
def test_boxes_in_parts_of_other_sizes_are_not_paired(tmp_path):
    """Sparse R-CNN's boxes are relative to the padded batch, DETR's to the image."""
    teacher = save_teacher(tmp_path / 't.pth', detector('deformable', queries=9))
    model = build(distiller(sparse('sparse'), teacher, dict(type='mmkd.KDLoss', on='cls')))
    with pytest.raises(ValueError, match='parts of the padded image, the teacher.*of the image'):
        model.init_weights()


@pytest.mark.parametrize('classes', [('cross', 'disc', 'square'), ('a', 'cross', 'disc', 'square')])
def test_boxes_of_queries_follow_the_students_classes(tmp_path, classes):
    config = detector('detr')
    other = copy.deepcopy(config)
    other['bbox_head']['num_classes'] = len(classes)
    teacher = save_teacher(tmp_path / 't.pth', other, classes=classes)
    model = build(distiller(config, teacher, dict(type='mmkd.MSELoss', on='reg')))
    model.distillation.stated_classes = ['disc', 'square', 'cross']
    model.init_weights()
    inputs, samples = batch()
    _, seen, told_of = step(model, inputs, samples)
    match, = model.terms
    own, = match.student_point.queries(seen['bbox_head'])
    theirs, = told_of[''][match.teacher_point].queries
    columns = [*(classes.index(name) for name in ('disc', 'square', 'cross')), len(classes)]
    pairs = pair_queries(own, theirs._replace(logits=theirs.logits[:, columns]))
    (student, ), (told, ) = match.levels(seen, told_of)
    for image, (mine, partners) in enumerate(pairs):
        assert torch.equal(student[image], own.where[image][:, mine])
        assert torch.equal(told[image], theirs.where[image][:, partners])


def test_boxes_are_no_logits(tmp_path):
    teacher = save_teacher(tmp_path / 't.pth', detector('detr'))
    with pytest.raises(ValueError, match=r'contains boxes, but .*; use mmkd\.MSELoss'):
        build(distiller(detector('detr'), teacher,
                        dict(type='mmkd.KDLoss', on='reg', use_sigmoid=True)))


@pytest.mark.parametrize('is_student_one', [True, False])
def test_queries_of_one_class(tmp_path, is_student_one):
    """DETR has a column for "no object", Deformable DETR has none."""
    models = [detector('deformable'), detector('detr', queries=9)]
    for model in models:
        model['bbox_head']['num_classes'] = 1
    student, other = models if is_student_one else models[::-1]
    teacher = save_teacher(tmp_path / 't.pth', other, ('disc', ))
    torch.manual_seed(3)
    model = build(dict(distiller(student, teacher, dict(type='mmkd.KDLoss', on='cls'),
                                 dict(type='mmkd.MSELoss', on='reg')), classes=['disc']))
    model.init_weights()
    inputs, samples = batch()
    for sample in samples:
        sample.gt_instances.labels.zero_()
    losses, seen, told = step(model, inputs, samples)
    cls, reg = model.terms
    (own, ), (got, ) = cls.levels(seen, told)
    theirs, = told[''][cls.teacher_point].queries
    mine, = cls.student_point.queries(seen['bbox_head'])
    if is_student_one:
        yes = theirs.logits.softmax(1)[:, :1]
        expected = torch.logit(yes)
    else:
        yes = theirs.logits.sigmoid()
        expected = torch.cat([theirs.logits, torch.zeros_like(theirs.logits)], 1)
    order = pair_queries(mine, theirs._replace(logits=expected, use_sigmoid=is_student_one))
    for image, (rows, columns) in enumerate(order):
        torch.testing.assert_close(own[image], mine.logits[image][:, rows])
        probability = got.sigmoid() if is_student_one else got.softmax(1)[:, :1]
        torch.testing.assert_close(probability[image], yes[image][:, columns], rtol=1e-4, atol=1e-6)
    assert losses['loss_cls_kd'][0] > 0
    assert losses['loss_reg_mse'][0] > 0
    boxes = reg.levels(seen, told)[1][0]
    torch.testing.assert_close(boxes[0], theirs.where[0][:, order[0][1]])
