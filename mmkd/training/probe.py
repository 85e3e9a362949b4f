"""What is found out before the first batch: do networks and terms fit each other?"""
from contextlib import contextmanager
from typing import Any, Dict, Iterable, Iterator, Optional, Tuple, Union

import torch
from mmengine.registry import DefaultScope
from torch import Tensor

from ..compare.term import Term
from ..compare.trial import fit_term, is_ambiguous_for
from ..compare.vocabulary import Batch
from ..core.names import shown_names
from ..files.classes import classes_of_config, classes_of_run
from ..files.labels import check_meaning, zero_labels_of_config, zero_labels_of_run
from ..networks import LiveNetwork
from ..points import family_of, points_of
from ..points.image_sizes import Size, TrainedAt, sizes_of_model, trained_at
from ..points.probe import DoesNotRun, blank_image, first_look
from ..points.recorder import Records, evaluating, recording
from .questions import Told, questions_of, told_to, watched


class Probe:
    """Aligns the terms of a distillation, and tries them with a blank image.

    Args:
        distillation (Distillation): Its networks are prepared.
        image_size (tuple[int, int], optional): Height and width of the images in training. Defaults
            to None: the config tells.
    """

    def __init__(self, distillation: Any, image_size: Optional[Size] = None) -> None:
        self.distillation = distillation
        self.image_size = image_size
        self.runs_on: Dict[str, Size] = {}
        self.tried_at: Optional[Size] = None

    def run(self) -> None:
        """Align and try every term.

        Raises:
            ValueError: If they cannot be compared as the config asks.
        """
        self._align()
        model_of, parts = self.distillation.model_of, self.distillation.parts
        made_for = {name: sizes_of_model(model_of(name)) for name in dict.fromkeys(
            [*(part.spec.learner for part in parts), *(part.spec.source for part in parts)])}
        trained = trained_at(self.distillation.student, self.distillation.config) if (
            self.image_size is None) else TrainedAt(self.image_size)
        (seen, told), self.tried_at, self.runs_on = first_look(
            self._look_at_blank, self._is_ambiguous, made_for, trained)
        for part in parts:
            model = model_of(part.spec.learner)
            fit_term(part, seen[part.spec.learner], told_to(part, told),
                     Batch(blank_image(model, self.tried_at), None), model, self.tried_at)

    def _align(self) -> None:
        """Find the points of every term in its teacher, and which classes its columns are."""
        distillation = self.distillation
        own = distillation.stated_classes
        distillation.classes = own or classes_of_run()
        zero_labels = zero_labels_of_run()
        if distillation.config is not None:
            with DefaultScope.overwrite_default_scope(distillation.config.get('default_scope')):
                distillation.classes = distillation.classes or classes_of_config(
                    distillation.config)
                zero_labels = zero_labels or zero_labels_of_config(distillation.config)
        for part in distillation.parts:
            name = part.spec.source
            teacher = distillation.networks[name]
            classes = teacher.classes
            if isinstance(teacher, LiveNetwork) and distillation.classes and (
                    classes not in (None, distillation.classes)):
                raise ValueError(
                    f'the checkpoint of `{name}` was trained on the classes '
                    f'{shown_names(classes)}, but it will learn from labels of '
                    f'{shown_names(distillation.classes)}; give one of the same classes')
            if part.spec.learner != 'student':
                part.find(distillation.model_of(part.spec.learner))
            stated = [side for side, is_stated in (
                ('student', own), ('teacher', teacher.states_classes)) if is_stated]
            part.align(teacher.model, distillation.classes, classes,
                       shares_classes=teacher.shares_classes, stated=stated)
            if part.alignment.names_classes and not teacher.shares_classes:
                check_meaning((distillation.classes, bool(own), zero_labels),
                              (classes, teacher.states_classes, teacher.zero_labels), name)

    def _look_at_blank(self, size: Size) -> Tuple[Dict[str, Records], Told]:
        """What all networks return for a blank image.

        Raises:
            DoesNotRun: If one of them cannot process it.
        """
        distillation = self.distillation
        seen: Dict[str, Records] = {}
        told: Told = {}
        side = 'student'
        try:
            for side in dict.fromkeys(part.spec.learner for part in distillation.parts):
                model = distillation.model_of(side)
                with torch.no_grad(), evaluating(model):
                    seen[side] = self.predicted(side, blank_image(model, size))
            blank = blank_image(distillation.student, size)
            for side, questions in questions_of(distillation.parts, seen).items():
                told[side] = distillation.told_by(side, blank, None, questions)
        except Exception as error:
            raise DoesNotRun(side, size, error) from error
        return seen, told

    def predicted(self, learner: str, inputs: Tensor) -> Records:
        """What a learner returns at the points of a batch, without losses.

        Args:
            learner (str): Its name.
            inputs (Tensor): Float (N, C, H, W), normalised.
        """
        model = self.distillation.model_of(learner)
        paths, adapter = watched(self.distillation.parts, learner), family_of(model)
        with recording(model, paths) as seen:
            adapter.predict(model, adapter.extract(model, inputs), paths, adapter.made_up(inputs))
        return seen

    def _is_ambiguous(self, look: Tuple[Dict[str, Records], Told]) -> bool:
        seen, told = look
        return any(is_ambiguous_for(part, seen[part.spec.learner], told_to(part, told))
                   for part in self.distillation.parts)


def trials(distillation: Any, further: Iterable[str] = ()
           ) -> Iterator[Tuple[str, Union[Term, Exception]]]:
    """Every named point of either side, tried alone on the prepared teacher.

    Args:
        distillation (Distillation): Of one student and one teacher.
        further (Iterable[str]): Module paths that are tried, too. Defaults to ().

    Yields:
        tuple[str, Term | Exception]: The point; the term that compares it, or why nothing can.
    """
    for name in {**points_of(distillation.student, 'student'),
                 **points_of(distillation.teacher.model, 'teacher'), **dict.fromkeys(further)}:
        # Which loss it is does not matter; this one takes logits and features alike.
        entry = dict(type='mmkd.MSELoss', on=name)
        try:
            trial = type(distillation)(distillation.student, distillation.teacher, [entry],
                                       distillation.stated_classes, config=distillation.config)
            trial.probe.image_size = distillation.probe.image_size
            trial.probe.run()
            yield name, trial.terms[0]
        except Exception as error:  # a point that cannot run cannot be compared
            yield name, error


@contextmanager
def naming_comparable(distillation: Any) -> Iterator[None]:
    """Have a refusal inside the block name what can be compared of the pair.

    Raises:
        ValueError: The same, with the points that can be compared; of more than two networks as it
            is.
    """
    try:
        yield
    except ValueError as error:
        if len(distillation.networks) != 2:
            raise
        comparable = ', '.join(
            f'`{name}`' + (' through a connector' if found.connectors else '')
            for name, found in trials(distillation) if isinstance(found, Term))
        raise ValueError(f'{error}. Of this pair can be compared: '
                         f'{comparable or "no point"}') from error
