"""What every teacher is to a distillation."""
from abc import ABCMeta, abstractmethod
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Sequence

import torch
from torch import Tensor, nn

from ..heads import adapter_of
from ..recorder import Records, recording


class Question(NamedTuple):
    """What a teacher is asked."""
    paths: Iterable[str]
    """Its modules to be recorded."""
    at: Optional[Tensor] = None
    """Where to predict, such as RoIs (R, 5); None on the head's own grid."""


class BaseTeacher(metaclass=ABCMeta):
    """A model that is looked at and never trained by the student's loss.

    It is no ``nn.Module``, so that nothing that walks the student finds it: no optimizer, no EMA
    copy, no SyncBN conversion, no DDP bucket, no ``init_weights``, no checkpoint. The one gate is
    ``Module._apply`` of the Distiller, by which ``.to()`` and ``.cuda()`` move it along.

    Attributes:
        model (nn.Module | None): The network, None until :meth:`prepare`.
        classes (list[str] | None): Names of its classes, None where unknown.
    """

    def __init__(self) -> None:
        self.model: Optional[nn.Module] = None
        self.classes: Optional[List[str]] = None

    @abstractmethod
    def prepare(self, student: Any) -> None:
        """Set ``model`` and ``classes``. Called once, before the first batch and never for a test.

        Args:
            student (nn.Module): The student, on its device.
        """

    def look(self, inputs: Tensor, data_samples: Optional[Sequence],
             questions: Dict[str, Question]) -> Dict[str, Records]:
        """Run the teacher on the student's batch, as far as it is asked, and record what it says.

        Args:
            inputs (Tensor): Float (N, 3, H, W), normalised for the student.
            data_samples (Sequence, optional): The N samples.
            questions (dict[str, Question]): By a key of the caller's.

        Returns:
            dict[str, Records]: The recorded calls by the same key, without gradient.
        """
        assert self.model is not None, 'prepare() comes first'
        adapter = adapter_of(self.model)
        told: Dict[str, Records] = {}
        with torch.no_grad():
            paths = {path for question in questions.values() for path in question.paths}
            with recording(self.model, paths) as before:
                features = adapter.extract(self.model, inputs)
            for key, question in questions.items():
                with recording(self.model, question.paths) as behind:
                    adapter.predict(self.model, features, question.paths, question.at,
                                    data_samples)
                told[key] = {path: before[path] + calls for path, calls in behind.items()}
        return told

    def _apply(self, fn: Callable[[Tensor], Tensor]) -> None:
        if self.model is not None:
            self.model._apply(fn)

    def __deepcopy__(self, memo: Dict[int, Any]) -> 'BaseTeacher':
        # A copy of the student (MMEngine's EMAHook makes one) shares the teacher.
        return self
