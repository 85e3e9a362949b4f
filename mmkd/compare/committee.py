"""How are several teachers compared with one student?"""
from math import log
from typing import Dict, List, Sequence, Tuple

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, logsigmoid

from ..losses import DistillLoss, LogitLoss
from ..losses.prepared import PreparedLoss
from ..networks import Committee
from ..points import Answers
from ..points.recorder import Records
from .parts import Parts
from .spec import TermSpec
from .term import Term
from .vocabulary import Batch


class CommitteeTerm(Term):
    """An entry of ``distill`` with a :class:`mmkd.Committee` as teacher.

    Each member has a term of its own, with its own columns, levels, sizes and connectors, as a
    single teacher has.

    Args:
        spec (TermSpec): The entry.
        committee (Committee): Its teacher.

    Raises:
        ValueError: See :class:`Term`.
    """

    def __init__(self, spec: TermSpec, committee: Committee) -> None:
        super().__init__(spec)
        self.weights = committee.weights
        _check_files(self.loss, spec, len(committee.members))
        self._members = [Term(spec.of_member(n)) for n in range(len(committee.members))]
        self.is_asked_for = committee.average == 'probability'
        """Whether the committee has ``average='probability'``."""
        self.obstacle = _obstacle(self.loss, spec)
        self.averages_probabilities = self.is_asked_for and not self.obstacle

    @property
    def parts(self) -> List[Term]:
        return self._members

    def compare(self, seen: Records, told: Sequence[Dict[str, Answers]], model: nn.Module,
                batch: Batch, background: Sequence[Tensor] = ()) -> Parts:
        for member in self._members:
            member.factor = self.factor
        first = self._members[0]
        assert first.alignment is not None
        if not self.averages_probabilities:
            return mean_of_losses(self.weights, [
                member.compare(seen, [answers], model, batch, background)
                for member, answers in zip(self._members, told)])
        if not first.alignment.is_answered(told[0]):
            return {'': [next(model.parameters()).new_zeros(())]}
        contexts = [member.context(seen, answers, batch, model)
                    for member, answers in zip(self._members, told)]
        own = contexts[0].student
        if first.student_point.queries is not None or any(
                len(one.student) != len(own) or any(a.shape != b.shape for a, b in zip(
                    one.student, own)) for one in contexts):
            raise ValueError(
                f'`{self.name}`: the members of the committee do not predict at the same '
                "positions, so their probabilities cannot be averaged; write `average='loss'` in "
                'the committee')
        loss = first.loss
        assert isinstance(loss, LogitLoss)
        contexts[0].teacher = [
            logits_of_mean(same, self.weights, loss.tau, bool(loss.use_sigmoid))
            for same in zip(*(one.teacher for one in contexts))]
        return first.value(contexts[0], background)


def _check_files(loss: DistillLoss, spec: TermSpec, members: int) -> None:
    """Check that a loss with a first stage has the file of each member.

    Raises:
        ValueError: If it has not.
    """
    if isinstance(loss, PreparedLoss) and loss.tokens is not None:
        files = 1 if isinstance(loss.tokens, str) else len(loss.tokens)
        if files != members or isinstance(loss.tokens, str):
            raise ValueError(
                f'`{spec.name}`: the committee has {members} members, each with a first stage of '
                f'its own, but `tokens` names {files} file{"s" * (files != 1)}; write tokens=[...] '
                'with one file for each member, in the order of the members')


def mean_of_losses(weights: Sequence[float], by_member: Sequence[Parts]) -> Parts:
    """The weighted mean of the members' losses; a list of all if their numbers of levels differ."""
    found: Parts = {}
    for part in dict.fromkeys(name for parts in by_member for name in parts):
        weighted = [[weight * loss for loss in parts.get(part, ())]
                    for weight, parts in zip(weights, by_member)]
        if len({len(losses) for losses in weighted}) > 1:
            found[part] = [loss for losses in weighted for loss in losses]
        else:
            found[part] = [torch.stack(losses).sum() for losses in zip(*weighted)]
    return found


def _obstacle(loss: DistillLoss, spec: TermSpec) -> str:
    """Why probabilities cannot be averaged, with a placeholder for the point; '' if they can."""
    kind = type(loss).__name__
    if not isinstance(loss, LogitLoss):
        return f'{kind} compares the logits of `{{point}}` and no class probabilities'
    if loss.is_trained:
        return f'{kind} has layers or a memory for each member'
    if spec.also or spec.through is not None:
        return 'the entry has ' + ('`also`' if spec.also else '`through`') + ', of which each ' \
            'member has its own values'
    return ''


def explain_average(term: CommitteeTerm) -> str:
    """Why losses are averaged in spite of ``average='probability'``; '' if they are not.

    '' also for features and boxes, which have no probabilities.
    """
    point = term.parts[0].student_point
    if not term.is_asked_for or term.averages_probabilities or point.use_sigmoid is None:
        return ''
    return (f'`{term.name}`: the committee averages the losses of its members here, not their '
            f'probabilities, because {term.obstacle.format(point=point.name)}; write '
            "`average='loss'` in the committee to average the losses of all entries, or use "
            'mmkd.KDLoss or mmkd.DISTLoss to learn from the mean of the probabilities')


def logits_of_mean(logits: Tuple[Tensor, ...], weights: Sequence[float], tau: float,
                   use_sigmoid: bool) -> Tensor:
    """Logits of the mean of the probabilities at temperature ``tau``.

    Args:
        logits (tuple[Tensor]): K tensors (N, C, ...).
        weights (Sequence[float]): K numbers with a sum of 1.
        tau (float): Temperature.
        use_sigmoid (bool): Sigmoid, or softmax over dimension 1.

    Returns:
        Tensor: (N, C, ...), float32 or wider.
    """
    shares = [(z.to(torch.promote_types(z.dtype, torch.float32)) / tau, w)
              for z, w in zip(logits, weights) if w]
    if use_sigmoid:
        # log p and log (1 - p) are computed separately: no probability is rounded to 0 or 1.
        yes = torch.logsumexp(torch.stack([logsigmoid(z) + log(w) for z, w in shares]), 0)
        no = torch.logsumexp(torch.stack([logsigmoid(-z) + log(w) for z, w in shares]), 0)
        return tau * (yes - no)
    return tau * torch.logsumexp(
        torch.stack([log_softmax(z, 1) + log(w) for z, w in shares]), 0)
