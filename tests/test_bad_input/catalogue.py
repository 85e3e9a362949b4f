"""The rows of the tables of bad input, and what an error message must contain."""
import dis
import os
import re
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple, Type

import pytest

import mmkd

HOME = os.path.dirname(mmkd.__file__) + os.sep
KINDS = (FileNotFoundError, FloatingPointError, ImportError, OSError, TypeError, ValueError)
VERBS = ('add|check|choose|compare|correct|define|derive|download|free|give|increase|install|keep|'
         'leave|lower|map|move|name|pad|pass|put|raise|register|remove|rename|resume|return|run|save|set|share|start|stop|train|use|write')
STEP = re.compile(rf'(?:[;:,.?] |or |and )(?:{VERBS})\b')
"""The beginning of a clause with the next step."""
LONGEST = 4, 2000
"""Maximum number of lines and characters of a message."""


class Parts(NamedTuple):
    """The four parts of a message as regular expressions; each must match at a different place."""
    thing: str
    """The argument, file or point that is wrong."""
    found: str
    """The value that was found."""
    expected: str
    """The expected value, or the reason for the error."""
    step: str
    """The next step."""


class Row(NamedTuple):
    """One bad input, with the expected error; without an error, the input must work."""
    name: str
    input: Any
    error: Optional[Type[Exception]] = None
    says: Optional[Parts] = None
    """The four parts of the message."""
    check: Optional[Callable[..., None]] = None
    """A check of the result, for an input without an error."""


def must(name: str, expected: str, got: str, step: str = 'write') -> Parts:
    """The parts of '`name` must be EXPECTED, but got GOT; STEP ...'. ``got`` is literal text."""
    return Parts(f'`{name}`', f'but got {re.escape(got)}', expected, f'; {step}')


def rows(*tables: Any) -> Any:
    """Parametrise a test with the rows of all tables."""
    return pytest.mark.parametrize('row', [
        pytest.param(row, id=row.name) for table in tables for row in table])


@contextmanager
def refused(row: Row) -> Iterator[None]:
    """Assert that the block raises the error of the row, with all parts and a next step."""
    assert row.error is not None
    assert row.says is not None
    with pytest.raises(row.error) as info:
        yield
    check_parts(str(info.value), row.says)
    assert_helpful(info.value)


def check_parts(message: str, parts: Parts) -> None:
    """Assert that the message contains all parts, at places that do not overlap."""
    spans: Dict[str, List[Tuple[int, int]]] = {}
    for part, pattern in parts._asdict().items():
        spans[part] = [found.span() for found in re.finditer(f'(?s){pattern}', message)]
        assert any(end > begin for begin, end in spans[part]), (
            f'the {part} is not told, {pattern!r}, in: {message}')
    assert _are_apart([], list(spans.values())), f'one place stands for two parts, in: {message}'


def _are_apart(taken: List[Tuple[int, int]], spans: List[List[Tuple[int, int]]]) -> bool:
    if not spans:
        return True
    return any(all(end <= begin or stop <= start for begin, stop in taken) and
               _are_apart([*taken, (start, end)], spans[1:])
               for start, end in spans[0])


def assert_helpful(error: BaseException) -> None:
    """Assert that mmkd raised the error on purpose, with a common type and a short message that
    ends in a next step.
    """
    assert isinstance(error, KINDS), repr(error)
    # MMEngine's Runner replaces a TypeError by one that contains the name of the hook.
    assert any(is_ours(one) for one in (error, error.__context__) if one), repr(error)
    message = str(error)
    assert len(message.splitlines()) <= LONGEST[0], message
    assert len(message) <= LONGEST[1], message
    step = STEP.search(message)
    assert step, f'no next step: {message}'
    assert step.start() > 15, f'nothing but a next step: {message}'


def is_ours(error: BaseException) -> bool:
    """Whether a `raise` statement of mmkd raised the error, not a statement that failed."""
    trace = error.__traceback__
    assert trace is not None
    while trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code
    return code.co_filename.startswith(HOME) and (
        code.co_code[trace.tb_lasti] == dis.opmap['RAISE_VARARGS'])
