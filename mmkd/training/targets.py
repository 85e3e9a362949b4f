"""Scaling of the losses on hard targets where soft targets replace them."""
from contextlib import ExitStack, contextmanager
from copy import copy
from functools import partial, wraps
from math import inf
from typing import Any, Callable, Iterator, List, Optional, Sequence
from weakref import WeakSet

import torch
from torch import Tensor, nn

from ..core.errors import explained
from ..points import Point
from ..points.labels import limit_of
from ..points.recorder import replaced_forward


@contextmanager
def hard_targets_mixed(model: nn.Module, point: Point, share: float, replaces: str,
                       classes: Optional[Sequence[str]] = None) -> Iterator[List[Tensor]]:
    """Multiply the losses on hard targets of a point by 1 - ``share`` inside the block.

    The loss modules that train the point's logits on labels run as usual. Their return values, or
    for 'background' the weights of the positions, are scaled.

    Args:
        model (nn.Module): The student.
        point (Point): A point with ``criteria``.
        share (float): The share of the soft targets, 0 to 1.
        replaces (str): 'all', or 'background'.
        classes (Sequence[str], optional): Names of the student's classes; 'background' is the
            background.

    Yields:
        list[Tensor]: For 'background', after the losses have run: per call a bool mask of the
        background labels, with the shape of the labels. Empty for 'all'.
    """
    found: List[Tensor] = []
    limit = limit_of(point)
    named = [i for i, name in enumerate(classes or ()) if name == 'background']
    with ExitStack() as stack:
        for path in point.criteria:
            criterion = model.get_submodule(path)
            wrap = partial(_scaled, share) if replaces == 'all' else partial(
                _scaled_at_background, share, limit, named, found, criterion)
            stack.enter_context(replaced_forward(criterion, wrap))
        yield found


def _scaled(share: float, forward: Callable) -> Callable:
    @wraps(forward)
    def scaled(*args: Any, **kwargs: Any) -> Any:
        loss = forward(*args, **kwargs)
        # PAA computes losses of single positions only to choose among them, not to train.
        if kwargs.get('reduction_override') == 'none':
            return loss
        if isinstance(loss, dict):  # Seesaw's, of objectness and classes
            return {name: value * (1 - share) if 'loss' in name else value
                    for name, value in loss.items()}
        return loss * (1 - share)

    return scaled


def twin_of(criterion: nn.Module) -> nn.Module:
    """A copy with its own buffers, and with the ``forward`` of its class."""
    twin = copy(criterion)
    vars(twin).pop('forward', None)
    twin._buffers = {name: None if one is None else one.clone()
                     for name, one in criterion._buffers.items()}
    return twin


HEEDFUL: 'WeakSet[nn.Module]' = WeakSet()
"""Loss modules that were found to apply the weights of positions."""


def _scaled_at_background(share: float, limit: int, named: List[int], found: List[Tensor],
                          criterion: nn.Module, forward: Callable) -> Callable:
    @wraps(forward)
    def scaled(pred: Tensor, target: Any, weight: Optional[Tensor] = None, *args: Any,
               **kwargs: Any) -> Any:
        if kwargs.get('reduction_override') == 'none':
            return forward(pred, target, weight, *args, **kwargs)
        labels = target[0] if isinstance(target, (tuple, list)) else target
        if labels.is_floating_point():
            raise ValueError(
                "`replaces='background'` needs labels, but the targets of the student's loss are "
                "scores; write `replaces='all'`")
        is_background = (labels < 0) | (labels >= limit)
        for label in named:
            is_background |= labels == label
        found.append(is_background)
        rest = 1 - share * is_background.to(pred.dtype)
        problem = ("`replaces='background'` needs weights of positions, but "
                   f'{type(criterion).__name__}, the loss of the student, does not support them')
        remedy = "write `replaces='all'`, or train it by another loss"
        # Some modules ignore the weights, and some count their inputs: test this on a copy.
        twin = None if criterion in HEEDFUL else twin_of(criterion)
        with explained(problem, remedy):
            loss = forward(pred, target, rest if weight is None else weight * rest, *args, **kwargs)
        if twin is not None and isinstance(loss, Tensor) and 0 < loss.abs().sum() < inf:
            with torch.no_grad():
                of_nothing = twin(pred, target, torch.zeros_like(rest), *args, **kwargs)
            if torch.equal(loss, of_nothing):
                raise ValueError(f'{problem}: it stays the same when all are 0; {remedy}')
            HEEDFUL.add(criterion)
        return loss

    return scaled
