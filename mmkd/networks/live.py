"""Networks that learn in the same step: what they say while they train is what they teach."""
import copy
from contextlib import ExitStack
from typing import Any, Callable, Dict, Iterable, Optional, Sequence

import torch
from torch import Tensor

from ..points import Answers, family_of
from ..points.recorder import Records, evaluating, recording, replaced_forward
from .base import BaseTeacher
from .observing import Question, answered


class LiveNetwork(BaseTeacher):
    """A network in training: a learner, and a teacher to others in the same step.

    Attributes:
        seen (Records | None): What its modules said in this step, None outside of one.
    """

    shares_classes = True

    def __init__(self, view: Optional[str] = None) -> None:
        super().__init__(view)
        self.seen: Optional[Records] = None
        self._features: Any = None

    def learn(self, forward: Callable[..., Dict[str, Any]], inputs: Tensor,
              data_samples: Optional[list], paths: Iterable[str]) -> Dict[str, Any]:
        """Its own losses; what its modules say on the way is kept until :meth:`forget`.

        Args:
            forward (Callable): Its forward.
            inputs (Tensor): Float (N, C, H, W), as it wants them.
            data_samples (list, optional): The N samples.
            paths (Iterable[str]): Modules that are compared.

        Returns:
            dict: The losses.
        """
        assert self.model is not None

        def keep(extract: Callable) -> Callable:
            def extract_and_keep(*args: Any, **kwargs: Any) -> Any:
                self._features = extract(*args, **kwargs)
                return self._features

            return extract_and_keep

        with ExitStack() as stack:
            if hasattr(self.model, 'extract_feat'):
                stack.enter_context(replaced_forward(self.model, keep, 'extract_feat'))
            self.seen = stack.enter_context(recording(self.model, paths))
            return forward(inputs, data_samples, mode='loss')

    def forget(self) -> None:
        """Let go of what was said in this step."""
        self.seen = self._features = None

    def observe(self, inputs: Tensor, data_samples: Optional[Sequence],
             questions: Dict[str, Question]) -> Dict[str, Answers]:
        """What it said in training; at places that it is given it predicts anew, in eval mode, on
        the features that it has."""
        assert self.model is not None
        if self.seen is None:  # a blank image, before training
            with torch.no_grad(), evaluating(self.model):
                return answered(self.model, inputs, data_samples, questions)
        told: Dict[str, Answers] = {}
        for key, question in questions.items():
            records = self.seen
            if question.at is not None:
                with torch.no_grad(), evaluating(self.model), recording(
                        self.model, question.paths) as records:
                    family_of(self.model).predict(self.model, self._features, question.paths,
                                                   question.at, data_samples)
            told[key] = {point: point.answer(records) for point in question.points}
        return told


class Itself(LiveNetwork):
    """The student, as the network called 'student': its deep layers may teach its shallow ones.

    Args:
        student (nn.Module): The student.
    """

    def __init__(self, student: Any) -> None:
        super().__init__()
        self.model = student

    def prepare(self, student: Any) -> None:
        """Nothing is left to do."""

    def __deepcopy__(self, memo: Dict[int, Any]) -> 'Itself':
        # A copy of the student speaks for itself.
        return Itself(copy.deepcopy(self.model, memo))

    def _apply(self, fn: Callable[[Tensor], Tensor]) -> None:
        """The student is moved by its owner."""
