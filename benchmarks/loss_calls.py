"""Calls of single losses: their names, their arguments for two maps, and their autograd form."""
import contextlib
import copy
from functools import partial
from typing import Any, Callable, Dict, List, Optional
from unittest import mock

import torch
from torch import Tensor

from mmkd.compare.spec import TermSpec
from mmkd.core.asking import asked_by
from mmkd.losses import LOSSES as TABLE
from mmkd.losses import CIRKDLoss, CWDLoss, DistillLoss, DISTLoss, KDLoss, LogitLoss, cirkd
from mmkd.losses.base import PER_LEVEL
from mmkd.losses.cwd import divergence
from mmkd.losses.trial import made_up, scalars_of

LOSSES: Dict[str, DistillLoss] = dict(
    # as for RetinaNet's head, which has the largest logits
    DIST=DISTLoss(use_sigmoid=True), KD=KDLoss(use_sigmoid=True), CWD=CWDLoss())
"""Losses that are measured by default."""

CLASSES = 19
"""Number of classes for losses whose layers or banks depend on it."""


def names_of_losses() -> List[str]:
    """Return the names of mmkd's losses, without 'Loss'."""
    return list(dict.fromkeys([*LOSSES, *(
        cls.__name__.removesuffix('Loss') for cls in TABLE.classes.values()
        if cls.__module__.startswith('mmkd.'))]))


def loss_of(name: str) -> Optional[DistillLoss]:
    """A new loss with its default arguments.

    Args:
        name (str): One of :func:`names_of_losses`.

    Returns:
        DistillLoss | None: None if it needs arguments, or cannot be called on two maps.
    """
    if name in LOSSES:
        return copy.deepcopy(LOSSES[name])
    cls: Any = TABLE.classes[f'{name}Loss']
    for settings in [dict(use_sigmoid=True)] * issubclass(cls, LogitLoss) + [{}]:
        with contextlib.suppress(Exception):
            maps = torch.randn(2, 2, 32, 16, 16)
            prepared(cls(**settings), *maps, torch.Generator())(*maps)
            return cls(**settings)  # type: ignore[no-any-return]
    return None


class NothingLoss(DistillLoss):
    """A loss with a gradient and almost no cost, so that a step observes the teacher."""

    must_match = frozenset()

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        return 1e-9 * student.sum()


def nothing_at(entry: Dict[str, Any]) -> Dict[str, Any]:
    """Return the entry of ``distill`` with :class:`NothingLoss`, at the same points."""
    if 'NothingLoss' not in TABLE.classes:
        TABLE.register(NothingLoss)
    also = TermSpec.of(entry).build_loss().also
    kept = {key: value for key, value in entry.items() if key in (
        'on', 'name', 'per_anchor', 'stage', 'levels', 'also', 'through')}
    return dict(dict(also=list(also)) if also else {}, type='mmkd.NothingLoss', **kept)


def is_of_logits(loss: DistillLoss) -> bool:
    """Whether a loss is measured on maps of the size of logits."""
    return isinstance(loss, (LogitLoss, CWDLoss))


def has_two_forms(loss: DistillLoss) -> bool:
    """Whether a loss has a closed form in addition to a formula for autograd."""
    own = type(loss)
    return isinstance(loss, (CWDLoss, CIRKDLoss)) or (isinstance(loss, LogitLoss) and (
        own.compare is not LogitLoss.compare and own.compare_rows is not LogitLoss.compare_rows))


def prepared(loss: DistillLoss, student: Tensor, teacher: Tensor, generator: torch.Generator,
             is_straightforward: bool = False) -> Callable[[Tensor, Tensor], Tensor]:
    """A function of both maps (N, C, H, W) that calls the loss and adds its parts.

    Args:
        loss (DistillLoss): The loss, whose layers are made here.
        student (Tensor): A map like those it will be called with.
        teacher (Tensor): The same.
        generator (torch.Generator): It makes up what the loss asks for by name.
        is_straightforward (bool): Whether its straightforward form is called. Defaults to False.
    """
    is_all = loss.levels == 'all'
    if loss.has_setup:
        known = dict(num_classes=CLASSES, stride=[8.] if is_all else 8.,
                     level=None if is_all else 0, teacher_level=[0] if is_all else 0)
        channels: List[Any] = [student.shape[1], teacher.shape[1]]
        loss.setup(*[[one] if is_all else one for one in channels],
                   **{name: known[name] for name in asked_by(type(loss).setup).names})
        loss.to(student.device)
    named = {}
    for name in loss.asked().names:
        value = _moved(made_up(name, student.detach(), 0, generator), student.device)
        named[name] = [value] if is_all and name in PER_LEVEL else value
    function: Any = partial(straightforward, loss) if is_straightforward else loss

    def value(student: Tensor, teacher: Tensor) -> Tensor:
        sides = ([student], [teacher]) if is_all else (student, teacher)
        return torch.stack(scalars_of(function(*sides, **named))).sum()

    return value


def straightforward(loss: Any, student: Tensor, teacher: Tensor, **named: Any) -> Any:
    """Compute the formula as in the paper, differentiated by autograd."""
    if isinstance(loss, CIRKDLoss):
        with mock.patch.object(cirkd, 'similarity_divergence', all_similarities):
            return loss(student, teacher, **named)
    if isinstance(loss, LogitLoss):
        return LogitLoss.compare(loss, student, teacher, None)
    return loss.tau**2 * divergence(student.flatten(2), teacher.flatten(2), tau=loss.tau).mean()


def all_similarities(student: Tensor, teacher: Tensor, student_keys: Tensor, teacher_keys: Tensor,
                     tau: float, weight: Optional[Tensor] = None, blocks: int = 1) -> Tensor:
    """:func:`mmkd.losses.fast.pairwise.similarity_divergence` without chunks."""
    log_p, log_q = ((one @ keys.T / tau).unflatten(1, (blocks, -1)).log_softmax(2)
                    for one, keys in ((teacher, teacher_keys), (student, student_keys)))
    rows = (log_p.exp() * (log_p - log_q)).sum((1, 2)) / blocks
    return rows.mean() if weight is None else (rows * weight).sum() / weight.sum().clamp(min=1)


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, list):
        return [_moved(one, device) for one in value]
    return value.to(device) if isinstance(value, Tensor) else value
