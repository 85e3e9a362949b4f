"""Has a loss a gradient for tensors of given shapes?"""
import copy
import math
import warnings
from itertools import product
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

import torch
from torch import Tensor

from ..core.processes import alone
from ..core.rng import preserved_rng
from .base import PER_LEVEL, DistillLoss

Shapes = Sequence[Tuple[int, ...]]

SCALES = (1., 10., 0.1, 1e-3)
"""Standard deviations of the random inputs. A loss may saturate for large or for small inputs; it
is taken to be constant if it has no gradient for all of these."""

POSITIONS = 4
"""Minimum number of positions of the inputs. Over one or two positions correlations are constant,
and a larger batch has more."""

MOST = 16
"""Maximum height and width of the inputs, so that the trial is quick for a thousand classes."""

IMAGE = 64
"""Height and width of the image of the generated boxes and label maps."""

NOISE = 1e-10
"""A gradient is taken for rounding noise if its norm divided by the loss is at most this
(float64)."""


class Limits(NamedTuple):
    """Result of a trial."""
    is_constant: bool
    """Whether the loss has no gradient."""
    notes: List[str]
    """Parts of the formula that are left out, and alternatives."""
    is_broken: bool = False
    """Whether its value or its gradient is infinite or NaN."""


SOME, NONE = 'some', 'none'
VALUE, GRADIENT = 'value', 'gradient'
"""Outcomes of a trial: a gradient, none, a value that is not finite, a gradient that is not."""

BROKEN = {VALUE: 'the value of {} is infinite or NaN for all inputs that were tried',
          GRADIENT: 'the gradient of {} is infinite or NaN for all inputs that were tried, though '
                    'its value is finite'}


def limits_of(loss: DistillLoss, shapes: Shapes,
              teacher_shapes: Optional[Shapes] = None) -> Limits:
    """Which parts of a loss have no gradient on levels of given shapes.

    Args:
        loss (DistillLoss): The loss; its :meth:`~DistillLoss.setup` has been called.
        shapes (Sequence[tuple[int, ...]]): Shapes of the student's levels, (N, C, *positions).
        teacher_shapes (Sequence[tuple[int, ...]], optional): Shapes of the teacher's levels.
            Defaults to None, the same.
    """
    name = type(loss).__name__
    notes = list(dict.fromkeys(note for shape in shapes for note in loss.notes(shape[1])))
    found = outcome_of(loss, shapes, teacher_shapes)
    if found in BROKEN:
        return Limits(False, [BROKEN[found].format(name),
                              'in a loss of your own, look in `compare` for a division by 0, or a '
                              'root, norm or logarithm of 0'], True)
    if found == SOME:
        return Limits(False, notes)
    return Limits(True, [f'the gradient of {name} is 0 for all predictions',
                         *(notes or ['use another loss, for instance mmkd.MSELoss, or another '
                                     'point; in a loss of your own, check `compare` for '
                                     '`.detach()`, `argmax` and `no_grad`'])])


def is_constant(loss: DistillLoss, shapes: Shapes,
                teacher_shapes: Optional[Shapes] = None) -> bool:
    """Whether a loss has no gradient for the student for any input; see :func:`outcome_of`."""
    return outcome_of(loss, shapes, teacher_shapes) == NONE


def outcome_of(loss: DistillLoss, shapes: Shapes,
               teacher_shapes: Optional[Shapes] = None) -> str:
    """Whether a loss has a gradient for the student, and numbers that are finite.

    A copy of the loss with a ``loss_weight`` of 1 is evaluated on random numbers, on the CPU and in
    float64, so that a gradient of exactly 0 is found as 0. Maps are reduced to a few positions.
    Without a gradient, more images are tried, because a loss may relate images to each other, and
    the shapes are often those of a blank image. If numbers are not finite, larger maps are tried,
    because the last levels of a blank image have one position, and numbers of one sign. Labels,
    boxes and other values are generated. The random number generators of the run are not changed.

    Args:
        loss (DistillLoss): The loss; its :meth:`~DistillLoss.setup` has been called.
        shapes (Sequence[tuple[int, ...]]): Shapes of the student's levels, (N, C, *positions).
        teacher_shapes (Sequence[tuple[int, ...]], optional): Shapes of the teacher's levels.
            Defaults to None, the same.

    Returns:
        str: :data:`NONE` if the gradient is 0 for all inputs; :data:`VALUE` or :data:`GRADIENT` if
        this is infinite or NaN for all inputs; otherwise, and if the loss raises an error for such
        inputs, :data:`SOME`.
    """
    if not shapes:
        return SOME
    generator = torch.Generator().manual_seed(0)
    found: Set[str] = set()
    try:
        # A loss may draw random numbers, and may communicate: other processes do not take part.
        with preserved_rng(), alone(), warnings.catch_warnings():
            warnings.simplefilter('ignore')
            tried: Any = copy.deepcopy(loss).cpu().double().eval()
            tried.loss_weight = 1.
            if getattr(tried, 'sync', False):
                tried.sync = False
            for (least, change), images, scale in product(INPUTS, (1, POSITIONS), SCALES):
                if found == {NONE} and (least, change) != INPUTS[0]:
                    break
                student, teacher = (
                    [change(scale * torch.randn(size, generator=generator, dtype=torch.float64))
                     for size in sizes_for(side, images, least)]
                    for side in (shapes, teacher_shapes or shapes))
                found.add(_outcome(tried, student, teacher, generator))
                if SOME in found:
                    return SOME
    except Exception:  # the loss may not accept random inputs
        return SOME
    return found.pop() if len(found) == 1 else GRADIENT if NONE not in found else SOME


INPUTS: List[Tuple[int, Callable[[Tensor], Tensor]]] = [
    (1, lambda level: level), (8, lambda level: level), (8, torch.abs), (8, lambda x: -x.abs())]
"""Minimum height and width of maps, and what is done with random numbers, in the order in which
they are tried. With 8, the generated boxes lie within the map."""


def _outcome(loss: DistillLoss, student: List[Tensor], teacher: List[Tensor],
             generator: torch.Generator) -> str:
    with torch.enable_grad():
        for level in student:
            level.requires_grad_()
        named = {name: ([made_up(name, level, number, generator)
                         for number, level in enumerate(student)] if name in PER_LEVEL else
                        made_up(name, student[0], 0, generator))
                 for name in loss.asked().names}
        values: Any = loss(student, teacher, **named)
        total = torch.stack(scalars_of(values)).sum()
        if not total.isfinite():
            return VALUE
        if not total.requires_grad:
            return NONE
        gradients = torch.autograd.grad(total, student, allow_unused=True)
    given = [one for one in gradients if one is not None]
    if not all(one.isfinite().all() for one in given):
        return GRADIENT
    norm = sum(one.square().sum() for one in given) ** 0.5
    return SOME if norm > NOISE * total.detach().abs() else NONE


def scalars_of(value: Any) -> List[Tensor]:
    """All scalars in the return value of a loss: a scalar, named parts, or lists of these."""
    if isinstance(value, dict):
        return [one for part in value.values() for one in scalars_of(part)]
    if isinstance(value, (list, tuple)):
        return [one for part in value for one in scalars_of(part)]
    return [value]


def made_up(name: str, level: Tensor, number: int, generator: torch.Generator) -> Any:
    """Generate a value that a loss requests by name, for a trial.

    Args:
        name (str): The name.
        level (Tensor): A level of the student, (N, C, *positions).
        number (int): Its number.
        generator (torch.Generator): The random number generator.

    Raises:
        KeyError: If the name is provided by a user.
    """
    count, channels = level.shape[:2]
    positions = (count, *level.shape[2:])

    def per_image(size: Tuple[int, ...], high: int) -> List[Tensor]:
        """Zero rows for the first image, two for each other image."""
        return [torch.randint(high, (2 * (image > 0), *size), generator=generator)
                for image in range(count)]

    def boxes() -> List[Tensor]:
        corners = [one.to(level).unflatten(1, (2, 2)).cumsum(1).flatten(1)
                   for one in per_image((4, ), IMAGE // 2)]
        return [one + one.new_tensor([0, 0, 1, 1]) for one in corners]

    values: Dict[str, Callable[[], Any]] = dict(
        labels=lambda: torch.randint(-1, channels + 1, positions, generator=generator),
        label_weights=lambda: level.new_ones(positions), num_positives=lambda: level.new_tensor(2.),
        centerness_sum=lambda: level.new_tensor(1.5),
        boxes=boxes, ignored_boxes=boxes, box_labels=lambda: per_image((), channels),
        instance_masks=lambda: [one.bool() for one in per_image((IMAGE, IMAGE), 2)],
        # Features may have more channels than there are classes.
        label_map=lambda: torch.randint(-1, min(channels, 2), (count, IMAGE, IMAGE),
                                        generator=generator),
        num_classes=lambda: channels, image_sizes=lambda: torch.full((count, 2), IMAGE),
        sample_ids=lambda: torch.arange(count),
        left_out_labels=list, left_out_priors=list, iteration=lambda: 0, stride=lambda: 8.,
        level=lambda: number,
        priors=lambda: level.new_tensor([[0., 0., 8., 8.]]).repeat(math.prod(positions[1:]), 1))
    return values[name]()


def sizes_for(shapes: Shapes, images: int = 1, least: int = 1) -> List[Tuple[int, ...]]:
    """In what shapes levels are tried: with one batch size, of ``images`` or more, a few positions
    at least, and maps of ``least`` or more on each side."""
    is_enough = all(count >= images and count * math.prod(rest) >= POSITIONS
                    for count, _, *rest in shapes)
    return [(count if is_enough else max(POSITIONS, count), channels,
             *(max(least, min(one, MOST)) for one in rest)) for count, channels, *rest in shapes]
