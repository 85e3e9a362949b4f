"""Queries have no order: those of teacher and student are paired by class and box."""
import itertools

import pytest
import torch
from conftest import build, distiller, save_teacher
from mmengine.config import Config
from mmengine.structures import InstanceData

from mmkd import KDLoss
from mmkd.sets import generalized_iou, pair_sets
from mmkd.zoo import config_path

ZOO = {
    'detr': 'detr/detr_r50_8xb2-150e_coco.py',
    'conditional': 'conditional_detr/conditional-detr_r50_8xb2-50e_coco.py',
    'dab': 'dab_detr/dab-detr_r50_8xb2-50e_coco.py',
    'deformable': 'deformable_detr/deformable-detr-refine-twostage_r50_16xb2-50e_coco.py',
    'dino': 'dino/dino-4scale_r50_8xb2-12e_coco.py',
}


def detector(kind, queries=6):
    config = Config.fromfile(config_path(f'mmdet::{ZOO[kind]}'))
    model = config.model
    model.backbone.update(depth=18, base_channels=8, init_cfg=None, frozen_stages=-1)
    model.backbone.norm_cfg = dict(type='BN')
    model.neck.in_channels = [8 * 2**i for i in model.backbone.out_indices]
    model.num_queries = queries
    model.encoder.num_layers = model.decoder.num_layers = 2
    model.bbox_head.num_classes = 3
    return model.to_dict()


def batch(size=96):
    from mmdet.structures import DetDataSample
    torch.manual_seed(0)
    samples = []
    for _ in range(2):
        sample = DetDataSample(metainfo=dict(
            img_shape=(size, size), batch_input_shape=(size, size), ori_shape=(size, size),
            scale_factor=(1., 1.)))
        sample.gt_instances = InstanceData(
            bboxes=torch.tensor([[8., 8., 60., 56.], [30., 40., 90., 90.]]),
            labels=torch.tensor([0, 2]))
        samples.append(sample)
    return torch.randn(2, 3, size, size), samples


@pytest.mark.parametrize('kind', ZOO)
def test_learns_from_a_teacher_with_more_queries(tmp_path, kind):
    teacher = save_teacher(tmp_path / 't.pth', detector(kind, queries=9))
    torch.manual_seed(3)
    model = build(distiller(detector(kind), teacher, dict(type='mmkd.KDLoss', on='cls'),
                            dict(type='mmkd.DISTLoss', on='cls.0')))
    model.init_weights()
    inputs, samples = batch()
    kept = {}
    ask = model.distillation._ask
    model.distillation._ask = lambda seen, *rest: kept.update(
        seen=seen, told=ask(seen, *rest)) or kept['told']
    losses = model(inputs, samples, mode='loss')
    (own, ), (told, ) = model.matches[0].levels(kept['seen'], kept['told'])
    columns = model.bbox_head.cls_out_channels
    assert own.shape == told.shape == (2, columns, 6)
    torch.testing.assert_close(
        losses['loss_cls_kd'][0],
        KDLoss(use_sigmoid=bool(model.bbox_head.loss_cls.use_sigmoid))(own, told))

    # The student's are its own matching queries, in some order; denoising ones are not among them.
    raw = kept['seen']['bbox_head'][0].output[0][-1][:, -6:]
    for image in range(2):
        assert {tuple(row) for row in own[image].T.tolist()} == {
            tuple(row) for row in raw[image].tolist()}
    # The teacher's are those that it gives alone.
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


def test_pairs_are_the_cheapest_of_all_assignments():
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 4, 4), torch.randn(2, 4, 5)
    boxes = [torch.rand(2, 4, count) / 2 + 0.1 for count in (4, 5)]
    got = pair_sets(student, teacher, *boxes, use_sigmoid=False)
    for image in range(2):
        def cost(i, k, image=image):
            p, q = student[image, :, i].softmax(0), teacher[image, :, k].softmax(0)
            a, b = boxes[0][image, :, i], boxes[1][image, :, k]
            return ((p - q).abs().sum() + 5 * (a - b).abs().sum() - 2 * giou(a, b)).item()

        best = min(itertools.permutations(range(5), 4),
                   key=lambda order: sum(cost(i, k) for i, k in enumerate(order)))
        assert torch.equal(got[0][image], student[image])
        assert torch.equal(got[1][image], teacher[image][:, list(best)])


def giou(a, b):
    """By the areas of rectangles, one pair."""
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


def test_same_set_in_another_order_is_no_difference():
    torch.manual_seed(0)
    logits, boxes = torch.randn(1, 3, 7), torch.rand(1, 4, 7) / 2 + 0.1
    order = torch.randperm(7)
    student, teacher = pair_sets(logits, logits[:, :, order], boxes, boxes[:, :, order], True)
    assert torch.equal(student, teacher)


def test_kin_that_needs_text_is_not_taken_for_one_that_does_not(tmp_path):
    teacher = save_teacher(tmp_path / 't.pth', detector('detr'))
    ddq = Config.fromfile(config_path('mmdet::ddq/ddq-detr-4scale_r50_8xb2-12e_coco.py')).model
    ddq.backbone.init_cfg = None
    with pytest.raises(ValueError, match='the student is a DDQDETR, whose points mmkd does not'):
        build(distiller(ddq.to_dict(), teacher))
