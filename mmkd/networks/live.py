"""Networks that learn in the same step, and teach by their outputs in training."""
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
    """A network in training, which learns and is a teacher of others in the same step.

    Attributes:
        seen (Records | None): Records of its modules in this step, None outside of a step.
    """

    shares_classes = True

    def __init__(self, view: Optional[str] = None) -> None:
        super().__init__(view)
        self.seen: Optional[Records] = None
        self._features: Any = None

    def learn(self, forward: Callable[..., Dict[str, Any]], inputs: Tensor,
              data_samples: Optional[list], paths: Iterable[str]) -> Dict[str, Any]:
        """Compute its own losses, and record its modules until :meth:`forget`.

        Args:
            forward (Callable): Its forward.
            inputs (Tensor): Float (N, C, H, W), normalised for this network.
            data_samples (list, optional): The N samples.
            paths (Iterable[str]): Paths of the modules to record.

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
        """Release the records of this step."""
        self.seen = self._features = None

    def observe(self, inputs: Tensor, data_samples: Optional[Sequence],
             questions: Dict[str, Question]) -> Dict[str, Answers]:
        """Answer from the records of training. For given places it predicts again, in eval mode,
        from its recorded features."""
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
    """The student as the network 'student', so that its deep layers can teach its shallow ones.

    Args:
        student (nn.Module): The student.
    """

    def __init__(self, student: Any) -> None:
        super().__init__()
        self.model = student

    def prepare(self, student: Any) -> None:
        """Do nothing: the student is built already."""

    def __deepcopy__(self, memo: Dict[int, Any]) -> 'Itself':
        # The copy of the student is the network of the copy.
        return Itself(copy.deepcopy(self.model, memo))

    def _apply(self, fn: Callable[[Tensor], Tensor]) -> None:
        """Do nothing: the owner of the student moves it."""
