"""One line of the config's ``distill``: a point on both sides, the loss between them, its name."""
import logging
from difflib import get_close_matches
from itertools import product
from typing import Any, Dict, List, Optional, Sequence, Set, Tuple, Union

import torch
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ..core.arguments import finite_number
from ..core.build import build_entry
from ..core.names import joined
from ..losses import DistillLoss, LogitLoss
from ..losses.trial import limits_of
from ..points import Answers, Point, adapter_of, find_point
from ..points.background import background_of
from ..points.queries import Queries
from ..points.recorder import Records
from ..registry import MODELS
from .classes import match_classes
from .columns import Columns, Kind, check_names, columns_between, is_binary_pair
from .connectors import connect
from .levels import (
    Maps,
    Pairing,
    Size,
    Stride,
    choose,
    is_ambiguous,
    no_head,
    no_partner,
    notes_of,
    pair_levels,
    shown_strides,
    sizes_of,
)
from .misfits import codings_differ, columns_differ, shapes_differ
from .pair_queries import in_order, pair_queries

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
            missing = [key for key, value in (('on', on), ('type', loss.get('type')))
                       if value is None]
            meant = [f'`{near}`, not `{key}`' for key in loss if key != 'type'
                     for near in get_close_matches(key, missing, 1)]
            raise ValueError("an entry of `distill` needs a loss and a point, for instance "
                             f"dict(type='mmkd.DISTLoss', on='cls'), but got {dict(on=on, **loss)}"
                             f', without `{"` and `".join(missing)}`; write ' +
                             (' and '.join(meant) or 'both'))
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
        self.compared: List[Tuple[int, ...]] = []  # as the loss gets them
        self.strides: Tuple[List[Stride], List[Stride]] = [], []
        self.notes: List[str] = []
        self._pairing: Optional[Pairing] = None
        self._counts: Tuple[int, int] = 0, 0
        self.class_notes: List[str] = []
        self.unknown_names: List[str] = []
        self.columns: Optional[Columns] = None
        self._classes: Tuple[Optional[Sequence[str]], Optional[Sequence[str]]] = None, None
        # What the entry says holds for both sides, whatever their heads say.
        self.is_activation_given = getattr(self.loss, 'use_sigmoid', None) is not None

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
                        teacher_classes: Optional[Sequence[str]], shares_classes: bool = False,
                        stated: Sequence[str] = ()) -> None:
        """Find the point in the teacher and decide which of its columns are the student's.

        Args:
            teacher (nn.Module): The teacher.
            student_classes (Sequence[str], optional): Names of the student's classes, in the order
                of its columns. None where unknown.
            teacher_classes (Sequence[str], optional): The teacher's.
            shares_classes (bool): Whether its columns are the student's whatever they are called.
                Defaults to False.
            stated (Sequence[str]): Which sides, 'student' and 'teacher', have their names from
                ``classes`` of the config. Defaults to ().

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
        self.columns, self.class_notes, self.unknown_names = None, [], []
        self._classes = student_classes, teacher_classes
        one, other = self.student_point, self.teacher_point
        codings = [[stage.coding for stage in side.stages] or [side.coding]
                   for side in (one, other)]
        for mine, theirs in product(*codings) if 1 in map(len, codings) else zip(*codings):
            if mine != theirs:
                raise ValueError(codings_differ(one, other, mine, theirs))
        are_logits = one.num_classes is not None and other.num_classes is not None
        if one.queries and student_classes and teacher_classes:
            match_classes(student_classes, teacher_classes)  # they are paired by class, too
        elif isinstance(self.loss, LogitLoss) and not are_logits and (
                student_classes and teacher_classes) and match_classes(
                    student_classes, teacher_classes):
            raise ValueError(
                f'the teacher\'s classes stand in another order, and `{self.on_teacher}` is not '
                "known to be class logits, so its columns cannot be put right; compare 'cls'")
        if self.names_classes and not shares_classes:
            self.unknown_names = [side for side, names in (
                ('student', student_classes), ('teacher', teacher_classes)) if not names]
            if self.unknown_names:
                self.class_notes.append('classes are taken by their order, because names of the '
                                        f'{" and the ".join(self.unknown_names)}\'s are unknown')
        if not are_logits:
            return
        kinds = Kind.of_point(one), Kind.of_point(other)
        # A column for the background has no partner, whatever activates it.
        has_partners = len({kind.columns - kind.named for kind in kinds}) == 1
        if one.use_sigmoid != other.use_sigmoid and not is_binary_pair(*kinds) and not (
                self.is_activation_given and has_partners):
            raise ValueError(
                f'`{one.name}` of the student is activated by {_activation(one)}, `{other.name}` '
                f'of the teacher by {_activation(other)}; their probabilities cannot be compared' +
                ('; if one activation is right for both, write `use_sigmoid=True` or `False` in '
                 'the entry' if has_partners and isinstance(self.loss, LogitLoss) else
                 "; compare 'neck' or 'backbone', or give a teacher of the same activation"))
        if one.num_named and other.num_named and not shares_classes:
            for side, kind, names in zip(('teacher', 'student'), kinds[::-1],
                                         (teacher_classes, student_classes)):
                check_names(kind, names, side, side in stated)
        self.columns = columns_between(*kinds, student_classes, teacher_classes,
                                       as_sigmoid=getattr(self.loss, 'use_sigmoid', None) is True)
        if self.columns is not None:
            self.class_notes.append(self.columns.note)
        columns = len(self.columns.rows) if self.columns is not None else other.num_classes
        if one.num_classes != columns:
            raise ValueError(columns_differ(one, other, student_classes, teacher_classes))

    @property
    def names_classes(self) -> bool:
        """Whether what is compared, or what it is paired by, has columns of named classes."""
        one, other = self.student_point, self.teacher_point
        return bool(one.queries and other.queries) or bool(one.num_named and other.num_named)

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
        one = self.student_point
        return {*(path for each in one.choices or [one] for path in each.watched), *one.asked_at}

    @property
    def asked(self) -> List[Tuple[str, Point]]:
        """What the teacher is asked: the student's module that knows where, and its own point.

        One entry per such module; it is '' where the teacher needs no telling.
        """
        one, other = self.student_point, self.teacher_point
        if not one.asked_at:
            return [('', each) for each in other.choices or [other]]
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
                background, as :func:`mmkd.training.targets.hard_targets_mixed` found it. Defaults
                to ().

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

    def fit(self, seen: Records, told: Dict[str, Answers], image: Size) -> None:
        """Pair the levels, make connectors, try the loss, and note what was found.

        Args:
            seen (dict): What was recorded of the student on a blank image.
            told (dict): What the teacher said of it, by where it was asked.
            image (tuple[int, int]): Height and width of the image, in pixels.

        Raises:
            ValueError: If what was recorded cannot be compared, or the loss cannot teach there.
        """
        with torch.no_grad():
            self._choose_heads(seen, told, image)
            student, teacher = self._recorded(seen, told)
            self._counts = len(student), len(teacher)
            self.notes = [*self.class_notes]
            self._pairing = self._pair_levels(student, teacher, image)
            student, teacher = self._paired(student, teacher)
            self.shapes = [tuple(s.shape) for s in student], [tuple(t.shape) for t in teacher]
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
            self.notes += [f'the teacher\'s {_size(t)} interpolated to {_size(s)}'
                           for s, t in zip(student, teacher) if self._resize(t, s) is not t]
            levels, teacher = self.levels(seen, told)
            self.compared = [tuple(level.shape) for level in levels]
            self._try_loss(levels, teacher)
        columns = self.student_point.num_classes
        if self.replaces == 'background' and levels[0].dim() == 4 and (
                levels[0].shape[1] != columns):
            raise ValueError(
                f"`replaces='background'`, but `{self.student_point.name}` of the student has "
                f'{levels[0].shape[1] // (columns or 1)} anchors at a position, which have labels '
                'of their own; write `per_anchor=True`')

    def _choose_heads(self, seen: Records, told: Dict[str, Answers], image: Size) -> None:
        """Of several heads that predict the same, take the one that has a partner."""
        one, other = self.student_point, self.teacher_point
        if not one.choices and not other.choices:
            return
        mine, theirs = one.choices or (one, ), other.choices or (other, )
        sides = (Maps(one.name, sizes_of([point.levels(seen)[0] for point in mine]), image),
                 Maps(other.name, sizes_of([told[''][point].levels[0] for point in theirs]), image))
        found = choose(*(side.sizes for side in sides))
        if found is None:
            raise ValueError(no_head(*sides))
        self.student_point, self.teacher_point = mine[found[0]], theirs[found[1]]

    def _pair_levels(self, student: List[Tensor], teacher: List[Tensor],
                     image: Size) -> Optional[Pairing]:
        """Pair levels by stride; None where they are not maps of the image."""
        self.strides = [], []
        if not self._is_grid(student, teacher):
            return None
        one, other = self.student_point, self.teacher_point
        sides = Maps(one.name, sizes_of(student), image), Maps(other.name, sizes_of(teacher), image)
        is_prediction = one.is_prediction or other.is_prediction
        pairing = pair_levels(sides[0].sizes, sides[1].sizes, is_prediction)
        if pairing is None:
            raise ValueError(no_partner(*sides, is_prediction))
        self.notes += notes_of(pairing, *sides)
        self.strides = ([sides[0].strides[i] for i, _ in pairing.pairs],
                        [sides[1].strides[k] for _, k in pairing.pairs])
        return pairing

    def _is_grid(self, student: List[Tensor], teacher: List[Tensor]) -> bool:
        """Whether all levels are maps of the blank image, not of RoIs, queries or vectors."""
        one, other = self.student_point, self.teacher_point
        return not (one.asked_at or one.queries or other.asked_at or other.queries) and all(
            level.dim() == 4 and len(level) == 1 for level in (*student, *teacher))

    def _try_loss(self, levels: List[Tensor], teacher: List[Tensor]) -> None:
        """Refuse now, not in the first batch, what the loss cannot compare or cannot teach."""
        # One that waits for other processes is not tried: the model may be on the CPU yet, where
        # GPUs' processes cannot exchange.
        if not getattr(self.loss, 'sync', False):
            try:
                with torch.enable_grad():  # as in training
                    self._losses([level.detach().requires_grad_() for level in levels], teacher)
            except ValueError as error:
                raise ValueError(f'`{self.name}`: {error}') from error
        limits = limits_of(self.loss, self.compared)
        if limits.is_constant:
            raise ValueError(
                f'`{self.name}` cannot teach anything at `{self.student_point.name}` of the '
                f'student ({shown_shapes(self.compared)}): {"; ".join(limits.notes)}')
        for note in limits.notes:
            print_log(f'{self.name}: {note}', 'current', logging.WARNING)

    def is_ambiguous(self, seen: Records, told: Dict[str, Answers]) -> bool:
        """Whether a larger image might tell more about the levels, by the sizes of their maps."""
        with torch.no_grad():
            sides = self._recorded(seen, told)
        return self._is_grid(*sides) and is_ambiguous(*map(sizes_of, sides))

    def __str__(self) -> str:
        one, other = self.student_point, self.teacher_point
        strides = [f'; stride {shown_strides(side)}' if side else '' for side in self.strides]
        return (f'{self.name}: `{one.name}` of the student ({", ".join(one.paths)}, '
                f'{shown_shapes(self.shapes[0])}{strides[0]}) with `{other.name}` of the teacher '
                f'({", ".join(other.paths)}, {shown_shapes(self.shapes[1])}{strides[1]}), '
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
            orders = [pair_queries(mine, self._reorder_queries(mine, theirs))
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
        if self._pairing is not None:
            self._check_counts(len(student), len(teacher))
            pairs = self._pairing.pairs
            return [student[i] for i, _ in pairs], [teacher[k] for _, k in pairs]
        if len(student) != len(teacher):
            raise ValueError(
                f'`{self.student_point.name}` of the student has {len(student)} levels, '
                f'`{self.teacher_point.name}` of the teacher {len(teacher)}, and their sizes do '
                f'not tell which belong together: {[tuple(s.shape) for s in student]} and '
                f'{[tuple(t.shape) for t in teacher]}; choose points with as many')
        return student, teacher

    def _check_counts(self, *counts: int) -> None:
        """Pairs are numbers of levels, so there must be as many as when they were paired."""
        for side, point, now, then in zip(('student', 'teacher'), (
                self.student_point, self.teacher_point), counts, self._counts):
            if now != then:
                raise ValueError(
                    f'`{point.name}` of the {side} has {now} levels now, and had {then} when '
                    'levels were paired on a blank image before training: the module returns '
                    'others in training; name the layer that you mean by its dotted path')

    def _resize(self, teacher: Tensor, student: Tensor) -> Tensor:
        is_map = self.student_point.is_map and self.teacher_point.is_map
        if not is_map or teacher.shape[2:] == student.shape[2:] or not (
                teacher.dim() == student.dim() == 4):
            return teacher
        return interpolate(teacher, size=student.shape[2:], mode='bilinear',
                           align_corners=self.student_point.align_corners)

    def _reorder(self, level: Tensor) -> Tensor:
        if self.columns is None:
            return level
        assert self.teacher_point.num_classes is not None
        return self.columns.of(level, self.teacher_point.num_classes)

    def _reorder_queries(self, student: Queries, teacher: Queries) -> Queries:
        """The teacher's queries, told apart by the student's classes."""
        columns = columns_between(Kind.of_queries(student), Kind.of_queries(teacher),
                                  *self._classes)
        if columns is None:
            return teacher
        return teacher._replace(logits=columns.of(teacher.logits, teacher.logits.shape[1]),
                                use_sigmoid=student.use_sigmoid)

    def _is_per_anchor(self) -> bool:
        use_sigmoid = self.student_point.use_sigmoid
        if use_sigmoid is None:
            return False
        if self.is_activation_given and isinstance(self.loss, LogitLoss):
            use_sigmoid = self.loss.use_sigmoid
        return not use_sigmoid if self.per_anchor is None else self.per_anchor

    def _anchors(self) -> int:
        if not self._is_per_anchor() or not self.shapes[0]:
            return 1
        return self.shapes[0][0][1] // (self.student_point.num_classes or 1)

    def _split_anchors(self, level: Tensor) -> Tensor:
        return level.unflatten(1, (-1, self.student_point.num_classes)).flatten(0, 1)


def warn_of_unknown_names(is_student_known: bool, parts: Sequence[Match]) -> None:
    """Say once that classes are taken by their order, and how to state what they are."""
    parts = [part for part in parts if part.unknown_names]
    if not parts:
        return
    unknown = {} if is_student_known else {'the student': 'classes=[...] in the mmkd.Distiller'}
    unknown.update({f'`{part.source}`': _classes_of_network(part.source) for part in parts
                    if 'teacher' in part.unknown_names})
    print_log(
        f'Class names of {joined(unknown)} are not known, so '
        f'{joined(part.name for part in parts)} takes its columns by their order; look '
        'whether both sides have the same classes in the same order, and state them: '
        f'{joined(f"`{how}`" for how in unknown.values())}', 'current', logging.WARNING)


def _classes_of_network(name: str) -> str:
    """How the config states what the columns of a network stand for."""
    network, _, member = name.partition('.')
    if member:
        return f'classes=[...] in member {member} of {network}'
    entry = f'{network}=dict(classes=[...])'
    return entry if network == 'teacher' else f'companions=dict({entry})'


def split_point(written: str, side: str) -> Tuple[str, str]:
    """The network and its point of 'network:point'; of 'point' the network is the side's."""
    network, colon, point = written.rpartition(':')
    return (network if colon else side), point


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
