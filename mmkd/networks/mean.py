"""The mean teacher: a moving average of the student's weights."""
import copy
from typing import Any, Callable, Dict, Optional

from mmengine.hooks import EMAHook
from mmengine.logging import print_log
from mmengine.model import BaseAveragedModel, MomentumAnnealingEMA
from torch import Tensor

from ..core.arguments import finite_number
from ..core.runner import current_runner
from ..registry import MODELS
from .base import BaseTeacher

MOMENTUM = 0.001
"""Share of the student in the average after each step, as in mmdet's MeanTeacherHook."""


@MODELS.register_module()
class MeanTeacher(BaseTeacher):
    r"""A moving average of the student's weights, as teacher of the student.

    `Mean teachers are better role models <https://arxiv.org/abs/1703.01780>`_, section 2: after
    every step :math:`\theta' \leftarrow (1 - m) \theta' + m \theta`, for weights and running
    statistics. ``momentum`` is defined as in MMEngine: the share of the student, 1 minus α of the
    paper. To reduce the weight of the random initialization, the share is
    :math:`\max(m, warmup / (warmup + t))` after t steps.

    If the run has MMEngine's EMAHook and ``momentum`` is left out, the average of the hook is the
    teacher, and no second average is computed.

    Args:
        momentum (float, optional): Share of the student in each step, between 0 and 1. Defaults to
            None: the average of an EMAHook if the run has one, otherwise 0.001.
        warmup (int): Number of warm-up steps in the formula above, 1 or more. Defaults to 100.
        view (str, optional): See :class:`BaseTeacher`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> MeanTeacher(momentum=0.001).momentum
        0.001
    """

    shares_classes = True

    def __init__(self, momentum: Optional[float] = None, warmup: int = 100,
                 view: Optional[str] = None) -> None:
        super().__init__(view)
        if momentum is not None and not 0 < finite_number('momentum', momentum) < 1:
            raise ValueError('`momentum`, the weight of the student in the average, must be '
                             f'between 0 and 1, but got {momentum}; write for instance '
                             'momentum=0.001')
        if isinstance(warmup, bool) or not isinstance(warmup, int) or warmup < 1:
            raise ValueError(f'`warmup` must be a number of steps, 1 or more, but got {warmup!r}; '
                             'write for instance warmup=100')
        self.momentum = momentum
        self.warmup = warmup
        self.average: Optional[BaseAveragedModel] = None
        self._is_resumed = False

    def prepare(self, student: Any) -> None:
        """Copy the student, or use the copy of an EMAHook."""
        self._student = student
        hook = self._hook()
        if hook is None:
            self.average = MomentumAnnealingEMA(student, self.momentum or MOMENTUM, self.warmup,
                                                update_buffers=True)
            self.model = self.average.module.eval()
        elif hasattr(hook, 'ema_model'):
            self._adopt(hook)
        else:  # in a FlexibleRunner, hooks create their copies later
            self.model = copy.deepcopy(student).eval().requires_grad_(False)

    def begin(self) -> None:
        """Start with the initial weights of the student, unless resumed.

        In MMEngine's Runner, an EMAHook copies the student before its weights are initialised, and
        the copy does not change until the first update.
        """
        hook = self._hook()
        if hook is not None:
            print_log('The mean teacher is the average that EMAHook keeps', 'current')
            self._adopt(hook)
            # Without updates the average equals the student; a resumed average has updates.
            is_begun = bool(hook.ema_model.steps)
        else:
            is_begun = self._is_resumed
        if not is_begun:
            assert self.model is not None
            self.model.load_state_dict(self._student.state_dict())

    def _hook(self) -> Any:
        """The EMAHook with the average that is the teacher; None if this teacher has its own."""
        hooks = getattr(current_runner(), 'hooks', ()) if self.momentum is None else ()
        return next((hook for hook in hooks if isinstance(hook, EMAHook)), None)

    def _adopt(self, hook: Any) -> None:
        average = hook.ema_model.module
        self.model = getattr(average, 'student', average).eval()

    def after_iter(self, iteration: int) -> None:
        """Update the average, unless an EMAHook does it."""
        if self.average is not None:
            self.average.update_parameters(self._student)

    def provenance(self) -> Dict[str, Any]:
        """Description with the settings of the average."""
        return dict(super().provenance(), momentum=self.momentum, warmup=self.warmup)

    def _apply(self, fn: Callable[[Tensor], Tensor]) -> None:
        super()._apply(fn)
        if self.average is not None:  # it refers to the old tensors
            self.average.avg_parameters = self.average.module.state_dict()

    def state_dict(self) -> Dict[str, Tensor]:
        return {} if self.average is None else self.average.state_dict()

    def load_state_dict(self, state: Dict[str, Tensor]) -> None:
        if self.average is not None:
            self.average.load_state_dict(state)
            self._is_resumed = True
