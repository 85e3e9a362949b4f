"""The doc card of a method: the docstring of its file, by fields."""
import inspect
import re
import sys
from typing import Dict, List, NamedTuple, Type

from ..core.table import LOSSES
from .base import DistillLoss
from .method import Method, alternatives
from .prepared import PreparedLoss

FIELDS = ('Paper', 'Compares', 'Defaults', 'Differs', 'Published')


class Card(NamedTuple):
    """What the docstring of a method's file says."""
    summary: str
    """First line."""
    fields: Dict[str, str]
    """:data:`FIELDS`, in reStructuredText."""


def card_of(method: Method) -> Card:
    """Read the card of a method.

    Raises:
        ValueError: If a field is missing.

    Example:
        >>> from mmkd.losses import METHODS
        >>> card_of(METHODS['kd']).summary
        'KD: KL divergence of softened class probabilities (Hinton et al., 2015).'
    """
    text = inspect.cleandoc(sys.modules[method.module].__doc__ or '')
    parts = re.split(r'^:(\w+):', text, flags=re.M)
    found = {name: ' '.join(value.split()) for name, value in zip(parts[1::2], parts[2::2])}
    missing = [name for name in FIELDS if not found.get(name)]
    if missing:
        raise ValueError(f'the card of `{method.name}`, the docstring of {method.module}, has no '
                         f'`:{":`, `:".join(missing)}:`; write these fields')
    return Card(text.splitlines()[0], {name: found[name] for name in FIELDS})


def losses_of(method: Method) -> List[Type[DistillLoss]]:
    """The loss classes of a method, in the order of its entries."""
    names = [entry['type'].removeprefix('mmkd.') for recipe in method.recipes().values()
             for written in recipe.entries for entry in alternatives(written)]
    return [LOSSES.classes[name] for name in dict.fromkeys(names)]


def needs_of(method: Method) -> List[str]:
    """What the losses of a method need in addition to both models.

    These are values of the annotations, a file of a first stage, layers of their own, and an
    exchange between processes.
    """
    losses = losses_of(method)
    asked = [name for loss in losses for name in loss.asked().required if name in ANNOTATIONS]
    is_prepared = [issubclass(loss, PreparedLoss) for loss in losses]
    extras = {'a first stage': any(is_prepared),
              'layers': any(loss.setup is not DistillLoss.setup and not prepared
                            for loss, prepared in zip(losses, is_prepared)),
              'exchange between processes': any(loss.communicates for loss in losses)}
    return [*dict.fromkeys(asked), *(name for name, is_needed in extras.items() if is_needed)]


ANNOTATIONS = frozenset({'labels', 'label_weights', 'num_positives', 'boxes', 'box_labels',
                         'ignored_boxes', 'instance_masks', 'label_map'})
"""Names of values that come from annotations, directly or by the assignment of the student."""
