"""Base class of teachers."""
from abc import ABCMeta, abstractmethod
from typing import Any, Callable, Dict, List, Optional, Sequence

from torch import Tensor, nn

from ..core.aliases import warn_renamed
from ..files.classes import ClassMapping
from ..files.labels import ZeroLabel
from ..points import Answers
from .observing import Observer, Question


class BaseTeacher(metaclass=ABCMeta):
    """A network that is observed while the student trains.

    It is not an ``nn.Module``, so it is not found by a traversal of the student's modules: no
    optimizer, no EMA copy, no SyncBN conversion, no DDP bucket, no ``init_weights``, no checkpoint.
    The only exception is ``Module._apply`` of the Distiller, by which ``.to()`` and ``.cuda()``
    move it.

    A subclass implements :meth:`prepare`. A teacher that changes during training also implements
    :meth:`after_iter` or :meth:`after_epoch`, and :meth:`state_dict` and :meth:`load_state_dict`,
    so that a resumed run restores it.

    Args:
        view (str, optional): Name of the view, packed by :class:`mmkd.PackViews`, that is its
            input. Defaults to None, the images of the student.

    Attributes:
        model (nn.Module | None): The network, None until :meth:`prepare`.
        classes (list[str] | None): Names of its classes, None if unknown.
        mapping (ClassMapping | None): Which of them stand for a class of the student, as
            ``classes`` of the config states it.
        states_classes (bool): Whether the names come from ``classes`` of the config.
        shares_classes (bool): Whether its columns are the student's, whatever their names: it is
            the student, an earlier student, or learns from the same labels.
        zero_labels (Sequence[ZeroLabel]): The settings of ``reduce_zero_label`` in its training
            data, as far as they are known.
        is_ready (bool): Whether it can teach. While it is False, its terms are left out.
        is_prepared (bool): Whether :meth:`prepare` has been called.
        needs_epochs (bool): Whether it needs epochs, which training by iterations does not have.
        runs_whole (bool): Whether all modules run, also those that the questions do not need.
        teachers (Sequence[BaseTeacher]): The networks that answer in its place; empty if it answers
            itself. See :func:`answering`.
        is_frozen (bool): Whether its weights are files that are only read, and never change.
        chooses_by_image (bool): Whether its answer for an image depends on which image of the data
            set it is, and not only on the pixels.

    Example:
        >>> class Copy(BaseTeacher):
        ...     def prepare(self, student):
        ...         self.model = copy.deepcopy(student).eval().requires_grad_(False)
    """

    model: Optional[nn.Module] = None
    classes: Optional[List[str]] = None
    mapping: Optional[ClassMapping] = None
    states_classes = False
    shares_classes = False
    zero_labels: Sequence[ZeroLabel] = ()
    view: Optional[str] = None
    is_ready = True
    is_prepared = False
    needs_epochs = False
    runs_whole = False
    teachers: Sequence['BaseTeacher'] = ()
    is_frozen = False
    chooses_by_image = False

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
        """Called when training begins, after the student's weights were loaded or resumed."""

    def after_iter(self, iteration: int) -> None:  # noqa: B027
        """Called after every iteration, also if gradients are accumulated over iterations.

        Args:
            iteration (int): Number of finished iterations, from 1.
        """

    def after_epoch(self, epoch: int) -> None:  # noqa: B027
        """Called after every epoch of training.

        Args:
            epoch (int): Number of finished epochs, from 1.
        """

    def provenance(self) -> Dict[str, Any]:
        """Description of its origin, for the checkpoint of the student: strings, numbers, and lists
        of these.

        On resume, differences from the checkpoint are logged.
        """
        return dict(type=type(self).__name__, **({} if self.view is None else dict(view=self.view)))

    def state_dict(self) -> Dict[str, Tensor]:
        """The state to save in a checkpoint for :meth:`load_state_dict`; {} if there is none."""
        return {}

    def load_state_dict(self, state: Dict[str, Tensor]) -> None:  # noqa: B027
        """Load a state of :meth:`state_dict`.

        Raises:
            RuntimeError: If it is the state of another network.
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

        Modules that do not contribute to the answers do not run (:mod:`mmkd.networks.idle`).

        Args:
            inputs (Tensor): Float (N, C, H, W), images of its view, normalised for the student.
            data_samples (Sequence, optional): The N samples.
            questions (dict[str, Question]): Questions by a key that the caller chooses.

        Returns:
            dict[str, Answers]: Tensors at the points of each question, by the same key. They have
            no gradient, except for questions with ``through``.
        """
        assert self.model is not None, 'prepare() comes first'
        return self.observer.observe(self.model, inputs, data_samples, questions, self.runs_whole)

    def _apply(self, fn: Callable[[Tensor], Tensor]) -> None:
        if self.model is not None:
            self.model._apply(fn)
        self.observer._apply(fn)

    def __deepcopy__(self, memo: Dict[int, Any]) -> 'BaseTeacher':
        # Copies of the student, such as that of MMEngine's EMAHook, share the teacher.
        return self


def answering(network: BaseTeacher) -> List[BaseTeacher]:
    """The networks that answer: those that a network holds, or else itself.

    Args:
        network (BaseTeacher): A network, prepared: some build the networks that they hold then.
    """
    return list(network.teachers) or [network]
