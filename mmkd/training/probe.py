"""Do networks and terms fit each other? Checked before the first batch."""
from contextlib import contextmanager
from typing import Any, Dict, Iterator, Optional, Sequence, Tuple, Union

import torch
from mmengine.registry import DefaultScope
from torch import Tensor

from ..compare.classes import check_mapping
from ..compare.term import Term
from ..compare.trial import fit_term, is_ambiguous_for
from ..compare.vocabulary import Batch
from ..core.names import shown_names
from ..files.classes import classes_of_config, classes_of_run
from ..files.labels import check_meaning, zero_labels_of_config, zero_labels_of_run
from ..networks import FrozenTeacher, LiveNetwork
from ..networks.base import answering
from ..networks.continued import Misfit
from ..points import family_of, points_of
from ..points.image_sizes import Size, TrainedAt, sizes_of_model, trained_at
from ..points.probe import DoesNotRun, blank_image, first_look
from ..points.recorder import Records, evaluating, recording
from .questions import Told, questions_of, seen_by, told_to, watched
from .shared_queries import Features, asked_again, check_shared, remembering, sets_of


class Probe:
    """Aligns the terms of a distillation, and evaluates them on a blank image.

    Args:
        distillation (Distillation): The distillation, with prepared networks.
        image_size (tuple[int, int], optional): Height and width of the images in training. Defaults
            to None, the size in the config.
    """

    def __init__(self, distillation: Any, image_size: Optional[Size] = None) -> None:
        self.distillation = distillation
        self.image_size = image_size
        self.runs_on: Dict[str, Size] = {}
        self.tried_at: Optional[Size] = None

    def run(self) -> None:
        """Align and evaluate every term.

        Raises:
            ValueError: If the networks cannot be compared as configured.
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
            fit_term(part, seen[seen_by(part)], told_to(part, told),
                     Batch(blank_image(model, self.tried_at), None), model, self.tried_at)

    def classes(self) -> Tuple[Optional[Sequence[str]], Any]:
        """Names of the student's classes, and the settings of label 0 of its data."""
        distillation = self.distillation
        names = distillation.stated_classes or classes_of_run()
        zero_labels = zero_labels_of_run()
        if distillation.config is not None:
            with DefaultScope.overwrite_default_scope(distillation.config.get('default_scope')):
                names = names or classes_of_config(distillation.config)
                zero_labels = zero_labels or zero_labels_of_config(distillation.config)
        return names, zero_labels

    def tell_classes(self) -> None:
        """Pass the class names of the student to frozen teachers: some need them for prompts."""
        classes, _ = self.classes()
        for network in self.distillation.networks.values():
            its = answering(network)
            for one in its:
                if isinstance(one, FrozenTeacher):
                    one.set_student_classes(classes)
            if its[0] is not network:
                network.classes = its[0].classes

    def _align(self) -> None:
        """Align every term with its teacher: points and columns of classes."""
        distillation = self.distillation
        own = distillation.stated_classes
        distillation.classes, zero_labels = self.classes()
        self.tell_classes()
        for part in distillation.parts:
            name = part.spec.source
            teacher = distillation.networks[name]
            classes = teacher.classes
            if isinstance(teacher, LiveNetwork) and distillation.classes and (
                    classes not in (None, distillation.classes)):
                raise ValueError(
                    f'the checkpoint of `{name}` was trained on the classes '
                    f'{shown_names(classes)}, but the labels have the classes '
                    f'{shown_names(distillation.classes)}; use one with the same classes')
            if part.spec.learner != 'student':
                part.find(distillation.model_of(part.spec.learner))
            check_mapping(distillation.classes, classes, teacher.mapping, name)
            check_shared(part, distillation.model_of(part.spec.learner), teacher.model)
            stated = [side for side, is_stated in (
                ('student', own), ('teacher', teacher.states_classes)) if is_stated]
            part.align(teacher.model, distillation.classes, classes,
                       shares_classes=teacher.shares_classes, stated=stated,
                       mapping=teacher.mapping)
            if not teacher.shares_classes and any(
                    one.names_classes for one in (part.alignment, *part.also)):
                check_meaning((distillation.classes, bool(own), zero_labels),
                              (classes, teacher.states_classes, teacher.zero_labels), name)
        labels = distillation.pseudo_labels
        if labels is not None and not distillation.networks[labels.teacher].shares_classes:
            teacher = distillation.networks[labels.teacher]
            check_meaning((distillation.classes, bool(own), zero_labels),
                          (teacher.classes, teacher.states_classes, teacher.zero_labels),
                          labels.teacher)

    def _look_at_blank(self, size: Size) -> Tuple[Dict[str, Records], Told]:
        """Records and answers of all networks for a blank image.

        Raises:
            DoesNotRun: If a network cannot process it.
        """
        distillation = self.distillation
        seen: Dict[str, Records] = {}
        told: Told = {}
        side = 'student'
        sets = sets_of(distillation.parts, distillation.model_of, 0)
        features: Features = {}
        try:
            for side in dict.fromkeys(part.spec.learner for part in distillation.parts):
                model = distillation.model_of(side)
                its = [part for part in distillation.parts if part.spec.learner == side]
                with torch.no_grad(), evaluating(model):
                    with remembering(its, side, model, features):
                        seen[side] = self.predicted(side, blank_image(model, size))
                    seen.update(asked_again(its, sets, features, distillation.model_of, 0))
            blank = blank_image(distillation.student, size)
            for side, questions in questions_of(distillation.parts, seen, sets=sets).items():
                told[side] = distillation.told_by(side, blank, None, questions)
        except Misfit:
            raise
        except Exception as error:
            raise DoesNotRun(side, size, error) from error
        return seen, told

    def predicted(self, learner: str, inputs: Tensor) -> Records:
        """Records of a learner for a batch, without a computation of losses.

        Args:
            learner (str): Name of the learner.
            inputs (Tensor): Float (N, C, H, W), normalised.
        """
        model = self.distillation.model_of(learner)
        paths, adapter = watched(self.distillation.parts, learner), family_of(model)
        with recording(model, paths) as seen:
            adapter.predict(model, adapter.extract(model, inputs), paths, adapter.made_up(inputs))
        return seen

    def _is_ambiguous(self, look: Tuple[Dict[str, Records], Told]) -> bool:
        seen, told = look
        return any(is_ambiguous_for(part, seen[seen_by(part)], told_to(part, told))
                   for part in self.distillation.parts)


def attempt(distillation: Any, entry: Dict[str, Any]) -> Union[Term, Exception]:
    """Try an entry of ``distill`` with the student and the prepared teacher of a distillation.

    Args:
        distillation (Distillation): The distillation of one student and one teacher.
        entry (dict): The entry.

    Returns:
        Term | Exception: The term of the entry, or the error.
    """
    try:
        trial = type(distillation)(distillation.student, distillation.teacher, [entry],
                                   distillation.stated_classes, config=distillation.config)
        trial.probe.image_size = distillation.probe.image_size
        trial.probe.run()
        return trial.terms[0]  # type: ignore[no-any-return]
    except Exception as error:  # the entry cannot be used
        return error


def trials(distillation: Any) -> Iterator[Tuple[str, Union[Term, Exception]]]:
    """Try each named point of both sides in a term of its own; see :func:`attempt`.

    Yields:
        tuple[str, Term | Exception]: The point; the term that compares it, or the error.
    """
    for name in {**points_of(distillation.student, 'student'),
                 **points_of(distillation.teacher.model, 'teacher')}:
        # Any loss would do; this one accepts logits and features.
        yield name, attempt(distillation, dict(type='mmkd.MSELoss', on=name))


@contextmanager
def naming_comparable(distillation: Any) -> Iterator[None]:
    """Add the points that can be compared to a ValueError inside the block.

    Raises:
        ValueError: The same error, with these points; unchanged if there are more than two
            networks, or if every point has this error.
    """
    try:
        yield
    except ValueError as error:
        if len(distillation.networks) != 2:
            raise
        tried = dict(trials(distillation))
        if all(str(found) == str(error) for found in tried.values()):
            raise  # it has nothing to do with the point
        comparable = ', '.join(
            f'`{name}`' + (' through a connector' if found.connectors else '')
            for name, found in tried.items() if isinstance(found, Term))
        raise ValueError(f'{error}. Points of this pair that can be compared: '
                         f'{comparable or "none"}') from error
