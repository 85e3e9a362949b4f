"""How large is the gradient of a term beside that of the losses on labels? The share of a term.

The share is the norm of the gradient of the term, divided by that of the losses on labels. Both are
gradients with respect to the outputs of the modules of
:func:`mmkd.compare.auto_weight.shared_paths`, as the modules return them, and over the outputs that
the term reaches. An output from which another one is computed has the gradient of both, such as P6
of an FPN with P7, for the term as for the losses on labels. A term that reaches no output compares
the inputs of the modules, such as 'features' of a segmentor; its share is that at the inputs.
"""
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional

import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge
from torch.utils._pytree import tree_flatten

from ..compare.parts import Parts
from ..compare.term import Term
from ..points.recorder import replaced_forward

SCALAR = 'gradient_share/'
"""Beginning of the names of the shares in MMEngine's visualizer."""

Outputs = Dict[str, List[Any]]
"""Edges of the graph at the outputs of modules, by dotted path, and at their inputs, by
:data:`INPUT` and the path."""

INPUT = 'input of '

CHECKPOINTED = ('`{name}`: a gradient that passes a module which is computed again in the backward '
                'pass (`with_cp=True`) cannot be measured; write with_cp=False, or a number in '
                "place of loss_weight='auto' and no mmkd.GradientShareHook")


@contextmanager
def outputs_of(model: nn.Module, paths: Iterable[str]) -> Iterator[Outputs]:
    """Remember where the outputs and inputs of modules are in the graph, inside the block.

    An output may be changed in place later: the edge is that of the value as the module returned
    it. Likewise, that of an input is of the value as the module was given it.

    Args:
        model (nn.Module): The model.
        paths (Iterable[str]): Paths of its modules.

    Yields:
        dict[str, list[GradientEdge]]: By path, one for each output with a gradient; by
        :data:`INPUT` and the path, one for each input.
    """
    paths = list(dict.fromkeys(paths))
    found: Outputs = {f'{what}{path}': [] for what in ('', INPUT) for path in paths}

    def wrap(path: str, forward: Callable) -> Callable:
        def watched(*args: Any, **kwargs: Any) -> Any:
            found[f'{INPUT}{path}'].extend(_edges_of((args, kwargs)))
            output = forward(*args, **kwargs)
            found[path].extend(_edges_of(output))
            return output

        return watched

    with ExitStack() as stack:
        for path in paths:
            stack.enter_context(replaced_forward(model.get_submodule(path), partial(wrap, path)))
        yield found


def _edges_of(values: Any) -> Iterator[Any]:
    return (get_gradient_edge(one) for one in tree_flatten(values)[0]
            if isinstance(one, Tensor) and one.requires_grad)


def paths_of(terms: Iterable[Term]) -> List[str]:
    """Modules of the learner at which the shares of terms are measured, without duplicates."""
    return list(dict.fromkeys(path for term in terms for part in term.parts
                              for path in part.shared))


def value_of(parts: Parts) -> Tensor:
    """The value of a term, as it is added to the loss."""
    return torch.stack([one.reshape(()) for levels in parts.values() for one in levels]).sum()


def norms_of(own: Tensor, task: Tensor, paths: Iterable[str], found: Outputs, name: str,
             scale: Optional[Tensor] = None) -> Tensor:
    """Compare the gradient of a term with that of the losses on labels.

    Args:
        own (Tensor): The value of the term, a scalar.
        task (Tensor): The sum of the losses on labels.
        paths (Iterable[str]): Paths of the modules.
        found (dict): Their outputs, from :func:`outputs_of`.
        name (str): The term, for messages.
        scale (Tensor, optional): Both are multiplied by it for the backward pass, so that gradients
            in float16 are not 0. The result does not depend on it. Defaults to None.

    Returns:
        Tensor: float64 (3, ): the norm of the gradient of the losses on labels, that of the term,
        and their inner product; zeros if the term reaches neither outputs nor inputs.

    Raises:
        ValueError: If a module between them and a loss is computed again in the backward pass, or
            if the losses on labels reach none of the outputs that the term reaches.

    Example:
        >>> line = nn.Linear(2, 1, bias=False)
        >>> with outputs_of(line, ['']) as found:
        ...     value = line(torch.ones(1, 2)).sum()
        >>> norms_of(3 * value, 4 * value, [''], found, 'loss_line').tolist()
        [4.0, 3.0, 12.0]
    """
    paths = list(dict.fromkeys(paths))
    for what in ('', INPUT):
        outputs = list({(one.node, one.output_nr): one  # a module may return what another one did
                        for path in paths for one in found.get(f'{what}{path}', ())}.values())
        of_term = _gradients(own, outputs, scale, name)
        reached = [number for number, one in enumerate(of_term) if one is not None]
        if reached:
            break
    else:
        return torch.zeros(3, dtype=torch.float64, device=own.device)
    of_task = _gradients(task, [outputs[number] for number in reached], scale, name)
    if all(one is None for one in of_task):
        raise ValueError(
            f'`{name}`: the losses on labels do not depend on `{"`, `".join(paths)}` of the '
            'student, so there is no gradient to compare that of the term with; with '
            "`loss_weight='auto'`, write a number, or compare another point")
    sums = torch.zeros(3, dtype=torch.float64, device=own.device)
    for task_part, number in zip(of_task, reached):
        term_part = of_term[number].double()  # type: ignore[union-attr]
        sums[1] += term_part.square().sum()
        if task_part is not None:
            sums[0] += task_part.double().square().sum()
            sums[2] += (task_part.double() * term_part).sum()
    if scale is not None:
        sums = sums / scale.double()**2
    return torch.cat([sums[:2].sqrt(), sums[2:]])


def _gradients(loss: Tensor, outputs: List[Any], scale: Optional[Tensor],
               name: str) -> List[Optional[Tensor]]:
    """Gradients of a loss; None where it does not depend on an output."""
    if not outputs or not loss.requires_grad:
        return [None] * len(outputs)
    try:
        with torch.autocast(loss.device.type, enabled=False):
            return list(torch.autograd.grad(loss if scale is None else loss * scale, outputs,
                                            retain_graph=True, allow_unused=True))
    except RuntimeError as error:
        if 'checkpoint' not in str(error).lower():
            raise
        raise ValueError(CHECKPOINTED.format(name=name)) from error


def total(losses: Mapping[str, Any]) -> Tensor:
    """The sum of losses, as MMEngine adds them up."""
    found: List[Any] = []
    for name, value in losses.items():
        if 'loss' in name:
            found += value if isinstance(value, (list, tuple)) else [value]
    return torch.stack([one.mean() for one in found]).sum() if found else torch.zeros(())
