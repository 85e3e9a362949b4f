"""What made students worse than labels alone in our own results? ``tools/train.py`` warns of it.

Add a row when docs/results has a new one. Only differences beyond the spread of the student alone
are rows.
"""
from typing import Any, Callable, List, NamedTuple, Sequence

from ..compare.spec import TermSpec
from ..points import family_of

Specs = Sequence[TermSpec]


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
    applies: Callable[[Specs], bool]
    """Whether a run has it, by its entries of ``distill``."""


def _types(specs: Specs) -> List[str]:
    return [str(spec.loss['type']).rpartition('.')[2] for spec in specs]


def _with_weight_of_authors(*losses: str) -> Callable[[Specs], bool]:
    def applies(specs: Specs) -> bool:
        return any(name in losses and spec.auto is None
                   for name, spec in zip(_types(specs), specs))
    return applies


def _dist_alone(specs: Specs) -> bool:
    return bool(specs) and set(_types(specs)) == {'DISTLoss'}


def _is_mutual(specs: Specs) -> bool:
    """Two networks teach each other."""
    pairs = {(spec.learner, spec.source) for spec in specs}
    return any((source, learner) in pairs for learner, source in pairs if learner != source)


def _is_own_teacher(specs: Specs) -> bool:
    """A branch learns from the student, and the student from no other network."""
    return bool(specs) and not _is_mutual(specs) and all(
        spec.source == 'student' and spec.learner != 'student' for spec in specs)


METHODS, SCHEMES = 'docs/results/bccd_methods', 'docs/results/schemes'
HARMS = [
    Harm("PGD with its authors' weights", 'dense', '46.2 ± 2.0 to 30.5 ± 1.7 AP, 3 seeds', METHODS,
         "try `loss_weight='auto'`, or --method dist",
         _with_weight_of_authors('PGDClsLoss', 'PGDRegLoss')),
    Harm("FBKD with its authors' weight", 'dense', '46.2 ± 2.0 to 35.7 ± 1.4 AP, 3 seeds', METHODS,
         "try `loss_weight='auto'`, or --method dist", _with_weight_of_authors('FBKDLoss')),
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
    kind, specs = family_of(distiller.student).kind, [term.spec for term in distiller.terms]
    return [f'{harm.what} lowered the score of such a student on BCCD, 205 images, from '
            f'{harm.figures} ({harm.page}); {harm.remedy}, and compare with the student alone'
            for harm in HARMS if harm.kind == kind and harm.applies(specs)]
