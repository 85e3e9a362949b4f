"""Settings by which a frozen teacher runs faster, and their effect on its answers."""
import copy
import logging
import math
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional

import torch
from mmcv.cnn import fuse_conv_bn
from mmengine.logging import print_log
from torch import Tensor, nn

from ..points.recorder import replaced_forward

PRECISIONS = dict(bf16=torch.bfloat16, fp16=torch.float16)
COMPILED = ('backbone', 'neck')
"""Parts that are compiled: they have most of the computation, and no control flow."""

TOLERANCE = 1e-3
"""Maximum change of answers, relative to their norm, for settings that stay in float32."""


class Fast:
    """Settings by which a frozen network runs faster.

    They are applied when training begins, one after another, and each is first tried on a small
    image of noise. A setting that the device does not support, or that changes the answers by more
    than rounding, is left out with a warning. The change of the answers is logged.

    Args:
        precision (str, optional): 'bf16' or 'fp16': matrix products and convolutions in half
            precision (autocast), weights and norms in float32. Defaults to None, the precision of
            the student.
        channels_last (bool): Use the channels-last memory format for images and weights.
            Defaults to False.
        compile (bool): Compile backbone and neck by ``torch.compile``, for any size of image.
            Defaults to False.
        fuse (bool): Fold batch norms into the preceding convolutions. Defaults to False.

    Raises:
        TypeError: If a flag is not a bool.
        ValueError: If ``precision`` is unknown.
    """

    def __init__(self, precision: Optional[str] = None, channels_last: bool = False,
                 compile: bool = False, fuse: bool = False) -> None:
        if not (precision is None or (isinstance(precision, str) and precision in PRECISIONS)):
            raise ValueError("`teacher.precision` must be 'bf16', 'fp16' or None, but got "
                             f'{precision!r}; write one of these, or leave it out')
        flags = dict(fuse=fuse, channels_last=channels_last, compile=compile)
        for name, flag in flags.items():
            if not isinstance(flag, bool):
                raise TypeError(f'`teacher.{name}` must be True or False, but got {flag!r}; write '
                                'one of the two')
        self._wanted = [name for name, flag in flags.items() if flag]
        self.precision = precision
        self._dtype: Optional[torch.dtype] = None
        self._is_channels_last = False
        self._compiled: Dict[str, Callable] = {}
        self.changes: Dict[str, float] = {}
        """Change of the answers against float32, by setting: norm of the difference divided by the
        norm."""

    def settle(self, model: nn.Module, answer: Callable[[nn.Module], List[Tensor]],
               busy_inside: Iterable[str] = (), is_continued: bool = False) -> nn.Module:
        """Apply the settings, as far as they are supported. A second call does nothing.

        Args:
            model (nn.Module): The network.
            answer (Callable): Runs a network on noise and returns its answer.
            busy_inside (Iterable[str]): Paths of modules that are recorded or left out, and must
                not be compiled away.
            is_continued (bool): Whether a value of the student goes on through the network, so
                that what layers return inside must stay. Defaults to False.

        Returns:
            nn.Module: The network to run from now on.
        """
        wanted, self._wanted = self._wanted, []
        if is_continued and 'fuse' in wanted:
            wanted.remove('fuse')
            warn('`fuse=True` is not used', ValueError(
                'the teacher continues from a value of the student, and fused layers have no such '
                'values'))
        precision, self.precision = self.precision, None
        if not wanted and precision is None:
            return model
        try:
            exact = answer(model)
        except Exception as error:
            warn('no faster setting is used', error)
            return model
        for name in wanted:
            before = dict(vars(self), _compiled={})
            try:
                tried = getattr(self, f'_{name}')(model, busy_inside)
                moved = self._moved(exact, answer(tried))
                if not moved < TOLERANCE:
                    raise ValueError(f'its outputs would change by {moved:.1e} of their norm')
            except Exception as error:  # from the compiler or the device
                vars(self).update(before)
                warn(f'`{name}=True` is not used', error)
                continue
            model, self.changes[name] = tried, moved
        if precision is not None:
            try:
                self._dtype = supported(PRECISIONS[precision], exact)
                moved = self._moved(exact, answer(model))
                if not math.isfinite(moved):
                    raise ValueError('its outputs are no longer finite')
                self.changes[precision] = moved
            except Exception as error:
                self._dtype = None
                warn(f'`precision={precision!r}` is not used', error)
        if self.changes:
            moved_by = ', '.join(f'{name} {moved:.1e}' for name, moved in self.changes.items())
            print_log('The teacher uses faster settings. Relative change of its outputs on an '
                      f'image of noise, after each setting in turn: {moved_by}', 'current')
        return model

    @contextmanager
    def running(self, model: nn.Module) -> Iterator[None]:
        """Run the network with the settings inside the block."""
        with ExitStack() as stack:
            for path, compiled in self._compiled.items():
                stack.enter_context(replaced_forward(
                    model.get_submodule(path), partial(_instead, compiled)))
            if self._dtype is not None:
                device = next(model.parameters()).device.type
                stack.enter_context(torch.autocast(device, self._dtype))
            yield

    def lay_out(self, inputs: Tensor) -> Tensor:
        """The images in the memory format of the network."""
        return inputs.contiguous(memory_format=torch.channels_last) if (
            self._is_channels_last) else inputs

    def _fuse(self, model: nn.Module, busy_inside: Iterable[str]) -> nn.Module:
        return fuse_conv_bn(copy.deepcopy(model)).requires_grad_(False)

    def _channels_last(self, model: nn.Module, busy_inside: Iterable[str]) -> nn.Module:
        self._is_channels_last = True
        return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _compile(self, model: nn.Module, busy_inside: Iterable[str]) -> nn.Module:
        parts = [part for part in COMPILED
                 if isinstance(getattr(model, part, None), nn.Module)
                 and not any(path.startswith(f'{part}.') for path in busy_inside)]
        if not parts:
            raise ValueError(f'what is compared is inside of {" and ".join(COMPILED)}')
        self._compiled = {part: torch.compile(model.get_submodule(part).forward, dynamic=True)
                          for part in parts}
        return model

    @staticmethod
    def _moved(exact: List[Tensor], said: List[Tensor]) -> float:
        squares = [((a.double() - b.double()).square().sum(), a.double().square().sum())
                   for a, b in zip(exact, said)]
        differs, whole = (torch.stack(one).sum() for one in zip(*squares))
        return (differs / whole.clamp(min=1e-30)).sqrt().item()


def _instead(compiled: Callable, forward: Callable) -> Callable:
    return compiled


def supported(dtype: torch.dtype, said: List[Tensor]) -> torch.dtype:
    """The precision, if the device supports it.

    Raises:
        ValueError: If the device would only emulate it, slower than float32.
    """
    device = said[0].device.type
    if device == 'cuda':
        is_there = dtype != torch.bfloat16 or torch.cuda.is_bf16_supported()
    elif device == 'cpu':
        name = 'bf16' if dtype == torch.bfloat16 else 'fp16'
        test: Any = getattr(torch.ops.mkldnn, f'_is_mkldnn_{name}_supported', lambda: False)
        is_there = test()
    else:
        is_there = True
    if not is_there:
        raise ValueError(f'this {device} does not support {dtype}')
    return dtype


def warn(what: str, error: Exception) -> None:
    """Log that a setting is left out."""
    reason = str(error).strip().split('\n')[0]
    print_log(f'{what} for the teacher: {type(error).__name__}: {reason}',
              'current', logging.WARNING)
