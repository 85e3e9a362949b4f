"""Does a term of the loss go wrong while it is trained, and what is said of it then?"""
import logging
from typing import Callable, Dict, List, NamedTuple, Sequence

import torch
from mmengine.logging import print_log
from torch import Tensor, distributed

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

    Args:
        limit (int): Steps in a row in which a term may be infinite or not a number.
            Defaults to 10.

    Attributes:
        left_out (dict[str, int]): How often each term was left out, by name.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            raise ValueError(f'`nonfinite_limit` must be a whole number of 1 or more, but got '
                             f'{limit!r}; write for instance nonfinite_limit={LIMIT}')
        self.limit = limit
        self.left_out: Dict[str, int] = {}
        self._in_a_row: Dict[str, int] = {}
        self._last: Dict[str, float] = {}
        self._same: Dict[str, int] = {}
        self._said: Dict[str, None] = {}

    def check(self, terms: Dict[str, List[Tensor]],
              sides_of: Callable[[str], Sides]) -> Dict[str, List[Tensor]]:
        """The terms, without those that would spoil the student.

        Args:
            terms (dict[str, list[Tensor]]): Scalars, one per level, by name.
            sides_of (Callable): What a term compares, by its name; for the diagnosis.

        Returns:
            dict[str, list[Tensor]]: The same; of a term that is infinite or not a number in any
            process, 0 in its place.

        Raises:
            FloatingPointError: If that happens for the ``limit``-th time in a row; the message says
                where, and what both sides are like there.
        """
        if not terms:
            return terms
        with torch.no_grad():
            sums = torch.stack([torch.stack([one.double() for one in levels]).sum()
                                for levels in terms.values()])
            # As MMEngine will add them up.
            is_fine = sums.float().isfinite().to(sums)
            if distributed.is_available() and distributed.is_initialized():
                # All leave it out, or none: others wait for gradients of what is beside the model.
                distributed.all_reduce(is_fine, op=distributed.ReduceOp.MIN)
            values, flags = torch.stack([sums, is_fine]).tolist()
        checked = {}
        for (name, levels), value, flag in zip(terms.items(), values, flags):
            checked[name] = levels if flag else [torch.zeros_like(one.detach()) for one in levels]
            if flag:
                self._in_a_row[name] = 0
                self._notice(name, levels, value)
            else:
                self._leave_out(name, levels, sides_of, abs(value) < FLOAT_MAX)
        return checked

    def _leave_out(self, name: str, levels: List[Tensor], sides_of: Callable[[str], Sides],
                   is_fine_here: bool) -> None:
        count = self.left_out[name] = self.left_out.get(name, 0) + 1
        row = self._in_a_row[name] = self._in_a_row.get(name, 0) + 1
        if row >= self.limit:
            raise FloatingPointError(
                f'`{name}` was infinite or not a number in {row} steps in a row: '
                f'{diagnosis(levels, sides_of(name), is_fine_here)}')
        if row == 1 and count & (count - 1) == 0:  # 1, 2, 4, 8, ...: not in every line of the log
            print_log(f'`{name}` is infinite or not a number and was left out of this step, for '
                      f'the {count}. time: {diagnosis(levels, sides_of(name), is_fine_here)}',
                      'current', logging.WARNING)

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
