"""How large is the gradient of each method on the features that it shares with the task, which way
does it point, and what does a step with it take?"""
import copy
import time
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from ..core.rng import preserved_rng, seed_from
from ..points import points_of
from ..points.recorder import replaced_forward
from ..training.distillation import Distillation
from .findings import MethodFinding

SHARED = 'neck', 'backbone'
"""Points with features that task and terms share, the last one first."""


class Pull(NamedTuple):
    """A gradient compared with that of the task."""
    ratio: float
    """Its norm, divided by that of the task."""
    cosine: float
    """Cosine of the angle between both; 0 if one of them is 0."""


def pull_of(term: Sequence[Tensor], task: Sequence[Tensor]) -> Pull:
    """Compare two gradients on the same tensors, in float64.

    Args:
        term (Sequence[Tensor]): Gradients of the terms.
        task (Sequence[Tensor]): Gradients of the task's losses.

    Example:
        >>> pull_of([torch.tensor([3., 0.])], [torch.tensor([0., 4.])])
        Pull(ratio=0.75, cosine=0.0)
    """
    one, other = (torch.cat([part.detach().flatten().double() for part in side])
                  for side in (term, task))
    norms = one.norm().item(), other.norm().item()
    return Pull(norms[0] / norms[1] if norms[1] else float('inf'),
                (one @ other).item() / (norms[0] * norms[1]) if norms[0] * norms[1] else 0.)


class Lesson(NamedTuple):
    """A training step of one method."""
    pulls: Dict[str, Pull]
    """By shared point; points that the terms do not reach are left out."""
    losses: Dict[str, float]
    seconds: float
    memory: float


def step(forward: Any, student: nn.Module, batch: Any, terms: Sequence[str] = ()) -> Lesson:
    """Run one training step without an update: losses, backward, and the gradients on the way.

    Args:
        forward (Callable): Returns the dict of losses for ``(inputs, data_samples)``.
        student (nn.Module): The student, in training mode. Its gradients are cleared.
        batch (Any): A batch of the data loader.
        terms (Sequence[str]): Beginnings of the names of the terms. Defaults to (), none.
    """
    student.zero_grad()
    data: Any = student.data_preprocessor(copy.deepcopy(batch), True)  # type: ignore[operator]
    points = [name for name in SHARED if name in points_of(student)]
    paths = {name: points_of(student)[name].paths for name in points}
    with memory_of(student) as memory:
        start = clock()
        with viewed(student, [path for one in paths.values() for path in one]) as seen:
            losses = forward(data['inputs'], data['data_samples'])
        named = {key: _total(value) for key, value in losses.items() if 'loss' in key}
        own = {key: value for key, value in named.items()
               if not any(key.startswith(term) for term in terms)}
        spent = clock() - start
        pulls = {}
        if terms:
            parts = sum(value for key, value in named.items() if key not in own)
            task = sum(own.values())
            for name in points:
                pull = _between(parts, task, [one for path in paths[name] for one in seen[path]])
                if pull is not None:
                    pulls[name] = pull
        start = clock()
        whole = sum(named.values())
        if isinstance(whole, Tensor) and whole.requires_grad:
            whole.backward()
        spent += clock() - start
    student.zero_grad()
    values = {key: float(value.detach()) for key, value in named.items() if key not in own}
    return Lesson(pulls, values, spent, memory[0])


def clock() -> float:
    """Seconds. On a GPU, after it has finished what it was given."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


@contextmanager
def viewed(student: nn.Module, paths: Sequence[str]) -> Iterator[Dict[str, List[Tensor]]]:
    """Replace the outputs of modules by views inside the block, and keep these.

    One output may be computed from another one, such as P7 of an FPN from P6. The gradient on a
    view belongs only to its use after the module, so nothing counts twice.

    Args:
        student (nn.Module): The student.
        paths (Sequence[str]): Paths of the modules.

    Yields:
        dict[str, list[Tensor]]: The views with a gradient, by path.
    """
    found: Dict[str, List[Tensor]] = {path: [] for path in paths}

    def view(kept: List[Tensor], tensor: Tensor) -> Tensor:
        if tensor.requires_grad:
            tensor = tensor.view_as(tensor)
            kept.append(tensor)
        return tensor

    def wrap(kept: List[Tensor], forward: Callable) -> Callable:
        return lambda *args, **kwargs: tree_map_only(
            Tensor, partial(view, kept), forward(*args, **kwargs))

    with ExitStack() as stack:
        for path, kept in found.items():
            stack.enter_context(replaced_forward(
                student.get_submodule(path), partial(wrap, kept)))
        yield found


def _total(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return sum(one.mean() for one in value)
    return value.mean()


def _between(term: Any, task: Any, tensors: List[Tensor]) -> Optional[Pull]:
    """The pull on some tensors; None if the terms do not reach them."""
    if not (isinstance(term, Tensor) and term.requires_grad and tensors):
        return None
    sides = []
    for loss in (term, task):
        found = torch.autograd.grad(loss, tensors, retain_graph=True, allow_unused=True)
        if all(one is None for one in found):
            return None
        sides.append([torch.zeros_like(tensor) if one is None else one
                      for one, tensor in zip(found, tensors)])
    return pull_of(*sides)


@contextmanager
def memory_of(student: nn.Module) -> Iterator[List[float]]:
    """Measure the memory of a step inside the block, in bytes.

    Yields:
        list[float]: One number, set at the end of the block: on a GPU the peak of what was
        allocated in addition; on a CPU what is kept for the backward pass.
    """
    found = [0.]
    device = next(student.parameters()).device
    if device.type == 'cuda':
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        yield found
        torch.cuda.synchronize(device)
        found[0] = float(torch.cuda.max_memory_allocated(device) - before)
        return
    own = {one.untyped_storage().data_ptr() for one in student.parameters()}
    sizes: Dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield found
    found[0] = float(sum(sizes.values()))


@contextmanager
def unchanged(student: nn.Module) -> Iterator[None]:
    """Set training mode inside the block; restore weights, buffers and modes after it."""
    state = copy.deepcopy(student.state_dict())
    modes = {module: module.training for module in student.modules()}
    try:
        student.train()
        yield
    finally:
        student.load_state_dict(state)
        for module, mode in modes.items():
            module.training = mode


def lesson_of(distillation: Distillation, batches: Sequence[Any]) -> List[Lesson]:
    """Steps of one method; the same random numbers for every method."""
    student = distillation.student
    terms = [term.name for term in distillation.terms]
    found = []
    with preserved_rng(), unchanged(student):
        for batch in batches:
            seed_from(0)
            found.append(step(lambda inputs, samples: distillation.losses(
                student, inputs, samples), student, batch, terms))
    return found


def alone(student: Any, batches: Sequence[Any]) -> Tuple[float, float]:
    """Seconds and bytes of a step of the student alone: the fastest step, the largest memory."""
    with preserved_rng(), unchanged(student):
        steps = []
        for batch in batches:
            seed_from(0)
            steps.append(step(lambda inputs, samples: student(
                inputs, samples, mode='loss'), student, batch))
    return min(one.seconds for one in steps), max(one.memory for one in steps)


def fill(found: MethodFinding, lessons: Sequence[Lesson]) -> None:
    """Enter the figures of steps into a finding: means of the gradients, the fastest step."""
    found.seconds = min(one.seconds for one in lessons)
    found.memory = max(one.memory for one in lessons)
    found.losses = {key: sum(one.losses.get(key, 0.) for one in lessons) / len(lessons)
                    for key in lessons[0].losses}
    for point in SHARED:
        pulls = [one.pulls[point] for one in lessons if point in one.pulls]
        if pulls:
            found.shared = point
            found.ratio = sum(one.ratio for one in pulls) / len(pulls)
            found.cosine = sum(one.cosine for one in pulls) / len(pulls)
            return
