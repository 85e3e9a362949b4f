"""Is the class of a loss as it must be?"""
import inspect
from typing import Iterable, Type

from .base import DistillLoss


def check_class(kind: Type[DistillLoss], provided: Iterable[str]) -> None:
    """Check the class attributes of a loss, and that it requests values by keyword.

    Args:
        kind (type[DistillLoss]): The class.
        provided (Iterable[str]): Names that a loss may request.

    Raises:
        TypeError: If an attribute has an unknown value, or a value is requested by position.
    """
    name = kind.__name__
    for attribute, known in (('levels', ('each', 'all')), ('layers_in', ('float32', 'autocast'))):
        if getattr(kind, attribute) not in known:
            raise TypeError(f'`{attribute}` of {name} must be {" or ".join(map(repr, known))}, but '
                            f'got {getattr(kind, attribute)!r}; write one of these')
    both = ('channels', 'positions')
    if isinstance(kind.must_match, str) or not set(kind.must_match) <= set(both):
        raise TypeError(f'`must_match` of {name} must be a set of {" and ".join(map(repr, both))}, '
                        f'but got {kind.must_match!r}; write for instance '
                        "frozenset({'positions'})")
    positional = [one.name for one in inspect.signature(kind.compare).parameters.values()
                  if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)][3:]
    for one in positional:
        if one in provided:
            raise TypeError(f'`compare` of {name} has `{one}` as a positional parameter, where '
                            f'weights of positions are given; write `*` before `{one}`')
