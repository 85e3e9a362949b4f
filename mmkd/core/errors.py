"""How is an error of other code reported to a user?"""
import re
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Iterator, Optional

SAID = 300
"""Number of characters shown of an error of other code."""

MISSING = (r"No module named '(\w+)", r'pip install ["\']?([\w-]+)',
           r'[`\']?([\w-]+)[`\']? is not installed', r'\b(\w+)\.\w+ is not in the')
"""Error messages for missing packages: Python's, those of other packages, and that of MMEngine's
registry for a type in a package that cannot be imported. The first group is the package."""


@contextmanager
def explained(problem: str, remedy: str) -> Iterator[None]:
    """Context manager that turns any error of other code into one with problem and remedy.

    Args:
        problem (str): What failed, for the message.
        remedy (str): What to do about it, for the message.

    Raises:
        ValueError: In place of the error.
    """
    try:
        yield
    except Exception as error:
        remedy = how_to_import(missing_package(error)) or how_to_meet(error) or remedy
        raise ValueError(f'{problem}: {said_by(error)}; {remedy}') from error


def how_to_import(package: str) -> str:
    """Advice for a package that cannot be imported; '' for ''."""
    return package and (
        f'`{package}` cannot be imported: if its name is spelt right, install the package, or, '
        'where it is a module of your own, put its folder on PYTHONPATH')


REFUSED_VERSION = re.compile(
    r'==\S+ is used but incompatible|is incompatible with \S+ \S+\. Please use')
"""What packages of OpenMMLab say of a version of another one that they do not support."""


def how_to_meet(error: BaseException) -> str:
    """Advice if a package has refused the version of another one at its import; else ''."""
    told: Optional[BaseException] = error
    while told is not None:
        if isinstance(told, AssertionError) and REFUSED_VERSION.search(str(told)):
            return ('the package compares version numbers when it is imported; install versions '
                    'within its bounds, or see docs/neighbours.md')
        told = told.__cause__ or told.__context__
    return ''


def said_by(error: BaseException) -> str:
    """Type and message of an error of other code in one line.

    Messages of MMEngine have many lines, with the search path and links; these are cut.
    """
    # `str` of a KeyError adds quotes.
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    text = re.split(r', the current sys.path is|\. Please check whether the value of', text)[0]
    text = ' '.join(line.strip() for line in text.strip().splitlines()[:3]).rstrip('.')
    kind = type(error).__name__
    return f'{kind}: {text if len(text) <= SAID else text[:SAID] + " ..."}' if text else kind


def missing_package(error: BaseException) -> str:
    """The missing package that caused an error of other code; '' if there is none."""
    told: Optional[BaseException] = error
    while told is not None:
        if isinstance(told, ModuleNotFoundError) and told.name:
            return told.name.partition('.')[0]
        for pattern in MISSING:
            for name in re.findall(pattern, str(told)):
                if not _is_importable(name):
                    return str(name)
        told = told.__cause__ or told.__context__
    return ''


def _is_importable(name: str) -> bool:
    try:
        return find_spec(name.replace('-', '_')) is not None
    except (ImportError, ValueError):
        return False
