"""What is known of a pair before training? The figures of an examination."""
from dataclasses import asdict, dataclass, field
from typing import Any, Dict, List, NamedTuple, Optional


@dataclass
class Standing:
    """A network at the point where the student asks, on images of training and others.

    Both are dicts of :meth:`mmkd.worth.tally.Tally.result`.

    Example:
        >>> Standing(dict(accuracy=97.1), dict(accuracy=62.7)).held_out
        {'accuracy': 62.7}
    """
    train: Dict[str, Any] = field(default_factory=dict)
    held_out: Dict[str, Any] = field(default_factory=dict)


@dataclass
class TermFinding:
    """The share of one term, see :mod:`mmkd.training.shares`."""
    name: str
    on: str
    """The student's point."""
    weight: float
    """Its ``loss_weight``."""
    shared: str
    """Paths of the modules at whose outputs it was measured."""
    ratio: float
    """Norm of its gradient, divided by that of the task's losses."""
    cosine: float
    """Cosine of the angle between both gradients."""

    def weight_for(self, share: float) -> Optional[float]:
        """The ``loss_weight`` for a share; None if the gradient of the term is 0.

        Example:
            >>> TermFinding('loss_neck_mse', 'neck', 2., 'neck', ratio=4., cosine=0.).weight_for(10)
            5.0
        """
        return self.weight * share / self.ratio if self.ratio else None


@dataclass
class MethodFinding:
    """Figures of one method.

    Example:
        >>> MethodFinding('kd', ['cls'], ['prediction'], ratio=0.5, cosine=0.3).ratio
        0.5
    """
    name: str
    on: List[str] = field(default_factory=list)
    """The student's points."""
    kinds: List[str] = field(default_factory=list)
    """'prediction' or 'feature', one for each entry."""
    problem: str = ''
    """Why it cannot be used; '' if it can."""
    is_left_out: bool = False
    """Whether it fits, but the time was up before it was measured."""
    ratio: Optional[float] = None
    """Of its terms, the largest share, see :class:`TermFinding`."""
    cosine: Optional[float] = None
    """Of the same term."""
    shared: str = ''
    """Of the same term, the modules."""
    losses: Dict[str, float] = field(default_factory=dict)
    """Values of its losses by name."""
    seconds: Optional[float] = None
    """Of a training step with it."""
    memory: Optional[float] = None
    """Bytes of a step: on a GPU the peak, on a CPU the tensors kept for the backward pass."""
    terms: List[TermFinding] = field(default_factory=list)
    """The shares of its terms."""
    note: str = ''
    """Why its gradient was not measured; '' if it was."""


@dataclass
class Findings:
    """The figures of an examination, as JSON has them.

    Example:
        >>> found = Findings('s.py', 't.py', metric='mIoU', scores=dict(teacher=dict(mIoU=39.0)))
        >>> found.score('teacher')
        39.0
    """
    student: str
    teacher: str
    kind: str = ''
    """Kind of the student's family: 'dense', 'roi', 'query', 'mask', 'segmentor', ..."""
    is_trained: bool = False
    """Whether the student has weights of a checkpoint."""
    classes: List[str] = field(default_factory=list)
    seen: List[str] = field(default_factory=list)
    """Files of the validation set that are among the training images, too."""
    images: Dict[str, int] = field(default_factory=dict)
    """Number of images by what was measured on them: 'scored'; at the point 'train' and
    'held_out'."""
    metric: str = ''
    """Name of the metric that decides, larger is better."""
    scores: Dict[str, Dict[str, float]] = field(default_factory=dict)
    """All metrics of the validation by network."""
    by_class: Dict[str, Dict[str, Optional[float]]] = field(default_factory=dict)
    """Score in per cent by class and network."""
    point: str = ''
    """The point whose predictions are compared with labels."""
    standings: Dict[str, Standing] = field(default_factory=dict)
    """By network."""
    advantage: Dict[str, List[float]] = field(default_factory=dict)
    """How much better the teacher is than the student at the point on held-out images, see
    :func:`mmkd.worth.tally.advantage`."""
    agreement: Dict[str, Any] = field(default_factory=dict)
    """See :mod:`mmkd.worth.agreement`."""
    methods: List[MethodFinding] = field(default_factory=list)
    alone: Dict[str, Any] = field(default_factory=dict)
    """``seconds`` and ``memory`` of a step of the student alone with ``batch`` images; ``images``
    of an epoch, and ``epochs``."""
    cache: Dict[str, Any] = field(default_factory=dict)
    """See :func:`mmkd.worth.costs.cache_costs`."""
    problems: List[str] = field(default_factory=list)
    """What was not measured, and why."""
    seconds: float = 0.
    """Duration of the examination."""

    def score(self, network: str) -> Optional[float]:
        """The score that decides, of 'student' or 'teacher'; None if it was not measured."""
        return self.scores.get(network, {}).get(self.metric)

    def as_dict(self) -> Dict[str, Any]:
        """Dicts, lists, strings and numbers."""
        return asdict(self)


class Examination(NamedTuple):
    """Findings, and predictions to show.

    Example:
        >>> Examination(Findings('s.py', 't.py'), []).findings.student
        's.py'
    """
    findings: Findings
    examples: List[Dict[str, Any]]
    """Predictions of ``student`` and ``teacher`` for images on which they disagree."""
    metainfo: Dict[str, Any] = {}
    """Class names and palette of the validation set."""
