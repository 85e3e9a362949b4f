"""Messages for losses that are not finite."""
from typing import Any, List, Mapping, NamedTuple, Sequence

from torch import Tensor


class Sides(NamedTuple):
    """The levels that a term compares."""
    student: List[Tensor]
    teacher: List[Tensor]


DIVERGES = ('its training diverges: lower its `loss_weight` or the learning rate of its parts '
            '(`paramwise_cfg`), or clip gradients')
"""Message for a trained network other than the student."""


def scalars_of(losses: Mapping[str, Any]) -> List[Tensor]:
    """The losses that MMEngine adds up, as scalars."""
    found: List[Any] = []
    for name, value in losses.items():
        if 'loss' in name:
            found += value if isinstance(value, (list, tuple)) else [value]
    return [one.detach().mean() for one in found]


def shown(losses: Mapping[str, Any]) -> str:
    """Names and values of losses, for messages."""
    sums = {name: sum(one.item() for one in scalars_of({name: value}))
            for name, value in losses.items() if 'loss' in name}
    return ', '.join(f'`{name}` is {value:g}' for name, value in sums.items())


def diagnosis(levels: Sequence[Tensor], sides: Sides, is_fine_here: bool = False) -> str:
    """The level that is not finite, the ranges of both sides, and the likely cause."""
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
    cause = ('the outputs of the teacher are not finite: check its checkpoint, its precision and '
             'its input' if spoilt['teacher'] else
             'the student diverges: lower the learning rate or `loss_weight`, or clip gradients'
             if spoilt['student'] else
             'both sides are finite, so their values are too large for the loss: lower '
             '`loss_weight`, or raise `tau`; in a loss of your own, look for a division by 0, or a '
             'root or logarithm of 0' if not is_fine_here else
             'this happened in another process')
    return f'{"; ".join(shown)}; {cause}'
