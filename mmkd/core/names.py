"""How is a list of names shown in a message, when it may hold a thousand?"""
from typing import Any, Iterable, Optional

SHOWN = 8
"""Names that a message shows of a long list."""


def shown_names(names: Optional[Iterable[Any]], shown: int = SHOWN) -> str:
    """A list of names for a message: ``['a', 'b']``, or its first ones and how many more.

    Args:
        names (Iterable, optional): The names; None is shown as 'unknown'.
        shown (int): How many a long list shows. Lists that are longer by one or two are shown
            whole. Defaults to 8.
    """
    if names is None:
        return 'unknown'
    names = list(names)
    if len(names) <= shown + 2:
        return str(names)
    return f'{names[:shown]} and {len(names) - shown} more'


def joined(names: Iterable[Any], shown: int = SHOWN) -> str:
    """As :func:`shown_names`, without brackets and quotes: 'a, b and 5 more'."""
    names = [str(name) for name in names]
    if len(names) <= shown + 2:
        return ', '.join(names)
    return f'{", ".join(names[:shown])} and {len(names) - shown} more'
