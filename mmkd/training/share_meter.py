"""How are the shares of all terms measured in one step, without an effect on training?"""
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

import torch
from torch import Tensor, distributed, nn

from ..compare.parts import Parts
from ..compare.term import Term
from ..core.log import warn
from ..core.processes import world_size
from ..core.rng import preserved_rng
from .auto_weights import MeasuredWeight, current_scaler
from .shares import Outputs, norms_of, paths_of, total, value_of


class ShareMeter:
    """The shares of the terms in the steps in which it is turned on.

    For each term a separate backward pass runs from the value that is added to the loss, with all
    weights and schedules, to the modules of :func:`mmkd.compare.auto_weight.shared_paths`, and
    another one from the losses on labels. Nothing else is computed again, so a memory bank is not
    updated twice. With several processes, the share is the quotient of the means of the norms.

    Left out are terms of which the losses on labels are no measure: those of other learners than
    the student, and those for unlabelled images. So are terms whose weight is still measured,
    because :class:`~mmkd.training.auto_weights.MeasuredWeight` gives their shares to the
    visualizer.

    Attributes:
        is_on (bool): Whether the next step is measured. Defaults to False.
    """

    def __init__(self) -> None:
        self.is_on = False
        self._found: List[Tuple[str, Tensor]] = []
        self._warned: Set[str] = set()

    def paths(self, terms: Sequence[Term], weights: Mapping[str, MeasuredWeight]) -> List[str]:
        """Modules of the student at which this step is measured; none if it is turned off."""
        return paths_of(self._measured(terms, weights)) if self.is_on else []

    def measure(self, terms: Sequence[Term], weights: Mapping[str, MeasuredWeight],
                values: Mapping[str, Parts], task: Mapping[str, Any], outputs: Outputs,
                student: nn.Module) -> None:
        """Measure one step, if it is turned on. Every process must call it.

        Args:
            terms (Sequence[Term]): The terms of the labelled images, those turned off included.
            weights (Mapping): The weights that are measured, by name of the term.
            values (Mapping): The terms that were computed, by name, as they are added to the loss.
            task (Mapping): The losses of the student on labels.
            outputs (dict): From :func:`~mmkd.training.shares.outputs_of` of :meth:`paths`.
            student (nn.Module): The student, whose buffers and random numbers are kept.
        """
        measured = self._measured(terms, weights) if self.is_on else []
        if not measured:
            return
        whole, scaler = total(task), current_scaler()
        own = [value_of(values[term.name]) if term.name in values else whole.new_zeros(())
               for term in measured]
        with preserved_rng(), preserved_buffers(student):
            scale = None if scaler is None else scaler.scale(whole.new_ones(()))
            rows = [
                self._norms(term, one, whole, outputs, scale) if is_everywhere else
                one.new_full((2, ), float('nan') if is_anywhere else 0., dtype=torch.float64)
                for term, one, (is_anywhere, is_everywhere) in zip(measured, own, having(own))]
        norms = torch.stack(rows)
        if world_size() > 1:
            distributed.all_reduce(norms)
        # A term without a gradient has the share 0; one that was not measured is NaN.
        shares = torch.where(norms[:, 1] == 0, 0., norms[:, 1] / norms[:, 0])
        self._found = [(term.name, share) for term, share in zip(measured, shares)]

    def read(self) -> Dict[str, float]:
        """The finite shares of the last step by name of the term, as numbers. The CPU waits for
        the device, and the meter is turned off."""
        found, self._found, self.is_on = self._found, [], False
        numbers = torch.stack([share for _, share in found]).tolist() if found else []
        return {name: number for (name, _), number in zip(found, numbers)
                if 0 <= number < float('inf')}

    @staticmethod
    def is_measurable(term: Term) -> bool:
        """Whether the losses of the student on labels are a measure of a term."""
        return term.spec.learner == 'student' and term.spec.images != 'unlabelled'

    def _measured(self, terms: Sequence[Term], weights: Mapping[str, MeasuredWeight]
                  ) -> List[Term]:
        return [term for term in terms if self.is_measurable(term) and (
            term.name not in weights or weights[term.name].is_fixed)]

    def _norms(self, term: Term, own: Tensor, task: Tensor, outputs: Outputs,
               scale: Optional[Tensor]) -> Tensor:
        try:
            return norms_of(own, task, paths_of([term]), outputs, term.name, scale)[:2]
        except ValueError as error:
            if term.name not in self._warned:
                self._warned.add(term.name)
                warn(f'mmkd.GradientShareHook cannot log the share of {error}')
            return own.new_full((2, ), float('nan'), dtype=torch.float64)


def having(values: Sequence[Tensor]) -> List[Tuple[bool, bool]]:
    """Whether each value has a gradient in any process, and whether in all. Every process must
    call it.

    Only terms that have one in all processes are measured, because a backward pass through SyncBN
    waits for the other processes.
    """
    own = [one.requires_grad for one in values]
    if world_size() == 1:
        return [(one, one) for one in own]
    counts = torch.tensor(own, dtype=torch.int64, device=values[0].device)
    distributed.all_reduce(counts)
    return [(one > 0, one == world_size()) for one in counts.tolist()]


@contextmanager
def preserved_buffers(model: nn.Module) -> Iterator[None]:
    """Context manager that restores the buffers of a model at its end.

    A backward pass through a module with ``torch.utils.checkpoint`` runs its forward again, which
    updates the statistics of batch normalization.

    Example:
        >>> norm = nn.BatchNorm1d(2)
        >>> with preserved_buffers(norm):
        ...     _ = norm(torch.rand(4, 2))
        >>> norm.running_mean.tolist()
        [0.0, 0.0]
    """
    before = [(one, one.clone()) for one in model.buffers()]
    try:
        yield
    finally:
        for buffer, value in before:
            buffer.data.copy_(value)  # autograd may have saved the buffer, and would see a change
