"""What does one entry of ``distill`` add to the losses of a step?"""
import copy
from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

from ..losses import DistillLoss, MSELoss
from ..points import Answers, Point
from ..points.background import background_of
from ..points.recorder import Records
from .alignment import Alignment, Names, align, kept_of
from .auto_weight import shared_paths
from .connectors import Connector, build_connector, connected
from .fitting import Fitting, check_shapes, further_levels, resized
from .levels import shown_strides
from .parts import Parts, parts_of, shown_shapes
from .regions import build_region, weights_of
from .spec import TermSpec
from .student_point import find_student_point
from .vocabulary import (
    Batch,
    Context,
    made_up_values,
    values_of,
    values_of_all,
)


class Term:
    """A comparison of a student with a teacher at one point.

    Before training: 1. ``Term(spec)`` builds the loss. 2. :meth:`find` finds the student's point.
    3. :meth:`align` finds the teacher's point. 4. :func:`mmkd.compare.trial.fit_term` pairs the
    levels and creates the layers, on a blank image. In every step: :meth:`compare`.

    Args:
        spec (TermSpec): The entry.

    Attributes:
        factor (float): Factor of a schedule.
        is_scheduled (bool): Whether there is a schedule.
        alignment (Alignment | None): The points, from step 3 on.
        fitting (Fitting): The levels, from step 4 on.
        connectors (nn.ModuleList): One per level, or empty.
        losses (nn.ModuleList): One per level for a loss with layers, otherwise one.
        shared (tuple[str]): Modules at which its share is measured, from step 2 on.
        compared (list[tuple[int]]): Shapes of the student's levels in the call of the loss.

    Raises:
        TypeError: If an argument of loss, region or connector is wrong.
        ValueError: If the type of loss, region or connector is unknown.
    """

    def __init__(self, spec: TermSpec) -> None:
        self.spec = spec
        self.loss: DistillLoss = spec.build_loss()
        self.region = build_region(spec.region)
        if isinstance(spec.connector, dict):
            build_connector(spec.connector)  # a wrong argument is refused now
        self.losses = nn.ModuleList([self.loss])
        self.connectors = nn.ModuleList()
        self.factor, self.is_scheduled = 1., False
        self.alignment: Optional[Alignment] = None
        self.also: List[Alignment] = []
        self.also_fittings: List[Fitting] = []
        self.fitting = Fitting()
        self.compared: List[Tuple[int, ...]] = []
        # An activation in the entry overrides the activations of both heads.
        self._is_activation_given = getattr(self.loss, 'use_sigmoid', None) is not None
        self._point: Optional[Point] = None
        self._further: List[Point] = []
        self.shared: Tuple[str, ...] = ()

    def __deepcopy__(self, memo: Dict[int, Any]) -> 'Term':
        # A copy of the model (MMEngine's EMAHook makes one) shares connectors, layers and banks.
        return copy.copy(self)

    @property
    def name(self) -> str:
        """Its name in the log."""
        return self.spec.name

    @property
    def teacher_point(self) -> Point:
        """The teacher's point, available after :meth:`align`."""
        assert self.alignment is not None, 'align() comes first'
        return self.alignment.teacher

    @property
    def student_point(self) -> Point:
        """The student's point, available after :meth:`find`."""
        point = self._point if self.alignment is None else self.alignment.student
        assert point is not None, 'find() comes first'
        return point

    @property
    def parts(self) -> List['Term']:
        """The terms with one teacher each: the term itself, or one per member of a committee."""
        return [self]

    @property
    def share(self) -> float:
        """Factor of the term in addition to ``loss_weight``: that of the schedule times
        ``alpha``."""
        return self.factor * (1. if self.spec.alpha is None else self.spec.alpha)

    # --- before training ------------------------------------------------------------------------

    def find(self, student: nn.Module) -> None:
        """Find the student's point.

        Raises:
            ValueError: If there is no such point, or the loss cannot be used there.
        """
        self._point = find_student_point(self.spec, self.loss, self.region, student)
        self.shared = shared_paths(self._point, getattr(self.spec.through, 'student', ''), student)
        self._further = [find_student_point(self.spec.at_points(on), neutral(), None, student)
                         for on in self.spec.also]

    def align(self, teacher: nn.Module, student_classes: Names, teacher_classes: Names,
              **settings: Any) -> None:
        """Find the teacher's point; see :func:`mmkd.compare.alignment.align`.

        Raises:
            ValueError: If the points cannot be compared.
        """
        assert self._point is not None, 'find() comes first'
        names = student_classes, teacher_classes
        self.alignment = align(self.spec, self.loss, self._point, teacher, *names,
                               is_activation_given=self._is_activation_given,
                               region=self.region, **settings)
        self.also = [align(self.spec.at_points(point.name), neutral(), point, teacher, *names,
                           **settings) for point in self._further]

    # --- one step -------------------------------------------------------------------------------

    @property
    def asked(self) -> List[Tuple[str, Point]]:
        """Points of the teacher to observe, with the student's module that supplies the places; see
        :attr:`Alignment.asked`."""
        assert self.alignment is not None, 'align() comes first'
        return list(dict.fromkeys(
            [*self.alignment.asked, *(one for further in self.also for one in further.asked)]))

    def levels(self, seen: Records, told: Dict[str, Answers],
               is_paired: bool = True) -> Tuple[List[Tensor], List[Tensor]]:
        """Levels of both sides, ready for the loss.

        The connectors have been applied to the student's levels. The teacher's columns are in the
        student's order, and its maps have the student's size.

        Args:
            seen (dict): Records of the student.
            told (dict): Answers of the teacher, by the paths of :attr:`asked`.
            is_paired (bool): Whether sets of queries are paired. Defaults to True.
        """
        context = self.context(seen, told, is_paired=is_paired)
        return context.student, context.teacher

    def context(self, seen: Records, told: Dict[str, Answers], batch: Optional[Batch] = None,
                model: Optional[nn.Module] = None, is_paired: bool = True,
                is_trial: bool = False) -> Context:
        """Levels ready for the loss, and the source of the values that the loss may request.

        Args:
            seen (dict): Records of the student.
            told (dict): Answers of the teacher, by the paths of :attr:`asked`.
            batch (Batch, optional): The batch. Defaults to None, if only the levels are needed.
            model (nn.Module, optional): The student.
            is_paired (bool): Whether sets of queries are paired. Defaults to True.
            is_trial (bool): Whether the input is a blank image, for which values are generated.

        Raises:
            ValueError: If shapes differ in a dimension that the loss compares.
        """
        assert self.alignment is not None, 'align() comes first'
        batch = batch or Batch(torch.zeros(1, 1, 1, 1), None)
        numbers = self.fitting.numbers
        pairs = is_paired and self.loss.pairs_queries
        student, teacher = self.alignment.read(seen, told, pairs)
        context = Context(batch, model, self.student_point, seen, student, teacher)
        if self.student_point.queries is not None and not is_paired:
            return context
        student, teacher = self.fitting.pairs(self.alignment, student, teacher)
        raw = context.student
        context.student, context.teacher = student, teacher
        context.further = [one.student for one in self.also]
        context.kept = kept_of([self.alignment, *self.also])
        context.strides = self.fitting.strides[0]
        context.numbers = numbers or tuple(range(len(student)))
        free = [dim for dim, what in ((1, 'channels'), (2, 'positions'))
                if what not in self.loss.must_match]
        if 2 not in free:
            teacher = [resized(self.alignment, t, s) for t, s in zip(teacher, student)]
            context.teacher = teacher
        mine = ''
        if self.connectors:
            if isinstance(self.connectors[0], Connector):
                mine = type(self.connectors[0]).__name__
            student = connected(self.connectors, context, self.name, is_trial)
        check_shapes(self.alignment, student, teacher, free, mine)
        context.anchors = self.alignment.anchors(student[0].shape[1]) if student else 1
        context.student, context.teacher = map(self.alignment.split, (student, teacher))
        context.shapes = [one.shape for one in self.alignment.split(raw)]
        context.chosen = self.fitting.chosen
        if self.also:
            context.also = further_levels(self.also, self.also_fittings, seen, told,
                                          context.anchors, pairs, len(context.student))
        return context

    def compare(self, seen: Records, told: Sequence[Dict[str, Answers]], model: nn.Module,
                batch: Batch, background: Sequence[Tensor] = ()) -> Parts:
        """The losses of one step.

        Args:
            seen (dict): Records of the student.
            told (Sequence[dict]): Answers of the teacher of each of :attr:`parts`, by the paths of
                :attr:`asked`.
            model (nn.Module): The student.
            batch (Batch): The batch.
            background (Sequence[Tensor]): For ``replaces='background'``, masks of the background
                labels from :func:`mmkd.training.targets.hard_targets_mixed`. Defaults to ().

        Returns:
            dict[str, list[Tensor]]: Scalars by part. MMEngine adds them up.

        Raises:
            ValueError: If a module of the point did not run, or the shapes differ.
        """
        assert self.alignment is not None, 'align() comes first'
        if not self.alignment.is_answered(told[0]):  # a cascade that stopped before its stage
            return {'': [next(model.parameters()).new_zeros(())]}
        return self.value(self.context(seen, told[0], batch, model), background)

    def value(self, context: Context, background: Sequence[Tensor] = (),
              is_trial: bool = False) -> Parts:
        """The losses of prepared levels."""
        weights = None
        if self.region is not None:
            weights = weights_of(self.region, context, is_trial)
        if self.spec.replaces == 'background' and not is_trial:
            found = context.chosen(background_of(background, context.shapes, context.anchors,
                                                 context.is_by_image))
            weights = found if weights is None else [a * b for a, b in zip(weights, found)]
        asked = self.loss.asked()
        values: List[Any] = []
        if self.loss.levels == 'all':
            named = made_up_values(asked, context, True) if is_trial else (
                values_of_all(asked, context))
            values.append(self.losses[0](context.student, context.teacher, weights, **named))
        else:
            for number, (s, t) in enumerate(zip(context.student, context.teacher)):
                context.level = number
                loss = self.losses[number if len(self.losses) > 1 else 0]
                named = made_up_values(asked, context, False) if is_trial else (
                    values_of(asked, context))
                values.append(loss(s, t, weights and weights[number], **named))
        return parts_of(values, self.name, type(self.loss).__name__, self.share)

    def __str__(self) -> str:
        assert self.alignment is not None
        one, other = self.alignment.student, self.alignment.teacher
        found = self.fitting
        strides = [f'; stride {shown_strides(side)}' if side else '' for side in found.strides]
        return (f'{self.name}: `{one.name}` of the student ({", ".join(one.paths)}, '
                f'{shown_shapes(found.shapes[0])}{strides[0]}) with `{other.name}` of the teacher '
                f'({", ".join(other.paths)}, {shown_shapes(found.shapes[1])}{strides[1]}), '
                f'{type(self.loss).__name__} x {self.loss.loss_weight:g}' +
                ''.join(f'; {note}' for note in notes_of_term(self)))


def notes_of_term(term: Term) -> List[str]:
    """Notes on columns, levels and layers, for the log."""
    spec = term.spec
    further = [f'also `{one.student.name}` ({shown_shapes(fitting.shapes[0])})'
               for one, fitting in zip(term.also, term.also_fittings)]
    further += [f'levels {list(term.fitting.numbers)} alone'] * bool(term.fitting.numbers)
    if spec.through is not None:
        further.append("the student's side is the output of the teacher with "
                       f'`{spec.through.student}` of the student in place of its '
                       f'`{spec.through.teacher}`' +
                       ", scaled to the teacher's mean and deviation" * bool(spec.through.rescale))
    further += [f'both sides predict for {spec.queries} queries'] * (spec.queries is not None)
    further += [f'weighed by {type(term.region).__name__}'] * (term.region is not None)
    if spec.auto is not None:
        further.append(f'loss_weight measured in {spec.auto.iters} iterations: '
                       f'{spec.auto.share:g} times the gradient of the losses on labels')
    return [*(() if term.alignment is None else term.alignment.notes), *term.fitting.notes,
            *further]


def neutral() -> DistillLoss:
    """A loss for the alignment of the further points of an entry: it accepts every point."""
    return MSELoss()
