"""A teacher whose weights are fixed: its input, and the settings by which it runs faster."""
from functools import partial
from typing import Any, Dict, List, Optional, Sequence

from torch import Tensor

from ..points import Answers
from .base import BaseTeacher
from .fast import Fast
from .idle import left_out
from .inputs import Renormalize
from .observing import Question


class FixedTeacher(BaseTeacher):
    """Base class of teachers with fixed weights, from files.

    Args:
        view (str, optional): See :class:`BaseTeacher`.
        fast (Fast): Settings by which it runs faster.

    Attributes:
        renormalize (Renormalize): Conversion of the student's batch, set by :meth:`prepare`.
    """

    is_frozen = True
    renormalize: Renormalize
    channels: Optional[str] = None
    identity = ''
    """Settings by which a cache distinguishes teachers with equal weights."""
    _provenance: Dict[str, Any] = {}

    def __init__(self, view: Optional[str], fast: Fast) -> None:
        super().__init__(view)
        self.fast = fast

    def observe(self, inputs: Tensor, data_samples: Optional[Sequence],
             questions: Dict[str, Question]) -> Dict[str, Answers]:
        assert self.model is not None, 'prepare() comes first'
        inputs = self.fast.lay_out(self.renormalize(inputs, data_samples))
        with self.fast.running(self.model):
            return super().observe(inputs, data_samples, questions)

    def begin(self) -> None:
        """Apply the settings of :class:`mmkd.networks.fast.Fast`. Before this, the student may
        inherit weights from the model, so they must not be fused."""
        assert self.model is not None

        def on_noise(model: Any, noise: Tensor, data_samples: Optional[Sequence],
                     questions: Dict[str, Question]) -> Dict[str, Answers]:
            return self.observer.observe(model, self.fast.lay_out(noise), data_samples, questions,
                                         self.runs_whole)

        def answer(model: Any) -> List[Tensor]:
            with self.fast.running(model):
                return [tensor for point in self.observer.parts for tensor in
                        self.observer.rehearsed(model, point, partial(on_noise, model))]

        inside = {path for point in self.observer.parts for path in point.paths}
        inside |= left_out(self.observer.parts.values())
        inside |= self.observer.through
        self.model = self.fast.settle(self.model, answer, inside, bool(self.observer.through))
