"""Several teachers that act as one."""
from typing import Any, List, Optional, Sequence

from ..core.arguments import finite_number
from ..core.build import build_entry
from ..registry import MODELS
from .base import BaseTeacher

AVERAGES = ('probability', 'loss')


@MODELS.register_module()
class Committee(BaseTeacher):
    r"""An ensemble of teachers, each with its own architecture, classes and inputs.

    With K members and weights :math:`w_k` of sum 1:

    - ``average='probability'``: class logits are compared with the logits of
      :math:`\sum_k w_k\,act(z_k / \tau)`, the averaged probabilities at the temperature of the
      loss, as `Hinton et al. <https://arxiv.org/abs/1503.02531>`_ distil an ensemble;
    - ``average='loss'``: :math:`\sum_k w_k L(S, T_k)`. This is always used for features and boxes,
      with a connector per member, and, with a warning, for class logits if the loss does not
      compare probabilities (:class:`mmkd.CWDLoss`, :class:`mmkd.MSELoss`).

    Args:
        members (Sequence[dict]): The teachers; ``type`` defaults to 'mmkd.FrozenTeacher'.
        weights (Sequence[float], optional): Weights of the members, 0 or more, not all 0; they are
            normalised to a sum of 1. Defaults to None, equal weights.
        average (str): 'probability' or 'loss'. Defaults to 'probability'.

    Raises:
        TypeError: If a member is not a teacher.
        ValueError: If there are no members, the number of weights differs, or ``average`` is
            unknown.

    Example:
        >>> detr = 'mmdet::detr/detr_r50_8xb2-150e_coco.py'
        >>> committee = Committee([dict(config=detr), dict(config=detr)], weights=[3, 1])
        >>> len(committee.members)
        2
    """

    def __init__(self, members: Sequence[dict], weights: Optional[Sequence[float]] = None,
                 average: str = 'probability') -> None:
        super().__init__()
        if not isinstance(members, (list, tuple)) or not members:
            raise ValueError('`members` must be a list of teachers, for instance [dict(config=..., '
                             f'checkpoint=...), ...], but got {members!r}; write two or more')
        if not isinstance(average, str) or average not in AVERAGES:
            raise ValueError(f'`average` must be one of {", ".join(map(repr, AVERAGES))}, but got '
                             f'{average!r}; write one of these')
        self.members: List[BaseTeacher] = [
            one if isinstance(one, BaseTeacher) else build_entry(
                one, MODELS, f'member {number} of the committee', BaseTeacher, 'mmkd.FrozenTeacher')
            for number, one in enumerate(members)]
        for number, one in enumerate(self.members):
            if isinstance(one, Committee):
                raise TypeError(f'member {number} of the committee must be a teacher, but is a '
                                f'{type(one).__name__}; write its members in this committee')
        if not (weights is None or isinstance(weights, (list, tuple))):
            raise TypeError('`weights` must be a list of numbers, one for each member, but got '
                            f'{weights!r}; write one number for each member')
        weights = [1.] * len(members) if weights is None else [
            finite_number('weights', weight) for weight in weights]
        if len(weights) != len(members) or min(weights) < 0 or not sum(weights):
            raise ValueError(f'`weights` must be {len(members)} numbers of 0 or more, one for each '
                             f'member and not all 0, but got {weights}; write {len(members)} '
                             'numbers')
        self.weights = [weight / sum(weights) for weight in weights]
        self.average = average

    def prepare(self, student: Any) -> None:
        """Do nothing: the members are prepared separately."""
