"""Which method should a user try first? The order of the methods by family, with the reasons.

``--method auto`` and ``tools/inspect_pair.py --data`` follow it. The order follows the results in
docs/results. Change it here, and only here, when there are new ones.
"""
from typing import Callable, Dict, List, NamedTuple, Sequence, Tuple

AUTO = 'auto'
"""The word for the recommended method on the command line."""

DETECTION = 'docs/results/bccd'
METHODS_OF_DETECTORS = 'docs/results/bccd_methods'
TWO_STAGE = 'docs/results/bccd_faster_rcnn'
SEGMENTATION = 'docs/results/camvid_methods'
CLASSIFICATION = 'docs/classifiers.md'


class Choice(NamedTuple):
    """A method and the reason for it."""
    method: str
    """Name of a :class:`mmkd.losses.Method`, or several joined by '+'."""
    reason: str
    """One sentence without a full stop, with the page of the results."""


UNTESTED = 'no results of our own yet'
FEATURES = Choice('mimic', 'imitation of features needs nothing of the head')

CHOICES: Dict[str, Sequence[Choice]] = dict(
    dense=[
        Choice('dist', 'DIST raised a one-stage student from 45.9 to 51.4 AP, more than KD '
                       f'(47.0) and CWD (50.4) ({DETECTION})'),
        Choice('cwd', f'CWD raised a one-stage student from 45.9 to 50.4 AP ({DETECTION})'),
        Choice('pkd', 'PKD raised a one-stage student from 46.2 to 50.3 AP '
                      f'({METHODS_OF_DETECTORS})'),
        Choice('kd', f'KD raised a one-stage student from 45.9 to 47.0 AP ({DETECTION})')],
    roi=[
        Choice('dist+mimic', 'DIST with imitation of the neck raised a two-stage student from 51.6 '
                             f'to 52.6 AP, where DIST alone lowered it to 49.8 ({TWO_STAGE})'),
        FEATURES,
        Choice('pkd', f'PKD compares the patterns of features; {UNTESTED}'),
        Choice('cwd', f'CWD compares maps of the neck channel by channel; {UNTESTED}'),
        Choice('kd', f'KD compares class logits; {UNTESTED}')],
    segmentor=[
        Choice('cwd', 'CWD raised a segmentor from 42.6 to 47.6 mIoU, more than DIST (46.3) and KD '
                      f'(43.5) ({SEGMENTATION}); DIST has higher published figures'),
        Choice('dist', f'DIST raised a segmentor from 42.6 to 46.3 mIoU ({SEGMENTATION})'),
        Choice('kd', f'KD raised a segmentor from 42.6 to 43.5 mIoU ({SEGMENTATION})')],
    query=[
        Choice('pkd', 'PKD has 35.8 AP beside 34.5 of a detector with queries alone, one seed, '
                      'which is within the noise; DETRDistill has 33.2, and KD-DETR harmed, 28.4 '
                      f'({METHODS_OF_DETECTORS})'),
        Choice('detrdistill', 'DETRDistill has 33.2 AP beside 34.5 alone, one seed, which is '
                              f'within the noise ({METHODS_OF_DETECTORS})'),
        Choice('dist', f'predictions are paired by class and place; {UNTESTED}')],
    classifier=[
        Choice('kd', 'KD raised a classifier from 73.2 to 77.0 % top-1, DIST to 74.0, three seeds '
                     f'({CLASSIFICATION})'),
        Choice('dist', f'DIST raised a classifier from 73.2 to 74.0 % top-1 ({CLASSIFICATION})')],
)
"""By family of the student: methods, the preferred one first."""

OTHERS = [Choice('dist', f'DIST compares class logits; {UNTESTED} for this family'), FEATURES]


def order_of(kind: str) -> Tuple[str, ...]:
    """Methods for a family of students, the one to try first in front.

    Args:
        kind (str): Family of the student, see :data:`mmkd.losses.method.FAMILIES`.

    Example:
        >>> order_of('roi')
        ('dist+mimic', 'mimic', 'pkd', 'cwd', 'kd')
    """
    return tuple(choice.method for choice in _choices(kind))


def _choices(kind: str) -> List[Choice]:
    return list(dict.fromkeys([*CHOICES.get(kind, OTHERS), FEATURES]))


def recommended(kind: str, fits: Callable[[str], bool] = lambda method: True,
                is_module: bool = False) -> Choice:
    """The method to try first for a pair that was not measured.

    :func:`mmkd.worth.recommend` has the same order, and takes measurements of the pair into
    account.

    Args:
        kind (str): Family of the student, see :data:`mmkd.losses.method.FAMILIES`.
        fits (Callable): Whether a method can be used for the pair. Defaults to all.
        is_module (bool): Whether the teacher is a module of another library, which has features
            alone. Defaults to False.

    Raises:
        ValueError: If no method fits.

    Example:
        >>> recommended('dense').method
        'dist'
        >>> recommended('dense', fits=lambda method: method == 'mimic').method
        'mimic'
    """
    choices = [FEATURES] if is_module else _choices(kind)
    reasons = ['the teacher has features alone'] * is_module
    for number, choice in enumerate(choices):
        if fits(choice.method):
            skipped = [one.method for one in choices[:number]]
            reasons += [f'{", ".join(skipped)} cannot be used for this pair'] * bool(skipped)
            return Choice(choice.method, '; '.join([*reasons, choice.reason]))
    raise ValueError('no method is recommended for this pair, because '
                     f'{", ".join(one.method for one in choices)} cannot be used; '
                     'choose one that `tools/inspect_pair.py STUDENT TEACHER --methods` lists')
