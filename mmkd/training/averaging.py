"""How come parameters that a distributed wrapper does not know to be equal in all processes?"""
from typing import Any, Callable, Dict, Iterable, List

import torch
from torch import Tensor, distributed, nn

from ..core.processes import world_size


class LastPass:
    """Which backward pass has asked for its exchange."""
    number = -1


def anchored(term: Tensor, exchange: Callable[[], None], last_pass: LastPass) -> Tensor:
    """Have each backward pass through a tensor call a function when the pass is over.

    Hooks of parameters are not called where no parameter gets a gradient; those of an optimizer are
    called after gradients were unscaled and clipped.

    Args:
        term (Tensor): Any tensor. The result has a gradient even if it has none.
        exchange (Callable): Called once in a pass, however many tensors are anchored. All gradients
            are there then, on a GPU in the order of the stream on which backward was called.
        last_pass (LastPass): The same for all tensors that share an exchange.

    Returns:
        Tensor: The same numbers.
    """
    result: Tensor = _Anchor.apply(term, torch.zeros((), requires_grad=True), exchange, last_pass)
    return result


class _Anchor(torch.autograd.Function):

    @staticmethod
    def forward(ctx: Any, term: Tensor, anchor: Tensor, exchange: Callable[[], None],
                last_pass: LastPass) -> Tensor:
        ctx.call = exchange, last_pass
        return term.view_as(term)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        exchange, last_pass = ctx.call
        # By the number of the pass: a flag would stay set if the pass ended in an error.
        number = torch._C._current_graph_task_id()
        if last_pass.number != number:
            last_pass.number = number
            torch.autograd.Variable._execution_engine.queue_callback(exchange)
        return gradient, None, None, None


@torch.no_grad()
def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Average gradients over processes; every process calls it, with parameters in one order.

    No gradient counts as zeros, unless no process has one: then it stays None, as in one process.
    The CPU waits for a GPU only where this process has no gradient of a parameter.
    """
    world = world_size()
    if world == 1:
        return
    alike: Dict[Any, List[nn.Parameter]] = {}  # what one exchange can hold
    for one in parameters:
        alike.setdefault((one.dtype, one.device), []).append(one)
    for group in alike.values():
        _average(group, world)


def _average(parameters: List[nn.Parameter], world: int) -> None:
    missing = [number for number, one in enumerate(parameters) if one.grad is None]
    found = parameters[0].new_ones(len(parameters))
    for number in missing:
        found[number] = 0
    flat = torch.cat([*(torch.zeros_like(one).reshape(-1) if one.grad is None else
                        one.grad.reshape(-1) for one in parameters), found])
    flat /= world  # before they are added up: half precision would overflow
    distributed.all_reduce(flat)
    *means, found = flat.split([*(one.numel() for one in parameters), len(parameters)])
    elsewhere = (found > 0).tolist() if missing else []
    for number, (parameter, mean) in enumerate(zip(parameters, means)):
        if parameter.grad is not None:
            parameter.grad.copy_(mean.view_as(parameter))
        elif elsewhere[number]:
            parameter.grad = torch.empty_like(parameter).copy_(mean.view_as(parameter))


@torch.no_grad()
def take_from_rank_0(tensors: Iterable[Tensor]) -> None:
    """Take over the values of process 0; every process calls it, with tensors in one order."""
    if world_size() == 1:
        return
    for tensor in tensors:
        if tensor.numel():
            sent = tensor.detach().clone(memory_format=torch.contiguous_format)
            # Bytes: not every backend knows every dtype.
            distributed.broadcast(sent.reshape(-1).view(torch.uint8), src=0)
            tensor.copy_(sent)
