"""What every teacher is to a distillation."""
from abc import ABCMeta, abstractmethod
from functools import partial
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

import torch
from torch import Tensor, nn

from ..core.aliases import warn_renamed
from ..core.rng import preserved_rng
from ..files.labels import ZeroLabel
from ..points import Answers, Point, family_of
from ..points.recorder import recording
from .continued import continued
from .idle import Outputs, Parts, left_out, parts_of, standing_in


class Question(NamedTuple):
    """What a teacher is asked."""
    points: Tuple[Point, ...]
    """Its points."""
    at: Optional[Tensor] = None
    """Where to predict, such as RoIs (R, 5); None on the head's own grid."""
    through: Optional[Tuple[str, List[Any]]] = None
    """A module of its own and what takes the place of its outputs, call by call: values of the
    student, which gets a gradient by what is answered. None: it runs as it is."""

    @property
    def paths(self) -> Set[str]:
        """Its modules that must run."""
        return {path for point in self.points for path in point.watched}


class BaseTeacher(metaclass=ABCMeta):
    """A network that is looked at while the student trains.

    It is no ``nn.Module``, so that nothing that walks the student finds it: no optimizer, no EMA
    copy, no SyncBN conversion, no DDP bucket, no ``init_weights``, no checkpoint. The one gate is
    ``Module._apply`` of the Distiller, by which ``.to()`` and ``.cuda()`` move it along.

    A subclass writes :meth:`prepare`. One that changes while the student trains writes
    :meth:`after_iter` or :meth:`after_epoch`, and :meth:`state_dict` and :meth:`load_state_dict`,
    or it would not come back on resume.

    Args:
        view (str, optional): Which of the views that :class:`mmkd.PackViews` has packed it sees.
            Defaults to None, what the student sees.

    Attributes:
        model (nn.Module | None): The network, None until :meth:`prepare`.
        classes (list[str] | None): Names of its classes, None where unknown.
        states_classes (bool): Whether the config states them by ``classes``.
        shares_classes (bool): Whether its columns are the student's, however they are called: it
            is the student, was the student, or learns from the same labels.
        zero_labels (Sequence[ZeroLabel]): What is known of ``reduce_zero_label`` in the data it was
            trained on.
        is_ready (bool): Whether it has anything to say yet. While it is False, what it would teach
            is left out.
        is_prepared (bool): Whether :meth:`prepare` has been called.
        needs_epochs (bool): Whether it waits for epochs, which training by iterations has not.
        runs_whole (bool): Whether modules run, too, that have no part in what it is asked.
    """

    model: Optional[nn.Module] = None
    classes: Optional[List[str]] = None
    states_classes = False
    shares_classes = False
    zero_labels: Sequence[ZeroLabel] = ()
    view: Optional[str] = None
    is_ready = True
    is_prepared = False
    needs_epochs = False
    runs_whole = False

    def __init__(self, view: Optional[str] = None) -> None:
        if view is not None and not isinstance(view, str):
            raise TypeError(f'`view` must be the name of a view, but got {view!r}; '
                            "write for instance view='weak'")
        self.view = view
        self._noise: List[Tensor] = []
        self._parts: Dict[Point, Optional[Parts]] = {}
        self._idle_outputs: Dict[str, Outputs] = {}

    @abstractmethod
    def prepare(self, student: Any) -> None:
        """Set ``model`` and ``classes``. Called once, before the first batch and never for a test.

        Args:
            student (nn.Module): The student, on its device; its weights may still be loaded.
        """

    def begin(self) -> None:  # noqa: B027
        """Called when training begins: the student has its weights, loaded or resumed."""

    def after_iter(self, iteration: int) -> None:  # noqa: B027
        """Called after every iteration, also where gradients go on being accumulated.

        Args:
            iteration (int): Iterations that are over, from 1.
        """

    def after_epoch(self, epoch: int) -> None:  # noqa: B027
        """Called after every epoch of training.

        Args:
            epoch (int): Epochs that are over, from 1.
        """

    def provenance(self) -> Dict[str, Any]:
        """Who it is, for the checkpoints of those it teaches: words, numbers, and lists of such.

        On resume, what differs from the checkpoint's is logged.
        """
        return dict(type=type(self).__name__, **({} if self.view is None else dict(view=self.view)))

    def state_dict(self) -> Dict[str, Tensor]:
        """What a checkpoint must hold, so that :meth:`load_state_dict` brings it back; {} if
        nothing."""
        return {}

    def load_state_dict(self, state: Dict[str, Tensor]) -> None:  # noqa: B027
        """Take up what :meth:`state_dict` gave.

        Raises:
            RuntimeError: If it is another network's.
        """

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        if 'look' in vars(cls) and 'observe' not in vars(cls):
            warn_renamed(f'`look` of {cls.__name__}', '`observe`')
            cls.observe = cls.look  # type: ignore[attr-defined,method-assign]

    def observe(self, inputs: Tensor, data_samples: Optional[Sequence],
             questions: Dict[str, Question]) -> Dict[str, Answers]:
        """Run the teacher on the student's batch, as far as it is asked.

        Modules that have no part in the answers do not run (:mod:`mmkd.networks.idle`).

        Args:
            inputs (Tensor): Float (N, C, H, W), normalised for the student; of its view.
            data_samples (Sequence, optional): The N samples.
            questions (dict[str, Question]): By a key of the caller's.

        Returns:
            dict[str, Answers]: What it says at the points of each question, by the same key,
            without gradient.
        """
        assert self.model is not None, 'prepare() comes first'
        points = {point for question in questions.values() for point in question.points}
        known = all(point in self._parts for point in points)
        idle = left_out(self._parts[point] for point in points) if (
            known and not self.runs_whole) else set()
        with torch.no_grad(), standing_in(self.model, idle, self._idle_outputs):
            told = self._answer(inputs, data_samples, questions)
        if not known and not self.runs_whole:  # and it does run on an image of this size
            self._look_into(inputs, points)
        return told

    def _answer(self, inputs: Tensor, data_samples: Optional[Sequence],
                questions: Dict[str, Question]) -> Dict[str, Answers]:
        assert self.model is not None
        adapter = family_of(self.model)
        told: Dict[str, Answers] = {}
        paths = {path for question in questions.values() for path in question.paths}
        with recording(self.model, paths) as before:
            features = adapter.extract(self.model, inputs)
        for key, question in questions.items():
            with recording(self.model, question.paths) as behind, continued(
                    self.model, question.through):
                adapter.predict(self.model, features, question.paths, question.at, data_samples)
            records = {path: before[path] + calls for path, calls in behind.items()}
            told[key] = {point: point.answer(records) for point in question.points}
        return told

    def _look_into(self, inputs: Tensor, points: Set[Point]) -> None:
        """Find out which modules have a part in what is said at points."""
        assert self.model is not None
        if not self._noise:
            generator = torch.Generator().manual_seed(0)
            noise = torch.randn(inputs[:1].shape, generator=generator).to(inputs)
            self._noise = [noise, 3 * noise.flip(-1)]
        for point in points - set(self._parts):
            self._parts[point] = parts_of(
                self.model, partial(self._rehearsed, point, self._answer))

    def _rehearsed(self, point: Point, answer: Callable, image: int = 0) -> List[Tensor]:
        """What is said of noise at a point."""
        assert self.model is not None
        noise = self._noise[image]
        at = family_of(self.model).made_up(noise) if point.asked_at else None
        with preserved_rng():  # some draw random numbers also in eval mode
            torch.manual_seed(0)
            told: Dict[str, Answers] = answer(noise, None, {'': Question((point, ), at)})
        return told[''][point].tensors()

    def _apply(self, fn: Callable[[Tensor], Tensor]) -> None:
        if self.model is not None:
            self.model._apply(fn)
        self._noise = [fn(noise) for noise in self._noise]

    def __deepcopy__(self, memo: Dict[int, Any]) -> 'BaseTeacher':
        # A copy of the student (MMEngine's EMAHook makes one) shares the teacher.
        return self
