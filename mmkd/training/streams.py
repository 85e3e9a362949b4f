"""Which entries of ``distill`` are for which images, and do they fit?"""
from typing import Any, Dict, List, Optional, Sequence

from torch import nn

from ..compare.connectors import Connector
from ..compare.provided import OF_DATA
from ..compare.spec import UNLABELLED
from ..compare.term import Term
from ..core.build import build_entry, find_type
from ..networks import BaseTeacher, Committee, LiveNetwork, Partner
from ..networks.predicting import is_classifier
from ..points.batches import AsGiven
from ..registry import MODELS
from .pseudo_labels import PseudoLabels

EXAMPLE = "unlabelled='path/to/images'"


def is_pseudo_labels(entry: Dict[str, Any]) -> bool:
    """Whether an entry of ``distill`` is one of :class:`mmkd.PseudoLabels`."""
    kind = entry.get('type')
    cls = find_type(kind, MODELS) if isinstance(kind, str) else kind
    return isinstance(cls, type) and issubclass(cls, PseudoLabels)


def pseudo_labels_of(distill: Sequence[Dict[str, Any]],
                     built: Dict[str, BaseTeacher]) -> Optional[PseudoLabels]:
    """Build the entry with pseudo-labels; None if there is none.

    Args:
        distill (Sequence[dict]): The entries.
        built (dict[str, BaseTeacher]): The networks except the student, by name.

    Raises:
        ValueError: If there are several, or the network that labels does not exist.
    """
    found: List[PseudoLabels] = [build_entry(entry, MODELS, 'pseudo-labels of `distill`',
                                             PseudoLabels)
                                 for entry in distill if is_pseudo_labels(entry)]
    if not found:
        return None
    if len(found) > 1:
        raise ValueError(f'`distill` has {len(found)} entries of mmkd.PseudoLabels, but an image '
                         'can have only one set of labels; keep one of them')
    name = found[0].teacher
    known = [one for key, network in built.items() for one in (
        [f'{key}.{i}' for i, _ in enumerate(network.members)] if isinstance(network, Committee)
        else [] if isinstance(network, LiveNetwork) else [key])]
    if name not in known:
        raise ValueError(
            f'mmkd.PseudoLabels: the network `{name}` labels the images, but ' +
            ('it is a committee' if isinstance(built.get(name), Committee) else
             'it is trained' if name in built else 'there is no such network') +
            (f'; write `teacher=` one of {", ".join(map(repr, known))}' if known else
             '; add a `teacher`'))
    return found[0]


def check_batches(batches: AsGiven, student: nn.Module, unlabelled: Any,
                  pseudo_labels: Optional[PseudoLabels]) -> None:
    """Refuse unlabelled images for a student that is given more than images and samples, and
    pseudo-labels for a classifier.

    Raises:
        ValueError: If there are unlabelled images, or pseudo-labels.
    """
    if pseudo_labels is not None and is_classifier(student):
        raise ValueError(f'mmkd.PseudoLabels labels objects and pixels, but the student, '
                         f'{type(student).__name__}, is a classifier; leave the entry, or '
                         '--pseudo-labels, out: mmkd.KDLoss and mmkd.DISTLoss compare on '
                         'unlabelled images, too')
    if unlabelled is not None and type(batches) is not AsGiven:
        raise ValueError(f'`unlabelled` is for models that are given images and a list of samples, '
                         f'but {type(student).__name__} is given something else; leave out '
                         '`unlabelled`, or label the images by tools/label.py')


def images_of(term: Term, networks: Dict[str, BaseTeacher]) -> str:
    """The images of a term: 'all', 'labelled' or 'unlabelled'."""
    if term.spec.images is not None:
        return term.spec.images
    return 'labelled' if _is_of_partner(term, networks) else 'all'


def terms_for(images: str, terms: Sequence[Term], networks: Dict[str, BaseTeacher]) -> List[Term]:
    """The terms that are computed for labelled or for unlabelled images.

    Args:
        images (str): 'labelled' or 'unlabelled'.
        terms (Sequence[Term]): All terms.
        networks (dict[str, BaseTeacher]): All networks by name.
    """
    return [term for term in terms if images_of(term, networks) in ('all', images)]


def name_in_stream(name: str) -> str:
    """Name of a loss on unlabelled images."""
    return name if name.startswith(f'{UNLABELLED}.') else f'{UNLABELLED}.{name}'


def check_streams(terms: Sequence[Term], networks: Dict[str, BaseTeacher],
                  pseudo_labels: Optional[PseudoLabels], has_unlabelled: bool) -> None:
    """Check that entries and unlabelled images fit.

    Args:
        terms (Sequence[Term]): All terms.
        networks (dict[str, BaseTeacher]): All networks by name.
        pseudo_labels (PseudoLabels, optional): The entry with pseudo-labels.
        has_unlabelled (bool): Whether there are unlabelled images.

    Raises:
        ValueError: If a check fails.
    """
    if not has_unlabelled:
        names = [f'`{term.name}` has images={term.spec.images!r}' for term in terms
                 if term.spec.images == 'unlabelled']
        names += ['mmkd.PseudoLabels labels unlabelled images'] * (pseudo_labels is not None)
        if names:
            raise ValueError(f'{names[0]}, but the model has none; write {EXAMPLE} in the '
                             'mmkd.Distiller, or leave the entry out')
        return
    second = terms_for('unlabelled', terms, networks)
    if not second and pseudo_labels is None:
        raise ValueError("there are `unlabelled` images, but no entry of `distill` uses them; "
                         "write images='all' in one, or add dict(type='mmkd.PseudoLabels')")
    names = [term.name for term in terms]
    for term in second:
        if _is_of_partner(term, networks):
            raise ValueError(f'`{term.name}` has images={term.spec.images!r}, but compares '
                             'networks that are trained beside the student, on labelled images '
                             "only; write images='labelled'")
        if name_in_stream(term.name) != term.name and name_in_stream(term.name) in names:
            raise ValueError(f'`{name_in_stream(term.name)}` is the name of an entry, but also the '
                             f"name of `{term.name}` on unlabelled images; write images='labelled' "
                             'in the latter, or give it another `name=`')
        _check_values(term, pseudo_labels is not None, networks['student'].model)


def _check_values(term: Term, has_labels: bool, student: Any) -> None:
    """Check that a term can be computed for unlabelled images."""
    asked = [part.loss.asked() for part in term.parts]
    asked += [part.region.asked() for part in term.parts if part.region is not None]
    asked += [one.asked() for part in term.parts for one in part.connectors
              if isinstance(one, Connector)]
    required = {name for one in asked for name in one.required}
    labels = [name for name in OF_DATA if name in required]
    if term.spec.replaces == 'background':
        labels.append("replaces='background'")
    if labels and not has_labels:
        or_label = '' if is_classifier(student) else ", or add dict(type='mmkd.PseudoLabels')"
        raise ValueError(
            f'`{term.name}` needs labels (`{labels[0]}`), which unlabelled images do not have; '
            f"write images='labelled' in this entry{or_label}")
    if any('sample_ids' in one.names for one in asked):
        raise ValueError(
            f'`{term.name}` stores values by the index of an image (`sample_ids`), but unlabelled '
            "and labelled images share indices; write images='labelled' in this entry")


def _is_of_partner(term: Term, networks: Dict[str, BaseTeacher]) -> bool:
    sources = [networks.get(part.spec.source) for part in term.parts]
    return term.spec.learner != 'student' or any(isinstance(one, Partner) for one in sources)
