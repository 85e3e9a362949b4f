"""How is a long list of names shortened for a message?"""
from typing import Any, Iterable, Optional

SHOWN = 8
"""Number of names that a message shows of a long list."""


def shown_names(names: Optional[Iterable[Any]], shown: int = SHOWN) -> str:
    """Format a list of names for a message: ``['a', 'b']``, or the first ones and the number of
    others.

    Args:
        names (Iterable, optional): The names; None is shown as 'unknown'.
        shown (int): Number of names shown of a long list. Lists longer by one or two are shown
            completely. Defaults to 8.
    """
    if names is None:
        return 'unknown'
    names = list(names)
    if len(names) <= shown + 2:
        return str(names)
    return f'{names[:shown]} and {len(names) - shown} more'


def joined(names: Iterable[Any], shown: int = SHOWN) -> str:
    """Like :func:`shown_names`, without brackets and quotes: 'a, b and 5 more'."""
    names = [str(name) for name in names]
    if len(names) <= shown + 2:
        return ', '.join(names)
    return f'{", ".join(names[:shown])} and {len(names) - shown} more'
