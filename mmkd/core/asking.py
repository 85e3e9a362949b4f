"""Which values does a function request by the names of its keyword-only parameters?"""
import inspect
from difflib import get_close_matches
from functools import cache
from typing import Any, Callable, Iterable, Mapping, NamedTuple, Tuple


class Asked(NamedTuple):
    """The keyword-only parameters of a function by which it asks; those with another default than
    None are its own."""
    required: Tuple[str, ...]
    """Those without a default."""
    optional: Tuple[str, ...]
    """Those with the default None."""

    @property
    def names(self) -> Tuple[str, ...]:
        """All of them."""
        return (*self.required, *self.optional)

    def without(self, name: str) -> 'Asked':
        """The same without one name."""
        return Asked(tuple(one for one in self.required if one != name),
                     tuple(one for one in self.optional if one != name))


@cache
def asked_by(*functions: Callable[..., Any]) -> Asked:
    """Read which values functions request, as pytest does for fixtures.

    Example:
        >>> def compare(student, teacher, weight=None, *, labels, stride=None): ...
        >>> asked_by(compare)
        Asked(required=('labels',), optional=('stride',))
    """
    found = [one for function in functions
             for one in inspect.signature(function).parameters.values()
             if one.kind is one.KEYWORD_ONLY and (one.default is one.empty or one.default is None)]
    required = tuple(dict.fromkeys(one.name for one in found if one.default is one.empty))
    return Asked(required, tuple(dict.fromkeys(
        one.name for one in found if one.name not in required)))


@cache
def takes_positional(function: Callable[..., Any], count: int) -> bool:
    """Whether a function can be called with so many positional arguments, ``self`` included."""
    kinds = [one.kind for one in inspect.signature(function).parameters.values()]
    positional = [one for one in kinds if one in (
        inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    return len(positional) >= count or inspect.Parameter.VAR_POSITIONAL in kinds


def check_known(what: str, asked: Asked, known: Iterable[str]) -> None:
    """Whether there is a value for every requested name.

    Args:
        what (str): The function, for the message: '`compare` of MyLoss'.
        asked (Asked): The values that it requests.
        known (Iterable[str]): The names that are provided.

    Raises:
        ValueError: If a name, required or not, is unknown; the message names the closest.
    """
    known = list(known)
    for name in asked.names:
        if name not in known:
            nearest = get_close_matches(name, known, 1)
            raise ValueError(
                f'{what} requires `{name}`, which is not provided' +
                (f' (closest: `{nearest[0]}`)' if nearest else '') +
                f'; the provided names are {", ".join(f"`{one}`" for one in known)}; write one of '
                f"these, or provide it by a function with `@mmkd.provides('{name}')`")


def check_given(what: str, asked: Asked, given: Mapping[str, Any]) -> None:
    """Whether a direct call passes exactly the requested values.

    Args:
        what (str): What is called, for the message.
        asked (Asked): The values that it requests.
        given (Mapping[str, Any]): The passed values, by name.

    Raises:
        TypeError: If a required name is missing or an unknown one is given.
    """
    missing = [name for name in asked.required if given.get(name) is None]
    unknown = [name for name in given if name not in asked.names]
    if missing or unknown:
        raise TypeError(
            f'{what} expects {", ".join(f"`{one}`" for one in asked.names) or "no names"}, but got '
            f'{", ".join(f"`{one}`" for one in given) or "none"}; ' +
            (f'give `{missing[0]}=`' if missing else f'leave out `{unknown[0]}`'))
