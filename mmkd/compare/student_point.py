"""Can a loss be used at a point of the student?"""
from typing import Optional

from torch import nn

from ..core.asking import check_known
from ..losses import DistillLoss, LogitLoss
from ..losses.logits import check_activation
from ..points import ModelFamily, Point, family_of, find_point, points_of
from .connectors import build_connector
from .provided import OF_CRITERION, OF_GRID, OF_TRUTH
from .regions import Region
from .spec import TermSpec
from .stages import places
from .vocabulary import PROVIDERS, labelled_point


def find_student_point(spec: TermSpec, loss: DistillLoss, region: Optional[Region],
                       student: nn.Module) -> Point:
    """Find the point in the student, and check that the loss can be used there.

    For a :class:`LogitLoss` without ``use_sigmoid``, the activation is read from the head.

    Args:
        spec (TermSpec): The entry.
        loss (DistillLoss): Its loss.
        region (Region, optional): Its region.
        student (nn.Module): The student.

    Raises:
        ValueError: If there is no such point, or the loss cannot be used there.
    """
    point = find_point(student, spec.on_student, 'student')
    kind = type(loss).__name__
    family = family_of(student)
    _check_several_labels(spec, point, loss, region)
    if isinstance(loss, LogitLoss) and point.coding:
        raise ValueError(f'`{spec.on_student}` of the student contains boxes, but {kind} compares '
                         'class probabilities; use mmkd.MSELoss for boxes')
    if isinstance(loss, LogitLoss) and loss.use_sigmoid is None:
        if point.use_sigmoid is None:
            raise ValueError(
                f'`{spec.on_student}` of the student is not known to be class logits, so its '
                "activation is not known; compare 'cls', or write `use_sigmoid=True` or `False` in "
                f'the entry of {kind}')
        check_activation(loss, f'`{spec.on_student}` of the student is activated by sigmoid',
                         point.use_sigmoid)
        loss.use_sigmoid = point.use_sigmoid
    if spec.through is not None:
        find_point(student, spec.through.student, 'student')
        if point.queries:
            raise ValueError('`through` needs positions that both models share, but '
                             f'`{spec.on_student}` of the student is a set of queries, which '
                             "differ in the teacher; compare 'cls' of a dense head or a RoI head")
    if spec.queries is not None and not point.queries:
        raise ValueError(f'`queries={spec.queries!r}` needs predictions for queries, but '
                         f"`{spec.on_student}` of the student has none; compare 'cls' or 'reg' of "
                         'a detector of the DETR family, or leave `queries` out')
    if spec.alpha is not None and not point.criteria:
        raise ValueError(
            "`alpha` scales the student's loss on labels, but mmkd does not know which loss this "
            f"is for `{spec.on_student}`; use `alpha` with 'cls' of a dense head, a RoI head, a "
            'segmentor or a classifier')
    if spec.replaces == 'background' and not family.has_background:
        raise ValueError("`replaces='background'` needs labels for the background, but the student "
                         f"is one of the {family.family}, which have none; write `replaces='all'`, "
                         'or leave it out')
    asked = {f'`compare` of {kind}': loss.asked()}
    if region is not None:
        asked[f'`region={spec.region!r}`'] = region.asked()
    if isinstance(spec.connector, dict):
        connector = build_connector(spec.connector)
        asked[f'`forward` of {type(connector).__name__}'] = connector.asked().without('teacher')
    is_talking = loss.communicates or any(
        name in one.names for name in ('num_positives', 'centerness_sum') for one in asked.values())
    is_cascade = bool(point.stages) or any(
        path.startswith(f'{own}.') or path == own for one in points_of(student, 'student').values()
        for stage in one.stages for own in (*stage.paths, *stage.asked_at) for path in point.paths)
    if is_talking and (is_cascade or point.queries):
        what = ('a cascade, which may stop before a stage' if is_cascade else
                'a set, which may not be paired')
        setting = '`sync=True`' if getattr(loss, 'sync', False) else (
            f'{kind} exchanges tensors between processes')
        raise ValueError(f'{setting}, but `{spec.on_student}` of the student is {what} in one '
                         'process, and the others would wait for it; ' +
                         ('write `sync=False`' if getattr(loss, 'sync', False) else
                          'choose another point, or a loss that does not communicate'))
    for what, one in asked.items():
        check_known(what, one, PROVIDERS)
        for name in one.required:
            problem = _not_provided(name, point, family, spec, student)
            if problem:
                leave = ', or leave `region` out' if what.startswith('`region') else ''
                raise ValueError(f'{what} requires `{name}`, but {problem}{leave}')
    if spec.connector in ('conv', ) and point.is_prediction:
        raise ValueError(f"`connector='conv'`, but `{spec.on_student}` of the student is a "
                         'prediction, which has no connector; leave `connector` out')
    if isinstance(spec.connector, dict) and point.is_prediction:
        raise ValueError(f"`connector={spec.connector!r}`, but `{spec.on_student}` of the student "
                         'is a prediction, which has no connector; leave `connector` out')
    return point


def _check_several_labels(spec: TermSpec, point: Point, loss: DistillLoss,
                          region: Optional[Region]) -> None:
    """Check that labels are not required where a prediction may have several.

    Raises:
        ValueError: If they are.
    """
    required = [name for one in (loss, region) if one is not None for name in one.asked().required]
    if point.has_several_labels and any(name in OF_CRITERION for name in required):
        raise ValueError(f'{type(loss).__name__} requires one label for each position, but at '
                         f'`{spec.on_student}` of the student an image may have several; use '
                         'mmkd.KDLoss or mmkd.DISTLoss, which need no labels')


def _not_provided(name: str, point: Point, family: ModelFamily, spec: TermSpec,
                  student: nn.Module) -> str:
    """Why a value is not available at a point, and the remedy; '' if it may be available."""
    labelled = labelled_point(point, [find_point(student, one, 'student') for one in spec.also])
    if name in OF_CRITERION and not labelled.criteria:
        return ('no loss module of the student has a label for each position of '
                f"`{spec.on_student}`; compare 'cls' of a dense head, a RoI head, a segmentor or a "
                'classifier, or choose a loss that does not need labels')
    if name in OF_CRITERION and labelled.is_on_scores:
        return ("the targets of its head's loss are scores, so the label of each position is not "
                'known; choose a loss without labels')
    if name in OF_TRUTH and name not in family.truth:
        return (f'the data of the student, one of the {family.family}, does not contain it; choose '
                'another')
    if name == 'centerness_sum' and not labelled.centred_by:
        return ('the head of the student has no centerness; choose a loss that does not need it')
    if name in OF_GRID and (point.asked_at or point.queries):
        return (f'`{spec.on_student}` of the student predicts for {places(point)}, not for a grid; '
                "compare 'neck' or 'backbone'")
    if name.endswith('_also') and not spec.also:
        return "the entry has no further points; write for instance also=['reg']"
    return ''
