"""What made students worse than labels alone in our own results? A run that has it is warned.

Add a row when docs/results has a new one: a loss beyond the spread of the student alone with three
seeds, or of more than 4 AP or mIoU with one seed.
"""
from typing import Any, Callable, List, NamedTuple

from torch import nn

from .. import losses as losses_of_mmkd
from ..losses import METHODS
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
    """Page of the results, a key of :data:`DATA`."""
    remedy: str
    """What to do instead."""
    applies: Callable[[Any], bool]
    """Whether a :class:`mmkd.training.distillation.Distillation` has it."""


def _with_weight_of_authors(*losses: str) -> Callable[[Any], bool]:
    """Whether a term has one of the losses, with a weight that a method writes for it."""
    def applies(distillation: Any) -> bool:
        kinds = [getattr(losses_of_mmkd, name) for name in losses]
        return any(type(term.loss) in kinds and term.spec.auto is None and
                   term.loss.loss_weight in _weights_of(type(term.loss))
                   for term in distillation.terms)
    return applies


def _weights_of(loss: type) -> List[float]:
    default = loss().loss_weight
    return [entry.get('loss_weight', default) for method in METHODS.values()
            for recipe in method.recipes().values() for entry in recipe.entries
            if entry['type'] == f'mmkd.{loss.__name__}']


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


BCCD, CAMVID, TWO_STAGE, SCHEMES = (f'docs/results/{name}' for name in (
    'bccd_methods', 'camvid_methods', 'bccd_faster_rcnn', 'schemes'))
DATA = {CAMVID: 'CamVid, 367 images', **dict.fromkeys((BCCD, TWO_STAGE, SCHEMES),
                                                      'BCCD, 205 images')}
LIGHTER = "try `loss_weight='auto'`, or --method dist"
TRAINED = 'take a trained teacher if there is one'
HARMS = [
    Harm("PGD with its authors' weights", 'dense', '46.2 ± 2.0 to 30.5 ± 1.7 AP, 3 seeds', BCCD,
         LIGHTER, _with_weight_of_authors('PGDClsLoss', 'PGDRegLoss')),
    *(Harm(f"{name} with its authors' weight", kind, figures, page, LIGHTER,
           _with_weight_of_authors(f'{name}Loss')) for name, kind, figures, page in (
        ('FBKD', 'dense', '46.2 ± 2.0 to 35.7 ± 1.4 AP, 3 seeds', BCCD),
        ('RKD', 'dense', '47.9 to 43.6 AP, 1 seed', BCCD),
        ('AT', 'segmentor', '42.6 ± 0.1 to 25.2 ± 2.5 mIoU, 3 seeds', CAMVID),
        ('DSD', 'segmentor', '42.6 ± 0.1 to 25.3 ± 3.4 mIoU, 3 seeds', CAMVID),
        ('SP', 'segmentor', '42.6 to 36.8 mIoU, 1 seed', CAMVID),
        ('IFVD', 'segmentor', '42.6 to 37.1 mIoU, 1 seed', CAMVID))),
    Harm('KD-DETR with its default weights', 'query', '34.5 to 28.4 AP, 1 seed', BCCD,
         'take --method pkd', _with_weight_of_authors('KDDETRLoss')),
    Harm('DIST alone', 'roi', '51.6 ± 0.7 to 49.8 ± 0.3 AP, 3 seeds', TWO_STAGE,
         'take --method dist+mimic', _dist_alone),
    Harm('mutual learning', 'dense', '47.3 to 40.5 AP, 1 seed', SCHEMES, TRAINED, _is_mutual),
    Harm('be your own teacher', 'dense', '47.3 to 43.0 AP, 1 seed', SCHEMES, TRAINED,
         _is_own_teacher),
]


def warnings_about(student: nn.Module, distillation: Any) -> List[str]:
    """One sentence for each part of a run that made students of this kind worse.

    Args:
        student (nn.Module): The student.
        distillation (Distillation): What teaches it.
    """
    kind = family_of(student).kind
    return [f'{harm.what} lowered the score of such a student on {DATA[harm.page]}, from '
            f'{harm.figures} ({harm.page}); {harm.remedy}, and compare with the student alone'
            for harm in HARMS if harm.kind == kind and harm.applies(distillation)]
