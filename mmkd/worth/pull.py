"""How large is the gradient of each term beside that of the task, which way does it point, and what
does a step with it take?"""
import copy
import time
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Sequence, Tuple

import torch
from torch import Tensor, nn

from ..core.rng import preserved_rng, seed_from
from ..training.distillation import Distillation
from ..training.shares import norms_of, outputs_of, total
from .findings import MethodFinding, TermFinding


class Pull(NamedTuple):
    """A gradient beside that of the task, see :mod:`mmkd.training.shares`."""
    task: float
    """Norm of the gradient of the task."""
    term: float
    """Norm of that of the term."""
    cosine: float
    """Cosine of the angle between both; 0 if one of them is 0."""


class Lesson(NamedTuple):
    """A training step of one method."""
    pulls: Dict[str, Pull]
    """By term; terms that do not reach their outputs are left out."""
    losses: Dict[str, float]
    seconds: float
    memory: float
    note: str = ''
    """Why the gradients could not be compared."""


def step(forward: Any, student: nn.Module, batch: Any, terms: Mapping[str, Sequence[str]] = {}
         ) -> Lesson:
    """Run one training step without an update: losses, backward, and the gradients on the way.

    Args:
        forward (Callable): Returns the dict of losses for ``(inputs, data_samples)``.
        student (nn.Module): The student, in training mode. Its gradients are cleared.
        batch (Any): A batch of the data loader.
        terms (Mapping): Paths of the modules at which the share of a term is measured, by its name.
            Defaults to {}, no terms.
    """
    student.zero_grad()
    data: Any = student.data_preprocessor(copy.deepcopy(batch), True)  # type: ignore[operator]
    with memory_of(student) as memory:
        start = clock()
        with outputs_of(student, [path for one in terms.values() for path in one]) as outputs:
            losses = forward(data['inputs'], data['data_samples'])
        spent = clock() - start
        whose = {key: term_of(key, terms) for key in losses if 'loss' in key}
        task = total({key: losses[key] for key, term in whose.items() if not term})
        values = {term: total({key: losses[key] for key, its in whose.items() if its == term})
                  for term in terms}
        pulls, note = {}, ''
        for term, paths in terms.items():
            try:
                pull = pull_of(norms_of(values[term], task, paths, outputs, term))
            except ValueError as error:
                note = str(error)
                continue
            if pull is not None:
                pulls[term] = pull
        start = clock()
        whole = total(losses)
        if whole.requires_grad:
            whole.backward()
        spent += clock() - start
    student.zero_grad()
    own = {key: float(total({key: losses[key]}).detach()) for key, term in whose.items() if term}
    return Lesson(pulls, own, spent, memory[0], note)


def term_of(key: str, terms: Mapping[str, Any]) -> str:
    """The term to which a loss of the log belongs; '' for a loss of the task.

    Example:
        >>> term_of('loss_cls_kd_inter', ['loss_cls', 'loss_cls_kd']), term_of('loss_rpn', ['loss'])
        ('loss_cls_kd', 'loss')
        >>> term_of('loss_cls', ['loss_cls_kd'])
        ''
    """
    its = [term for term in terms if key == term or key.startswith(f'{term}_')]
    return max(its, key=len, default='')


def pull_of(norms: Tensor) -> 'Pull | None':
    """The pull from the norms of :func:`mmkd.training.shares.norms_of`; None if the term reaches no
    output.

    Example:
        >>> pull_of(torch.tensor([4., 3., 6.]))
        Pull(task=4.0, term=3.0, cosine=0.5)
    """
    task, own, product = norms.tolist()
    if not task and not own:
        return None
    return Pull(task, own, product / (own * task) if own * task else 0.)


def clock() -> float:
    """Seconds. On a GPU, after it has finished what it was given."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


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
    terms = {term.name: [path for part in term.parts for path in part.shared]
             for term in distillation.terms}
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


def fill(found: MethodFinding, lessons: Sequence[Lesson], distillation: Distillation) -> None:
    """Enter the figures of steps into a finding: means of the gradients, the fastest step.

    As for ``loss_weight='auto'``, the share is the quotient of the mean norms. Of several terms,
    the one with the largest share stands for the method.
    """
    found.seconds = min(one.seconds for one in lessons)
    found.memory = max(one.memory for one in lessons)
    found.losses = {key: sum(one.losses.get(key, 0.) for one in lessons) / len(lessons)
                    for key in lessons[0].losses}
    found.note = lessons[0].note
    for term in distillation.terms:
        pulls = [one.pulls[term.name] for one in lessons if term.name in one.pulls]
        if pulls:
            task = sum(one.task for one in pulls)
            found.terms.append(TermFinding(
                term.name, term.spec.on_student, term.loss.loss_weight,
                ', '.join(dict.fromkeys(path for part in term.parts for path in part.shared)),
                sum(one.term for one in pulls) / task if task else float('inf'),
                sum(one.cosine for one in pulls) / len(pulls)))
    if found.terms:
        first = max(found.terms, key=lambda one: one.ratio)
        found.shared, found.ratio, found.cosine = first.shared, first.ratio, first.cosine
