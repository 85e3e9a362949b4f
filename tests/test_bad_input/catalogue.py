"""What the tables of bad input share: what a row is, and what makes an error a good one."""
import dis
import os
import re
from contextlib import contextmanager
from typing import Any, Callable, Iterator, NamedTuple, Optional, Type

import pytest

import mmkd

HOME = os.path.dirname(mmkd.__file__) + os.sep
KINDS = (FileNotFoundError, FloatingPointError, ImportError, OSError, TypeError, ValueError)
REMEDY = re.compile(r'write|give|take|leave|choose|compare|must|expected|for instance|look|start|'
                    r'resume|needs|share|lower|closest|install|use|save|move|there (is|are)|'
                    r'points of it|it has|register|name another|download|pack')
"""Words of which a message that says what to do has one."""


class Row(NamedTuple):
    """One bad input: either it is refused, or it does no harm."""
    name: str
    input: Any
    error: Optional[Type[Exception]] = None
    says: str = ''
    """A regular expression: what is wrong, and what to do."""
    check: Optional[Callable[..., None]] = None
    """What holds where nothing is wrong with it."""


def rows(*tables: Any) -> Any:
    """Parametrise a test by the rows of tables."""
    return pytest.mark.parametrize('row', [
        pytest.param(row, id=row.name) for table in tables for row in table])


@contextmanager
def refused(row: Row) -> Iterator[None]:
    """The block raises the row's error, and it is one that helps."""
    assert row.error is not None
    with pytest.raises(row.error, match=f'(?s){row.says}') as info:
        yield
    assert_helpful(info.value)


def assert_helpful(error: BaseException) -> None:
    """Raised by a `raise` of mmkd's, of a usual type, in words that say what to do."""
    assert isinstance(error, KINDS), repr(error)
    # MMEngine's Runner adds the name of the hook to a TypeError: it raises another one.
    assert any(is_ours(one) for one in (error, error.__context__) if one), repr(error)
    assert len(str(error)) > 30, repr(error)
    assert REMEDY.search(str(error)), f'no remedy: {error}'


def is_ours(error: BaseException) -> bool:
    """Whether the innermost frame is mmkd's, and stands at a `raise`, not at a line that failed."""
    trace = error.__traceback__
    assert trace is not None
    while trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code
    return code.co_filename.startswith(HOME) and (
        code.co_code[trace.tb_lasti] == dis.opmap['RAISE_VARARGS'])
