"""Are the required packages installed, in supported versions? Checked once, at import."""
import logging
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Dict, List, NamedTuple, Optional, Tuple


class Requirement(NamedTuple):
    """A package, its maintained fork, and the ranges of versions that are tested."""
    name: str
    at_least: Tuple[int, ...]
    below: Tuple[int, ...]
    is_needed: bool = False
    fork: Optional[str] = None
    below_of_fork: Tuple[int, ...] = ()
    """The fork has the lower bound of the package."""


REQUIREMENTS = (
    Requirement('torch', (2, 1), (2, 15), True),
    Requirement('numpy', (1, 26), (3, )),
    Requirement('mmengine', (0, 10), (1, ), True, 'onedl-mmengine', (1, )),
    Requirement('mmcv', (2, 0), (2, 2), True, 'onedl-mmcv', (3, )),
    Requirement('mmdet', (3, 0), (4, ), False, 'onedl-mmdetection', (4, )),
    Requirement('mmsegmentation', (1, 0), (2, ), False, 'onedl-mmsegmentation', (2, )),
    Requirement('mmpretrain', (1, 2), (2, ), False, 'onedl-mmpretrain', (2, )),
)
"""mmdet 3.3 and mmsegmentation 1.2 refuse mmcv 2.2 and later. The newest torch is that of
tests/matrix/cells.py."""
PYTHON = Requirement('Python', (3, 10), (3, 13))


def check_installed() -> None:
    """Check names and versions of the installed packages.

    A version outside of the supported range is logged in one line; mmkd may work with it.

    Raises:
        ImportError: If a needed package is absent. The message lists every finding and the command
            that fixes it; mmkd installs nothing by itself.
    """
    installed = installed_versions()
    findings, outside = missing(installed), outside_range(installed)
    if findings:
        raise ImportError('mmkd cannot work with the packages of this environment:\n' +
                          '\n'.join(f'  - {finding}' for finding in findings + outside))
    if outside:
        logging.getLogger('mmkd').warning('mmkd is not tested with this stack: %s',
                                          '; '.join(outside))


def missing(installed: Dict[str, str]) -> List[str]:
    """List the needed packages that are absent.

    Args:
        installed (dict[str, str]): Version by package name.

    Returns:
        list[str]: One sentence per finding, with the command that fixes it.
    """
    findings = []
    for need in REQUIREMENTS:
        if need.fork in installed or need.name in installed:
            continue
        if need.name == 'mmcv' and 'mmcv-lite' in installed:
            findings.append('mmcv-lite has no compiled operators; `pip uninstall mmcv-lite`, then '
                            f'`pip install "mmcv{_span(need)}" --no-build-isolation`')
        elif need.is_needed:
            findings.append(f'{need.name} is not installed; '
                            f'`pip install "{need.name}{_span(need)}"`')
    return findings


def outside_range(installed: Optional[Dict[str, str]] = None) -> List[str]:
    """List the packages whose version is not supported.

    Args:
        installed (dict[str, str], optional): Version by package name. Defaults to None, those of
            this environment.

    Returns:
        list[str]: One sentence per finding, with the command that fixes it.
    """
    installed = installed_versions() if installed is None else installed
    findings = []
    for need in REQUIREMENTS:
        name = need.fork if need.fork in installed else need.name
        below = need.below_of_fork if name == need.fork else need.below
        if name in installed and not need.at_least <= _numbers(installed[name]) < below:
            span = _span(need._replace(below=below))
            findings.append(f'{name} {installed[name]} is installed, but mmkd works with {span}; '
                            f'`pip install "{name}{span}"`')
    if not PYTHON.at_least <= sys.version_info[:2] < PYTHON.below:
        findings.append(f'this is Python {_dotted(sys.version_info[:2])}, but mmkd works with '
                        f'{_span(PYTHON)}; make an environment with one of these')
    return findings


def _span(need: Requirement) -> str:
    return f'>={_dotted(need.at_least)},<{_dotted(need.below)}'


def installed_versions() -> Dict[str, str]:
    """Versions of the packages and forks that are installed, by name.

    Example:
        >>> 'torch' in installed_versions()
        True
    """
    names = [n for need in REQUIREMENTS for n in (need.name, need.fork) if n] + ['mmcv-lite']
    installed = {}
    for name in names:
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            continue
    return installed


def _numbers(text: str) -> Tuple[int, ...]:
    """Leading numbers of a version: '2.13.0+cpu' gives (2, 13, 0)."""
    numbers: List[int] = []
    for part in text.split('+')[0].split('.'):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)


def _dotted(numbers: Tuple[int, ...]) -> str:
    return '.'.join(map(str, numbers))
