"""One entry of ``distill``, parsed and checked."""
from dataclasses import dataclass, replace
from difflib import get_close_matches
from inspect import signature
from typing import Any, Dict, NamedTuple, Optional, Sequence, Tuple, Union

from ..core.aliases import renamed_keys
from ..core.arguments import finite_number
from ..core.build import build_entry, parameters_of
from ..core.rng import preserved_rng
from ..losses import DistillLoss
from ..losses.classes import check_class
from ..registry import MODELS
from .auto_weight import AutoWeight, split_weight
from .vocabulary import PROVIDERS

CONNECTORS = ('auto', 'conv', None)
REPLACED = ('all', 'background')
IMAGES = ('all', 'labelled', 'unlabelled')
UNLABELLED = 'unlabelled'
"""What the names of losses on unlabelled images begin with."""
QUERIES = ('teacher', 'random')


class Through(NamedTuple):
    """A value of the student that continues through the teacher."""
    student: str
    """Path of the module whose output it is."""
    teacher: str
    """Path of the module whose output it replaces."""
    rescale: Union[bool, str] = False
    """Whether it gets the mean and standard deviation of the output that it replaces; 'relu' for
    outputs of a ReLU."""


@dataclass(frozen=True)
class TermSpec:
    """One entry of ``distill``, checked and immutable.

    Attributes:
        learner (str): Name of the network that learns, 'student' unless the entry has another.
        on_student (str): Its point.
        source (str): Name of the network that teaches.
        on_teacher (str): Its point.
        name (str): Name in the log.
        loss (dict): Type and arguments of the loss.
        per_anchor (bool, optional): See :func:`read_entry`.
        stage (int | str, optional): See :func:`read_entry`.
        region (str | dict, optional): See :func:`read_entry`.
        connector (str | dict, optional): See :func:`read_entry`.
        alpha (float, optional): See :func:`read_entry`.
        replaces (str): See :func:`read_entry`.
        levels (tuple[int], optional): See :func:`read_entry`.
        also (tuple[str]): See :func:`read_entry`.
        through (Through, optional): See :func:`read_entry`.
        queries (str, optional): See :func:`read_entry`.
        images (str, optional): See :func:`read_entry`.
        auto (AutoWeight, optional): Settings of a weight that is measured.
    """

    learner: str
    on_student: str
    source: str
    on_teacher: str
    name: str
    loss: Dict[str, Any]
    per_anchor: Optional[bool] = None
    stage: Union[int, str, None] = None
    region: Union[str, Dict[str, Any], None] = None
    connector: Union[str, Dict[str, Any], None] = 'auto'
    alpha: Optional[float] = None
    replaces: str = 'all'
    levels: Optional[Tuple[int, ...]] = None
    also: Tuple[str, ...] = ()
    through: Optional[Through] = None
    queries: Optional[str] = None
    images: Optional[str] = None
    auto: Optional[AutoWeight] = None

    @staticmethod
    def of(entry: Dict[str, Any]) -> 'TermSpec':
        """Parse an entry.

        Args:
            entry (dict): ``type`` and arguments of the loss, and the arguments of
                :func:`read_entry`.

        Raises:
            TypeError: If an argument is of the wrong type, or ``type`` is not a distillation loss.
            ValueError: If ``on`` or ``type`` is missing, or ``name`` does not contain 'loss', so
                that MMEngine would not add it to the total.
        """
        return read_entry(**renamed_keys(entry, dict(mask='region'), 'an entry of `distill`'))

    def build_loss(self) -> DistillLoss:
        """Build the loss, without a change of the run's random number generators."""
        with preserved_rng():
            loss: DistillLoss = build_entry(self.loss, MODELS, 'a loss of `distill`', DistillLoss)
        loss.checks_weights = False  # they come from mmkd
        return loss

    def of_member(self, number: int) -> 'TermSpec':
        """The same entry for one member of a committee, with its file of a list of ``tokens``."""
        tokens = self.loss.get('tokens')
        loss = dict(self.loss, tokens=tokens[number]) if isinstance(tokens, (list, tuple)) else (
            self.loss)
        return replace(self, loss=loss, source=f'{self.source}.{number}',
                       name=f'{self.name}_{number}')

    def at_points(self, on: str) -> 'TermSpec':
        """The same networks at a point of ``also``, compared as features."""
        return replace(self, on_student=on, on_teacher=on, connector=None, region=None, alpha=None,
                       replaces='all', also=(), through=None, name=f'{self.name}: also {on}')


def read_entry(*,
          on: Union[str, Dict[str, str], None] = None,
          name: Optional[str] = None,
          per_anchor: Optional[bool] = None,
          stage: Union[int, str, None] = None,
          region: Union[str, Dict[str, Any], None] = None,
          connector: Union[str, Dict[str, Any], None] = 'auto',
          alpha: Optional[float] = None,
          replaces: str = 'all',
          levels: Optional[Sequence[int]] = None,
          also: Optional[Sequence[str]] = None,
          through: Optional[Dict[str, Any]] = None,
          queries: Optional[str] = None,
          images: Optional[str] = None,
          **loss: Any) -> TermSpec:
    """Parse the keys of an entry of ``distill``.

    Args:
        on (str | dict): The point, if it has the same name on both sides; or
            ``dict(student=..., teacher=...)``. A point of another network than student and teacher
            is written 'network:point', such as
            ``dict(student='shallow:cls', teacher='student:cls')``.
        name (str, optional): Name in the log. Defaults to 'loss_<point>_<method>'.
        per_anchor (bool, optional): Whether each anchor of a position is compared separately,
            (N·anchors, classes, H, W), or all jointly, (N, anchors·classes, H, W). Defaults to
            None: jointly for sigmoid, as the authors of DIST do; separately for softmax, which is
            over the classes of an anchor, and for a loss that requests labels.
        stage (int | str, optional): For a cascade teacher: the number of a stage, or 'mean', the
            mean logits of its stages; all stages of a cascade student learn from it. For a cascade
            student with another teacher: the stage that learns. Defaults to None: stage by stage
            if both are cascades, the first stage if one of them is.
        region (str | dict, optional): Weights of the positions: 'valid' leaves out positions with
            ignored labels; ``dict(type=...)`` is a :class:`mmkd.Region`. Defaults to None, equal
            weights.
        connector (str | dict, optional): Module that is applied to the student's features before
            the comparison: 'auto', a 1x1 convolution if the channels differ from the teacher's;
            'conv', always a 1x1 convolution; ``dict(type=...)``, a :class:`mmkd.Connector`; None,
            no module. Logits never get one. Defaults to 'auto'.
        alpha (float, optional): Mixes soft and hard targets: the term is multiplied by ``alpha``,
            the student's own loss at this point by 1 - ``alpha``. For a loss with an argument of
            this name, such as :class:`mmkd.DKDLoss`, it is that argument, and nothing is mixed.
            Defaults to None, the student's own loss is not scaled.
        replaces (str): Hard targets that ``alpha`` scales: 'all', or 'background', positions with
            the label background; the term is then restricted to these positions. Defaults to 'all'.
        levels (Sequence[int], optional): Numbers of the levels to compare, among the paired ones,
            from 0; -1 is the last. Defaults to None, all.
        also (Sequence[str]): Further points. A loss that requests ``student_also`` or
            ``teacher_also`` gets lists of their values. Defaults to None, the points that the loss
            names itself (:attr:`DistillLoss.also`).
        through (dict, optional): ``dict(student=PATH, teacher=PATH)``, dotted module paths. The
            output of the student's module replaces the output of the teacher's module, call by
            call, and the teacher continues from there. The resulting prediction at the teacher's
            point is compared with the teacher's own prediction, with gradient for the student
            (CrossKD). With ``rescale=True`` in this dict, each channel of the student's output is
            given the mean and the standard deviation of the teacher's, over images and positions;
            with ``rescale='relu'``, for modules that end in a ReLU, it is then made 0 where it is
            negative. Defaults to None.
        queries (str, optional): Queries that both detectors of the DETR family predict for, in
            addition to their own: 'teacher', the teacher's learned queries; 'random', as many
            random ones, drawn again in each step. The student's decoder and head run once more, on
            the memory of its encoder, with gradient. Predictions are paired by the number of the
            query. Defaults to None: each side predicts for its own queries, and predictions are
            paired by class and place.
        images (str, optional): The images that are compared, if the Distiller has ``unlabelled``
            ones: 'labelled', 'unlabelled' or 'all'. Defaults to None, 'all'; 'labelled' if another
            network than the student learns, or a partner teaches.
        **loss: The loss: ``type`` and its arguments. A ``loss_weight`` of 'auto' or
            ``dict(share=..., iters=...)`` is measured; see
            :class:`mmkd.compare.auto_weight.AutoWeight`.
    """
    if on is None or 'type' not in loss:
        missing = [key for key, value in (('on', on), ('type', loss.get('type')))
                   if value is None]
        meant = [f'`{near}`, not `{key}`' for key in loss if key != 'type'
                 for near in get_close_matches(key.lower(), missing, 1)]
        raise ValueError("an entry of `distill` needs a loss and a point, for instance "
                         f"dict(type='mmkd.DISTLoss', on='cls'), but got {dict(on=on, **loss)}"
                         f', without `{"` and `".join(missing)}`; write ' +
                         (' and '.join(meant) or ' and '.join(f'`{key}=`' for key in missing)))
    sides = on if isinstance(on, dict) else dict(student=on, teacher=on)
    if set(sides) != {'student', 'teacher'} or not all(
            isinstance(point, str) for point in sides.values()):
        raise TypeError("`on` must be a point, such as 'cls', or dict(student=point, "
                        f'teacher=point), but got {on!r}; write one of the two')
    if alpha is not None and _takes_alpha(loss['type']):
        loss, alpha = dict(loss, alpha=alpha), None
    if not (per_anchor is None or isinstance(per_anchor, bool)):
        raise TypeError(f'`per_anchor` must be True, False or None, but got {per_anchor!r}; '
                        'write one of these, or leave it out')
    if not (stage is None or isinstance(stage, (int, str))) or isinstance(stage, bool):
        raise TypeError("`stage` must be the number of a stage, from 0, or 'mean', but got "
                        f'{stage!r}; write one of these, or leave it out')
    if not (region is None or isinstance(region, (str, dict))):
        raise TypeError("`region` must be the name of a region, such as 'valid', or "
                        f"dict(type='mmkd.Foreground'), but got {region!r}; write one of these, or "
                        'leave it out')
    if not (isinstance(connector, dict) or connector is None or (
            isinstance(connector, str) and connector in CONNECTORS)):
        raise ValueError("`connector` must be 'auto', 'conv', None or dict(type=...), but got "
                         f'{connector!r}; write one of these, or leave it out')
    if alpha is not None and not 0 <= finite_number('alpha', alpha) <= 1:
        raise ValueError(f'`alpha` must be between 0 and 1, but got {alpha}; write a number '
                         'such as 0.5')
    if not isinstance(replaces, str) or replaces not in REPLACED:
        raise ValueError(f'`replaces` must be one of {", ".join(map(repr, REPLACED))}, but got '
                         f'{replaces!r}; write one of these, or leave it out')
    if replaces != 'all' and alpha is None:
        raise ValueError(f'`replaces={replaces!r}` needs `alpha`, the weight of the soft targets, '
                         'but the entry has none; write one, such as `alpha=0.5`')
    _check_list('levels', levels, int, '[0, 1]')
    _check_list('also', also, str, "['reg']")
    if through is not None and not (
            isinstance(through, dict) and set(through) - {'rescale'} == {'student', 'teacher'} and
            all(isinstance(through[key], str) for key in ('student', 'teacher')) and
            (isinstance(through.get('rescale', False), bool) or through['rescale'] == 'relu')):
        raise TypeError('`through` must be dict(student=PATH, teacher=PATH), dotted paths of '
                        'modules, and may have `rescale=True` or `"relu"`, but got '
                        f'{through!r}; write it so, or leave it out')
    if queries is not None and (not isinstance(queries, str) or queries not in QUERIES):
        raise ValueError(f'`queries` must be one of {", ".join(map(repr, QUERIES))}, but got '
                         f'{queries!r}; write one of these, or leave it out')
    if queries is not None and through is not None:
        raise ValueError('`queries` and `through` cannot be combined, but the entry has both; '
                         'leave out one of them')
    if images is not None and (not isinstance(images, str) or images not in IMAGES):
        raise ValueError(f'`images` must be one of {", ".join(map(repr, IMAGES))}, but got '
                         f'{images!r}; write one of these, or leave it out')
    (learner, on_student), (source, on_teacher) = (
        split_point(sides[side], side) for side in ('student', 'teacher'))
    loss, auto = split_weight(loss, learner=learner, alpha=alpha, queries=queries, images=images)
    with preserved_rng():
        built = build_entry(loss, MODELS, 'a loss of `distill`', DistillLoss, further=KEYS)
    check_class(type(built), PROVIDERS)
    if also is not None and built.also and len(also) != len(built.also):
        raise ValueError(f'`also={also!r}`, but {type(built).__name__} needs {len(built.also)} '
                         f'further points, such as {list(built.also)}; write this number of '
                         'points, or leave `also` out')
    method = type(built).__name__.removesuffix('Loss').lower()
    whose = '' if learner == 'student' else f'{learner}_'
    whom = '' if source == 'teacher' else f'_from_{source}'
    for_which = '' if queries is None else f'_{queries}_queries'
    where = f'{UNLABELLED}.' if images == 'unlabelled' else ''
    name = f'{where}loss_{whose}{on_student.replace(".", "_")}_{method}{whom}{for_which}' if (
        name is None) else name
    if not isinstance(name, str) or 'loss' not in name:
        raise ValueError("`name` must contain 'loss', because MMEngine only adds up such names, "
                         f"but got {name!r}; write for instance name='loss_a'")
    return TermSpec(learner, on_student, source, on_teacher, name, loss, per_anchor, stage, region,
                    connector, alpha, replaces, None if levels is None else tuple(levels),
                    tuple(built.also if also is None else also),
                    None if through is None else Through(**through), queries, images, auto)


KEYS = tuple(name for name, one in signature(read_entry).parameters.items()
             if one.kind is one.KEYWORD_ONLY)
"""Keys that every entry of ``distill`` may have, whatever its loss is."""


def _takes_alpha(kind: Any) -> bool:
    """Whether ``alpha`` of an entry is an argument of its loss, such as DKDLoss."""
    cls = MODELS.get(kind) if isinstance(kind, str) else kind
    return isinstance(cls, type) and 'alpha' in parameters_of(cls)[0]


def _check_list(name: str, value: Any, kind: type, shown: str) -> None:
    if value is None:
        return
    if not isinstance(value, (list, tuple)) or not all(
            isinstance(one, kind) and not isinstance(one, bool) for one in value) or (
                kind is int and (not value or len(set(value)) < len(value))):
        what = 'numbers of levels, each once' if kind is int else 'names of points'
        raise TypeError(f'`{name}` must be a list of {what}, but got {value!r}; write for instance '
                        f'{name}={shown}, or leave it out')


def split_point(written: str, side: str) -> Tuple[str, str]:
    """Split 'network:point' into network and point; for 'point' the network is ``side``."""
    network, colon, point = written.rpartition(':')
    return (network if colon else side), point
