"""Which Runner, optimizer or surrounding model is on the call stack? A model has no reference."""
import sys
from types import FrameType
from typing import Any, Iterator, Optional, Union

from mmengine.model import is_model_wrapper
from mmengine.optim import BaseOptimWrapper
from mmengine.runner import BaseLoop, FlexibleRunner, Runner
from torch import nn


def current_runner() -> Optional[Union[Runner, FlexibleRunner]]:
    """The Runner on the call stack, None if the model is used without one.

    A Runner calls ``model.init_weights()`` and ``model.train_step()`` itself, so it is on the call
    stack then. A global variable could be left over from another run.
    """
    for frame in _callers():
        caller = frame.f_locals.get('self')
        if isinstance(caller, (Runner, FlexibleRunner)):
            return caller
    return None


def current_optim_wrapper() -> Optional[BaseOptimWrapper]:
    """MMEngine's optimizer wrapper of the current ``train_step``, None outside of one.

    Every ``train_step``, of a model or of a distributed wrapper, has an argument of this name, and
    is on the call stack in the model's forward.
    """
    for frame in _callers():
        found = frame.f_locals.get('optim_wrapper')
        if isinstance(found, BaseOptimWrapper):
            return found
    return None


def surrounding_model(model: nn.Module) -> Optional[nn.Module]:
    """The model on the call stack that contains a model, None if there is none.

    Distributed wrappers and compiled modules do not count.

    Args:
        model (nn.Module): The contained model.
    """
    for frame in _callers():
        caller = frame.f_locals.get('self')
        if not isinstance(caller, nn.Module) or caller is model or is_model_wrapper(caller):
            continue
        if type(caller).__module__.split('.')[0] != 'torch' and any(
                one is model for one in caller.modules()):
            return caller
    return None


def unwrapped(runner: Any) -> Any:
    """The model of a run without its distributed wrapper."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def is_training(runner: Any) -> bool:
    """Whether a Runner trains. In a test or validation its training loop is not built."""
    return isinstance(runner._train_loop, BaseLoop)


def _callers() -> Iterator[FrameType]:
    frame: Optional[FrameType] = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back
