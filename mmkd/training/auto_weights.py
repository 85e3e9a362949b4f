"""How is a weight measured, so that a term has a given share of the gradient?"""
import logging
from typing import Any, Dict, List, Mapping, Sequence, Tuple, Union

import torch
from mmengine.logging import print_log
from torch import Tensor, distributed

from ..compare.parts import Parts
from ..compare.term import Term
from ..core.processes import world_size
from ..core.runner import current_optim_wrapper, current_runner
from .gate import Gate
from .shares import SCALAR, Outputs, norms_of, paths_of, total, value_of

ROUNDS = 5
"""Number of times that a weight is measured before a term without a usable gradient is an error."""
LOWER = 1 / 16
"""Factor of the scale of the loss scaler after an iteration whose gradients are not finite."""
LOWEST = LOWER**8
"""Lower bound of the product of these factors, so that the scale does not reach 0."""


class MeasuredWeight:
    """The weight of a term, from gradients in the first iterations.

    In each of these iterations the gradients of the losses on labels and of the term are compared
    (:mod:`mmkd.training.shares`). Their norms are averaged over the iterations so far, and over
    processes. The weight is ``share`` times the first mean divided by the second. It is used from
    the first iteration on, changes until the last of these iterations, and is fixed then. The
    numbers stay on the device, so the CPU waits for a GPU only once, at the end. The share that the
    term had in each iteration is given to the visualizer then.

    The factor of a schedule is left out of the gradient of the term, so a schedule changes the
    share. Iterations in which the term is turned off do not count. Iterations in which the term or
    a gradient is infinite or NaN, in any process, count, but do not change the means. After a
    gradient that is not finite, the next one is measured with a smaller scale, because a loss
    scaler does not learn of a term that is not added yet. As long as no weight is found, the term
    is left out of the loss. After the last of the iterations it is measured again, at most
    :data:`ROUNDS` times.

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
        self.is_fixed, self.count, self._rounds = False, 0, 0
        self._sums = torch.zeros(2, dtype=torch.float64)
        self._overflows, self._scale = (
            torch.tensor(value, dtype=torch.float64) for value in (0., 1.))
        self._shares: List[Tuple[int, Union[float, Tensor]]] = []

    def measure(self, norms: Tensor, iteration: int = 0, schedule: float = 1.,
                is_open: Union[bool, Tensor] = True) -> None:
        """Add the norms of one iteration. Every process must call it.

        Args:
            norms (Tensor): Float (2, ): norms of the gradients of the losses on labels, and of the
                term with the factor of its schedule.
            iteration (int): Number of the iteration, from 0, for the visualizer. Defaults to 0.
            schedule (float): Factor of the schedule, greater than 0. Defaults to 1.
            is_open (bool | Tensor): Whether the term itself is finite in all processes; a bool
                scalar on the device of ``norms`` if it is not known on the CPU. Defaults to True.

        Raises:
            ValueError: If no weight was found :data:`ROUNDS` times.
        """
        norms = norms.detach().double()
        # A gate that is closed on the device returns gradients of 0, which are no measurement.
        is_finite = norms.isfinite().all() & is_open
        found = torch.cat([torch.where(is_finite, norms, 0.), (~is_finite).to(norms)[None]])
        if world_size() > 1:
            distributed.all_reduce(found)
        failed = found[2] > 0
        norms = torch.where(failed, 0., found[:2])  # also those of the other processes
        for name in ('_sums', '_overflows', '_scale'):
            setattr(self, name, getattr(self, name).to(norms.device))
        norms = torch.stack([norms[0], norms[1] / schedule])
        self._sums = self._sums + norms
        self._overflows = self._overflows + failed
        # If the term itself is not finite, the scale is not the reason.
        self._scale = torch.where(failed & is_open, (self._scale * LOWER).clamp(min=LOWEST),
                                  self._scale)
        self.count += 1
        self._shares.append((iteration, self.factor * schedule * norms[1] / norms[0]))
        if self.count >= self.auto.iters:
            self._fix()

    def scale(self, value: Tensor) -> Tensor:
        """The scale of the next measurement, from that of the loss scaler."""
        return value * self._scale.to(value)

    def _fix(self) -> None:
        task, own, overflows = torch.stack([*self._sums, self._overflows]).tolist()
        self._show()
        if task > 0 and own > 0:
            self.is_fixed, self._sums = True, self._sums.cpu()
            self._overflows, self._scale = self._overflows.cpu(), self._scale.cpu()
            print_log(f'{self}', 'current')
            return
        self._rounds += 1
        tried = self._rounds * self.auto.iters
        whose = 'the term' if task > 0 or overflows else 'the losses on labels'
        what = (f'was infinite or NaN in {overflows:.0f} of the last {self.count} iterations'
                if overflows else 'was 0')
        self.count, self._sums = 0, torch.zeros_like(self._sums)
        self._overflows = torch.zeros_like(self._overflows)
        problem = (f'`{self.name}`: no weight was found in {tried} iterations, because the '
                   f'gradient of {whose} at {self.place} {what}')
        if self._rounds < ROUNDS:
            print_log(f'{problem}; the term is left out, and measured again', 'current',
                      logging.WARNING)
            return
        remedy = ('compare another point, or check the teacher' if not overflows else
                  'train without float16' if current_scaler() is not None else
                  'compare another point, or look for an infinite derivative in the loss, such as '
                  'that of a square root at 0')
        raise ValueError(f'{problem}; {remedy}, or write a number for `loss_weight`')

    def _show(self) -> None:
        """Give the shares to the visualizer of the run."""
        runner = current_runner()
        if runner is not None:
            for iteration, value in self._shares_read():
                if value < float('inf'):  # a NaN is not
                    runner.visualizer.add_scalar(f'{SCALAR}{self.name}', value, iteration + 1)
        self._shares = []

    def _shares_read(self) -> List[Tuple[int, float]]:
        """Iterations and shares of this round as numbers; the CPU waits for them once."""
        values = torch.stack([torch.as_tensor(share, dtype=torch.float64).to(self._sums.device)
                              for _, share in self._shares]).tolist() if self._shares else []
        return [(iteration, value) for (iteration, _), value in zip(self._shares, values)]

    @property
    def place(self) -> str:
        """The modules at which the gradients are measured, for messages."""
        return ', '.join(f'`{path}`' for path in paths_of([self._term]))

    @property
    def factor(self) -> Union[float, Tensor]:
        """Factor of the term in addition to the default ``loss_weight`` of its loss: a float64
        scalar on the device while it is measured, a number before and afterwards.

        It is 1 before the first measurement, and 0 as long as no weight is found.
        """
        if not (self.count or self._rounds or self.is_fixed):
            return 1.
        if self.is_fixed:
            task, own = self._sums.tolist()  # on the CPU
            return self.auto.share * task / own
        task_sum, own_sum = self._sums.unbind()
        return torch.where(own_sum > 0, self.auto.share * task_sum / own_sum, 0.)

    def applied(self, parts: Parts, gate: Gate) -> Parts:
        """A term of one step, multiplied by the factor.

        Args:
            parts (dict): The term.
            gate (Gate): Its gate in this step. It is closed as long as no weight is found, because
                0 times a gradient that is not finite is NaN.
        """
        factor = self.factor
        if not isinstance(factor, Tensor):
            return {name: [one * factor for one in levels] for name, levels in parts.items()}
        gate.close_unless(factor > 0)
        return {name: [gate.value(one * factor.to(one)) for one in levels]
                for name, levels in parts.items()}

    def shown(self, like: Tensor) -> Tensor:
        """The weight of this step, for the log."""
        weight = self.default * self.factor
        return weight.to(like) if isinstance(weight, Tensor) else like.new_full((), weight)

    def state_dict(self) -> Dict[str, Any]:
        """The sums of the norms, what decides how it is measured on, and the shares of the
        iterations so far: a list, because its length changes."""
        return dict(sums=self._sums, overflows=self._overflows, scale=self._scale,
                    count=torch.tensor(self.count), rounds=torch.tensor(self._rounds),
                    is_fixed=torch.tensor(self.is_fixed), shares=self._shares_read())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state of :meth:`state_dict`. With another ``share`` the weight follows it; with
        fewer ``iters`` it is fixed by the next measurement."""
        self._sums, self._overflows, self._scale = (
            state[name].detach().double().clone() for name in ('sums', 'overflows', 'scale'))
        self.count, self._rounds = int(state['count']), int(state['rounds'])
        self.is_fixed, self._shares = bool(state['is_fixed']), list(state['shares'])

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


def paths_measured(weights: Mapping[str, MeasuredWeight], terms: Sequence[Term]) -> List[str]:
    """Modules of the student at which the weights that are not fixed are measured."""
    return paths_of(term for term in terms
                    if term.name in weights and not weights[term.name].is_fixed)


def measure(weights: Mapping[str, MeasuredWeight], terms: Sequence[Term],
            values: Mapping[str, Parts], task: Mapping[str, Any], outputs: Outputs,
            gates: Mapping[str, Gate], iteration: int = 0) -> None:
    """Measure the weights that are not fixed, in one step.

    Args:
        weights (Mapping): The weights, by name of the term.
        terms (Sequence[Term]): The terms of this step.
        values (Mapping): Their values with the default weights, by name.
        task (Mapping): The losses of the student on labels.
        outputs (dict): The outputs of :func:`paths_measured`, from
            :func:`mmkd.training.shares.outputs_of`.
        gates (Mapping): The gates of the terms in this step, by name.
        iteration (int): Number of the iteration of the run, from 0. Defaults to 0.

    Raises:
        ValueError: If the losses on labels have no gradient at the point of a term, or no weight
            was found in several rounds.
    """
    scaler = current_scaler()
    for term in terms:
        weight = weights.get(term.name)
        if weight is None or weight.is_fixed:
            continue
        own = value_of(values[term.name])
        scale = None if scaler is None else weight.scale(scaler.scale(own.new_ones(())))
        norms = norms_of(own, total(task), paths_of([term]), outputs, term.name, scale)
        weight.measure(norms[:2], iteration, term.factor, gates[term.name].is_open)


def current_scaler() -> Any:
    """The loss scaler of the optimizer of the run; None if there is none."""
    return getattr(current_optim_wrapper(), 'loss_scaler', None)
