"""Marks rows of a parametrised test as slow."""
from typing import Any, Collection, Iterable, List, Tuple

import pytest


def slow_but(kept: Collection[str], rows: Iterable[Tuple[str, Any]]) -> List[Any]:
    """Return the rows of a parametrised test, with all but some marked as slow.

    Args:
        kept (Collection[str]): Names of the rows that are not marked.
        rows (Iterable[tuple[str, Any]]): Name and value of each row. A tuple is several values.
    """
    rows = list(rows)
    unknown = set(kept) - {name for name, _ in rows}
    assert not unknown, f'no rows of these names: {unknown}'
    return [pytest.param(*(value if isinstance(value, tuple) else (value, )), id=name,
                         marks=() if name in kept else pytest.mark.slow) for name, value in rows]
