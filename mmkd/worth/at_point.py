"""How good are teacher and student at the point where the student asks, on images of training and
on held-out ones?"""
import copy
import time
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import torch
from torch import Tensor

from ..compare.alignment import kept_of
from ..core.rng import preserved_rng, seed_from
from ..losses import LogitLoss
from ..points.recorder import evaluating
from .findings import Standing
from .images import LEAST
from .tally import Tally, advantage

POINTS = 'cls', 'semantic', 'rpn_cls'
"""Points of predictions with labels, the first one that can be compared."""


class WatchLoss(LogitLoss):
    """Keeps the logits of both sides and the labels, instead of comparing them.

    Its value is a mean squared error, so that the checks before training accept it. Not for
    training.

    Attributes:
        kept (list): Per call, logits (R, C) of student and teacher, and labels (R,).
    """

    def __init__(self, tau: float = 1.0, use_sigmoid: Optional[bool] = None,
                 loss_weight: float = 1.0) -> None:
        super().__init__(tau, use_sigmoid, loss_weight)
        self.kept: List[Tuple[Tensor, Tensor, Tensor]] = []

    def compare(self, student: Tensor, teacher: Tensor,  # type: ignore[override]
                weight: Optional[Tensor] = None, *, labels: Tensor) -> Tensor:
        self.kept.append((_rows(student), _rows(teacher), labels.flatten()))
        return (student - teacher).square().mean() if student.numel() else student.sum() * 0


def watching(on: str) -> Dict[str, Any]:
    """The entry of ``distill`` that observes a point."""
    return dict(type=WatchLoss, on=on, name='loss_watch')


def _rows(logits: Tensor) -> Tensor:
    return logits.detach().movedim(1, -1).flatten(0, -2)


class Compared(NamedTuple):
    """Both networks at a point."""
    standings: Dict[str, Standing]
    """By 'student' and 'teacher'."""
    advantage: Dict[str, List[float]]
    """Of the teacher on the last split, see :func:`mmkd.worth.tally.advantage`."""


def standing_of(distillation: Any, loaders: Dict[str, Any], deadline: float) -> Compared:
    """Measure both networks at the point of the only term of a distillation.

    Args:
        distillation (Distillation): Prepared, with the entry :func:`watching`.
        loaders (dict): Loader of single images by split, 'train' and 'held_out', in this order.
        deadline (float): Time by :func:`time.monotonic` at which it stops; each split has half of
            the time that is left.
    """
    student = distillation.student
    term = distillation.terms[0]
    use_sigmoid, classes = bool(term.student_point.use_sigmoid), class_count(term)
    found = {name: Standing() for name in ('student', 'teacher')}
    tallies: Dict[str, Tally] = {}
    for number, (split, loader) in enumerate(loaders.items()):
        ends = time.monotonic() + (deadline - time.monotonic()) / (len(loaders) - number)
        tallies = {name: Tally(use_sigmoid, classes) for name in found}
        with preserved_rng(), torch.no_grad(), evaluating(student):
            seed_from(0)
            for count, batch in enumerate(loader, 1):
                for logits_s, logits_t, labels in rows_of(distillation, batch):
                    tallies['student'].add(logits_s, labels)
                    tallies['teacher'].add(logits_t, labels)
                if count >= LEAST and time.monotonic() > ends:
                    break
        for name, sides in found.items():
            setattr(sides, split, tallies[name].result())
    return Compared(found, advantage(tallies['teacher'], tallies['student']))


def rows_of(distillation: Any, batch: Any) -> List[Tuple[Tensor, Tensor, Tensor]]:
    """Logits of student and teacher and the labels for one image, all levels together."""
    student = distillation.student
    data = student.data_preprocessor(copy.deepcopy(batch), True)
    watches = distillation.terms[0].losses
    for one in watches:
        one.kept.clear()
    distillation.losses(student, data['inputs'], data['data_samples'])
    kept = [row for one in watches for row in one.kept]
    for one in watches:
        one.kept.clear()
    return [tuple(torch.cat(side) for side in zip(*kept))] if kept else []  # type: ignore


def class_count(term: Any) -> int:
    """Number of named classes that a term compares."""
    kept = kept_of([term.alignment])
    return max(term.student_point.num_named, 1) if kept is None else len(kept)
