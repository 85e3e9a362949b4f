"""How is a term that is not finite kept away from what it would train, without a wait for a GPU?

Whether a term is finite is known on the device alone, and the CPU would wait for the answer. So the
device decides: the term's value is replaced by 0, and so is every gradient that comes from it. A
gradient of 0 that begins at the term does not do, because 0 times an infinite derivative is not a
number. It is replaced where it leaves the term: at the student's levels that the loss was given,
and at the parameters of what is trained beside the student.
"""
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from typing import Any, Callable, Dict, Iterable, Iterator, Optional, Tuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from ..points.recorder import Records, replaced_forward


class Gate:
    """Stands between one term of one step and all that is trained by it.

    Args:
        is_on_device (bool): Whether the device decides. Else the flag is read before the backward
            pass, a term that is not finite has no backward pass, and tensors pass as they are.

    Attributes:
        is_open (bool | Tensor): Whether the term is finite in all processes; a bool scalar on the
            device, known before the backward pass. Defaults to True.
    """

    def __init__(self, is_on_device: bool) -> None:
        self.is_on_device = is_on_device
        self.is_open: Any = True

    def passed(self, tensor: Tensor) -> Tensor:
        """What a loss is given: the same values, whose gradient is 0 if the gate is closed."""
        if not (self.is_on_device and tensor.requires_grad and torch.is_grad_enabled()):
            return tensor
        tensor = tensor.view_as(tensor)
        tensor.register_hook(self.cut)
        return tensor

    def cut(self, gradient: Tensor) -> Tensor:
        """A gradient, or 0 if the gate is closed, whatever the gradient is."""
        if isinstance(self.is_open, Tensor):
            return torch.where(self.is_open, gradient, 0.)
        return gradient if self.is_open else torch.zeros_like(gradient)

    def value(self, loss: Tensor) -> Tensor:
        """A loss, or 0 if the gate is closed; where the device does not decide, without a gradient
        then."""
        if isinstance(self.is_open, Tensor):
            return torch.where(self.is_open, loss, 0.)
        return loss if self.is_open else torch.zeros_like(loss.detach())

    def values(self, losses: Dict[str, Any]) -> Dict[str, Any]:
        """The losses of a network, scalars or lists of such by name, or 0 in their places.

        Only what MMEngine adds up is a loss: what has 'loss' in its name.
        """
        def change(value: Any) -> Any:
            return [change(one) for one in value] if isinstance(value, (list, tuple)) else (
                self.value(value))

        return {name: change(value) if 'loss' in name else value for name, value in losses.items()}

    def records(self, records: Records) -> Records:
        """What was recorded of a network, with outputs that have passed."""
        if not self.is_on_device:
            return records
        return {path: [call._replace(output=tree_map_only(Tensor, self.passed, call.output))
                       for call in calls] for path, calls in records.items()}


def detached(values: Any) -> Any:
    """Nested lists, tuples and dicts, without the graph that their tensors came from."""
    return tree_map_only(Tensor, Tensor.detach, values)


@contextmanager
def shared_through(gate: Gate, modules: Iterable[nn.Module]) -> Iterator[None]:
    """Have what is shared with the student train it through a gate inside the block.

    Outputs pass the gate, and where a module is computed anew its parameters do. Modules that are
    shared, too, are given each other's own outputs: they are computed once for both networks, which
    know each other's outputs by identity.

    Args:
        gate (Gate): That of the network that runs inside the block.
        modules (Iterable[nn.Module]): What it shares with the student.
    """
    modules = list(modules)
    if not gate.is_on_device or not modules:
        yield
        return
    # By the identity of what has passed, which is kept so that no other object gets it.
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
    """Numbers on their way from the device to the host, and who is to be told them.

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
        """Tell the numbers, and wait for them if they have not arrived."""
        if self._event is not None:
            self._event.synchronize()
        self._tell(on_host(self._numbers))


def on_host(numbers: Tensor) -> Any:
    """Numbers that have been sent to the host, as nested lists."""
    return numbers.tolist()
