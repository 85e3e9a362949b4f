"""DETRDistill: https://github.com/BIVLab-USTC/DETRDistill.

    git clone https://github.com/BIVLab-USTC/DETRDistill clone
    python benchmarks/authors/detrdistill.py clone

Its mmdet is of 2021 and needs mmcv 1.x, so its packages are entered without their ``__init__``, and
what is imported from mmcv is replaced by what leaves functions and classes as they are. The
transformer is replaced by given outputs of the decoder.
"""
import sys
import types
from types import SimpleNamespace

import torch
from recording import Case, write
from torch import nn

URL = 'https://github.com/BIVLab-USTC/DETRDistill'
PACKAGES = ('mmdet', 'mmdet.core', 'mmdet.core.bbox', 'mmdet.core.bbox.assigners',
            'mmdet.core.bbox.match_costs', 'mmdet.core.bbox.iou_calculators', 'mmdet.models',
            'mmdet.models.losses', 'mmdet.models.dense_heads', 'mmdet.models.utils',
            'mmdet.models.detectors', 'mmdet.distillation', 'mmdet.distillation.distillers')


def same(*args, **kwargs):
    """Return a decorator that changes nothing."""
    return lambda value: value


class Registry(SimpleNamespace):
    register_module = staticmethod(same)


def stub(name, **content):
    module = sys.modules[name] = sys.modules.get(name) or types.ModuleType(name)
    vars(module).update(content)
    parent, _, own = name.rpartition('.')
    if parent:
        setattr(sys.modules[parent], own, module)
    return module


def load(name):
    """Import a module of the clone."""
    __import__(name)
    return sys.modules[name]


def entered(clone):
    """Return the authors' modules in a fixed order."""
    for name in PACKAGES:
        stub(name).__path__ = [f'{clone}/deformdetr_project/{name.replace(".", "/")}']
    registry = Registry()
    stub('mmcv', jit=same)
    stub('mmcv.runner', force_fp32=same, load_checkpoint=None, _load_checkpoint=None,
         load_state_dict=None)
    stub('mmcv.cnn', Linear=nn.Linear, bias_init_with_prob=None, constant_init=None)
    stub('mmcv.utils', Registry=lambda *a, **k: registry, build_from_cfg=None, print_log=print)
    stub('mmdet.core.bbox.builder', BBOX_ASSIGNERS=registry)
    stub('mmdet.core.bbox.iou_calculators.builder', IOU_CALCULATORS=registry)
    stub('mmdet.core.bbox.match_costs.builder', MATCH_COST=registry)
    stub('mmdet.models.builder', LOSSES=registry, HEADS=registry, build_loss=None,
         build_cl_head=None)
    stub('mmdet.models', build_detector=None)
    stub('mmdet.distillation.builder', DISTILLER=registry, build_distill_loss=None)
    stub('mmdet.models.detectors.base', BaseDetector=nn.Module)
    stub('mmdet.models.dense_heads.detr_head', DETRHead=nn.Module)
    stub('mmdet.models.utils.transformer', inverse_sigmoid=lambda x: torch.logit(x, 1e-5))
    boxes, iou = load('mmdet.core.bbox.transforms'), load(
        'mmdet.core.bbox.iou_calculators.iou2d_calculator')
    stub('mmdet.core.bbox.iou_calculators', bbox_overlaps=iou.bbox_overlaps)
    costs = load('mmdet.core.bbox.match_costs.match_cost')
    stub('mmdet.core.bbox.match_costs', build_match_cost=lambda cost: cost)
    stub('mmdet.core.bbox.assigners.assign_result',
         AssignResult=lambda count, numbers, _, labels: SimpleNamespace(gt_inds=numbers))
    assigner = load('mmdet.core.bbox.assigners.distill_hungarian_assigner')

    def multi_apply(function, *lists):
        return tuple(map(list, zip(*map(function, *lists))))

    stub('mmdet.core', multi_apply=multi_apply, reduce_mean=lambda x: x, build_assigner=None,
         build_sampler=None, bbox_overlaps=iou.bbox_overlaps,
         bbox_cxcywh_to_xyxy=boxes.bbox_cxcywh_to_xyxy,
         bbox_xyxy_to_cxcywh=boxes.bbox_xyxy_to_cxcywh)
    losses = [load(f'mmdet.models.losses.{name}') for name in (
        'distill_cross_entropy_loss', 'smooth_l1_loss', 'iou_loss')]
    head = load('mmdet.models.dense_heads.distill_deformable_detr_head')
    distiller = load('mmdet.distillation.distillers.distiller')
    return costs, assigner, losses, head, distiller


def sample(result, boxes):
    """Do the same as PseudoSampler: all assigned queries are positives."""
    positive = result.gt_inds.nonzero().squeeze(1)
    numbers = result.gt_inds[positive] - 1
    return SimpleNamespace(pos_inds=positive, pos_assigned_gt_inds=numbers,
                           pos_gt_bboxes=boxes[numbers])


def make_head(found, classes):
    costs, assigner, (cross_entropy, l1, giou), head, _ = found
    one = head.DistillDeformableDETRHead.__new__(head.DistillDeformableDETRHead)
    nn.Module.__init__(one)
    one.cls_out_channels = one.num_classes = classes
    one.bg_cls_weight, one.sync_cls_avg_factor, one.as_two_stage = 0, True, True
    one.distill_assigner = assigner.DistillHungarianAssigner(
        costs.DistillCrossEntropyLossCost(1.), costs.BBoxL1Cost(5., 'xywh'),
        costs.IoUCost('giou', 2.))
    one.distill_sampler = SimpleNamespace(sample=lambda result, _, boxes: sample(result, boxes))
    one.loss_cls_distill = cross_entropy.DistillCrossEntropyLoss(use_sigmoid=True)
    one.loss_bbox_distill, one.loss_iou_distill = l1.L1Loss(loss_weight=5.), giou.GIoULoss(
        loss_weight=2.)
    # Replaces the losses on labels, which are not compared.
    one.loss_cls = one.loss_bbox = one.loss_iou = lambda *a, **k: torch.zeros(())
    one.loss_cls.use_sigmoid = True
    one.get_targets = lambda scores, boxes, *_: (
        [score.new_zeros(len(score)) for score in scores], [torch.ones(len(one))
                                                            for one in scores],
        [torch.zeros_like(box) for box in boxes], [torch.zeros_like(box) for box in boxes], 0, 0)
    return one


def predictions(generator, images, queries, classes):
    logits = torch.randn(images, queries, classes, generator=generator, dtype=torch.float64)
    boxes = torch.rand(images, queries, 4, generator=generator, dtype=torch.float64)
    return logits, torch.cat([boxes[..., :2], boxes[..., 2:] * 0.5 + 0.05], 2)


def layer(found, seed, images=2, queries=7, classes=5):
    """Student and teacher have the same number of queries; with more, the code uses other targets.
    """
    generator = torch.Generator().manual_seed(seed)
    sizes = [(60 + 20 * n, 100 - 10 * n, 3) for n in range(images)]
    metas = [dict(img_shape=size, scale_factor=1.) for size in sizes]
    head = make_head(found, classes)
    logits, boxes = predictions(generator, images, queries, classes)
    others, places = predictions(generator, images, queries, classes)
    logits.requires_grad_()
    boxes.requires_grad_()
    targets = [head._get_teacher_bboxes_distill_single(score.clone(), box.clone(), size, 1.)
               for score, box, size in zip(others, places, sizes)]
    out = head.loss_single_distill(
        logits, boxes, [torch.zeros(0, 4)] * images, [torch.zeros(0).long()] * images,
        [one.double() for one, _ in targets], [one for _, one in targets], metas)
    cls, l1, giou = (one.squeeze() for one in out[3:6])
    (cls + l1 + giou).backward()
    return Case(dict(), dict(
        student=logits.transpose(1, 2), teacher=others.transpose(1, 2),
        student_boxes=boxes.transpose(1, 2), teacher_boxes=places.transpose(1, 2)), dict(
            cls=cls, l1=l1, giou=giou, logits=logits.grad.transpose(1, 2),
            boxes=boxes.grad.transpose(1, 2)))


def features(found, seed, topk, objects, layers=2, images=2, queries=6, classes=4, channels=4):
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    head = make_head(found, classes)
    sizes = [(64, 48 + 16 * n, 3) for n in range(images)]
    metas = [dict(img_shape=size, batch_input_shape=(64, 64)) for size in sizes]
    truth = [torch.tensor([[4., 6., 30., 40.], [20., 10., 44., 60.]]).double()[:count]
             for count in objects]
    hidden = random(layers, images, queries, channels)
    references = random(layers, images, queries, 4).sigmoid()
    branches = [nn.ModuleList([nn.Linear(channels, width).double() for _ in range(layers)])
                for width in (classes, 4)]
    for parameter in (one for side in branches for one in side.parameters()):
        parameter.data = random(*parameter.shape) * 0.3
    head.cls_branches, head.reg_branches, head.with_box_refine = *branches, False
    head.query_embedding, head.positional_encoding = None, lambda mask: mask
    head.test_cfg = SimpleNamespace(max_per_img=topk)
    head.transformer = lambda *a, **k: (hidden.permute(0, 2, 1, 3), references[0],
                                        references[1:], None, None)
    head.pseudo_loss = lambda *a: None
    outputs = []
    head.get_teacher_bboxes_distill = lambda *a, **k: (outputs.extend(a[:2]), None)
    teacher = [random(images, channels, 4 // scale, 4 // scale) for scale in (1, 2)]
    student = [random(*one.shape).requires_grad_() for one in teacher]
    fields = SimpleNamespace(
        teacher=SimpleNamespace(eval=lambda: None, extract_feat=lambda _: teacher,
                                bbox_head=head),
        student=SimpleNamespace(forward_train_distill=lambda *a, **k: ({}, None, None, student)),
        is_layer_by_layer_distill=True, use_teacher_group=False, cl_head=None)
    with torch.no_grad():
        head.eval()
    out = found[4].Distiller.forward_train(
        fields, torch.zeros(images, 3, 64, 64), metas, gt_bboxes=truth,
        gt_labels=[torch.zeros(len(one)).long() for one in truth])
    total = sum(out.values())
    total.backward()
    logits, boxes = outputs
    return Case(dict(topk=topk), dict(
        student=student, teacher=teacher, boxes=truth,
        image_sizes=[list(size[:2]) for size in sizes],
        hidden=[one.transpose(1, 2) for one in hidden],
        logits=[one.transpose(1, 2) for one in logits],
        places=[one.transpose(1, 2) for one in boxes]), dict(
            total=total, stages=[out[f'stage{n}_relation_distill_loss'] for n in range(layers)],
            gradients=[one.grad for one in student]))


if __name__ == '__main__':
    clone = sys.argv[1]
    torch.set_default_dtype(torch.float64)  # otherwise tensors of sizes would be float32
    torch.Tensor.float = torch.Tensor.double  # the classification cost is computed in float32
    modules = entered(clone)
    with_objects = features(modules, 3, topk=5, objects=(2, 1))
    without = features(modules, 4, topk=20, objects=(0, 2))
    write('detrdistill', URL, clone, [layer(modules, 0), layer(modules, 1, images=1, queries=4),
                                      with_objects, without])
