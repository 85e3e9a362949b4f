"""One line of the config's ``distill``: a point on both sides, the loss between them, its name."""
import logging
from itertools import product
from typing import Any, Dict, List, Optional, Sequence, Set, Tuple, Union

import torch
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.nn.functional import interpolate

from .build import build_entry
from .classes import match_classes
from .connectors import connect
from .heads import Answers, Point, adapter_of, find_point
from .losses import DistillLoss, LogitLoss
from .losses.base import finite_number
from .misfits import codings_differ, columns_differ, shapes_differ
from .recorder import Records
from .registry import MODELS
from .sets import in_order, pair_sets
from .targets import background_of

CONNECTORS = ('auto', 'conv', None)
REPLACED = ('all', 'background')


class Match:
    """A comparison of student and teacher.

    Args:
        on (str | dict): The point, as both sides call it; or ``dict(student=..., teacher=...)``.
            A point of another network than student and teacher is written 'network:point', for
            instance ``dict(student='shallow:cls', teacher='student:cls')``.
        name (str, optional): Name in the log. Defaults to 'loss_<point>_<method>'.
        per_anchor (bool, optional): Whether the anchors of a position are compared one by one,
            (N·anchors, classes, H, W), or jointly, (N, anchors·classes, H, W). Defaults to None:
            jointly for sigmoid, as the authors of DIST do; one by one for softmax, which has no
            meaning otherwise.
        stage (int | str, optional): Of a cascade teacher: the stage that speaks, or 'mean', the
            mean logits of its stages; a student that is a cascade, too, hears it in all of its
            stages. Of a cascade student whose teacher is none: the stage that listens. Defaults to
            None: stage by stage if both are cascades, the first stage if one of them is.
        mask (str, optional): Which positions count: 'valid' leaves out the pixels that the loss of
            a segmentor ignores. Defaults to None, all positions.
        connector (str, optional): What is put on the student's features before they are compared:
            'auto', a 1x1 convolution where the channels differ from the teacher's; 'conv', one in
            any case; None, nothing. Logits never get one. Defaults to 'auto'.
        alpha (float, optional): Mixes soft and hard targets: the term counts ``alpha``, the
            student's own loss at this point 1 - ``alpha``. Defaults to None, the student's own
            loss stays whole.
        replaces (str): Whose hard targets ``alpha`` takes: 'all', or 'background', where the
            student's labels are background; the soft targets then count there alone, too.
            Defaults to 'all'.
        **loss: The loss: ``type`` and its arguments.

    Raises:
        TypeError: If an argument is of the wrong type, or ``type`` is no distillation loss.
        ValueError: If ``on`` or ``type`` is missing, or MMEngine would not add up what is called
            ``name``.
    """

    student_point: Point
    teacher_point: Point

    def __init__(self,
                 /,
                 on: Union[str, Dict[str, str], None] = None,
                 name: Optional[str] = None,
                 per_anchor: Optional[bool] = None,
                 stage: Union[int, str, None] = None,
                 mask: Optional[str] = None,
                 connector: Optional[str] = 'auto',
                 alpha: Optional[float] = None,
                 replaces: str = 'all',
                 **loss: Any) -> None:
        if on is None or 'type' not in loss:
            raise ValueError("an entry of `distill` needs a loss and a point, for instance "
                             f"dict(type='mmkd.DISTLoss', on='cls'), but got {dict(on=on, **loss)}"
                             '; write both')
        sides = on if isinstance(on, dict) else dict(student=on, teacher=on)
        if set(sides) != {'student', 'teacher'} or not all(
                isinstance(point, str) for point in sides.values()):
            raise TypeError("`on` must be a point, such as 'cls', or dict(student=point, "
                            f'teacher=point), but got {on!r}; write one of the two')
        if not (per_anchor is None or isinstance(per_anchor, bool)):
            raise TypeError(f'`per_anchor` must be True, False or None, but got {per_anchor!r}; '
                            'write one of these, or leave it out')
        if not (stage is None or isinstance(stage, (int, str))) or isinstance(stage, bool):
            raise TypeError("`stage` must be the number of a stage, from 0, or 'mean', but got "
                            f'{stage!r}; write one of these, or leave it out')
        if not (mask is None or isinstance(mask, str)):
            raise TypeError("`mask` must be the name of a mask, such as 'valid', or None, but got "
                            f'{mask!r}; write one of these, or leave it out')
        if not (connector is None or (isinstance(connector, str) and connector in CONNECTORS)):
            raise ValueError(f"`connector` must be 'auto', 'conv' or None, but got {connector!r}; "
                             'write one of these, or leave it out')
        (self.learner, self.on_student), (self.source, self.on_teacher) = (
            split_point(sides[side], side) for side in ('student', 'teacher'))
        if alpha is not None and not 0 <= finite_number('alpha', alpha) <= 1:
            raise ValueError(f'`alpha` must be between 0 and 1, but got {alpha}; write a number '
                             'such as 0.5')
        if not isinstance(replaces, str) or replaces not in REPLACED:
            raise ValueError(f'`replaces` must be one of {", ".join(map(repr, REPLACED))}, but got '
                             f'{replaces!r}; write one of these, or leave it out')
        if replaces != 'all' and alpha is None:
            raise ValueError(f"`replaces={replaces!r}` needs `alpha`, the soft targets' share, and "
                             'the entry has none; write one, such as `alpha=0.5`')
        self.loss: DistillLoss = build_entry(loss, MODELS, 'a loss of `distill`', DistillLoss)
        if next(self.loss.parameters(), None) is not None:
            raise TypeError(f'{type(self.loss).__name__} has parameters of its own, which nothing '
                            'would train or save; take a loss without parameters')
        method = type(self.loss).__name__.removesuffix('Loss').lower()
        whose = '' if self.learner == 'student' else f'{self.learner}_'
        source = '' if self.source == 'teacher' else f'_from_{self.source}'
        self.name = (f'loss_{whose}{self.on_student.replace(".", "_")}_{method}{source}'
                     if name is None else name)
        if not isinstance(self.name, str) or 'loss' not in self.name:
            raise ValueError(f"`name` must contain 'loss', or MMEngine shows it without adding it "
                             f"up, but got {self.name!r}; write for instance name='loss_a'")
        self.per_anchor = per_anchor
        self.stage = stage
        self.mask = mask
        self.connector = connector
        self.alpha = alpha
        self.replaces = replaces
        self.factor = 1.  # schedules change it
        self.is_scheduled = False
        self.connectors = nn.ModuleList()
        self.shapes: Tuple[List[Tuple[int, ...]], List[Tuple[int, ...]]] = [], []
        self.notes: List[str] = []
        self._columns: Optional[List[int]] = None
        self._query_columns: Optional[List[int]] = None
        self._num_named = 0
        self._pairs: Optional[List[Tuple[int, int]]] = None

    # --- what is compared with what -------------------------------------------------------------

    def find_on_student(self, student: nn.Module) -> None:
        """Find the point in the student, and take from its head what the loss was not told."""
        self.student_point = find_point(student, self.on_student, 'student')
        if isinstance(self.loss, LogitLoss) and self.student_point.coding:
            raise ValueError(f'`{self.on_student}` of the student is boxes, no class logits that '
                             f'{type(self.loss).__name__} could turn into probabilities; compare '
                             'them by mmkd.MSELoss')
        if isinstance(self.loss, LogitLoss) and self.loss.use_sigmoid is None:
            if self.student_point.use_sigmoid is None:
                raise ValueError(
                    f'`{self.on_student}` of the student is not known to be class logits, so its '
                    "activation is not either; compare 'cls', or write `use_sigmoid=True` or "
                    f'`False` in the entry of {type(self.loss).__name__}')
            self.loss.use_sigmoid = self.student_point.use_sigmoid
        if self.alpha is not None and not self.student_point.criteria:
            raise ValueError(
                f'`alpha`, but which loss trains `{self.on_student}` of the student on labels is '
                "not known to mmkd; write `alpha` at 'cls' of a dense head, a RoI head or a "
                'segmentor')
        if getattr(self.loss, 'sync', False) and (
                self.student_point.stages or self.student_point.queries):
            kind = ('a cascade, which may stop before a stage' if self.student_point.stages else
                    'a set, which may not be paired')
            raise ValueError(f'`sync=True`, but `{self.on_student}` of the student is {kind} in '
                             'one process while others wait for it; leave out `sync`')
        masks = adapter_of(student).masks
        if self.mask is not None and self.mask not in masks:
            raise ValueError(
                f'no mask `{self.mask}` for the student, which is one of the '
                f'{adapter_of(student).family}; ' +
                (f'it has {", ".join(map(repr, masks))}' if masks else 'leave `mask` out'))
        if self.connector == 'conv' and self.student_point.is_prediction:
            raise ValueError(f"`connector='conv'`, but `{self.on_student}` of the student is a "
                             'prediction, which is compared as it is; leave `connector` out')

    def find_on_teacher(self, teacher: nn.Module, student_classes: Optional[Sequence[str]],
                        teacher_classes: Optional[Sequence[str]]) -> None:
        """Find the point in the teacher and decide which of its columns are the student's.

        Raises:
            ValueError: If the two points cannot be compared: other activations, other classes,
                other stages, boxes in another coding, predictions at given places or in no order
                on one side only.
        """
        self.teacher_point = find_point(teacher, self.on_teacher, 'teacher')
        one, other = self.student_point, self.teacher_point
        if (bool(one.asked_at), bool(one.queries)) != (bool(other.asked_at), bool(other.queries)):
            raise ValueError(
                f'`{self.on_student}` of the student predicts for {_places(one)}, '
                f'`{self.on_teacher}` of the teacher for {_places(other)}; compare \'neck\' or '
                "'backbone', or give a teacher of the student's kind")
        self._choose_stages()
        self._columns = None
        one, other = self.student_point, self.teacher_point
        codings = [[stage.coding for stage in side.stages] or [side.coding]
                   for side in (one, other)]
        for mine, theirs in product(*codings) if 1 in map(len, codings) else zip(*codings):
            if mine != theirs:
                raise ValueError(codings_differ(one, other, mine, theirs))
        are_logits = one.num_classes is not None and other.num_classes is not None
        self._query_columns = None
        if one.queries and student_classes and teacher_classes:
            self._query_columns = match_classes(student_classes, teacher_classes)
            self._num_named = len(teacher_classes)
        elif isinstance(self.loss, LogitLoss) and not are_logits and (
                student_classes and teacher_classes) and match_classes(
                    student_classes, teacher_classes):
            raise ValueError(
                f'the teacher\'s classes stand in another order, and `{self.on_teacher}` is not '
                "known to be class logits, so its columns cannot be put right; compare 'cls'")
        if not are_logits:
            return
        if one.use_sigmoid != other.use_sigmoid:
            raise ValueError(
                f'`{one.name}` of the student is activated by {_activation(one)}, `{other.name}` '
                f'of the teacher by {_activation(other)}; their probabilities cannot be compared; '
                "compare 'neck' or 'backbone', or give a teacher of the same activation")
        if one.num_named and other.num_named:
            self._match_columns(student_classes, teacher_classes)
        columns = len(self._columns) if self._columns is not None else other.num_classes
        if one.num_classes != columns:
            raise ValueError(columns_differ(one, other, student_classes, teacher_classes))

    def _match_columns(self, student_classes: Optional[Sequence[str]],
                       teacher_classes: Optional[Sequence[str]]) -> None:
        named, columns = self.teacher_point.num_named, self.teacher_point.num_classes
        assert columns is not None
        if teacher_classes and len(teacher_classes) != named:
            raise ValueError(
                f'the teacher\'s head has columns for {named} classes, but its checkpoint, config '
                f'or data names {len(teacher_classes)}: {list(teacher_classes)}; give it the '
                "`metainfo` that it was trained with, or a head of as many classes")
        if not (student_classes and teacher_classes):
            return
        self._columns = match_classes(student_classes, teacher_classes)
        if self._columns is not None and columns < named:
            raise ValueError(
                f'the teacher\'s classes are {list(teacher_classes)}, the student\'s '
                f'{list(student_classes)}, and its head has {columns} column for them, so the '
                'order cannot be put right; give a teacher of the same classes')
        if self._columns is not None:
            self._columns = [*self._columns, *range(named, columns)]

    def _choose_stages(self) -> None:
        one, other = self.student_point, self.teacher_point
        if self.stage is not None and other.stages:
            self.teacher_point = other.at_stage(self.stage)
        elif self.stage is not None:
            if self.stage == 'mean' and one.stages:
                raise ValueError("`stage='mean'` is of the teacher's stages, but "
                                 f'`{self.on_teacher}` of the teacher has no stages; write the '
                                 "number of one of the student's, or leave `stage` out")
            self.student_point = one.at_stage(self.stage)
        elif len(one.stages) == len(other.stages):
            return
        elif one.stages and other.stages:
            raise ValueError(
                f'`{one.name}` has {len(one.stages)} stages in the student and '
                f"{len(other.stages)} in the teacher; write `stage=0` or `stage='mean'` for the "
                "teacher's")
        elif other.stages:  # the authors' choice: the stage trained for what RPNs propose
            self.teacher_point = other.at_stage(0)
        else:
            self.student_point = one.at_stage(0)

    @property
    def student_paths(self) -> Set[str]:
        """Modules of the student that must be watched."""
        return {*self.student_point.paths, *self.student_point.asked_at}

    @property
    def asked(self) -> List[Tuple[str, Point]]:
        """What the teacher is asked: the student's module that knows where, and its own point.

        One entry per such module; it is '' where the teacher needs no telling.
        """
        one, other = self.student_point, self.teacher_point
        if not one.asked_at:
            return [('', other)]
        if other.stages:  # stage by stage
            return list(zip(one.asked_at, other.stages))
        return [(at, other) for at in one.asked_at]

    # --- one step -------------------------------------------------------------------------------

    def compare(self, seen: Records, told: Dict[str, Answers], student: nn.Module,
                data_samples: Optional[Sequence],
                background: Sequence[Tensor] = ()) -> List[Tensor]:
        """The loss of one step.

        Args:
            seen (dict): What was recorded of the student.
            told (dict): What the teacher said, by where it was asked.
            student (nn.Module): The student, which knows its masks.
            data_samples (Sequence, optional): The N samples.
            background (Sequence[Tensor]): Where ``replaces='background'``: which labels are
                background, as :func:`mmkd.targets.hard_targets_mixed` found it. Defaults to ().

        Returns:
            list[Tensor]: A scalar per level. MMEngine adds them up.

        Raises:
            ValueError: If the point was not passed or the shapes differ.
        """
        if not self.is_answered(told):  # a cascade that stopped before its stage
            return [next(student.parameters()).new_zeros(())]
        levels, teacher = self.levels(seen, told)
        return self.compare_levels(levels, teacher, student, data_samples, background)

    def compare_levels(self, levels: List[Tensor], teacher: List[Tensor], student: nn.Module,
                       data_samples: Optional[Sequence],
                       background: Sequence[Tensor] = ()) -> List[Tensor]:
        """As :meth:`compare`, of levels as :meth:`levels` gives them."""
        weight = None
        if self.mask is not None:
            weight = [adapter_of(student).weight(student, self.mask, level, data_samples)
                      for level in levels]
        if self.replaces == 'background':
            found = background_of(background, [level.shape for level in levels], self._anchors())
            weight = found if weight is None else [a * b for a, b in zip(weight, found)]
        losses = self._losses(levels, teacher, weight)
        return [self.share * loss for loss in losses] if self.share != 1 else losses

    def _losses(self, levels: List[Tensor], teacher: List[Tensor],
                weight: Optional[List[Tensor]] = None) -> List[Tensor]:
        losses = self.loss(levels, teacher, weight)
        if not isinstance(losses, list) or not losses or not all(
                isinstance(one, Tensor) and one.dim() == 0 for one in losses):
            raise TypeError(f'`{self.name}`: {type(self.loss).__name__} must give one scalar for '
                            f'each of {len(levels)} levels, but gave {shown_losses(losses)}; let '
                            'its `compare` return a scalar')
        return losses

    @property
    def parts(self) -> List['Match']:
        """What asks the teachers: the match itself, or one for each of several teachers."""
        return [self]

    def compare_parts(self, seen: Records, told: Sequence[Dict[str, Answers]], student: nn.Module,
                      data_samples: Optional[Sequence],
                      background: Sequence[Tensor] = ()) -> List[Tensor]:
        """As :meth:`compare`, with what was told to each of the parts."""
        return self.compare(seen, told[0], student, data_samples, background)

    @property
    def share(self) -> float:
        """By what the term is multiplied beside its ``loss_weight``: schedule and ``alpha``."""
        return self.factor * (1. if self.alpha is None else self.alpha)

    def is_answered(self, told: Dict[str, Answers]) -> bool:
        """Whether the teacher was asked anything: a cascade may stop before its stage."""
        return any(at in told for at, _ in self.asked)

    def levels(self, seen: Records, told: Dict[str, Answers],
               is_paired: bool = True) -> Tuple[List[Tensor], List[Tensor]]:
        """Both sides as the loss gets them.

        The student's levels have gone through the connectors, the teacher's columns stand in the
        student's order, its maps have the student's size.

        Args:
            seen (dict): What was recorded of the student.
            told (dict): What the teacher said, by where it was asked.
            is_paired (bool): Whether sets are brought into one order. Defaults to True.
        """
        student, teacher = self._recorded(seen, told, is_paired)
        if self.student_point.queries is not None and not is_paired:
            return student, teacher
        student, teacher = self._paired(student, teacher)
        teacher = [self._resize(t, s) for t, s in zip(teacher, student)]
        if self.connectors:
            student = [connector(s) for connector, s in zip(self.connectors, student)]
        shapes = [[tuple(level.shape) for level in side] for side in (student, teacher)]
        if shapes[0] != shapes[1]:
            raise ValueError(shapes_differ(self.student_point, self.teacher_point, *shapes))
        if self._is_per_anchor():
            student = [self._split_anchors(level) for level in student]
            teacher = [self._split_anchors(level) for level in teacher]
        return student, teacher

    def fit(self, seen: Records, told: Dict[str, Answers]) -> None:
        """Make the connectors that a first look calls for, and note what was found.

        Raises:
            ValueError: If what was recorded cannot be compared.
        """
        with torch.no_grad():
            student, teacher = self._recorded(seen, told)
            self._pairs = pair_levels(student, teacher)
            student, teacher = self._paired(student, teacher)
            self.shapes = [tuple(s.shape) for s in student], [tuple(t.shape) for t in teacher]
            self.notes = []
            if self._pairs is not None:
                mine, theirs = (list(side) for side in zip(*self._pairs))
                self.notes.append('levels of one size are compared, the student\'s '
                                  f'{mine} with the teacher\'s {theirs}')
            if not self.student_point.is_prediction:
                self._check_features(student, teacher)
                if self.connector is not None:
                    connectors = connect(student, teacher, self.connector)
                    if any(True for _ in connectors.parameters()):
                        self.connectors = connectors
                        self.notes += [
                            f'{type(one).__name__} {s.shape[1]} -> {t.shape[1]} on the student'
                            for one, s, t in zip(connectors, student, teacher)
                            if not isinstance(one, nn.Identity)]
            resized = [f'the teacher\'s {_size(t)} interpolated to {_size(s)}'
                       for s, t in zip(student, teacher) if self._resize(t, s) is not t]
            self.notes += resized
            levels, teacher = self.levels(seen, told)
            self._try_loss(levels, teacher)
        columns = self.student_point.num_classes
        if self.replaces == 'background' and levels[0].dim() == 4 and (
                levels[0].shape[1] != columns):
            raise ValueError(
                f"`replaces='background'`, but `{self.student_point.name}` of the student has "
                f'{levels[0].shape[1] // (columns or 1)} anchors at a position, which have labels '
                'of their own; write `per_anchor=True`')
        if resized and len(student) > 1:
            print_log(f'{self.name}: levels of the teacher have another size than the '
                      "student's; levels are paired by their order, so look whether their strides "
                      f'agree: {"; ".join(resized)}', 'current', logging.WARNING)

    def _try_loss(self, levels: List[Tensor], teacher: List[Tensor]) -> None:
        """Refuse now, not in the first batch, what the loss cannot compare."""
        # One that waits for other processes is not tried: the model may be on the CPU yet, where
        # GPUs' processes cannot exchange.
        if getattr(self.loss, 'sync', False):
            return
        try:
            with torch.enable_grad():  # as in training
                self._losses([level.detach().requires_grad_() for level in levels], teacher)
        except ValueError as error:
            raise ValueError(f'`{self.name}`: {error}') from error

    def is_ambiguous(self, seen: Records, told: Dict[str, Answers]) -> bool:
        """Whether the sides differ, and a larger image might tell levels apart by their sizes."""
        with torch.no_grad():
            sizes = [[tuple(level.shape[2:]) for level in side]
                     for side in self._recorded(seen, told)]
        return sizes[0] != sizes[1] and any(len(set(one)) < len(one) for one in sizes)

    def __str__(self) -> str:
        one, other = self.student_point, self.teacher_point
        return (f'{self.name}: `{one.name}` of the student ({", ".join(one.paths)}, '
                f'{shown_shapes(self.shapes[0])}) with `{other.name}` of the teacher '
                f'({", ".join(other.paths)}, {shown_shapes(self.shapes[1])}), '
                f'{type(self.loss).__name__} x {self.loss.loss_weight:g}' +
                ''.join(f'; {note}' for note in self.notes))

    def _check_features(self, student: List[Tensor], teacher: List[Tensor]) -> None:
        for side, point, levels in (('student', self.student_point, student),
                                    ('teacher', self.teacher_point, teacher)):
            if any(level.dim() not in (2, 4) for level in levels):
                raise ValueError(
                    f'`{point.name}` of the {side} returns {[tuple(v.shape) for v in levels]}; '
                    'features are compared as maps (N, C, H, W) or vectors (N, C), and of others, '
                    'such as tokens (N, L, C), it is not known where the channels are; choose a '
                    "module that returns maps, such as 'backbone'")

    def _recorded(self, seen: Records, told: Dict[str, Answers],
                  is_paired: bool = True) -> Tuple[List[Tensor], List[Tensor]]:
        one, other = self.student_point, self.teacher_point
        student = one.levels(seen)
        teacher = [level for at, point in self.asked if at in told
                   for level in told[at][point].levels]
        for side, levels, point in (('student', student, one), ('teacher', teacher, other)):
            if not levels:
                raise ValueError(
                    f'`{point.name}` of the {side} was not passed: its module '
                    f'`{", ".join(point.paths)}` did not run on the way to the points of this '
                    'family; choose one of them, or a module before the heads')
        if torch.is_grad_enabled() and not any(level.requires_grad for level in student):
            raise ValueError(
                f'`{self.student_point.name}` of the student has no gradient: it is frozen, or '
                'inside a checkpointed block (`with_cp=True`), where torch computes it twice; '
                'choose a point outside')
        teacher = [self._reorder(level) for level in teacher]
        if one.queries is not None and other.queries is not None and is_paired:
            orders = [pair_sets(mine, theirs._replace(logits=self._reorder_queries(theirs.logits)))
                      for mine, theirs in zip(
                          one.queries(*(seen[path] for path in one.paths)),
                          told[''][other].queries)]
            student = [in_order(level, [mine for mine, _ in order], one.query_dim)
                       for level, order in zip(student, orders)]
            teacher = [in_order(level, [theirs for _, theirs in order], other.query_dim)
                       for level, order in zip(teacher, orders)]
        return student, teacher

    def _paired(self, student: List[Tensor],
                teacher: List[Tensor]) -> Tuple[List[Tensor], List[Tensor]]:
        if self._pairs is not None:
            return [student[i] for i, _ in self._pairs], [teacher[k] for _, k in self._pairs]
        if len(student) != len(teacher):
            raise ValueError(
                f'`{self.student_point.name}` of the student has {len(student)} levels, '
                f'`{self.teacher_point.name}` of the teacher {len(teacher)}, and their sizes do '
                f'not tell which belong together: {[tuple(s.shape) for s in student]} and '
                f'{[tuple(t.shape) for t in teacher]}; choose points with as many')
        return student, teacher

    def _resize(self, teacher: Tensor, student: Tensor) -> Tensor:
        is_map = self.student_point.is_map and self.teacher_point.is_map
        if not is_map or teacher.shape[2:] == student.shape[2:] or not (
                teacher.dim() == student.dim() == 4):
            return teacher
        return interpolate(teacher, size=student.shape[2:], mode='bilinear',
                           align_corners=self.student_point.align_corners)

    def _reorder(self, level: Tensor) -> Tensor:
        if self._columns is None:
            return level
        anchors = level.unflatten(1, (-1, self.teacher_point.num_classes))
        return anchors[:, :, self._columns].flatten(1, 2)

    def _reorder_queries(self, logits: Tensor) -> Tensor:
        if self._query_columns is None:
            return logits
        return logits[:, [*self._query_columns, *range(self._num_named, logits.shape[1])]]

    def _is_per_anchor(self) -> bool:
        if self.student_point.use_sigmoid is None:
            return False
        return not self.student_point.use_sigmoid if self.per_anchor is None else self.per_anchor

    def _anchors(self) -> int:
        if not self._is_per_anchor() or not self.shapes[0]:
            return 1
        return self.shapes[0][0][1] // (self.student_point.num_classes or 1)

    def _split_anchors(self, level: Tensor) -> Tensor:
        return level.unflatten(1, (-1, self.student_point.num_classes)).flatten(0, 1)


def split_point(written: str, side: str) -> Tuple[str, str]:
    """The network and its point of 'network:point'; of 'point' the network is the side's."""
    network, colon, point = written.rpartition(':')
    return (network if colon else side), point


def pair_levels(student: Sequence[Tensor],
                teacher: Sequence[Tensor]) -> Optional[List[Tuple[int, int]]]:
    """Which level of the teacher has the stride of which level of the student.

    Told by the size of the maps for one image, not by the position in the list: P2 to P6 and P3 to
    P7 have four levels in common.

    Returns:
        list[tuple[int, int]] | None: Numbers of levels, from 0; None to take the levels as they
        stand, because all or none agree, or sizes do not tell them apart.
    """
    sizes = [[tuple(level.shape[2:]) for level in side] for side in (student, teacher)]
    are_maps = all(level.dim() == 4 for side in (student, teacher) for level in side)
    if not are_maps or sizes[0] == sizes[1] or any(len(set(one)) < len(one) for one in sizes):
        return None
    pairs = [(i, sizes[1].index(size)) for i, size in enumerate(sizes[0]) if size in sizes[1]]
    return pairs or None


def shown_losses(losses: Any) -> str:
    """What a loss gave, for people."""
    if isinstance(losses, list):
        return f'[{", ".join(map(shown_losses, losses))}]'
    shape = f' of shape {tuple(losses.shape)}' if isinstance(losses, Tensor) else ''
    return f'{type(losses).__name__}{shape}'


def shown_shapes(shapes: Sequence[Tuple[int, ...]]) -> str:
    """Shapes of levels, for people: '1x16x8x8, 1x16x4x4'."""
    return ', '.join('x'.join(map(str, shape)) for shape in shapes)


def _activation(point: Point) -> str:
    return 'sigmoid' if point.use_sigmoid else 'softmax'


def _places(point: Point) -> str:
    return 'RoIs' if point.asked_at else 'queries' if point.queries else 'a grid'


def _size(level: Tensor) -> str:
    return 'x'.join(map(str, level.shape[2:]))
