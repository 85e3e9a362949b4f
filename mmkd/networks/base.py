"""What every teacher is to a distillation."""
from abc import ABCMeta, abstractmethod
from typing import Any, Callable, Dict, List, Optional, Sequence

from torch import Tensor, nn

from ..core.aliases import warn_renamed
from ..files.labels import ZeroLabel
from ..points import Answers
from .observing import Observer, Question


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
        self.observer = Observer()

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
            cls.observe = vars(cls)['look']  # type: ignore[method-assign]

    def look(self, *args: Any) -> Dict[str, Answers]:
        """The name of :meth:`observe` in the first edition, for classes derived then."""
        inherited = next(vars(kind)['observe'] for kind in type(self).__mro__
                         if 'observe' in vars(kind) and (
                             'look' not in vars(kind) or kind is BaseTeacher))
        return inherited(self, *args)  # type: ignore[no-any-return]

    def observe(self, inputs: Tensor, data_samples: Optional[Sequence],
                questions: Dict[str, Question]) -> Dict[str, Answers]:
        """Run the teacher on the student's batch, as far as the questions need.

        Modules that have no part in the answers do not run (:mod:`mmkd.networks.idle`).

        Args:
            inputs (Tensor): Float (N, C, H, W), normalised for the student; of its view.
            data_samples (Sequence, optional): The N samples.
            questions (dict[str, Question]): By a key of the caller's.

        Returns:
            dict[str, Answers]: What it returns at the points of each question, by the same key;
            without gradient, but for values of the student that go on through it.
        """
        assert self.model is not None, 'prepare() comes first'
        return self.observer.observe(self.model, inputs, data_samples, questions, self.runs_whole)

    def _apply(self, fn: Callable[[Tensor], Tensor]) -> None:
        if self.model is not None:
            self.model._apply(fn)
        self.observer._apply(fn)

    def __deepcopy__(self, memo: Dict[int, Any]) -> 'BaseTeacher':
        # A copy of the student (MMEngine's EMAHook makes one) shares the teacher.
        return self
