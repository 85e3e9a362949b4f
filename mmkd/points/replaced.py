"""How are the values at a point replaced while a model runs?"""
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from typing import Any, Callable, Dict, Iterator, List, NamedTuple

from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from .point import Point
from .recorder import Records, replaced_forward

Replace = Callable[[int, Tensor], Tensor]
"""Returns the new value of a level, given its number and its value."""


class Place(NamedTuple):
    """Where a level is in the outputs of a module."""
    call: int
    """Number of the call, from 0."""
    leaf: int
    """Number of the tensor in the output."""


class Replacement:
    """Replaces the levels at a point by others of the same shape, call by call.

    Args:
        point (Point): The point.
        records (Records): The calls of its modules in one run of the model.

    Attributes:
        levels (list[Tensor]): The levels in that run.

    Raises:
        ValueError: If a level is none of the tensors that the modules returned.
    """

    def __init__(self, point: Point, records: Records) -> None:
        self.point = point
        self.levels = point.levels(records)
        self._calls = {path: len(records[path]) for path in point.paths}
        self._places: Dict[str, Dict[Place, int]] = {path: {} for path in point.paths}
        for number, level in enumerate(self.levels):
            found = [(path, Place(call, leaf)) for path in point.paths
                     for call, one in enumerate(records[path])
                     for leaf, tensor in enumerate(tree_flatten(one.output)[0]) if tensor is level]
            if not found:
                raise ValueError(
                    f'level {number} of `{point.name}` is computed from the output of '
                    f'`{", ".join(point.paths)}`, so it cannot be replaced there; choose a module '
                    "that returns it, such as 'neck' or a dotted path")
            path, place = found[0]
            self._places[path][place] = number

    @contextmanager
    def replacing(self, model: nn.Module, replace: Replace) -> Iterator[None]:
        """Context manager in which the model runs on with the new values.

        Args:
            model (nn.Module): The model of the point.
            replace (Callable): Returns the new value of a level. It is called in the order in
                which the model computes the levels.

        Raises:
            ValueError: If the modules are not called as often as in the recorded run, or a
                multiple of it; or a new value has another shape.
        """
        counts: Dict[str, List[int]] = {path: [0] for path in self.point.paths}
        with ExitStack() as stack:
            for path, count in counts.items():
                stack.enter_context(replaced_forward(
                    model.get_submodule(path), partial(self._wrap, path, count, replace)))
            yield
        for path, (calls, ) in counts.items():
            if not calls or calls % self._calls[path]:
                raise ValueError(
                    f'`{path}` of the teacher was called {calls} times, but {self._calls[path]} '
                    f'times on a blank image, so the levels of `{self.point.name}` cannot be '
                    'identified; choose another point')

    def _wrap(self, path: str, count: List[int], replace: Replace, forward: Callable) -> Callable:
        @wraps(forward)
        def replaced(*args: Any, **kwargs: Any) -> Any:
            output = forward(*args, **kwargs)
            call = count[0] % self._calls[path]
            count[0] += 1
            tensors, structure = tree_flatten(output)
            for place, number in self._places[path].items():
                if place.call != call:
                    continue
                own = tensors[place.leaf]
                new = replace(number, own)
                if new.shape != own.shape:
                    raise ValueError(
                        f'level {number} of `{self.point.name}` has the shape {tuple(own.shape)}, '
                        f'but its replacement has {tuple(new.shape)}; return the same shape')
                tensors[place.leaf] = new
            return tree_unflatten(tensors, structure)

        return replaced
