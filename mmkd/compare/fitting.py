"""Which levels of two points are pairs, and of which sizes? Found on a blank image."""
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Sequence, Tuple

from torch import Tensor
from torch.nn.functional import interpolate

from ..points import Answers
from ..points.recorder import Records
from .alignment import Alignment
from .levels import (
    Maps,
    Pairing,
    Size,
    Stride,
    choose,
    no_head,
    no_partner,
    notes_of,
    pair_levels,
    sizes_of,
)
from .misfits import shapes_differ

Shape = Tuple[int, ...]
Sides = Tuple[List[Tensor], List[Tensor]]


@dataclass
class Fitting:
    """Pairs of levels of two points, fixed for a run."""
    counts: Tuple[int, int] = (0, 0)
    """Numbers of levels of both sides before pairing."""
    pairing: Optional[Pairing] = None
    """Pairs by stride; None if the levels are not maps of the image, and are paired in order."""
    numbers: Tuple[int, ...] = ()
    """Numbers of the compared pairs; () for all."""
    shapes: Tuple[List[Shape], List[Shape]] = field(default_factory=lambda: ([], []))
    """Shapes of the compared levels."""
    strides: Tuple[List[Stride], List[Stride]] = field(default_factory=lambda: ([], []))
    """Strides of the compared levels; empty if they are not maps of the image."""
    notes: List[str] = field(default_factory=list)
    is_of_all: bool = False
    """Whether the levels of a further point belong to each level of the first one."""

    def chosen(self, of_student: Sequence[Any]) -> List[Any]:
        """Select the items of the compared levels from a list with one item per student level."""
        chosen = list(of_student) if self.pairing is None else [
            of_student[i] for i, _ in self.pairing.pairs]
        return [chosen[n] for n in self.numbers if n < len(chosen)] if self.numbers else chosen

    @property
    def teacher_levels(self) -> List[int]:
        """Number of each compared level among all levels of the teacher's point."""
        levels = list(range(self.counts[1])) if self.pairing is None else [
            k for _, k in self.pairing.pairs]
        return [levels[n] for n in self.numbers] if self.numbers else levels

    def pairs(self, alignment: Alignment, student: List[Tensor], teacher: List[Tensor]) -> Sides:
        """The compared levels of the student and of the teacher.

        Raises:
            ValueError: If the numbers of levels are not those of the blank image.
        """
        one, other = alignment.student, alignment.teacher
        if self.pairing is not None:
            for side, point, now, then in zip(('student', 'teacher'), (one, other),
                                              map(len, (student, teacher)), self.counts):
                if now != then:
                    raise ValueError(
                        f'`{point.name}` of the {side} has {now} levels in training, but had '
                        f'{then} when levels were paired on a blank image before training; write '
                        'the dotted path of the layer that is to be compared')
            pairs = self.pairing.pairs
            student, teacher = [student[i] for i, _ in pairs], [teacher[k] for _, k in pairs]
        elif len(student) != len(teacher):
            raise ValueError(
                f'`{one.name}` of the student has {len(student)} levels, `{other.name}` of the '
                f'teacher {len(teacher)}, and they cannot be paired by size: '
                f'{[tuple(s.shape) for s in student]} and {[tuple(t.shape) for t in teacher]}; '
                'choose points with the same number of levels')
        if self.numbers:
            # A cascade may stop before its last stages.
            student, teacher = ([side[n] for n in self.numbers if n < len(side)]
                                for side in (student, teacher))
        return student, teacher


def fit(alignment: Alignment, student: List[Tensor], teacher: List[Tensor], image: Size,
        levels: Optional[Sequence[int]] = None) -> Tuple[Fitting, Sides]:
    """Pair the levels of two points that were recorded on a blank image.

    Args:
        alignment (Alignment): The points.
        student (list[Tensor]): Levels of the student.
        teacher (list[Tensor]): Levels of the teacher.
        image (tuple[int, int]): Height and width of the image, in pixels.
        levels (Sequence[int], optional): Numbers of the pairs to compare, from ``levels`` of the
            entry. Defaults to None, all.

    Returns:
        tuple[Fitting, tuple[list[Tensor], list[Tensor]]]: The fitting, and the compared levels.

    Raises:
        ValueError: If there are no pairs, or fewer than ``levels`` requires.
    """
    one, other = alignment.student, alignment.teacher
    found = Fitting((len(student), len(teacher)))
    strides: List[List[Stride]] = []
    if is_grid(alignment, student, teacher):
        sides = Maps(one.name, sizes_of(student), image), Maps(other.name, sizes_of(teacher), image)
        is_prediction = one.is_prediction or other.is_prediction
        pairing = pair_levels(sides[0].sizes, sides[1].sizes, is_prediction)
        if pairing is None:
            raise ValueError(no_partner(*sides, is_prediction))
        found.pairing, found.notes = pairing, notes_of(pairing, *sides)
        strides = [[sides[0].strides[i] for i, _ in pairing.pairs],
                   [sides[1].strides[k] for _, k in pairing.pairs]]
    student, teacher = found.pairs(alignment, student, teacher)
    if levels is not None:
        count = len(student)
        if not all(-count <= one < count for one in levels) or len(
                {one % count for one in levels}) < len(levels):
            raise ValueError(f'`levels={list(levels)}`, but `{one.name}` has {len(student)} '
                             f'level{"s" * (len(student) > 1)} to compare; write numbers from 0 to '
                             f'{len(student) - 1}, each once, or leave `levels` out')
        found.numbers = tuple(one % count for one in levels)
        student, teacher = ([side[n] for n in found.numbers] for side in (student, teacher))
        strides = [[side[n] for n in found.numbers] for side in strides]
    if strides:
        found.strides = strides[0], strides[1]
    found.shapes = [tuple(s.shape) for s in student], [tuple(t.shape) for t in teacher]
    return found, (student, teacher)


def is_grid(alignment: Alignment, student: List[Tensor], teacher: List[Tensor]) -> bool:
    """Whether all levels are maps of the blank image, not of RoIs, queries or vectors."""
    one, other = alignment.student, alignment.teacher
    return not (one.asked_at or one.queries or other.asked_at or other.queries) and all(
        level.dim() == 4 and len(level) == 1 for level in (*student, *teacher))


def chosen_heads(alignment: Alignment, student: List[Tensor], teacher: List[Tensor],
                 image: Size) -> Tuple[int, int]:
    """Choose among several heads of one kind the first that has a partner, and its partner.

    Args:
        alignment (Alignment): Its points have ``choices``.
        student (list[Tensor]): The map of each of the student's heads.
        teacher (list[Tensor]): The map of each of the teacher's heads.
        image (tuple[int, int]): Height and width of the image, in pixels.

    Returns:
        tuple[int, int]: Numbers of the student's and of the teacher's head.

    Raises:
        ValueError: If no two heads have the same stride.
    """
    sides = (Maps(alignment.student.name, sizes_of(student), image),
             Maps(alignment.teacher.name, sizes_of(teacher), image))
    found = choose(*(side.sizes for side in sides))
    if found is None:
        raise ValueError(no_head(*sides))
    return found


def resized(alignment: Alignment, teacher: Tensor, student: Tensor) -> Tensor:
    """Interpolate the teacher's map to the student's size; other tensors are not changed."""
    is_map = alignment.student.is_map and alignment.teacher.is_map
    if not is_map or teacher.shape[2:] == student.shape[2:] or not (
            teacher.dim() == student.dim() == 4):
        return teacher
    return interpolate(teacher, size=student.shape[2:], mode='bilinear',
                       align_corners=alignment.student.align_corners)


def check_features(alignment: Alignment, student: List[Tensor], teacher: List[Tensor]) -> None:
    """Check that levels are maps or vectors, in which dimension 1 has the channels.

    Raises:
        ValueError: If a level is neither.
    """
    for side, point, levels in (('student', alignment.student, student),
                                ('teacher', alignment.teacher, teacher)):
        if any(level.dim() not in (2, 4) for level in levels):
            raise ValueError(
                f'`{point.name}` of the {side} returns {[tuple(v.shape) for v in levels]}; '
                'features must be maps (N, C, H, W) or vectors (N, C), because the channel '
                'dimension of other shapes, such as tokens (N, L, C), is not known; choose a '
                "module that returns maps, such as 'backbone'")


def check_shapes(alignment: Alignment, student: List[Tensor], teacher: List[Tensor],
                 free: Sequence[int], connector: str = '') -> None:
    """Check that both sides have equal shapes in the dimensions that the loss compares.

    Args:
        alignment (Alignment): The points.
        student (list[Tensor]): Levels after the connectors.
        teacher (list[Tensor]): The same number of levels.
        free (Sequence[int]): Dimensions that may differ.
        connector (str): Class of the user's connector. Defaults to '', none.

    Raises:
        ValueError: If they differ.
    """
    shapes = [[tuple(0 if dim in free else size for dim, size in enumerate(level.shape))
               if free and level.dim() == other.dim() else tuple(level.shape)
               for level, other in zip(side, others)]
              for side, others in ((student, teacher), (teacher, student))]
    if 2 in free:  # the number of positions may differ
        shapes = [[shape[:2] for shape in side] for side in shapes]
    if shapes[0] == shapes[1]:
        return
    for number, (s, t) in enumerate(zip(student, teacher)):
        if connector and s.shape[1] != t.shape[1]:
            raise ValueError(
                f'{connector} returns {s.shape[1]} channels at level {number}, but '
                f'`{alignment.teacher.name}` of the teacher has {t.shape[1]}; return from its '
                '`forward` the number of channels that its `setup` receives')
    raise ValueError(shapes_differ(alignment.student, alignment.teacher,
                                   *([tuple(level.shape) for level in side]
                                     for side in (student, teacher))))


def further_levels(alignments: Sequence[Alignment], fittings: Sequence[Fitting], seen: Records,
                   told: Dict[str, Answers], anchors: int, pairs_queries: bool, count: int
                   ) -> Tuple[List[List[Any]], List[List[Any]]]:
    """Levels of the further points of an entry: per level, the student's and the teacher's.

    Levels are paired and resized, and anchors are split off, as at the first point. A set of
    queries belongs to no map: each of ``count`` maps gets a list with all its levels.
    """
    found: Tuple[List[List[Any]], List[List[Any]]] = [], []
    for one, fitting in zip(alignments, fittings):
        student, teacher = fitting.pairs(one, *one.read(seen, told, pairs_queries))
        if fitting.is_of_all:
            for side, levels in zip(found, (student, teacher)):
                side.append([levels] * count)
            continue
        teacher = [resized(one, t, s) for t, s in zip(teacher, student)]
        for side, levels in zip(found, (student, teacher)):
            if anchors > 1 and one.student.is_prediction:
                levels = [level.unflatten(1, (anchors, -1)).flatten(0, 1) for level in levels]
            side.append(levels)
    mine, theirs = ([list(level) for level in zip(*side)] for side in found)
    return mine, theirs
