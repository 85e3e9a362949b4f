"""How are several teachers compared with one student?"""
from math import log
from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, logsigmoid

from ..losses import LogitLoss
from ..networks import Committee
from ..points import Answers
from ..points.recorder import Records
from .match import Match


class CommitteeMatch(Match):
    """One entry of ``distill`` whose teacher is a :class:`mmkd.Committee`.

    Each member is matched by itself, as a teacher alone would be: columns, levels, sizes,
    connectors.

    Args:
        entry (dict): The entry.
        committee (Committee): Its teacher.

    Raises:
        ValueError: As :class:`Match`.
    """

    def __init__(self, entry: Dict[str, Any], committee: Committee) -> None:
        super().__init__(**entry)
        self.weights = committee.weights
        self._members: List[Match] = []
        for number in range(len(committee.members)):
            member = Match(**entry)
            member.source = f'{self.source}.{number}'
            member.name = f'{self.name}_{number}'
            self._members.append(member)
        self._average = committee.average

    @property
    def averages_probabilities(self) -> bool:
        """Whether the members' probabilities are averaged, else their losses."""
        return self._average == 'probability' and isinstance(self.loss, LogitLoss)

    def explain_average(self) -> str:
        """Why the losses are averaged although probabilities were asked for; '' if nothing is to
        be said.

        Features and boxes have no probabilities, so nobody expects a mean of them.
        """
        point = self._members[0].student_point
        if self._average != 'probability' or self.averages_probabilities or (
                point.use_sigmoid is None):
            return ''
        return (f'`{self.name}`: the committee averages the losses of its members here, not their '
                f'probabilities, because {type(self.loss).__name__} compares the logits of '
                f'`{point.name}` and no class probabilities; write `average=\'loss\'` in the '
                'committee where all entries shall do so, or take mmkd.KDLoss or mmkd.DISTLoss to '
                'learn from the mean of the probabilities')

    @property
    def parts(self) -> List[Match]:
        return self._members

    def compare_parts(self, seen: Records, told: Sequence[Dict[str, Answers]], student: nn.Module,
                      data_samples: Optional[Sequence],
                      background: Sequence[Tensor] = ()) -> List[Tensor]:
        if not self.averages_probabilities:
            by_member = [
                [weight * loss for loss in self._scaled(member).compare(
                    seen, answers, student, data_samples, background)]
                for weight, member, answers in zip(self.weights, self._members, told)]
            if len({len(losses) for losses in by_member}) > 1:
                return [loss for losses in by_member for loss in losses]
            return [torch.stack(losses).sum() for losses in zip(*by_member)]
        first = self._scaled(self._members[0])
        if not first.is_answered(told[0]):
            return [next(student.parameters()).new_zeros(())]
        sides = [member.levels(seen, answers) for member, answers in zip(self._members, told)]
        if first.student_point.queries is not None or any(
                len(own) != len(sides[0][0]) or any(a.shape != b.shape for a, b in zip(
                    own, sides[0][0])) for own, _ in sides):
            raise ValueError(
                f'`{self.name}`: the members of the committee do not speak of the same '
                'predictions, so there is no mean of their probabilities; write '
                "`average='loss'` in the committee")
        loss = first.loss
        assert isinstance(loss, LogitLoss)
        levels = [logits_of_mean(same, self.weights, loss.tau, bool(loss.use_sigmoid))
                  for same in zip(*(teacher for _, teacher in sides))]
        return first.compare_levels(sides[0][0], levels, student, data_samples, background)

    def _scaled(self, member: Match) -> Match:
        member.factor = self.factor
        return member


def logits_of_mean(logits: Tuple[Tensor, ...], weights: Sequence[float], tau: float,
                   use_sigmoid: bool) -> Tensor:
    """Logits whose probabilities at temperature ``tau`` are the mean of the given ones'.

    Args:
        logits (tuple[Tensor]): K times (N, C, ...).
        weights (Sequence[float]): K numbers that add up to 1.
        tau (float): Temperature.
        use_sigmoid (bool): Sigmoid, or softmax over dimension 1.

    Returns:
        Tensor: (N, C, ...), float32 or wider.
    """
    shares = [(z.to(torch.promote_types(z.dtype, torch.float32)) / tau, w)
              for z, w in zip(logits, weights) if w]
    if use_sigmoid:
        # log p - log (1 - p), each by its logarithm: nothing is rounded to 0 or 1.
        yes = torch.logsumexp(torch.stack([logsigmoid(z) + log(w) for z, w in shares]), 0)
        no = torch.logsumexp(torch.stack([logsigmoid(-z) + log(w) for z, w in shares]), 0)
        return tau * (yes - no)
    return tau * torch.logsumexp(
        torch.stack([log_softmax(z, 1) + log(w) for z, w in shares]), 0)
