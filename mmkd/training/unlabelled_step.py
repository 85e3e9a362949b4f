"""One step on unlabelled images: the student learns from terms, and from pseudo-labels."""
from contextlib import ExitStack
from functools import partial
from typing import Any, Callable, Dict, List

import torch
from torch import Tensor, nn

from ..data.pixel_scores import IGNORED
from ..networks.predicting import is_classifier, is_segmentor
from ..points.recorder import replaced_forward
from .pseudo_labels import needs_masks
from .step import Step
from .streams import name_in_stream, terms_for

TRUTH = ('gt_instances', 'ignored_instances', 'gt_sem_seg', 'gt_sem_seg_scores', 'proposals',
         'gt_panoptic_seg', 'gt_label', 'gt_score')


class UnlabelledStep(Step):
    """The losses of the unlabelled images of a step, under 'unlabelled.' and their names.

    Without pseudo-labels the student runs as in training, for images without an object, and its own
    losses are not computed. So a two-stage student compares at its own proposals. Of a classifier,
    whose loss cannot do without a label, the head predicts.

    Args:
        distillation (Distillation): A prepared distillation with unlabelled images.
    """

    measures_weights = False

    def __init__(self, distillation: Any) -> None:
        student = distillation.student
        batch = student.data_preprocessor(distillation.unlabelled.batch(distillation.iteration),
                                          True)
        inputs: Tensor = batch['inputs']
        samples = [without_truth(sample) for sample in batch['data_samples']]
        labels = distillation.pseudo_labels
        self.loss_weight = 0.
        if labels is not None:
            truth = labels.truth(distillation.networks[labels.teacher], student, inputs, samples)
            self.loss_weight = labels.loss_weight if any(map(has_labels, truth)) else 0.
            samples = [with_truth(sample, one) for sample, one in zip(samples, truth)]
        super().__init__(distillation, inputs, samples, terms_for(
            'unlabelled', distillation.terms, distillation.networks), labels is not None)
        self.live = {'student': distillation.itself}

    def name_of(self, name: str) -> str:
        """Name of a term in the log."""
        return name_in_stream(name)

    def _learn(self, forward: Callable[..., Dict[str, Any]]) -> Dict[str, Dict[str, Any]]:
        student = self.distillation.student
        samples = self.batch.data_samples
        with ExitStack() as stack:
            stack.enter_context(self.distillation.unlabelled.normalizing(student))
            if self.batch.is_labelled:
                if self.distillation.pseudo_labels.weigh:
                    for head in weighed_heads(student):
                        stack.enter_context(weighing(head, samples))
                own = self._learned(forward, samples)
                return {'student': {name_in_stream(name): self._weighted(name, value)
                                    for name, value in own['student'].items()}}
            if is_classifier(student):
                stack.enter_context(replaced_forward(
                    student.head, partial(prediction_alone, student.head), 'loss'))
                self._learned(forward, samples)
                return {'student': {}}
            for module in student.modules():
                if callable(getattr(module, 'loss_by_feat', None)):
                    stack.enter_context(replaced_forward(module, no_losses, 'loss_by_feat'))
            self._learned(forward, [blank(student, sample, self.batch.inputs)
                                    for sample in samples or ()])
        return {'student': {}}

    def _learned(self, forward: Callable[..., Dict[str, Any]],
                 samples: Any) -> Dict[str, Dict[str, Any]]:
        batch = self.batch
        try:
            self.batch = type(batch)(batch.inputs, samples, batch.iteration, batch.is_labelled)
            self.given = samples
            return super()._learn(forward)
        finally:
            self.batch = batch

    def _weighted(self, name: str, value: Any) -> Any:
        if 'loss' not in name:
            return value
        if isinstance(value, (list, tuple)):
            return [one * self.loss_weight for one in value]
        return value * self.loss_weight


def no_losses(forward: Callable) -> Callable:
    """A method that returns no losses, in place of another."""
    return lambda *args, **kwargs: {}


def prediction_alone(head: nn.Module, loss: Callable) -> Callable:
    """A method of a classifier's head that predicts as its loss does, in place of the loss."""
    def predict(features: Any, *args: Any, **kwargs: Any) -> Dict[str, Any]:
        head(features)  # recorded
        return {}

    return predict


def has_labels(truth: Any) -> bool:
    """Whether there is an object; a label map counts as one."""
    return 'gt_instances' not in truth or len(truth.gt_instances) > 0


def without_truth(sample: Any) -> Any:
    """A sample without annotations; its views stay."""
    found = type(sample)(metainfo=sample.metainfo)
    found.set_data({name: value for name, value in sample.items() if name not in TRUTH})
    return found


def with_truth(sample: Any, truth: Any) -> Any:
    """A sample with the annotations of another one."""
    found = sample.new()
    for name in TRUTH:
        if name in truth:
            found.set_field(truth.get(name), name)
    return found


def blank(student: nn.Module, sample: Any, inputs: Tensor) -> Any:
    """A sample with annotations of no object, as the forward of the student expects them.

    Args:
        student (nn.Module): The student.
        sample (BaseDataElement): The sample, which is not changed.
        inputs (Tensor): Float (N, C, H, W).
    """
    from mmengine.structures import InstanceData, PixelData
    found = sample.new()
    height, width = inputs.shape[2:]
    if is_segmentor(student) or hasattr(student, 'panoptic_head'):
        found.gt_sem_seg = PixelData(data=torch.full(
            (1, height, width), IGNORED, dtype=torch.long, device=inputs.device))
    if not is_segmentor(student):
        empty = InstanceData(bboxes=inputs.new_zeros(0, 4),
                             labels=inputs.new_zeros(0, dtype=torch.long))
        found.ignored_instances = empty.new()
        if needs_masks(student):
            import numpy as np
            from mmdet.structures.mask import BitmapMasks
            empty.masks = BitmapMasks(np.zeros((0, height, width), np.uint8), height, width)
        found.gt_instances = empty
    return found


def weighed_heads(student: Any) -> List[nn.Module]:
    """Heads of a segmentor of mmseg whose loss takes a weight for each pixel."""
    return [module for module in student.modules()
            if hasattr(module, 'loss_by_feat') and hasattr(module, 'loss_decode') and
            getattr(module, 'sampler', 0) is None]


class PixelScores:
    """A pixel sampler of mmseg that returns the scores of pseudo-labels.

    Args:
        samples (Sequence): The samples, with ``gt_sem_seg_scores`` (1, H, W).
    """

    def __init__(self, samples: Any) -> None:
        self.samples = samples

    def sample(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The weights of the pixels, (N, H, W)."""
        return torch.stack([sample.gt_sem_seg_scores.data[0] for sample in self.samples]).to(logits)


class weighing:
    """Context manager in which a head weighs pixels by their scores.

    Args:
        head (nn.Module): A head of mmseg without a sampler.
        samples (Sequence): The samples, with ``gt_sem_seg_scores``.
    """

    def __init__(self, head: Any, samples: Any) -> None:
        self.head, self.enter = head, partial(PixelScores, samples)

    def __enter__(self) -> None:
        self.head.sampler = self.enter()

    def __exit__(self, *error: Any) -> None:
        self.head.sampler = None
