"""Gradient averaging over processes for parameters outside of the distributed wrapper."""
from typing import Any, Callable, Dict, Iterable, List

import torch
from torch import Tensor, distributed, nn

from ..core.processes import world_size


class LastPass:
    """The backward pass that an exchange was last queued for."""
    number = -1


def anchored(term: Tensor, exchange: Callable[[], None], last_pass: LastPass) -> Tensor:
    """Call a function at the end of each backward pass through a tensor.

    Hooks of parameters are not sufficient, because they are not called if no parameter gets a
    gradient; hooks of an optimizer are called after gradients were unscaled and clipped.

    Args:
        term (Tensor): Any tensor. The result requires a gradient even if it does not.
        exchange (Callable): Called once per pass, whatever the number of anchored tensors. All
            gradients are complete then, on a GPU in the order of the stream of the backward call.
        last_pass (LastPass): The same object for all tensors that share an exchange.

    Returns:
        Tensor: The same values.
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
        # Compare the id of the pass: a flag would remain set if the pass ended in an error.
        number = torch._C._current_graph_task_id()
        if last_pass.number != number:
            last_pass.number = number
            torch.autograd.Variable._execution_engine.queue_callback(exchange)
        return gradient, None, None, None


@torch.no_grad()
def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Average gradients over processes. Every process must call it, with parameters in one order.

    A missing gradient counts as zeros. If no process has a gradient, it remains None, as in a run
    with one process. The CPU waits for a GPU only if this process lacks a gradient of a parameter.
    """
    world = world_size()
    if world == 1:
        return
    alike: Dict[Any, List[nn.Parameter]] = {}  # one exchange has one dtype and device
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
    flat /= world  # before the sum, which may overflow in half precision
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
    """Broadcast the values of rank 0. Every process must call it, with tensors in one order."""
    if world_size() == 1:
        return
    for tensor in tensors:
        if tensor.numel():
            sent = tensor.detach().clone(memory_format=torch.contiguous_format)
            # As bytes, because not every backend supports every dtype.
            distributed.broadcast(sent.reshape(-1).view(torch.uint8), src=0)
            tensor.copy_(sent)
