"""Which method does an examination recommend, and why? All rules are in :func:`recommend`."""
from dataclasses import asdict, dataclass, field
from typing import Any, Dict, List, Optional, Tuple

from ..losses.recommended import order_of
from .findings import Findings, MethodFinding

HIDDEN = 1 / 3
"""From this share on a teacher counts as having memorised its images; see :func:`is_memorised`."""

NEGLIGIBLE = 0.01
"""Methods with less than this share of the task's gradient cannot change what is learned."""

OPPOSED = -0.3
"""Methods whose gradient has a smaller cosine with the task's undo a third of it or more at equal
size."""


ERRORS = 2
"""Standard errors that a difference between two networks, or two splits, must exceed to count."""


@dataclass
class Recommendation:
    """What to do with a pair.

    Example:
        >>> Recommendation('distil', 'dist').headline
        'Distil with --method dist.'
    """
    verdict: str
    """'distil', or 'another teacher', or 'no method'."""
    method: str = ''
    """Value of ``--method``; '' if there is none."""
    reasons: List[str] = field(default_factory=list)
    """Three lines."""

    @property
    def headline(self) -> str:
        """The recommendation in one line."""
        return {'distil': f'Distil with --method {self.method}.',
                'another teacher': 'Do not distil from this teacher: look for a better one.',
                'no method': 'Do not distil this pair: no method is left.'}[self.verdict]

    def as_dict(self) -> Dict[str, Any]:
        return dict(asdict(self), headline=self.headline)


def recommend(found: Findings) -> Recommendation:
    """Recommend one method, or none.

    1. The score. If the student has a checkpoint, and the teacher's score on the validation set is
       not above the student's: another teacher.
    2. The point. If the student has a checkpoint, and the teacher is worse at the point on held-out
       images, by cross entropy or by accuracy, and better by neither (:func:`is_better`), its
       predictions there are worse labels than the student has. Then only methods without
       predictions remain. A teacher that has memorised its images (:func:`is_memorised`) is named
       so; this alone excludes nothing, because it may still be better on held-out images.
    3. The gradients. Methods remain whose gradient is at least :data:`NEGLIGIBLE` of the task's,
       and whose cosine with it is at least :data:`OPPOSED`.
    4. The evidence. The first that remains, in the order of
       :func:`mmkd.losses.recommended.order_of`. Other methods follow in the order of their names.
       If none remains: no method.

    What was not measured excludes nothing.

    Args:
        found (Findings): The figures.

    Returns:
        Recommendation: The verdict, the method, and a line for each of: score, point, gradient.

    Example:
        >>> found = Findings('s.py', 't.py', kind='dense', methods=[
        ...     MethodFinding('kd', ['cls'], ['prediction'], ratio=0.5, cosine=0.3)])
        >>> recommend(found).headline
        'Distil with --method kd.'
    """
    about_score, is_worse = _score(found)
    about_point, is_empty = _point(found)
    if is_worse:
        return Recommendation('another teacher', '', [
            about_score, about_point,
            'A method can at best bring the student to its teacher; train the teacher longer, on '
            'more data or with stronger augmentation, or take a larger one.'])
    usable = [one for one in found.methods if not one.problem]
    if is_empty:
        usable = [one for one in usable if 'prediction' not in one.kinds]
    usable, dropped = _by_gradient(usable)
    order = order_of(found.kind)
    usable.sort(key=lambda one: (order.index(one.name) if one.name in order else len(order),
                                 one.name))
    if not usable:
        return Recommendation('no method', '', [about_score, about_point, (
            f'The gradients exclude {", ".join(dropped)}.' if dropped else
            'No method with features alone fits the pair.' if is_empty else
            'No method fits the pair.')])
    best = usable[0]
    return Recommendation('distil', best.name, [about_score, about_point, _gradient(best, found)])


def is_memorised(found: Findings) -> bool:
    """Whether the teacher knows its training images by heart at the point.

    Its cross entropy on training images is lower than on held-out images. The share of the latter
    that training images hide, 1 - (training / held-out), must exceed :data:`HIDDEN` and the share
    of the student, and the difference of both cross entropies two standard errors.

    A third is the value where the teacher seems to be wrong by 1 nat and is wrong by 1.5: on
    training images its probabilities are then closer to the labels than its knowledge is, so a
    third of what could be learned beyond the labels is missing. The student's own share accounts
    for a held-out set that is harder.

    Example:
        >>> from mmkd.worth.findings import Standing
        >>> sides = lambda train, held: Standing(dict(cross_entropy=train, error=0.01),
        ...                                      dict(cross_entropy=held, error=0.02))
        >>> is_memorised(Findings('s', 't', is_trained=True, standings=dict(
        ...     teacher=sides(0.217, 0.422), student=sides(0.343, 0.359))))
        True
    """
    teacher, student = (hidden_share(found, name) for name in ('teacher', 'student'))
    if teacher is None or not found.standings['teacher'].train:
        return False
    own = student if found.is_trained and student is not None else 0.
    sides = found.standings['teacher']
    gap = sides.held_out['cross_entropy'] - sides.train['cross_entropy']
    errors = sides.held_out['error'], sides.train['error']
    if None in errors:
        return False
    return bool(teacher > HIDDEN and teacher > own and
                gap > ERRORS * (errors[0]**2 + errors[1]**2)**.5)


def hidden_share(found: Findings, network: str) -> Optional[float]:
    """1 - (cross entropy on training images / on held-out images); None if it was not measured."""
    sides = found.standings.get(network)
    if sides is None or not sides.train or not sides.held_out:
        return None
    held_out = sides.held_out['cross_entropy']
    return 1 - sides.train['cross_entropy'] / held_out if held_out > 0 else 0.


def is_better(found: Findings) -> Optional[bool]:
    """Whether the teacher is better than the student at the point on held-out images.

    A difference counts if it exceeds :data:`ERRORS` standard errors of the differences by image
    (:func:`mmkd.worth.tally.advantage`). The teacher is better if its cross entropy is lower or its
    accuracy higher, and worse if neither is so, and one of both is the other way round.

    Returns:
        bool | None: None if the images do not tell, if it was not measured, or if the student is
        not trained.

    Example:
        >>> found = lambda *two: Findings('s', 't', is_trained=True, advantage=dict(
        ...     cross_entropy=two[0], accuracy=two[1]))
        >>> is_better(found([0.1, 0.02], [-1., 0.1])), is_better(found([0.1, 0.2], [-1., 0.1]))
        (True, False)
        >>> is_better(found([0.1, 0.2], [-1., 2.])) is None
        True
    """
    if not found.is_trained or not found.advantage:
        return None
    sides = [0 if abs(difference) <= ERRORS * error else 1 if difference > 0 else -1
             for difference, error in found.advantage.values()]
    return True if 1 in sides else False if -1 in sides else None


def _score(found: Findings) -> Tuple[str, bool]:
    teacher, student = found.score('teacher'), found.score('student')
    if teacher is None:
        return 'Score: the teacher was not evaluated.', False
    if student is None or not found.is_trained:
        return (f'Score: the teacher has {found.metric} {teacher:g}; the student has no checkpoint '
                'to compare it with (--student-checkpoint).'), False
    return (f'Score: {found.metric} {teacher:g} of the teacher, {student:g} of the student alone.',
            teacher <= student)


def _point(found: Findings) -> Tuple[str, bool]:
    """A line on the teacher at the point, and whether its predictions are of no use."""
    sides = found.standings.get('teacher')
    if sides is None or not sides.held_out:
        return 'Point: the teacher was not measured against labels at a point.', False
    held = sides.held_out
    figures = f'{held["accuracy"]:.1f} % right, cross entropy {held["cross_entropy"]:.3f}'
    if sides.train:
        figures += (f' (training images: {sides.train["accuracy"]:.1f} %, '
                    f'{sides.train["cross_entropy"]:.3f})')
    text = f'Point `{found.point}`, held-out images: the teacher has {figures}'
    student = found.standings.get('student')
    if found.is_trained and student is not None and student.held_out:
        text += (f', the student {student.held_out["accuracy"]:.1f} %, '
                 f'{student.held_out["cross_entropy"]:.3f}')
    if is_memorised(found):
        text += '; it has memorised its training images'
    better = is_better(found)
    if better is False:
        return f'{text}; it is worse there, so only features are compared.', True
    if better is None and found.is_trained and found.advantage:
        text += f'; the difference is within {ERRORS} standard errors, which excludes nothing'
    return f'{text}.', False


def _by_gradient(methods: List[MethodFinding]) -> Tuple[List[MethodFinding], List[str]]:
    """Methods that rule 3 leaves, and what it excludes, in words."""
    kept, dropped = [], []
    for one in methods:
        if one.ratio is not None and one.ratio < NEGLIGIBLE:
            dropped.append(f'{one.name} ({one.ratio:.2g} of the gradient of the task)')
        elif one.cosine is not None and one.cosine < OPPOSED:
            dropped.append(f'{one.name} (cosine {one.cosine:.2f})')
        else:
            kept.append(one)
    return kept, dropped


def _gradient(best: MethodFinding, found: Findings) -> str:
    text = f'Method: {best.name} compares {", ".join(f"`{on}`" for on in best.on)}'
    if best.ratio is not None and best.cosine is not None:
        text += (f'; its gradient on the {best.shared} has {best.ratio:.2g} times the norm of the '
                 f"task's, at cosine {best.cosine:+.2f}")
    alone = found.alone.get('seconds')
    if best.seconds and alone:
        text += f'; a step takes {best.seconds / alone:.2f} times that of the student alone'
    return f'{text}.'
