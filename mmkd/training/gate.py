"""How is a term that is not finite excluded from training, without a wait for the GPU?

The CPU would have to wait for the value of the term. So the device decides: the value of the term
is replaced by 0, and so is every gradient that comes from it. A gradient of 0 at the term is not
sufficient, because 0 times an infinite derivative is NaN. The gradient is replaced where it leaves
the term: at the student's levels, and at the parameters of the side modules.
"""
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from typing import Any, Callable, Dict, Iterable, Iterator, Optional, Tuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from ..points.recorder import Records, replaced_forward


class Gate:
    """Gate between a term of one step and the parameters that it trains.

    Args:
        is_on_device (bool): Whether the device decides. Otherwise the flag is read before the
            backward pass, a term that is not finite has no backward pass, and tensors pass
            unchanged.

    Attributes:
        is_open (bool | Tensor): Whether the term is finite in all processes, and is not left out
            for another reason; a bool scalar on the device, set before the backward pass. Defaults
            to True.
    """

    def __init__(self, is_on_device: bool) -> None:
        self.is_on_device = is_on_device
        self.is_open: Any = True

    def close_unless(self, flag: Tensor) -> None:
        """Close the gate if a flag is not set, as well. It is called before the backward pass.

        Args:
            flag (Tensor): Bool scalar. It is read at once if the device does not decide.
        """
        if isinstance(self.is_open, Tensor):
            flag = flag.to(self.is_open.device)
        self.is_open = self.is_open & (flag if self.is_on_device else bool(flag))

    def passed(self, tensor: Tensor) -> Tensor:
        """The same values, with a gradient of 0 if the gate is closed. It is applied to the inputs
        of a loss."""
        if not (self.is_on_device and tensor.requires_grad and torch.is_grad_enabled()):
            return tensor
        tensor = tensor.view_as(tensor)
        tensor.register_hook(self.cut)
        return tensor

    def cut(self, gradient: Tensor) -> Tensor:
        """The gradient, or 0 if the gate is closed, also for NaN."""
        if isinstance(self.is_open, Tensor):
            return torch.where(self.is_open, gradient, 0.)
        return gradient if self.is_open else torch.zeros_like(gradient)

    def value(self, loss: Tensor) -> Tensor:
        """The loss, or 0 if the gate is closed. If the device does not decide, the 0 has no
        gradient."""
        if isinstance(self.is_open, Tensor):
            return torch.where(self.is_open, loss, 0.)
        return loss if self.is_open else torch.zeros_like(loss.detach())

    def values(self, losses: Dict[str, Any]) -> Dict[str, Any]:
        """The losses of a network (scalars or lists of scalars by name), or 0 if the gate is
        closed.

        Only entries that MMEngine adds up are losses: those with 'loss' in their names.
        """
        def change(value: Any) -> Any:
            return [change(one) for one in value] if isinstance(value, (list, tuple)) else (
                self.value(value))

        return {name: change(value) if 'loss' in name else value for name, value in losses.items()}

    def records(self, records: Records) -> Records:
        """Records of a network, with :meth:`passed` applied to the outputs."""
        if not self.is_on_device:
            return records
        return {path: [call._replace(output=tree_map_only(Tensor, self.passed, call.output))
                       for call in calls] for path, calls in records.items()}


def detached(values: Any) -> Any:
    """Detach the tensors in nested lists, tuples and dicts."""
    return tree_map_only(Tensor, Tensor.detach, values)


@contextmanager
def shared_through(gate: Gate, modules: Iterable[nn.Module]) -> Iterator[None]:
    """Apply a gate to modules that are shared with the student, inside the block.

    The gate is applied to outputs of a module, and to its parameters if the module is computed
    again. The input of another shared module is the output without the gate: it is computed once
    for both networks, and found by the identity of its input.

    Args:
        gate (Gate): The gate of the network that runs inside the block.
        modules (Iterable[nn.Module]): The modules that it shares with the student.
    """
    modules = list(modules)
    if not gate.is_on_device or not modules:
        yield
        return
    # By the id of the gated object. The object is kept, so that its id is not reused.
    origins: Dict[int, Tuple[Any, Any]] = {}
    inner = {id(one): one for module in modules for one in module.modules()}
    kept = [(module, dict(module._parameters)) for module in inner.values()]
    passed: Dict[int, Tensor] = {}
    try:
        for module, parameters in kept:
            for name, one in parameters.items():
                if one is not None:
                    module._parameters[name] = passed.setdefault(  # type: ignore[assignment]
                        id(one), gate.passed(one))
        with ExitStack() as stack:
            for module in {id(module): module for module in modules}.values():
                stack.enter_context(replaced_forward(module, partial(_shared, gate, origins)))
            yield
    finally:
        for module, parameters in kept:
            module._parameters.update(parameters)


def _shared(gate: Gate, origins: Dict[int, Tuple[Any, Any]], forward: Callable) -> Callable:
    def origin_of(value: Any) -> Any:
        return origins.get(id(value), (None, value))[1]

    def passed(value: Any) -> Any:
        if isinstance(value, Tensor):
            out: Any = gate.passed(value)
        elif isinstance(value, (list, tuple)):
            items = [passed(one) for one in value]
            out = type(value)(*items) if hasattr(value, '_fields') else type(value)(items)
        else:
            return value
        origins[id(out)] = out, value
        return out

    @wraps(forward)
    def through_gate(*args: Any, **kwargs: Any) -> Any:
        return passed(forward(*map(origin_of, args),
                              **{key: origin_of(one) for key, one in kwargs.items()}))

    return through_gate


class Report:
    """An asynchronous copy of numbers from the device to the host, with a callback.

    Args:
        numbers (Tensor): Float, on the device.
        tell (Callable): Called with the numbers as nested lists.
    """

    def __init__(self, numbers: Tensor, tell: Callable[[Any], None]) -> None:
        self._tell = tell
        self._event: Optional[Any] = None
        self._numbers = numbers
        if numbers.is_cuda:
            self._numbers = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
            self._numbers.copy_(numbers, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record(torch.cuda.current_stream(numbers.device))

    def has_arrived(self) -> bool:
        """Whether the numbers can be read without a wait."""
        return self._event is None or self._event.query()

    def read(self) -> None:
        """Call the callback with the numbers; wait for them if they have not arrived."""
        if self._event is not None:
            self._event.synchronize()
        self._tell(on_host(self._numbers))


def on_host(numbers: Tensor) -> Any:
    """Numbers after the copy to the host, as nested lists."""
    return numbers.tolist()
