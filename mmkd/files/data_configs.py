"""How is a YAML or JSON config read without running code that it names?"""
import os
from contextlib import contextmanager
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from typing import Any, Iterator, Tuple

import yaml
from mmengine.config import Config
from mmengine.fileio.handlers import YamlHandler, file_handlers
from mmengine.utils import get_object_from_string, import_modules_from_strings
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import Dataset, Sampler

try:
    from mmengine.config.utils import MODULE2PACKAGE
except ImportError:
    MODULE2PACKAGE = {}

SUFFIXES = '.yml', '.yaml', '.json'
SCOPES = {'mmengine', 'mmcv', 'mmkd', 'mmdet', 'mmseg', 'mmpretrain', *MODULE2PACKAGE}
"""Packages from which a config may name classes."""

OF_TORCH = nn.Module, Optimizer, LRScheduler, Dataset, Sampler
"""Classes of torch that a config may name, subclasses included."""

AS_PYTHON = 'if you trust the file, write it as .py, which may run code'


class SafeLoader(getattr(yaml, 'CSafeLoader', yaml.SafeLoader)):  # type: ignore[misc]
    """PyYAML's safe loader (numbers, strings, lists and dicts), plus tuples, which MMEngine
    writes."""


SafeLoader.add_constructor('tag:yaml.org,2002:python/tuple',
                           lambda loader, node: tuple(loader.construct_sequence(node, deep=True)))


class SafeYamlHandler(YamlHandler):
    """MMEngine's YAML handler with a safe loader: PyYAML's full one calls what a file names."""

    def load_from_fileobj(self, file: Any, **kwargs: Any) -> Any:
        try:
            return yaml.load(file, Loader=SafeLoader)
        except yaml.YAMLError as error:
            name = getattr(file, 'name', 'a YAML file')
            raise ValueError(f'`{name}` is not a YAML file of numbers, strings, lists and dicts: '
                             f'{" ".join(str(error).split())[:300]}; {AS_PYTHON}') from error


def guard_mmengine_yaml() -> None:
    """Make MMEngine read all YAML files, configs included, without running code from them."""
    for suffix in ('yaml', 'yml'):
        file_handlers[suffix] = SafeYamlHandler()


def is_of_data(path: str) -> bool:
    """Whether a config is a data file (YAML or JSON), not Python."""
    return path.endswith(SUFFIXES)


def read_config_file(path: str) -> Config:
    """Read a config: YAML and JSON by :func:`read_data_config`, Python by MMEngine.

    Raises:
        ValueError: If a data file names code.
    """
    return read_data_config(path) if is_of_data(path) else Config.fromfile(path)


def read_data_config(path: str) -> Config:
    """Read a YAML or JSON config that may be untrusted.

    Bases in Python must belong to installed packages, ``custom_imports`` must name installed
    packages, and each ``type`` must name a registered class or a class of torch or of an OpenMMLab
    package. MMEngine alone would call anything that can be imported, such as ``os.system``.

    Args:
        path (str): The file.

    Raises:
        ValueError: If it names code outside of the installed packages.
    """
    with _bases_of_packages():
        config = Config.fromfile(path, import_custom_modules=False)
    _import(config.get('custom_imports'))
    for key, value in config.items():
        for where, kind in _types(value, key):
            if not _is_harmless(kind):
                raise ValueError(f'`type` of `{where}` is {kind!r}, but a data file may only name '
                                 f'classes of torch or OpenMMLab; {AS_PYTHON}')
    return config


@contextmanager
def _bases_of_packages() -> Iterator[None]:
    """Context manager that restricts the Python bases of a config to installed packages."""
    read = Config._file2dict

    def read_checked(filename: str, *args: Any, **kwargs: Any) -> Any:
        if not is_of_data(filename) and not _is_of_package(filename):
            raise ValueError(f'`_base_` names `{filename}`, which would run code; {AS_PYTHON}')
        return read(filename, *args, **kwargs)

    Config._file2dict = staticmethod(read_checked)
    try:
        yield
    finally:
        Config._file2dict = staticmethod(read)


def _is_of_package(path: str) -> bool:
    before, is_there, _ = os.path.realpath(path).partition(f'{os.sep}.mim{os.sep}')
    package = os.path.basename(before)
    if not is_there or package not in SCOPES:
        return False
    spec = find_spec(package)
    return spec is not None and spec.origin is not None and (
        os.path.realpath(os.path.dirname(spec.origin)) == before)


def _import(wanted: Any) -> None:
    if not wanted:
        return
    imports = wanted.get('imports') if isinstance(wanted, dict) else wanted
    installed = packages_distributions()
    names = [imports] if isinstance(imports, str) else list(imports or ())
    for name in names:
        if str(name).partition('.')[0] not in installed:
            raise ValueError(f'`custom_imports` contains {name!r}, which belongs to no installed '
                             f'package; install it, or {AS_PYTHON}')
    import_modules_from_strings(names, allow_failed_imports=isinstance(wanted, dict) and (
        wanted.get('allow_failed_imports') is True))


def _types(entry: Any, where: str) -> Iterator[Tuple[str, str]]:
    if isinstance(entry, dict):
        for key, value in entry.items():
            if key == 'type' and isinstance(value, str):
                yield where, value
            yield from _types(value, f'{where}.{key}')
    elif isinstance(entry, (list, tuple)):
        for number, value in enumerate(entry):
            yield from _types(value, f'{where}.{number}')


def _is_harmless(kind: str) -> bool:
    """Whether a type is a registered name, or the path of an allowed class."""
    scope, is_path, name = kind.partition('.')
    if not is_path or (scope in SCOPES and '.' not in name):
        return True
    found = get_object_from_string(kind) if scope in {'torch', *SCOPES} else None
    return isinstance(found, type) and (
        issubclass(found, OF_TORCH) or found.__module__.partition('.')[0] in SCOPES)
