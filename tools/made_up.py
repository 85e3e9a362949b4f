"""Random weights and random batches, to try models without data and checkpoints."""
import contextlib
from typing import Any, Dict

import torch
from mmengine.structures import PixelData
from torch import Tensor, nn

from mmkd.points import Classifier, MonocularDetector, family_of, points_of
from mmkd.points.probe import channels_of, on_blank


def initialise(model: Any) -> None:
    """Initialize a model with random weights, including parts that need a pretrained checkpoint."""
    with contextlib.suppress(AttributeError):  # SAN can only be initialized from CLIP
        model.init_weights()
    for parameter in model.parameters():
        if parameter.isnan().any():
            nn.init.trunc_normal_(parameter, std=0.02)
    # Without the statistics of a pretrained backbone, activations explode behind frozen norms.
    norms = {norm: norm.momentum for norm in model.modules()
             if isinstance(norm, nn.modules.batchnorm._BatchNorm)}
    for norm in norms:
        norm.train()
        norm.momentum = 1.

    def run(blank: Tensor) -> None:
        images = torch.randn(2, *blank.shape[1:])
        if hasattr(model.data_preprocessor, 'std'):  # 1 for caffe backbones, whose range is 0...255
            images = images * 64 / model.data_preprocessor.std
        family_of(model).extract(model, images)

    with torch.no_grad(), contextlib.suppress(Exception):  # models that need other image sizes
        on_blank(model, run)
    for norm, momentum in norms.items():
        norm.momentum = momentum
        norm.train(model.training)


def made_up_batch(model: Any, height: int, width: int, count: int = 2,
                  proposals: int = 100) -> Dict[str, Any]:
    """Random images with annotations, like a batch of a data loader.

    Args:
        model (nn.Module): The model, which determines the task and the number of classes.
        height (int): Height of the images in pixels.
        width (int): Width of the images in pixels.
        count (int): Number of images. Defaults to 2.
        proposals (int): Number of proposals per image, for a detector without an RPN.
            Defaults to 100.

    Returns:
        dict: `inputs` and `data_samples`, before the data preprocessor.
    """
    if Classifier.fits(getattr(model, 'student', model)):
        return classification_batch(model, height, width, count)
    if hasattr(model, 'decode_head'):
        return segmentation_batch(model, height, width, count)
    data = detection_batch(model, height, width, count, proposals)
    if MonocularDetector.fits(getattr(model, 'student', model)):
        return dict(data, inputs=dict(img=data['inputs']))
    return data


def detection_batch(model: Any, height: int, width: int, count: int,
                    proposals: int) -> Dict[str, Any]:
    from mmdet.testing import demo_mm_inputs, demo_mm_proposals
    # Not the RPN, which has one class; a mask head may have one class for all.
    classes = min([head.num_classes for path, head in model.named_modules()
                   if path.split('.')[0] in ('roi_head', 'bbox_head', 'panoptic_head', 'mask_head')
                   and isinstance(getattr(head, 'num_classes', None), int)] or [80])
    shape = (channels_of(model), height, width)
    data = demo_mm_inputs(count, shape, num_items=[4 - i % 2 for i in range(count)],
                          num_classes=min(max(classes, 2), 80), with_mask=True, with_semantic=True)
    for sample, stored in zip(data['data_samples'], demo_mm_proposals([shape] * count, proposals)):
        if classes == 1:
            sample.gt_instances.labels.zero_()
        if hasattr(model, 'roi_head') and getattr(model, 'rpn_head', None) is None:
            sample.proposals = stored
    return data


def segmentation_batch(model: Any, height: int, width: int, count: int) -> Dict[str, Any]:
    from mmseg.structures import SegDataSample
    generator = torch.Generator().manual_seed(0)
    head: Any = model.decode_head[-1] if isinstance(model.decode_head, nn.ModuleList) else \
        model.decode_head
    samples = []
    for _ in range(count):
        size = (height, width)
        sample = SegDataSample(metainfo=dict(
            img_shape=size, ori_shape=size, pad_shape=size, scale_factor=(1., 1.), flip=False))
        # Squares of classes, larger than a cell of any head.
        coarse = torch.randint(0, head.num_classes, (1, 4, 4), generator=generator)
        labels = coarse.repeat_interleave(height // 4, 1).repeat_interleave(width // 4, 2)
        sample.gt_sem_seg = PixelData(data=labels)
        edges: Tensor = torch.zeros_like(labels)
        edges[:, ::height // 4], edges[:, :, ::width // 4] = 1, 1
        sample.gt_edge_map = PixelData(data=edges)
        samples.append(sample)
    shape = (channels_of(model), height, width)
    images = [torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
              for _ in range(count)]
    return dict(inputs=images, data_samples=samples)


def classification_batch(model: Any, height: int, width: int, count: int) -> Dict[str, Any]:
    from mmpretrain.structures import DataSample
    generator = torch.Generator().manual_seed(0)
    cls = points_of(model).get('cls')
    classes = cls.num_named if cls is not None else 2
    labels = torch.randint(0, classes or 2, (count, ), generator=generator)
    samples = [DataSample(metainfo=dict(
        img_shape=(height, width), ori_shape=(height, width), num_classes=classes or 2)
    ).set_gt_label(int(label)) for label in labels]
    shape = (channels_of(model), height, width)
    images = [torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
              for _ in range(count)]
    return dict(inputs=images, data_samples=samples)
