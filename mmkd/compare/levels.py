"""Which level of the student is compared with which level of the teacher?"""
import math
from itertools import product
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from torch import Tensor

Size = Tuple[int, ...]
"""Height and width of a map, in positions."""

Stride = Tuple[float, ...]
"""Pixels of the input per position of a map, vertically and horizontally."""

LEAST = 4
"""Below this number of positions, a difference of one position means another stride."""


class Pairing(NamedTuple):
    """Pairs of levels."""
    pairs: List[Tuple[int, int]]
    """Numbers of the student's and of the teacher's level, from 0, in the student's order."""
    left_out: Tuple[List[int], List[int]]
    """Numbers of the student's and of the teacher's levels without a partner."""


class Maps(NamedTuple):
    """The maps of a point."""
    name: str
    """Name of the point."""
    sizes: List[Size]
    image: Size
    """Size of the network's input, in pixels."""

    @property
    def strides(self) -> List[Stride]:
        """Stride of each map."""
        return [stride_of(size, self.image) for size in self.sizes]


def sizes_of(levels: Sequence[Tensor]) -> List[Size]:
    """Sizes of maps (N, C, H, W)."""
    return [tuple(level.shape[2:]) for level in levels]


def pair_levels(student: Sequence[Size], teacher: Sequence[Size],
                is_prediction: bool = False) -> Optional[Pairing]:
    """Pair levels of equal stride.

    Both sides are computed from the same image, so maps of equal stride have equal sizes. The sizes
    may differ by one position, because convolutions pad differently.

    Several levels of one stride are paired in order if both sides have the same number of them.
    Otherwise the last ones are paired, which are the deepest in every backbone of mmdet and mmseg.
    Predictions of one stride have no such order, so they are then not paired.

    If both sides have a single stride and the same number of levels, all levels are paired in
    order, even if the sizes differ: the caller interpolates the teacher's maps.

    Args:
        student (Sequence[tuple[int, int]]): Sizes of the student's maps.
        teacher (Sequence[tuple[int, int]]): Sizes of the teacher's maps, for an image of the same
            size.
        is_prediction (bool): Whether the maps are predictions, not features. Defaults to False.

    Returns:
        Pairing | None: The pairs; None if no level has a partner.
    """
    mine, theirs = _by_size(student), _by_size(teacher)
    if len(mine) == len(theirs) == 1 and len(student) == len(teacher):
        return Pairing([(i, i) for i in range(len(student))], ([], []))
    pairs: List[Tuple[int, int]] = []
    partners = {size: size for size in mine if size in theirs}
    for size, other in product(mine, theirs):
        if size not in partners and other not in partners.values() and is_alike(size, other):
            partners[size] = other
    for size, other in partners.items():
        own, others = mine[size], theirs[other]
        if is_prediction and len(own) != len(others):
            continue
        count = min(len(own), len(others))
        pairs += zip(own[-count:], others[-count:])
    if not pairs:
        return None
    pairs.sort()
    return Pairing(pairs, tuple(  # type: ignore[arg-type]
        [number for number in range(len(side)) if number not in taken]
        for side, taken in zip((student, teacher), zip(*pairs))))


def choose(student: Sequence[Size], teacher: Sequence[Size]) -> Optional[Tuple[int, int]]:
    """Choose the first of several heads that has a partner of its stride, and this partner.

    Args:
        student (Sequence[tuple[int, int]]): Sizes of the maps of the student's heads.
        teacher (Sequence[tuple[int, int]]): Sizes of the maps of the teacher's heads.

    Returns:
        tuple[int, int] | None: Numbers of the two heads; None if no two have the same stride.
    """
    if len(student) == len(teacher) == 1:
        return 0, 0
    for same in (tuple.__eq__, is_alike):
        for (i, size), (k, other) in product(enumerate(student), enumerate(teacher)):
            if same(tuple(size), tuple(other)):
                return i, k
    return None


def is_alike(one: Size, other: Size) -> bool:
    """Whether two maps have the same stride, up to one position of padding."""
    return len(one) == len(other) and all(
        a == b or (abs(a - b) == 1 and min(a, b) >= LEAST) for a, b in zip(one, other))


def is_ambiguous(student: Sequence[Size], teacher: Sequence[Size]) -> bool:
    """Whether a larger image is needed to find the strides.

    Sizes are rounded, so small maps of different strides may have equal sizes; and a map of one
    position may have one position for every image (a pooled vector), or only for a small one.
    """
    if all(set(size) == {1} for size in student):
        return True
    small = [[size for size in side if min(size) < LEAST] for side in (student, teacher)]
    return list(student) != list(teacher) and any(len(set(side)) < len(side) for side in small)


def stride_of(size: Size, image: Size) -> Stride:
    """The stride of a map.

    Args:
        size (tuple[int, int]): Size of the map.
        image (tuple[int, int]): Size of the network's input, in pixels.

    Returns:
        tuple[float, float]: A power of two if the size of the map fits one, up to rounding and
        padding; a whole number otherwise; less than 1 for a map larger than the image.
    """
    return tuple(_stride(*pair) for pair in zip(size, image))


def _stride(positions: int, pixels: int) -> float:
    if not positions or positions > pixels:
        return round(pixels / positions, 2) if positions else math.inf
    powers = [2**k for k in range(pixels.bit_length() + 1)]
    for power in powers:
        if math.ceil(pixels / power) == positions:
            return power
    for power in powers:
        near = 1 if positions >= 16 else 0
        if abs(pixels // power - positions) <= near:
            return power
    return round(pixels / positions)


def shown_strides(strides: Sequence[Stride]) -> str:
    """Strides, for messages: '8, 16', or '8x16' if height and width differ."""
    return ', '.join(
        'x'.join(f'{one:g}' for one in (stride if len(set(stride)) > 1 else stride[:1]))
        for stride in strides)


def notes_of(pairing: Pairing, student: Maps, teacher: Maps) -> List[str]:
    """Notes on a pairing, for the log; [] if all levels are paired in order."""
    mine, theirs = (list(side) for side in zip(*pairing.pairs))
    if mine == theirs and not any(pairing.left_out):
        return []
    notes = [f"levels are compared by stride, the student's {mine} with the teacher's {theirs}"]
    alone = [f'the {name}\'s {number} (stride {shown_strides([side.strides[number]])})'
             for name, side, numbers in zip(('student', 'teacher'), (student, teacher),
                                            pairing.left_out) for number in numbers]
    return notes + ['left out, because the other side has no level of this stride: '
                    f'{", ".join(alone)}'] * bool(alone)


def no_partner(student: Maps, teacher: Maps, is_prediction: bool) -> str:
    """Message for levels without any pair: the strides, and the remedy."""
    is_shared = not set(student.strides).isdisjoint(teacher.strides)
    return (
        f'`{student.name}` of the student has {_described(student)}, `{teacher.name}` of the '
        f'teacher {_described(teacher)}; levels are paired by stride, and ' +
        ('both sides must have the same number of levels of a stride' if is_shared else
         'they have no stride in common') + '; ' +
        ("use a teacher with the student's strides, or compare 'neck' or 'backbone'"
         if is_prediction else
         'write one level of each side by its dotted path, such as '
         "on=dict(student='backbone.layer4', teacher='backbone.layer3'), so that the teacher's map "
         'is interpolated'))


def no_head(student: Maps, teacher: Maps) -> str:
    """Message for several heads without any pair: the strides, and the remedy."""
    on = ', '.join(f"{side}='{maps.name}{'.0' * (len(maps.sizes) > 1)}'"
                   for side, maps in (('student', student), ('teacher', teacher)))
    return (
        f'`{student.name}` of the student has {_described(student, "head")}, `{teacher.name}` of '
        f'the teacher {_described(teacher, "head")}; heads are compared by stride, and they have '
        f"none in common; write the heads, for instance on=dict({on}), so that the teacher's map "
        'is interpolated')


def _described(maps: Maps, what: str = 'level') -> str:
    count = len(maps.sizes)
    return (f'{count} {what}{"s" * (count > 1)} of stride{"s" * (count > 1)} '
            f'{shown_strides(maps.strides)}')


def _by_size(sizes: Sequence[Size]) -> Dict[Size, List[int]]:
    groups: Dict[Size, List[int]] = {}
    for number, size in enumerate(sizes):
        groups.setdefault(tuple(size), []).append(number)
    return groups
