"""Does a term of the loss go wrong while it is trained, and what is said of it then?"""
import logging
from functools import partial
from typing import Any, Callable, Dict, Iterable, List, Mapping, NamedTuple, Sequence, Set, Tuple

import torch
from mmengine.logging import print_log
from torch import Tensor, distributed, nn

from .diagnosis import DIVERGES, Sides, diagnosis, scalars_of, shown
from .gate import Gate, Report, detached, on_host

LIMIT = 10
"""Steps in a row in which a term may be infinite or not a number, before training stops."""

CONSTANT = 100
"""Steps in a row in which a term may be the same number to the bit, before it is remarked on."""

FLOAT_MAX = torch.finfo(torch.float32).max

MOST_BEHIND = 4
"""Reports of the device that may wait to be read, of two steps or more. A GPU is never so far
behind the CPU: the queue of its kernels is shorter."""


class _Seen(NamedTuple):
    """What a step is remembered by until its numbers are read."""
    terms: Dict[str, List[Tensor]]
    without_gradient: Set[str]
    own: Dict[str, Dict[str, Any]]
    sides_of: Callable[[str], Sides]


def is_read_at_once(device: torch.device) -> bool:
    """Whether reading a number of a device makes nobody wait."""
    return device.type == 'cpu'


class Health:
    """Looks at every term of every step: whether it is finite, has a gradient, and moves.

    So it does at the losses, and the gradients, of networks that are trained beside the student:
    one that diverges is left out of the step, and the student goes on as if it were not there.

    On a CPU all of this is known at once. On a GPU the device itself leaves a term out
    (:mod:`mmkd.training.gate`), so that the CPU need not wait, and what is to be said of it is said
    when the next step begins. Parameters beside the student then have a gradient of 0 in place of
    none.

    Args:
        limit (int): Steps in a row in which a term may be infinite or not a number.
            Defaults to 10.

    Attributes:
        left_out (dict[str, int]): How often each term was left out, by name; under the name of a
            network, how often its own losses or its gradients were.
        spoilt (set[str]): Networks whose own losses were left out of the step that was looked at
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
        # A copy has no part in the step that the original is in.
        return {**vars(self), '_gates': {}, '_reports': []}

    def begin(self) -> None:
        """A step begins: look at what the device has found in former ones.

        Raises:
            FloatingPointError: As :meth:`check`.
        """
        self._gates = {}
        while self._reports and (
                len(self._reports) > MOST_BEHIND or self._reports[0].has_arrived()):
            self._reports.pop(0).read()

    def gate(self, name: str, device: torch.device) -> Gate:
        """What a term, or a network beside the student, trains through in this step.

        Args:
            name (str): Name of the term or of the network.
            device (torch.device): Where it is computed.
        """
        return self._gates.setdefault(name, Gate(not is_read_at_once(device)))

    def guard(self, beside: Mapping[str, Iterable[nn.Parameter]]) -> None:
        """Have the gradients of parameters beside the student pass the gates of each step.

        Args:
            beside (Mapping): The parameters, by the name of the term or network by whose gate.
        """
        def cut(name: str, gradient: Tensor) -> Tensor:
            return self._gates[name].cut(gradient) if name in self._gates else gradient

        for name, parameters in beside.items():
            for parameter in parameters:
                if not is_read_at_once(parameter.device):
                    parameter.register_hook(partial(cut, name))

    def check(self, terms: Dict[str, List[Tensor]], sides_of: Callable[[str], Sides],
              own: Mapping[str, Dict[str, Any]] = {}, learners: Mapping[str, str] = {}
              ) -> Tuple[Dict[str, List[Tensor]], Dict[str, Dict[str, Any]]]:
        """The losses of a step, without those that would spoil the student.

        Args:
            terms (dict[str, list[Tensor]]): Scalars, one per level, by name.
            sides_of (Callable): What a term compares, by its name; for the diagnosis, perhaps when
                the step is over.
            own (Mapping): By name of a network that is trained beside the student, its own losses:
                scalars, or lists of such, by name. Defaults to none.
            learners (Mapping): By name of a term, the network that learns from it.

        Returns:
            tuple[dict[str, list[Tensor]], dict[str, dict]]: Terms and own losses; of those that are
            infinite or not a number in any process, and of terms from which a network would learn
            whose own losses are, 0 in their place.

        Raises:
            FloatingPointError: If that happens for the ``limit``-th time in a row; the message says
                where, and what both sides are like there.
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
            # As MMEngine will add them up.
            is_fine = sums.float().isfinite().float()
            if distributed.is_available() and distributed.is_initialized():
                # All leave it out, or none: others wait for gradients of what is beside the model.
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
        """Count, and say, what was found in a step."""
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
        """Take gradients away that would spoil the student through a norm over all networks.

        Args:
            beside (Mapping): Parameters that are trained beside the student, by the name of their
                network or connector; their gradients are those of all processes.

        Raises:
            FloatingPointError: If those of one are infinite or not a number for the ``limit``-th
                time in a row.
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
        """Something was left out: count it, say it now and then, stop if it goes on."""
        name = name or key
        count = self.left_out[name] = self.left_out.get(name, 0) + 1
        row = self._in_a_row[key] = self._in_a_row.get(key, 0) + 1
        if row >= self.limit:
            was = what.removesuffix(' are') + ' were' if what.endswith(' are') else (
                what.removesuffix(' is') + ' was')
            raise FloatingPointError(
                f'{was} infinite or not a number in {row} steps in a row: {why()}')
        if row == 1 and count & (count - 1) == 0:  # 1, 2, 4, 8, ...: not in every line of the log
            times = 'once so far' if count == 1 else f'{count} times so far'
            verb = 'were' if what.endswith(' are') else 'was'
            print_log(f'{what} infinite or not a number and {verb} left out of this step, '
                      f'{times}: {why()}', 'current', logging.WARNING)

    def _notice(self, name: str, is_without_gradient: bool, value: float) -> None:
        if is_without_gradient:
            self._say_once(name, f'`{name}` has no gradient for the student, so nothing is learned '
                           'from it; look whether the point lies in a frozen part, and whether '
                           'its teacher was asked (a cascade may stop before its stage)')
        self._same[name] = self._same.get(name, 0) + 1 if value == self._last.get(name) else 1
        self._last[name] = value
        if self._same[name] == CONSTANT:
            cause = ('nothing differs: the teacher is perhaps the student itself, or nothing is '
                     'left by mask or weight' if value == 0 else
                     'the student does not move there: look whether it is trained (learning rate, '
                     'frozen parts), and whether outputs are saturated')
            self._say_once(name, f'`{name}` was {value:g} in {CONSTANT} steps in a row, to the '
                           f'bit; {cause}')

    def _say_once(self, name: str, text: str) -> None:
        if name not in self._said:
            self._said[name] = None
            print_log(text, 'current', logging.WARNING)


def guard_clipping(optim_wrapper: Any, check: Callable[[], None]) -> None:
    """Have gradients looked at before their common norm is clipped.

    With a ``loss_scaler`` nothing is done: it looks at all gradients itself, and leaves the whole
    step out.

    Args:
        optim_wrapper (OptimWrapper): MMEngine's; a second call for it changes nothing.
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
