"""Can a loss teach anything on tensors of given shapes?"""
import copy
import math
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor

from ..core.processes import alone
from ..core.rng import preserved_rng
from .base import PER_LEVEL, DistillLoss

Shapes = Sequence[Tuple[int, ...]]

SCALES = (1., 10., 0.1, 1e-3)
"""Standard deviations of the numbers that are tried. A loss may be flat where its input is large,
or where it is small; one that is flat for all of them is taken to be constant."""

POSITIONS = 4
"""At so many positions a loss is tried at least: over one, or two, correlations are constant, and
a larger batch has more."""

MOST = 16
"""Height and width, at most, of the maps that are tried: quick, also for a thousand classes."""

IMAGE = 64
"""Height and width of the image that boxes and label maps are made up for."""

NOISE = 1e-10
"""A gradient is rounding noise if its norm is at most this share of the loss (in float64)."""


class Limits(NamedTuple):
    """What a loss cannot teach where it is used."""
    is_constant: bool
    """Whether it cannot teach anything."""
    notes: List[str]
    """What is left out, and what to use instead."""


def limits_of(loss: DistillLoss, shapes: Shapes,
              teacher_shapes: Optional[Shapes] = None) -> Limits:
    """What a loss cannot teach on levels of given shapes.

    Args:
        loss (DistillLoss): The loss; one with layers has been set up.
        shapes (Sequence[tuple[int, ...]]): Of the student's levels, (N, C, *positions).
        teacher_shapes (Sequence[tuple[int, ...]], optional): Of the teacher's. Defaults to None,
            the same.
    """
    notes = list(dict.fromkeys(note for shape in shapes for note in loss.notes(shape[1])))
    if not is_constant(loss, shapes, teacher_shapes):
        return Limits(False, notes)
    return Limits(True, [f'{type(loss).__name__} has a gradient of 0 whatever both sides predict',
                         *(notes or ['use another loss, for instance mmkd.MSELoss, or another '
                                     'point'])])


def is_constant(loss: DistillLoss, shapes: Shapes,
                teacher_shapes: Optional[Shapes] = None) -> bool:
    """Whether a loss has no gradient for the student, whatever both sides predict.

    It is tried on random numbers, on the CPU and in float64, so that a gradient of exactly 0 is
    found as 0; maps are cut to a few positions. Labels, boxes and the like are made up. A copy is
    tried, at a ``loss_weight`` of 1. The random numbers of the run are not touched.

    Args:
        loss (DistillLoss): The loss; one with layers has been set up.
        shapes (Sequence[tuple[int, ...]]): Shapes of the levels that it compares, (N, C,
            *positions).
        teacher_shapes (Sequence[tuple[int, ...]], optional): Of the teacher's. Defaults to None,
            the same.

    Returns:
        bool: False also where it cannot be told, because the loss does not take such numbers.
    """
    if not shapes:
        return False
    generator = torch.Generator().manual_seed(0)
    try:
        # A loss may draw random numbers of its own; other processes are not there to answer.
        with preserved_rng(), alone():
            tried: Any = copy.deepcopy(loss).cpu().double().eval()
            tried.loss_weight = 1.
            if getattr(tried, 'sync', False):
                tried.sync = False
            for scale in SCALES:
                student, teacher = (
                    [scale * torch.randn(size, generator=generator, dtype=torch.float64)
                     for size in sizes_for(side)] for side in (shapes, teacher_shapes or shapes))
                if _has_gradient(tried, student, teacher, generator):
                    return False
    except Exception:  # other numbers than a model's may be no input for it
        return False
    return True


def _has_gradient(loss: DistillLoss, student: List[Tensor], teacher: List[Tensor],
                  generator: torch.Generator) -> bool:
    with torch.enable_grad():
        for level in student:
            level.requires_grad_()
        named = {name: ([made_up(name, level, number, generator)
                         for number, level in enumerate(student)] if name in PER_LEVEL else
                        made_up(name, student[0], 0, generator))
                 for name in loss.asked().names}
        values: Any = loss(student, teacher, **named)
        total = torch.stack(scalars_of(values)).sum()
        if not total.requires_grad:
            return False
        gradients = torch.autograd.grad(total, student, allow_unused=True)
    norm = sum(one.square().sum() for one in gradients if one is not None) ** 0.5
    return not norm <= NOISE * total.detach().abs()


def scalars_of(value: Any) -> List[Tensor]:
    """Every scalar of what a loss returns: one, named parts, or lists of these."""
    if isinstance(value, dict):
        return [one for part in value.values() for one in scalars_of(part)]
    if isinstance(value, (list, tuple)):
        return [one for part in value for one in scalars_of(part)]
    return [value]


def made_up(name: str, level: Tensor, number: int, generator: torch.Generator) -> Any:
    """A value that a loss asks for by name, to try it with.

    Args:
        name (str): The name.
        level (Tensor): A level of the student, (N, C, *positions).
        number (int): Its number.
        generator (torch.Generator): Of the random numbers.

    Raises:
        KeyError: If it is a name that a user provides.
    """
    count, channels = level.shape[:2]
    positions = (count, *level.shape[2:])

    def per_image(size: Tuple[int, ...], high: int) -> List[Tensor]:
        """Of the first image none, of the others two."""
        return [torch.randint(high, (2 * (image > 0), *size), generator=generator)
                for image in range(count)]

    def boxes() -> List[Tensor]:
        corners = [one.to(level).unflatten(1, (2, 2)).cumsum(1).flatten(1)
                   for one in per_image((4, ), IMAGE // 2)]
        return [one + one.new_tensor([0, 0, 1, 1]) for one in corners]

    values: Dict[str, Callable[[], Any]] = dict(
        labels=lambda: torch.randint(-1, channels + 1, positions, generator=generator),
        label_weights=lambda: level.new_ones(positions), num_positives=lambda: level.new_tensor(2.),
        boxes=boxes, ignored_boxes=boxes, box_labels=lambda: per_image((), channels),
        instance_masks=lambda: [one.bool() for one in per_image((IMAGE, IMAGE), 2)],
        label_map=lambda: torch.randint(-1, channels, (count, IMAGE, IMAGE), generator=generator),
        image_sizes=lambda: torch.full((count, 2), IMAGE), sample_ids=lambda: torch.arange(count),
        iteration=lambda: 0, stride=lambda: 8., level=lambda: number,
        priors=lambda: level.new_tensor([[0., 0., 8., 8.]]).repeat(math.prod(positions[1:]), 1))
    return values[name]()


def sizes_for(shapes: Shapes) -> List[Tuple[int, ...]]:
    """In what shapes levels are tried: with one batch size, and a few positions at least."""
    is_enough = all(count * math.prod(rest) >= POSITIONS for count, _, *rest in shapes)
    return [(count if is_enough else max(POSITIONS, count), channels,
             *(min(one, MOST) for one in rest)) for count, channels, *rest in shapes]
