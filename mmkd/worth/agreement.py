"""Where do two networks disagree, and which of them is right?

Both predict the same validation images. Each object (pixel, image) with a label is found by both
networks, by only one of them, or by neither. What only the teacher finds is
what the student can learn; what only the student finds it may lose.
"""
from typing import Any, Dict, List, Optional, Tuple

import numpy as np
import torch
from torch import Tensor

NAMES = 'both', 'teacher', 'student', 'neither'
SCORE, OVERLAP = 0.3, 0.5
"""Of a detection that counts: its score, and its IoU with an object of its class."""
IGNORED = 255
"""The label of pixels that mmseg's metrics leave out."""


class Agreement:
    """Counts, by class and image.

    Args:
        classes (int): Number of classes.

    Attributes:
        images (list[dict]): Per image: ``index`` in the loader, ``teacher`` and ``student``, the
            numbers of objects that only this network finds, and ``total``.
    """

    def __init__(self, classes: int) -> None:
        self.counts = np.zeros((4, classes), dtype=np.int64)
        self.areas = {name: np.zeros((2, classes), dtype=np.int64)
                      for name in ('student', 'teacher')}
        self.images: List[Dict[str, int]] = []
        self.is_of_pixels = False

    def add(self, student: Any, teacher: Any, scale: Tuple[float, float] = (1., 1.)) -> bool:
        """Add an image.

        Args:
            student (DetDataSample | SegDataSample | DataSample): The student's prediction, with the
                labels.
            teacher (DetDataSample | SegDataSample | DataSample): The teacher's, with the student's
                classes.
            scale (tuple[float, float]): Pixels of the labels per pixel of the predictions,
                horizontally and vertically. Defaults to equal ones.

        Returns:
            bool: Whether the image has labels of a known kind.
        """
        if 'pred_sem_seg' in student and 'gt_sem_seg' in student:
            self._pixels(student, teacher)
        elif 'pred_instances' in student and 'labels' in student.get('gt_instances', {}):
            self._objects(student, teacher, scale)
        elif 'pred_label' in student and 'gt_label' in student:
            labels = student.gt_label.flatten().cpu()
            self._count(labels.numpy(), *(
                torch.isin(labels, one.pred_label.flatten().cpu()).numpy()
                for one in (student, teacher)))
        else:
            return False
        return True

    def _pixels(self, student: Any, teacher: Any) -> None:
        self.is_of_pixels = True
        truth = student.gt_sem_seg.data.flatten().cpu().numpy()
        known = (truth != IGNORED) & (truth < self.counts.shape[1]) & (truth >= 0)
        truth = truth[known]
        found = [one.pred_sem_seg.data.flatten().cpu().numpy()[known]
                 for one in (student, teacher)]
        for name, one in zip(('student', 'teacher'), found):
            right = _histogram(truth[one == truth], self.counts.shape[1])
            self.areas[name] += np.stack([right, _histogram(truth, len(right)) + _histogram(
                one, len(right)) - right])
        self._count(truth, *(one == truth for one in found))

    def _objects(self, student: Any, teacher: Any, scale: Tuple[float, float]) -> None:
        truth = student.gt_instances
        boxes = truth.bboxes if isinstance(truth.bboxes, Tensor) else truth.bboxes.tensor
        boxes = boxes.cpu() / boxes.new_tensor(scale).cpu().repeat(2)
        labels = truth.labels.cpu()
        self._count(labels.numpy(), *(
            found_objects(boxes, labels, one.pred_instances).numpy() for one in (student, teacher)))

    def _count(self, labels: np.ndarray, student: np.ndarray, teacher: np.ndarray) -> None:
        sides = student & teacher, teacher & ~student, student & ~teacher, ~student & ~teacher
        for row, side in enumerate(sides):
            self.counts[row] += _histogram(labels[side], self.counts.shape[1])
        self.images.append(dict(index=len(self.images), teacher=int(sides[1].sum()),
                                student=int(sides[2].sum()), total=len(labels)))

    def most_different(self, count: int) -> List[int]:
        """Numbers of the images where the networks differ most, in objects or pixels."""
        different = [one for one in self.images if one['teacher'] + one['student']]
        different.sort(key=lambda one: -(one['teacher'] + one['student']))
        return [one['index'] for one in different[:count]]

    def iou(self, name: str) -> List[Optional[float]]:
        """IoU by class in per cent, for label maps; None for a class that does not occur."""
        right, union = self.areas[name].tolist()
        return [100 * a / b if b else None for a, b in zip(right, union)]

    def result(self, names: List[str]) -> Dict[str, Any]:
        """``unit``, ``total`` and ``by_class``: shares of what has a label, by :data:`NAMES`."""
        return dict(
            unit='pixels' if self.is_of_pixels else 'objects',
            total={name: int(row.sum()) for name, row in zip(NAMES, self.counts)},
            by_class={names[number]: {name: int(n) for name, n in zip(NAMES, column)}
                      for number, column in enumerate(self.counts.T) if column.any()})


def _histogram(labels: np.ndarray, classes: int) -> np.ndarray:
    return np.bincount(labels.astype(np.int64), minlength=classes)[:classes]


def found_objects(boxes: Tensor, labels: Tensor, predicted: Any) -> Tensor:
    """Which objects have a detection of their class, each detection for one object.

    Args:
        boxes (Tensor): (K, 4), objects.
        labels (Tensor): (K,), their classes.
        predicted (InstanceData): Detections; those below :data:`SCORE` do not count.

    Returns:
        Tensor: Bool (K,).
    """
    found = torch.zeros(len(boxes), dtype=torch.bool)
    keep = predicted.scores.cpu() >= SCORE
    scores = predicted.scores.cpu()[keep]
    theirs = predicted.bboxes if isinstance(predicted.bboxes, Tensor) else predicted.bboxes.tensor
    overlaps = overlap_of(theirs.cpu()[keep], boxes)
    overlaps[predicted.labels.cpu()[keep].unsqueeze(1) != labels] = 0
    for number in scores.argsort(descending=True).tolist() if len(boxes) else ():
        free = overlaps[number].masked_fill(found, 0)
        best = int(free.argmax())
        found[best] |= bool(free[best] >= OVERLAP)
    return found


def overlap_of(first: Tensor, second: Tensor) -> Tensor:
    """IoU of boxes (M, 4) and (K, 4), as (M, K).

    Example:
        >>> overlap_of(torch.tensor([[0., 0., 2., 2.]]), torch.tensor([[1., 0., 2., 2.]])).item()
        0.5
    """
    low = torch.maximum(first[:, None, :2], second[None, :, :2])
    high = torch.minimum(first[:, None, 2:], second[None, :, 2:])
    inner = (high - low).clamp(min=0).prod(2)
    areas = [(one[:, 2:] - one[:, :2]).prod(1) for one in (first, second)]
    return inner / (areas[0][:, None] + areas[1][None] - inner).clamp(min=1e-9)
