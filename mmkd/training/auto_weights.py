"""How is a weight measured, so that a term has a given share of the gradient?"""
import logging
from typing import Any, Dict, List, Mapping, Optional, Sequence, Union

import torch
from mmengine.logging import print_log
from torch import Tensor, distributed
from torch.utils._pytree import tree_flatten

from ..compare.parts import Parts
from ..compare.term import Term
from ..core.processes import world_size
from ..core.runner import current_optim_wrapper
from ..points.recorder import CHANGED, Records

CHECKPOINTED = ("`{name}`: `loss_weight='auto'` cannot measure a gradient that passes a module "
                'which is computed again in the backward pass (`with_cp=True`); write a number, or '
                'with_cp=False')


class MeasuredWeight:
    """The weight of a term, from gradients in the first iterations.

    In each of these iterations the gradients of the losses on labels and of the term are computed
    at shared features of the student (:func:`mmkd.compare.auto_weight.shared_paths`). Their norms
    are averaged over the iterations so far, and over processes. The weight is ``share`` times the
    first mean divided by the second. It is used from the first iteration on, changes until the last
    of these iterations, and is fixed then. The numbers stay on the device, so the CPU waits for a
    GPU only once, at the end.

    The factor of a schedule is left out of the gradient of the term, so a schedule changes the
    share. Iterations in which the term is turned off do not count. Iterations in which a gradient
    is not finite count, but do not change the means.

    Args:
        term (Term): The term, with ``auto`` in its spec.

    Attributes:
        is_fixed (bool): Whether all iterations have been measured.
        count (int): Number of measured iterations.
    """

    def __init__(self, term: Term) -> None:
        assert term.spec.auto is not None
        self.name, self.auto = term.name, term.spec.auto
        self.default: float = term.loss.loss_weight
        self._term = term
        self.is_fixed, self.count = False, 0
        self._sums = torch.zeros(2, dtype=torch.float64)

    def measure(self, norms: Tensor) -> None:
        """Add the norms of one iteration. Every process must call it.

        Args:
            norms (Tensor): Float (2, ): norms of the gradients of the losses on labels, and of the
                term.
        """
        norms = norms.detach().double()
        norms = torch.where(norms.isfinite().all(), norms, 0.)
        if world_size() > 1:
            distributed.all_reduce(norms)
        self._sums = norms + self._sums.to(norms.device) if self.count else norms
        self.count += 1
        if self.count >= self.auto.iters:
            self._fix()

    def _fix(self) -> None:
        task, own = self._sums.tolist()
        if task > 0 and own > 0:
            self.is_fixed, self._sums = True, self._sums.cpu()
            print_log(f'{self}', 'current')
            return
        self.count, self._sums = 0, torch.zeros_like(self._sums)
        print_log(f'`{self.name}`: no weight was found in {self.auto.iters} iterations, because '
                  f'the gradient of {"the term" if task > 0 else "the losses on labels"} at '
                  f'{self.place} was 0 or not finite; it is measured again', 'current',
                  logging.WARNING)

    @property
    def place(self) -> str:
        """The modules at which the gradients are measured, for messages."""
        return ', '.join(dict.fromkeys(
            f'`{path}`' for part in self._term.parts for path in part.shared))

    @property
    def factor(self) -> Union[float, Tensor]:
        """Factor of the term in addition to the default ``loss_weight`` of its loss: a float64
        scalar on the device while it is measured, a number afterwards.

        It is 0 as long as all gradients of the term are 0.
        """
        if self.is_fixed:
            task, own = self._sums.tolist()  # on the CPU
            return self.auto.share * task / own
        task_sum, own_sum = self._sums.unbind()
        return torch.where(own_sum > 0, self.auto.share * task_sum / own_sum, 0.)

    def applied(self, parts: Parts) -> Parts:
        """A term of one step, multiplied by the factor; unchanged before the first measurement."""
        if not (self.count or self.is_fixed):
            return parts
        factor = self.factor
        return {name: [one * (factor.to(one) if isinstance(factor, Tensor) else factor)
                       for one in levels] for name, levels in parts.items()}

    def shown(self, like: Tensor) -> Tensor:
        """The weight of this step, for the log."""
        factor = self.factor if self.count or self.is_fixed else 1.
        weight = self.default * factor
        return weight.to(like) if isinstance(weight, Tensor) else like.new_full((), weight)

    def state_dict(self) -> Dict[str, Tensor]:
        """The sums of the norms, and the number of iterations."""
        return dict(sums=self._sums, count=torch.tensor(self.count),
                    is_fixed=torch.tensor(self.is_fixed))

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load a state of :meth:`state_dict`. With another ``share`` the weight follows it; with
        fewer ``iters`` it is fixed by the next measurement."""
        self._sums = state['sums'].detach().double().clone()
        self.count, self.is_fixed = int(state['count']), bool(state['is_fixed'])

    def _apply(self, fn: Any) -> None:
        """Do nothing: the sums follow the norms to their device."""

    def __str__(self) -> str:
        if not self.is_fixed:
            return (f'loss_weight is measured in the first {self.auto.iters} iterations, for '
                    f'{self.auto.share:g} times the gradient of the losses on labels')
        factor = self.factor
        assert isinstance(factor, float)
        return (f'{self.name}: loss_weight={self.default * factor:.4g}, measured in '
                f'{self.count} iterations: the norm of its gradient at {self.place} is '
                f'{self.auto.share:g} times that of the losses on labels ({self.default:g}, the '
                f'default, has {self.auto.share / factor:.3g} times)')


def weights_of(terms: Sequence[Term]) -> Dict[str, MeasuredWeight]:
    """The weights that are measured, by name of the term."""
    return {term.name: MeasuredWeight(term) for term in terms if term.spec.auto is not None}


def measure(weights: Mapping[str, MeasuredWeight], terms: Sequence[Term],
            values: Mapping[str, Parts], task: Mapping[str, Any], seen: Records,
            model: torch.nn.Module) -> None:
    """Measure the weights that are not fixed, in one step.

    Args:
        weights (Mapping): The weights, by name of the term.
        terms (Sequence[Term]): The terms of this step.
        values (Mapping): Their values with the default weights, by name.
        task (Mapping): The losses of the student on labels.
        seen (Records): Records of the student.
        model (nn.Module): The student.

    Raises:
        ValueError: If the losses on labels have no gradient at the point of a term.
    """
    for term in terms:
        weight = weights.get(term.name)
        if weight is None or weight.is_fixed:
            continue
        own = [one for levels in values[term.name].values() for one in levels]
        shared = shared_by(term, seen, model)
        of_task, of_term = norms_of(term, total(task), torch.stack([
            one.reshape(()) for one in own]).sum(), shared).unbind()
        weight.measure(torch.stack([of_task, of_term / term.factor]))


def total(losses: Mapping[str, Any]) -> Tensor:
    """The sum of losses, as MMEngine adds them up."""
    found: List[Any] = []
    for name, value in losses.items():
        if 'loss' in name:
            found += value if isinstance(value, (list, tuple)) else [value]
    return torch.stack([one.mean() for one in found]).sum() if found else torch.zeros(())


def shared_by(term: Term, seen: Records, model: torch.nn.Module) -> List[Any]:
    """Outputs of the modules at which the gradients are measured, or edges of the graph there."""
    found: Dict[Any, Any] = {}
    for path in dict.fromkeys(path for part in term.parts for path in part.shared):
        is_copied = model.get_submodule(path) in CHANGED
        for call in seen.get(path, ()):
            for one in tree_flatten(call.output)[0]:
                if isinstance(one, Tensor) and one.requires_grad:
                    found[id(one)] = before_copy(one) if is_copied else one
    return list(found.values())


def before_copy(copy: Tensor) -> Any:
    """The edge of the graph that a copy was made of."""
    assert copy.grad_fn is not None
    node, number = copy.grad_fn.next_functions[0]
    assert node is not None
    return torch.autograd.graph.GradientEdge(node, number)


def norms_of(term: Term, task: Tensor, own: Tensor, shared: Sequence[Any]) -> Tensor:
    """Norms of the gradients of the losses on labels, and of a term, float64 (2, ).

    Both are over the tensors that the term compares.

    Args:
        term (Term): The term.
        task (Tensor): The sum of the losses on labels.
        own (Tensor): The value of the term.
        shared (Sequence): Tensors, or edges of the graph.

    Raises:
        ValueError: If the losses on labels have no gradient there.
    """
    scaler = getattr(current_optim_wrapper(), 'loss_scaler', None)
    scale: Any = scaler.scale(own.new_ones(())) if scaler is not None else None
    of_term = gradients(own, shared, scale, term.name)
    used = [number for number, one in enumerate(of_term) if one is not None]
    if not used:
        return torch.zeros(2, dtype=torch.float64, device=own.device)
    of_task = gradients(task, [shared[number] for number in used], scale, term.name)
    if all(one is None for one in of_task):
        raise ValueError(
            f'`{term.name}`: the losses on labels do not depend on `{term.spec.on_student}` of the '
            "student, so `loss_weight='auto'` has nothing to compare with; write a number, "
            'or compare another point')
    norms = torch.stack([norm_of(of_task, own), norm_of(of_term, own)])
    return norms if scale is None else norms / scale


def gradients(loss: Tensor, shared: Sequence[Any], scale: Optional[Tensor],
              name: str) -> List[Optional[Tensor]]:
    """Gradients of a loss; None where it does not depend on a tensor."""
    if not shared or not loss.requires_grad:
        return [None] * len(shared)
    try:
        with torch.autocast(loss.device.type, enabled=False):
            return list(torch.autograd.grad(loss if scale is None else loss * scale, shared,
                                            retain_graph=True, allow_unused=True))
    except RuntimeError as error:
        if 'checkpoint' not in str(error).lower():
            raise
        raise ValueError(CHECKPOINTED.format(name=name)) from error


def norm_of(gradients: Sequence[Optional[Tensor]], like: Tensor) -> Tensor:
    """The norm of several tensors together, a float64 scalar."""
    squares = [one.double().square().sum() for one in gradients if one is not None]
    return torch.stack(squares).sum().sqrt() if squares else like.new_zeros((), dtype=torch.float64)
