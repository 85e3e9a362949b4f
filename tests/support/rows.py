"""Which rows of a table are tried in every run of the tests, and which in the slow part?"""
from typing import Any, Container, Iterable, List, Tuple

import pytest


def slow_but(kept: Container[str], rows: Iterable[Tuple[str, Any]]) -> List[Any]:
    """Rows of a parametrised test, of which only some are quick enough for every run.

    Args:
        kept (Container[str]): Names of these.
        rows (Iterable[tuple[str, Any]]): Name and value of every row; a tuple is several values.
    """
    return [pytest.param(*(value if isinstance(value, tuple) else (value, )), id=name,
                         marks=() if name in kept else pytest.mark.slow) for name, value in rows]
