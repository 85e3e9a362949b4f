"""The student with its weights of an earlier step, as a teacher."""
import copy
import logging
from typing import Any, Dict, Optional, Union

import torch
from mmengine.logging import print_log
from torch import Tensor

from ..core.runner import current_runner
from ..registry import MODELS
from .base import BaseTeacher

READY = 'mmkd_is_ready'
"""Key in the saved state: whether weights have been taken."""


@MODELS.register_module()
class EarlierSelf(BaseTeacher):
    """The student with its weights from the end of the last epoch, or of some iterations ago.

    `Self-Knowledge Distillation with Progressive Refinement of Targets (PS-KD)
    <https://arxiv.org/abs/2006.12000>`_, section 3.2. The paper stores the prediction of every
    image in the previous epoch. For all pixels or anchors this would be too large, and would not
    fit an image with another random augmentation. So the earlier weights run on the same augmented
    image. Before the end of the first epoch nothing is compared, as in the paper.

    Args:
        every (str | int): 'epoch', or the number of iterations between two copies of the weights.
            Defaults to 'epoch'.
        view (str, optional): See :class:`BaseTeacher`.

    Raises:
        ValueError: If ``every`` is neither.

    Example:
        >>> EarlierSelf(every=1000).every
        1000
    """

    shares_classes = True

    def __init__(self, every: Union[str, int] = 'epoch', view: Optional[str] = None) -> None:
        super().__init__(view)
        is_count = isinstance(every, int) and not isinstance(every, bool) and every > 0
        if not is_count and not (isinstance(every, str) and every == 'epoch'):
            raise ValueError("`every` must be 'epoch' or a number of iterations, but got "
                             f'{every!r}; write for instance every=1000')
        self.every = every
        self.needs_epochs = every == 'epoch'
        self.is_ready = False

    def prepare(self, student: Any) -> None:
        """Copy the student."""
        self._student = student
        self.model = copy.deepcopy(student).eval().requires_grad_(False)

    def begin(self) -> None:
        """Warn if the run is too short for a copy of the weights."""
        runner = current_runner()
        if runner is not None and isinstance(self.every, int) and self.every >= runner.max_iters:
            print_log(f'mmkd.EarlierSelf is updated after every {self.every} iterations, but '
                      f'training has {runner.max_iters}, so it is never used; write a smaller '
                      '`every`', 'current', logging.WARNING)

    def after_iter(self, iteration: int) -> None:
        """Copy the student's weights every ``every`` iterations."""
        if isinstance(self.every, int) and iteration % self.every == 0:
            self._take()

    def after_epoch(self, epoch: int) -> None:
        """Copy the student's weights, with ``every='epoch'``."""
        if self.every == 'epoch':
            self._take()

    def provenance(self) -> Dict[str, Any]:
        """Description with ``every``."""
        return dict(super().provenance(), every=self.every)

    def _take(self) -> None:
        assert self.model is not None
        self.model.load_state_dict(self._student.state_dict())
        self.is_ready = True

    def state_dict(self) -> Dict[str, Tensor]:
        assert self.model is not None
        return {**self.model.state_dict(), READY: torch.tensor(self.is_ready)}

    def load_state_dict(self, state: Dict[str, Tensor]) -> None:
        assert self.model is not None
        state = dict(state)
        self.is_ready = bool(state.pop(READY))
        self.model.load_state_dict(state)
