"""What every teacher is to the Distiller."""
from abc import ABCMeta, abstractmethod
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence

import torch
from torch import Tensor, nn

from ..heads import adapter_of
from ..recorder import recording


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
             paths: Iterable[str]) -> Dict[str, List[Any]]:
        """Run the teacher on the student's batch and record what it says.

        Args:
            inputs (Tensor): Float (N, 3, H, W), normalised for the student.
            data_samples (Sequence, optional): The N samples.
            paths (Iterable[str]): Modules to record.

        Returns:
            dict[str, list]: By path, the outputs of each call, without gradient.
        """
        assert self.model is not None, 'prepare() comes first'
        with torch.no_grad(), recording(self.model, paths) as outputs:
            adapter_of(self.model).run(self.model, inputs, data_samples)
        return outputs

    def _apply(self, fn: Callable[[Tensor], Tensor]) -> None:
        if self.model is not None:
            self.model._apply(fn)

    def __deepcopy__(self, memo: Dict[int, Any]) -> 'BaseTeacher':
        # A copy of the student (MMEngine's EMAHook makes one) shares the teacher.
        return self
