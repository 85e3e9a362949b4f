"""One line of the config's ``distill``: a point on both sides, the loss between them, its name."""
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import torch
from torch import Tensor, nn

from .build import build_entry
from .classes import match_classes
from .heads import Point, find_point
from .losses import DistillLoss, LogitLoss
from .registry import MODELS


class Match:
    """A comparison of student and teacher.

    Args:
        on (str | dict): The point, as both sides call it; or ``dict(student=..., teacher=...)``.
        name (str, optional): Name in the log. Defaults to 'loss_<point>_<method>'.
        per_anchor (bool, optional): Whether the anchors of a position are compared one by one,
            (N·anchors, classes, H, W), or jointly, (N, anchors·classes, H, W). Defaults to None:
            jointly for sigmoid, as the authors of DIST do; one by one for softmax, which has no
            meaning otherwise.
        **loss: The loss: ``type`` and its arguments.

    Raises:
        TypeError: If an argument is of the wrong type, or ``type`` is no distillation loss.
        ValueError: If ``on`` or ``type`` is missing, or MMEngine would not add up what is called
            ``name``.
    """

    student_point: Point
    teacher_point: Point

    def __init__(self,
                 on: Union[str, Dict[str, str], None] = None,
                 name: Optional[str] = None,
                 per_anchor: Optional[bool] = None,
                 **loss: Any) -> None:
        if on is None or 'type' not in loss:
            raise ValueError("an entry of `distill` needs a loss and a point, for instance "
                             f"dict(type='mmkd.DISTLoss', on='cls'), but got {dict(on=on, **loss)}")
        sides = on if isinstance(on, dict) else dict(student=on, teacher=on)
        if set(sides) != {'student', 'teacher'} or not all(
                isinstance(point, str) for point in sides.values()):
            raise TypeError("`on` is a point, such as 'cls', or dict(student=point, "
                            f'teacher=point), but got {on!r}')
        if per_anchor not in (None, True, False):
            raise TypeError(f'`per_anchor` must be True, False or None, but got {per_anchor!r}')
        self.on_student, self.on_teacher = sides['student'], sides['teacher']
        self.loss: DistillLoss = build_entry(loss, MODELS, 'a loss of `distill`')
        if not isinstance(self.loss, DistillLoss):
            raise TypeError(f'{type(self.loss).__name__} is no loss between student and teacher; '
                            'derive it from mmkd.losses.DistillLoss')
        if next(self.loss.parameters(), None) is not None:
            raise TypeError(f'{type(self.loss).__name__} has parameters of its own, which nothing '
                            'would train or save; mmkd has no place for such losses yet')
        method = type(self.loss).__name__.removesuffix('Loss').lower()
        self.name = name or f'loss_{self.on_student.replace(".", "_")}_{method}'
        if not isinstance(self.name, str) or 'loss' not in self.name:
            raise ValueError(f"`name` must contain 'loss', or MMEngine shows it without adding it "
                             f'up, but got {self.name!r}')
        self.per_anchor = per_anchor
        self._columns: Optional[List[int]] = None

    def find_on_student(self, student: nn.Module) -> None:
        """Find the point in the student, and take from its head what the loss was not told."""
        self.student_point = find_point(student, self.on_student, 'student')
        if isinstance(self.loss, LogitLoss) and self.loss.use_sigmoid is None:
            if self.student_point.use_sigmoid is None:
                raise ValueError(
                    f'`{self.on_student}` of the student is not known to be class logits, so its '
                    "activation is not either; compare 'cls', or write `use_sigmoid=True` or "
                    f'`False` in the entry of {type(self.loss).__name__}')
            self.loss.use_sigmoid = self.student_point.use_sigmoid

    def find_on_teacher(self, teacher: nn.Module, student_classes: Optional[Sequence[str]],
                        teacher_classes: Optional[Sequence[str]]) -> None:
        """Find the point in the teacher and decide which of its columns are the student's.

        Raises:
            ValueError: If the two points cannot be compared: other activations or other classes.
        """
        self.teacher_point = find_point(teacher, self.on_teacher, 'teacher')
        self._columns = None
        one, other = self.student_point, self.teacher_point
        if student_classes and teacher_classes:
            self._columns = match_classes(student_classes, teacher_classes)
        if one.num_classes is None or other.num_classes is None:
            if self._columns is not None and isinstance(self.loss, LogitLoss):
                raise ValueError(
                    f'the teacher\'s classes stand in another order, and `{self.on_teacher}` is '
                    "not known to be class logits, so its columns cannot be put right; compare "
                    "'cls'")
            self._columns = None
            return
        if one.use_sigmoid != other.use_sigmoid:
            raise ValueError(
                f'`{one.name}` of the student is activated by {_activation(one)}, `{other.name}` '
                f'of the teacher by {_activation(other)}; their probabilities cannot be compared')
        # A softmax head has a column for the background, after those of the classes.
        named = other.num_classes - (not other.use_sigmoid)
        if teacher_classes and len(teacher_classes) != named:
            raise ValueError(
                f'the teacher\'s head has columns for {named} classes, but its checkpoint or '
                f'config names {len(teacher_classes)}: {list(teacher_classes)}; give it the '
                "`metainfo` that it was trained with")
        if self._columns is not None:
            self._columns = [*self._columns, *range(named, other.num_classes)]
        columns = len(self._columns) if self._columns is not None else other.num_classes
        if one.num_classes != columns:
            raise ValueError(
                f'`{one.name}` has {one.num_classes} columns for classes in the student and '
                f'{columns} in the teacher; the student\'s classes are '
                f'{_shown(student_classes)}, the teacher\'s {_shown(teacher_classes)}; give a '
                'teacher of the same classes')

    def compare(self, student_calls: Dict[str, List[Any]],
                teacher_calls: Dict[str, List[Any]]) -> List[Tensor]:
        """The loss of one step.

        Args:
            student_calls (dict): What was recorded of the student, by module path.
            teacher_calls (dict): What was recorded of the teacher.

        Returns:
            list[Tensor]: A scalar per level. MMEngine adds them up.

        Raises:
            ValueError: If the point was not passed or the shapes differ.
        """
        student, teacher = self.levels(student_calls, teacher_calls)
        return self.loss(student, teacher)  # type: ignore[return-value]

    def levels(self, student_calls: Dict[str, List[Any]],
               teacher_calls: Dict[str, List[Any]]) -> Tuple[List[Tensor], List[Tensor]]:
        """Both sides, level by level, the teacher's columns in the student's order."""
        student = self.student_point.levels(student_calls[self.student_point.path])
        teacher = self.teacher_point.levels(teacher_calls[self.teacher_point.path])
        for side, levels, point in (('student', student, self.student_point),
                                    ('teacher', teacher, self.teacher_point)):
            if not levels:
                raise ValueError(
                    f'`{point.name}` of the {side} was not passed in this step: its module '
                    f'`{point.path}` did not run; choose a module that runs in training')
        if torch.is_grad_enabled() and not any(level.requires_grad for level in student):
            raise ValueError(
                f'`{self.student_point.name}` of the student has no gradient: it is frozen, or '
                'inside a checkpointed block (`with_cp=True`), where torch computes it twice; '
                'choose a point outside')
        teacher = [self._reorder(level) for level in teacher]
        shapes = [[tuple(level.shape) for level in side] for side in (student, teacher)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f'`{self.student_point.name}` of the student and `{self.teacher_point.name}` of '
                f'the teacher differ in shape: {shapes[0]} and {shapes[1]}; give a teacher with '
                'the same levels, anchors and classes')
        if self._is_per_anchor():
            student = [self._split_anchors(level) for level in student]
            teacher = [self._split_anchors(level) for level in teacher]
        return student, teacher

    def _reorder(self, level: Tensor) -> Tensor:
        if self._columns is None:
            return level
        anchors = level.unflatten(1, (-1, self.teacher_point.num_classes))
        return anchors[:, :, self._columns].flatten(1, 2)

    def _is_per_anchor(self) -> bool:
        if self.student_point.num_classes is None:
            return False
        return not self.student_point.use_sigmoid if self.per_anchor is None else self.per_anchor

    def _split_anchors(self, level: Tensor) -> Tensor:
        return level.unflatten(1, (-1, self.student_point.num_classes)).flatten(0, 1)


def _activation(point: Point) -> str:
    return 'sigmoid' if point.use_sigmoid else 'softmax'


def _shown(classes: Optional[Sequence[str]]) -> str:
    return str(list(classes)) if classes else 'unknown'
