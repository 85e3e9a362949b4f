"""Mixed precision on a CPU: forward passes in bfloat16, weights and optimizer in float32."""
from contextlib import contextmanager
from typing import Any, Iterator

import torch
from mmengine.optim import OptimWrapper
from torch import nn

from ..registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """An ``OptimWrapper`` that trains in bfloat16 mixed precision on a CPU.

    MMEngine's ``AmpOptimWrapper`` needs a GPU. On a CPU with instructions for bfloat16 (AVX-512
    BF16, AMX), this one makes convolutions several times as fast. Forward passes of the student
    and of the teacher run under ``torch.autocast('cpu', dtype=torch.bfloat16)``. Weights,
    gradients, the optimizer and validation are in float32. bfloat16 has the range of float32, so
    no loss scaling is needed.

    Args:
        channels_last (bool): Convert the weights of convolutions to channels-last memory format
            before the first step, in which bfloat16 convolutions are faster. Defaults to True.
        **kwargs (Any): Arguments of ``OptimWrapper``.

    Raises:
        ValueError: In the first step, if the model is not on a CPU.

    Example:
        >>> optim_wrapper = dict(
        ...     type='mmkd.BFloat16OptimWrapper', optimizer=dict(type='SGD', lr=0.01))
    """

    def __init__(self, channels_last: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.channels_last = channels_last
        self._is_converted = False

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Run the forward pass of a step in bfloat16 where autocast allows it."""
        if not self._is_converted:
            device = next(model.parameters()).device
            if device.type != 'cpu':
                raise ValueError(f'mmkd.BFloat16OptimWrapper trains on a CPU, but the model is on '
                                 f"{device}; write optim_wrapper=dict(type='AmpOptimWrapper', "
                                 "dtype='bfloat16', ...)")
            if self.channels_last:
                model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            self._is_converted = True
        with super().optim_context(model), torch.autocast('cpu', torch.bfloat16):
            yield
