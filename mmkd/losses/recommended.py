"""Which method should a user try first? The rule of ``--method auto``, with its reasons.

The rule follows the results in docs/results. Change it here, and only here, when there are new
ones.
"""
from typing import Callable, Dict, NamedTuple, Optional, Sequence, Tuple

AUTO = 'auto'
"""The word for the recommended method on the command line."""

DETECTION = 'docs/results/bccd'
TWO_STAGE = 'docs/results/bccd_faster_rcnn'
SEGMENTATION = 'docs/results/camvid'


class Choice(NamedTuple):
    """A method and the reason for it."""
    method: str
    """Name of a :class:`mmkd.losses.Method`, or several joined by '+'."""
    reason: str
    """One sentence without a full stop, with the page of the results."""


class Recommendation(NamedTuple):
    """The method to try first."""
    method: str
    """Name of a :class:`mmkd.losses.Method`, or several joined by '+'."""
    reasons: Tuple[str, ...]
    """Sentences without a full stop."""

    def __str__(self) -> str:
        return f'{self.method}: {"; ".join(self.reasons)}'


UNTESTED = 'no results of our own yet'
FEATURES = Choice('mimic', 'imitation of features needs nothing of the head')

CHOICES: Dict[str, Sequence[Choice]] = dict(
    dense=[
        Choice('dist', 'DIST raised a one-stage student from 45.9 to 51.4 AP, more than KD '
                       f'(47.0) and CWD (50.4) ({DETECTION})'),
        Choice('kd', f'KD raised a one-stage student from 45.9 to 47.0 AP ({DETECTION})')],
    roi=[
        Choice('dist+mimic', 'DIST with imitation of the neck raised a two-stage student from 51.6 '
                             f'to 52.6 AP, where DIST alone lowered it to 49.8 ({TWO_STAGE})')],
    segmentor=[
        Choice('dist', 'DIST raised a segmentor from 32.3 to 33.3 mIoU, as much as KD, but within '
                       f'the spread of the seeds ({SEGMENTATION})'),
        Choice('cwd', f'CWD is for logits of segmentors; {UNTESTED}')],
    query=[
        Choice('kd_detr', f'both detectors predict for the same queries; {UNTESTED}'),
        Choice('detrdistill', f'predictions are paired by class and place; {UNTESTED}'),
        Choice('dist', f'predictions are paired by class and place; {UNTESTED}')],
    classifier=[
        Choice('dist', f'DIST is for class logits, which a classifier has; {UNTESTED}')],
)
"""By family of the student: methods, the preferred one first."""

OTHERS = [Choice('dist', f'DIST compares class logits; {UNTESTED} for this family'), FEATURES]


def recommended(kind: str, fits: Callable[[str], bool] = lambda method: True,
                is_module: bool = False,
                is_memorised: Optional[bool] = None) -> Recommendation:
    """The method to try first for a pair.

    Args:
        kind (str): Family of the student, see :data:`mmkd.losses.method.FAMILIES`.
        fits (Callable): Whether a method can be used for the pair. Defaults to all.
        is_module (bool): Whether the teacher is a module of another library, which has features
            alone. Defaults to False.
        is_memorised (bool, optional): Whether the teacher is much better on its training images
            than on others at the point that is compared. Then its logits on training images say
            little more than the labels, and its features are compared. Defaults to None, not
            measured.

    Raises:
        ValueError: If no method fits.

    Example:
        >>> recommended('dense').method
        'dist'
        >>> recommended('roi', is_memorised=True).method
        'mimic'
        >>> recommended('dense', fits=lambda method: method == 'mimic').method
        'mimic'
    """
    choices = [*CHOICES.get(kind, OTHERS), FEATURES]
    before: Tuple[str, ...] = ()
    if is_module:
        choices, before = [FEATURES], ('the teacher has features alone', )
    elif is_memorised:
        choices = [FEATURES, *choices]
        before = ('the teacher has learned its training images by heart, so its predictions there '
                  f'say little more than the labels ({TWO_STAGE})', )
    for number, choice in enumerate(choices):
        if fits(choice.method):
            skipped = [one.method for one in choices[:number]]
            left_out = (f'{", ".join(skipped)} cannot be used for this pair', ) if skipped else ()
            return Recommendation(choice.method, (*before, *left_out, choice.reason))
    raise ValueError('no method is recommended for this pair, because '
                     f'{", ".join(dict.fromkeys(one.method for one in choices))} cannot be used; '
                     'choose one that `tools/inspect_pair.py STUDENT TEACHER --methods` lists')
