"""Checks of the terms during training: finite values, gradients, changes."""
import logging
from functools import partial
from typing import Any, Callable, Dict, Iterable, List, Mapping, NamedTuple, Sequence, Set, Tuple

import torch
from mmengine.logging import print_log
from torch import Tensor, distributed, nn

from ..compare.spec import UNLABELLED
from .diagnosis import DIVERGES, Sides, diagnosis, scalars_of, shown
from .gate import Gate, Report, detached, on_host

LIMIT = 10
"""Number of consecutive steps with an infinite or NaN term after which training stops."""

CONSTANT = 100
"""Number of consecutive steps with exactly the same value of a term after which a warning is
logged."""

FLOAT_MAX = torch.finfo(torch.float32).max

MOST_BEHIND = 4
"""Maximum number of pending reports of the device, from two steps or more. A GPU is never so far
behind the CPU, because its queue of kernels is shorter."""


class _Seen(NamedTuple):
    """Data of a step, stored until its numbers are read."""
    terms: Dict[str, List[Tensor]]
    without_gradient: Set[str]
    own: Dict[str, Dict[str, Any]]
    sides_of: Callable[[str], Sides]


def is_read_at_once(device: torch.device) -> bool:
    """Whether a number on this device can be read without a wait."""
    return device.type == 'cpu'


class Health:
    """Checks in every step that each term is finite, has a gradient, and changes.

    It also checks the losses and the gradients of networks that are trained with the student. If
    one of them diverges, it is left out of the step, and the training of the student continues
    without it.

    On a CPU the results are available at once. On a GPU the device leaves a term out
    (:mod:`mmkd.training.gate`), so that the CPU does not wait, and messages are logged at the
    beginning of the next step. Side parameters then have a gradient of 0 instead of None.

    Args:
        limit (int): Number of consecutive steps with an infinite or NaN term after which training
            stops. Defaults to 10.

    Attributes:
        left_out (dict[str, int]): Number of steps in which each term was left out, by name; for a
            network, in which its own losses or its gradients were left out.
        spoilt (set[str]): Networks with own losses that were left out of the step that was checked
            last.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            raise ValueError(f'`nonfinite_limit` must be a whole number of 1 or more, but got '
                             f'{limit!r}; write for instance nonfinite_limit={LIMIT}')
        self.limit = limit
        self.left_out: Dict[str, int] = {}
        self.spoilt: Set[str] = set()
        self._gates: Dict[str, Gate] = {}
        self._reports: List[Report] = []
        self._in_a_row: Dict[str, int] = {}
        self._last: Dict[str, float] = {}
        self._same: Dict[str, int] = {}
        self._said: Dict[str, None] = {}

    def __getstate__(self) -> Dict[str, Any]:
        # The current step belongs to the original, not to a copy.
        return {**vars(self), '_gates': {}, '_reports': []}

    def begin(self) -> None:
        """Begin a step: process the reports of earlier steps.

        Raises:
            FloatingPointError: See :meth:`check`.
        """
        self._gates = {}
        while self._reports and (
                len(self._reports) > MOST_BEHIND or self._reports[0].has_arrived()):
            self._reports.pop(0).read()

    def gate(self, name: str, device: torch.device) -> Gate:
        """The gate of a term, or of a network that is trained with the student, in this step.

        Args:
            name (str): Name of the term or of the network.
            device (torch.device): Its device.
        """
        return self._gates.setdefault(name, Gate(not is_read_at_once(device)))

    def guard(self, beside: Mapping[str, Iterable[nn.Parameter]]) -> None:
        """Apply the gates of each step to the gradients of side parameters.

        Args:
            beside (Mapping): The parameters, by the name of the term or network of the gate.
        """
        def cut(name: str, gradient: Tensor) -> Tensor:
            for one in (name, f'{UNLABELLED}.{name}'):
                if one in self._gates:
                    gradient = self._gates[one].cut(gradient)
            return gradient

        for name, parameters in beside.items():
            for parameter in parameters:
                if not is_read_at_once(parameter.device):
                    parameter.register_hook(partial(cut, name))

    def check(self, terms: Dict[str, List[Tensor]], sides_of: Callable[[str], Sides],
              own: Mapping[str, Dict[str, Any]] = {}, learners: Mapping[str, str] = {}
              ) -> Tuple[Dict[str, List[Tensor]], Dict[str, Dict[str, Any]]]:
        """Replace losses of a step that are not finite by 0.

        Args:
            terms (dict[str, list[Tensor]]): Scalars, one per level, by name.
            sides_of (Callable): Returns the levels of a term by its name, for the diagnosis; it may
                be called after the step.
            own (Mapping): Own losses of the networks that are trained with the student, by name of
                the network: scalars, or lists of scalars, by name. Defaults to {}.
            learners (Mapping): Name of the network that learns from a term, by name of the term.

        Returns:
            tuple[dict[str, list[Tensor]], dict[str, dict]]: Terms and own losses. Those that are
            infinite or NaN in any process are 0, and so are the terms of a network if its own
            losses are not finite.

        Raises:
            FloatingPointError: If this occurs in ``limit`` consecutive steps; the message has the
                level and the ranges of both sides.
        """
        own = dict(own)
        scalars = {name: one for name, one in ((name, scalars_of(its)) for name, its in own.items())
                   if one}
        names = [*terms, *scalars]
        if not names:
            return terms, own
        with torch.no_grad():
            sums = torch.stack([torch.stack([one.double() for one in levels]).sum()
                                for levels in [*terms.values(), *scalars.values()]])
            # In float32, in which MMEngine adds them up.
            is_fine = sums.float().isfinite().float()
            if distributed.is_available() and distributed.is_initialized():
                # All processes must agree, because they exchange the gradients of side modules.
                distributed.all_reduce(is_fine, op=distributed.ReduceOp.MIN)
            numbers = torch.stack([sums, is_fine.double()])
        is_known = is_read_at_once(sums.device)
        seen = _Seen(detached(terms), {
            name for name, levels in terms.items() if torch.is_grad_enabled() and
            not any(one.requires_grad for one in levels)},
            {name: detached(own[name]) for name in scalars}, sides_of)
        gates = [self.gate(name, sums.device) for name in names]
        flags: Sequence[Any]
        if is_known:
            found = on_host(numbers)
            flags = [flag > 0 for flag in found[1]]
            self._look_at(seen, found)
        else:
            flags = (is_fine > 0).unbind()
            self._reports.append(Report(numbers, partial(self._look_at, seen)))
        for gate, flag in zip(gates, flags):
            gate.is_open = flag
        for name in terms:
            if learners.get(name) in scalars:
                gate, other = self._gates[name], self._gates[learners[name]]
                gate.is_open = gate.is_open & other.is_open
        return ({name: [self._gates[name].value(one) for one in levels]
                 for name, levels in terms.items()},
                {name: self._gates[name].values(its) if name in scalars else its
                 for name, its in own.items()})

    def _look_at(self, seen: '_Seen', numbers: List[List[float]]) -> None:
        """Count and log the results of a step."""
        self.spoilt = set()
        values, flags = numbers
        count = len(seen.terms)
        for name, flag in zip(seen.own, flags[count:]):
            if flag:
                self._in_a_row[name] = 0
            else:
                self.spoilt.add(name)
                self._count(name, f'the losses of `{name}` are', lambda name=name: (  # type: ignore
                    f'{shown(seen.own[name])}; {DIVERGES}'))
        for (name, levels), value, flag in zip(seen.terms.items(), values, flags):
            if flag:
                self._in_a_row[name] = 0
                self._notice(name, name in seen.without_gradient, value)
            else:
                self._count(name, f'`{name}` is', lambda name=name, levels=levels, value=value: (
                    diagnosis(levels, seen.sides_of(name),  # type: ignore
                              abs(value) < FLOAT_MAX)))

    def check_gradients(self, beside: Mapping[str, Sequence[nn.Parameter]]) -> None:
        """Remove gradients that are not finite, before they enter a norm over all networks.

        Args:
            beside (Mapping): Side parameters, by the name of their network or connector; their
                gradients have been averaged over processes.

        Raises:
            FloatingPointError: If gradients of one name are infinite or NaN in ``limit``
                consecutive steps.
        """
        norms = {name: torch.stack([one.grad.norm() for one in parameters if one.grad is not None])
                 for name, parameters in beside.items()
                 if any(one.grad is not None for one in parameters)}
        if not norms:
            return
        is_fine = torch.stack([one.isfinite().all() for one in norms.values()])
        is_known = is_read_at_once(is_fine.device)
        flags: Sequence[Any] = on_host(is_fine) if is_known else is_fine.unbind()
        for name, flag in zip(norms, flags):
            for parameter in beside[name]:
                if parameter.grad is None or flag is True:
                    continue
                parameter.grad = None if flag is False else torch.where(flag, parameter.grad, 0.)
        if is_known:
            self._look_at_gradients(norms, flags)
        else:
            self._reports.append(Report(is_fine, partial(self._look_at_gradients, norms)))

    def _look_at_gradients(self, norms: Dict[str, Tensor], flags: Sequence[bool]) -> None:
        for name, flag in zip(norms, flags):
            key = f'gradients of {name}'
            if flag:
                self._in_a_row[key] = 0
                continue
            self._count(key, f'the gradients of `{name}` are', lambda name=name: (  # type: ignore
                f'of {len(norms[name])}, {int((~norms[name].isfinite()).sum())} are not finite; '
                f'{DIVERGES}'), name)

    def _count(self, key: str, what: str, why: Callable[[], str], name: str = '') -> None:
        """Count a term that was left out; log a warning now and then; raise at the limit."""
        name = name or key
        count = self.left_out[name] = self.left_out.get(name, 0) + 1
        row = self._in_a_row[key] = self._in_a_row.get(key, 0) + 1
        if row >= self.limit:
            was = what.removesuffix(' are') + ' were' if what.endswith(' are') else (
                what.removesuffix(' is') + ' was')
            raise FloatingPointError(
                f'{was} infinite or NaN in {row} steps in a row: {why()}')
        if row == 1 and count & (count - 1) == 0:  # at 1, 2, 4, 8, ..., to keep the log short
            times = 'once so far' if count == 1 else f'{count} times so far'
            verb = 'were' if what.endswith(' are') else 'was'
            print_log(f'{what} infinite or NaN and {verb} left out of this step, {times}: '
                      f'{why()}', 'current', logging.WARNING)

    def _notice(self, name: str, is_without_gradient: bool, value: float) -> None:
        if is_without_gradient:
            self._say_once(name, f'`{name}` has no gradient for the student; check whether the '
                                 'point is in a frozen part, and whether its teacher has run (a '
                                 'cascade may stop before its stage)')
        self._same[name] = self._same.get(name, 0) + 1 if value == self._last.get(name) else 1
        self._last[name] = value
        if self._same[name] == CONSTANT:
            cause = ('both sides are equal: the teacher may be the student itself, or a mask or '
                     'weight leaves out all positions' if value == 0 else
                     'the student does not change there: check whether it is trained (learning '
                     'rate, frozen parts), and whether its outputs are saturated')
            self._say_once(name, f'`{name}` was exactly {value:g} in {CONSTANT} steps in a row; '
                                 f'{cause}')

    def _say_once(self, name: str, text: str) -> None:
        if name not in self._said:
            self._said[name] = None
            print_log(text, 'current', logging.WARNING)


def guard_clipping(optim_wrapper: Any, check: Callable[[], None]) -> None:
    """Check gradients before their common norm is clipped.

    With a ``loss_scaler`` nothing is done, because it checks all gradients itself and skips the
    whole step.

    Args:
        optim_wrapper (OptimWrapper): The wrapper of MMEngine; a second call changes nothing.
        check (Callable): Called before every clipping.
    """
    clip = getattr(optim_wrapper, 'clip_func', None)
    if clip is None or hasattr(optim_wrapper, 'loss_scaler') or hasattr(clip, 'mmkd_checks'):
        return

    def checked(parameters: Iterable[nn.Parameter], **settings: Any) -> Any:
        parameters = list(parameters)
        check()
        return clip([one for one in parameters if one.grad is not None], **settings)

    checked.mmkd_checks = True  # type: ignore[attr-defined]
    optim_wrapper.clip_func = checked
