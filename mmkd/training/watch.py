"""Does a term of the loss go wrong while it is trained, and what is said of it then?"""
import logging
from typing import Any, Callable, Dict, Iterable, List, Mapping, NamedTuple, Sequence, Set

import torch
from mmengine.logging import print_log
from torch import Tensor, distributed, nn

LIMIT = 10
"""Steps in a row in which a term may be infinite or not a number, before training stops."""

CONSTANT = 100
"""Steps in a row in which a term may be the same number to the bit, before it is remarked on."""


FLOAT_MAX = torch.finfo(torch.float32).max


class Sides(NamedTuple):
    """What a term compares."""
    student: List[Tensor]
    teacher: List[Tensor]


class TermWatch:
    """Looks at every term of every step: whether it is finite, has a gradient, and moves.

    So it does at the losses, and the gradients, of networks that are trained beside the student:
    one that diverges is left out of the step, and the student goes on as if it were not there.

    Args:
        limit (int): Steps in a row in which a term may be infinite or not a number.
            Defaults to 10.

    Attributes:
        left_out (dict[str, int]): How often each term was left out, by name; under the name of a
            network, how often its own losses or its gradients were.
        spoilt (set[str]): Networks whose own losses are to be left out of the step that was checked
            last.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            raise ValueError(f'`nonfinite_limit` must be a whole number of 1 or more, but got '
                             f'{limit!r}; write for instance nonfinite_limit={LIMIT}')
        self.limit = limit
        self.left_out: Dict[str, int] = {}
        self.spoilt: Set[str] = set()
        self._in_a_row: Dict[str, int] = {}
        self._last: Dict[str, float] = {}
        self._same: Dict[str, int] = {}
        self._said: Dict[str, None] = {}

    def check(self, terms: Dict[str, List[Tensor]], sides_of: Callable[[str], Sides],
              own: Mapping[str, Dict[str, Any]] = {},
              learners: Mapping[str, str] = {}) -> Dict[str, List[Tensor]]:
        """The terms, without those that would spoil the student.

        Args:
            terms (dict[str, list[Tensor]]): Scalars, one per level, by name.
            sides_of (Callable): What a term compares, by its name; for the diagnosis.
            own (Mapping): By name of a network that is trained beside the student, its own losses:
                scalars, or lists of such, by name. Defaults to none.
            learners (Mapping): By name of a term, the network that learns from it.

        Returns:
            dict[str, list[Tensor]]: The same; of a term that is infinite or not a number in any
            process, and of those from which a network of :attr:`spoilt` would learn, 0 in its
            place.

        Raises:
            FloatingPointError: If that happens for the ``limit``-th time in a row; the message says
                where, and what both sides are like there.
        """
        self.spoilt = set()
        scalars = {name: _scalars(losses) for name, losses in own.items()}
        scalars = {name: one for name, one in scalars.items() if one}
        if not terms and not scalars:
            return terms
        with torch.no_grad():
            sums = torch.stack([torch.stack([one.double() for one in levels]).sum()
                                for levels in [*terms.values(), *scalars.values()]])
            # As MMEngine will add them up.
            is_fine = sums.float().isfinite().to(sums)
            if distributed.is_available() and distributed.is_initialized():
                # All leave it out, or none: others wait for gradients of what is beside the model.
                distributed.all_reduce(is_fine, op=distributed.ReduceOp.MIN)
            values, flags = torch.stack([sums, is_fine]).tolist()
        for name, flag in zip(scalars, flags[len(terms):]):
            if flag:
                self._in_a_row[name] = 0
            else:
                self.spoilt.add(name)
                self._count(name, f'the losses of `{name}` are', lambda name=name: (  # type: ignore
                    f'{_shown(own[name])}; {DIVERGES}'))
        checked = {}
        for (name, levels), value, flag in zip(terms.items(), values, flags):
            is_left_out = not flag or learners.get(name) in self.spoilt
            checked[name] = ([torch.zeros_like(one.detach()) for one in levels] if is_left_out
                             else levels)
            if flag:
                self._in_a_row[name] = 0
                self._notice(name, levels, value)
            else:
                self._count(name, f'`{name}` is', lambda name=name, levels=levels, value=value: (
                    diagnosis(levels, sides_of(name), abs(value) < FLOAT_MAX)))  # type: ignore
        return checked

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
        flags = torch.stack([one.isfinite().all() for one in norms.values()]).tolist()
        for name, flag in zip(norms, flags):
            key = f'gradients of {name}'
            if flag:
                self._in_a_row[key] = 0
                continue
            for parameter in beside[name]:
                parameter.grad = None
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

    def _notice(self, name: str, levels: Sequence[Tensor], value: float) -> None:
        if torch.is_grad_enabled() and not any(one.requires_grad for one in levels):
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


DIVERGES = ('its training diverges: lower its `loss_weight` or the learning rate of its parts '
            '(`paramwise_cfg`), or clip gradients')
"""What is said of a network beside the student."""


def _scalars(losses: Mapping[str, Any]) -> List[Tensor]:
    """Losses that MMEngine adds up, each a number."""
    found: List[Any] = []
    for name, value in losses.items():
        if 'loss' in name:
            found += value if isinstance(value, (list, tuple)) else [value]
    return [one.detach().mean() for one in found]


def _shown(losses: Mapping[str, Any]) -> str:
    sums = {name: sum(one.item() for one in _scalars({name: value}))
            for name, value in losses.items() if 'loss' in name}
    return ', '.join(f'`{name}` is {value:g}' for name, value in sums.items())


def without_losses(losses: Dict[str, Any]) -> Dict[str, Any]:
    """Losses of a network that has no part in a step: 0 in their places."""
    def zero(value: Any) -> Any:
        return [zero(one) for one in value] if isinstance(value, (list, tuple)) else (
            torch.zeros_like(value.detach()))

    return {name: zero(value) if 'loss' in name else value for name, value in losses.items()}


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


def diagnosis(levels: Sequence[Tensor], sides: Sides, is_fine_here: bool = False) -> str:
    """Which level is wrong, the ranges of both sides, and the likely cause."""
    wrong = [number for number, one in enumerate(levels) if not one.isfinite()]
    shown = []
    spoilt = {'student': False, 'teacher': False}
    for number in wrong or range(len(levels)):
        ranges = []
        for side, tensors in sides._asdict().items():
            if number < len(tensors):
                tensor = tensors[number].detach().float()
                bad = int((~tensor.isfinite()).sum())
                spoilt[side] |= bad > 0
                fine = tensor[tensor.isfinite()]
                ranges.append(f'the {side} ' + (
                    f'from {fine.min():.3g} to {fine.max():.3g}' if fine.numel() else 'no number')
                    + (f' and {bad} of {tensor.numel()} not finite' if bad else ''))
        shown.append(f'level {number}: {", ".join(ranges)}')
    cause = ('the teacher itself gives such numbers: look at its checkpoint, its precision, and '
             'what it is fed' if spoilt['teacher'] else
             'the student diverges: lower the learning rate or `loss_weight`, or clip gradients'
             if spoilt['student'] else
             'both sides are finite, so their numbers are too large for the loss: lower '
             '`loss_weight`, or raise `tau`' if not is_fine_here else
             'it was so in another process')
    return f'{"; ".join(shown)}; {cause}'
