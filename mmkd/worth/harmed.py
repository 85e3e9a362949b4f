"""What made students worse than labels alone in our own results? ``tools/train.py`` warns of it.

Add a row when docs/results has a new one: a loss beyond the spread of the student alone with three
seeds, or beyond twice that spread, 4 AP, with one seed.
"""
from typing import Any, Callable, List, NamedTuple

from ..points import family_of


class Harm(NamedTuple):
    """A method or scheme that lowered the score of a student."""
    what: str
    """Its name."""
    kind: str
    """Family of the student, see :data:`mmkd.losses.method.FAMILIES`."""
    figures: str
    """Scores alone and with it, and the number of seeds."""
    page: str
    """Page of the results."""
    remedy: str
    """What to do instead."""
    applies: Callable[[Any], bool]
    """Whether a :class:`mmkd.training.distillation.Distillation` has it."""


def _with_weight_of_authors(*losses: str) -> Callable[[Any], bool]:
    def applies(distillation: Any) -> bool:
        return any(type(term.loss).__name__ in losses and term.spec.auto is None and
                   term.loss.loss_weight == type(term.loss)().loss_weight
                   for term in distillation.terms)
    return applies


def _dist_alone(distillation: Any) -> bool:
    return {type(term.loss).__name__ for term in distillation.terms} == {'DISTLoss'}


def _is_mutual(distillation: Any) -> bool:
    """Two networks teach each other."""
    pairs = {(term.spec.learner, term.spec.source) for term in distillation.terms}
    return any((source, learner) in pairs for learner, source in pairs if learner != source)


def _is_own_teacher(distillation: Any) -> bool:
    """Branches on parts of the student learn from it, and it learns from no other network."""
    return bool(distillation.terms) and all(
        term.spec.source == 'student' and
        getattr(distillation.networks[term.spec.learner], 'shared', None)
        for term in distillation.terms)


METHODS, SCHEMES = 'docs/results/bccd_methods', 'docs/results/schemes'
HARMS = [
    Harm("PGD with its authors' weights", 'dense', '46.2 ± 2.0 to 30.5 ± 1.7 AP, 3 seeds', METHODS,
         "try `loss_weight='auto'`, or --method dist",
         _with_weight_of_authors('PGDClsLoss', 'PGDRegLoss')),
    Harm("FBKD with its authors' weight", 'dense', '46.2 ± 2.0 to 35.7 ± 1.4 AP, 3 seeds', METHODS,
         "try `loss_weight='auto'`, or --method dist", _with_weight_of_authors('FBKDLoss')),
    Harm("RKD with its authors' weight", 'dense', '47.9 to 43.6 AP, 1 seed', METHODS,
         "try `loss_weight='auto'`, or --method dist", _with_weight_of_authors('RKDLoss')),
    Harm('DIST alone', 'roi', '51.6 ± 0.7 to 49.8 ± 0.3 AP, 3 seeds',
         'docs/results/bccd_faster_rcnn', 'take --method dist+mimic', _dist_alone),
    Harm('mutual learning', 'dense', '47.3 to 40.5 AP, 1 seed', SCHEMES,
         'take a trained teacher if there is one', _is_mutual),
    Harm('be your own teacher', 'dense', '47.3 to 43.0 AP, 1 seed', SCHEMES,
         'take a trained teacher if there is one', _is_own_teacher),
]


def warnings_about(distiller: Any) -> List[str]:
    """One sentence for each part of a run that made students of this kind worse.

    Args:
        distiller (Distiller): The model of the run.
    """
    kind = family_of(distiller.student).kind
    return [f'{harm.what} lowered the score of such a student on BCCD, 205 images, from '
            f'{harm.figures} ({harm.page}); {harm.remedy}, and compare with the student alone'
            for harm in HARMS if harm.kind == kind and harm.applies(distiller.distillation)]
