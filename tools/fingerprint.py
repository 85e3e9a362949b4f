"""Digests of what a training depends on (config, weights, data), to recognize a finished one."""
import hashlib
import json
import os
import re
from types import ModuleType
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Set

from common import imports_of, networks_of, read_config
from mmengine import registry as registries
from mmengine.config import Config
from mmengine.registry import Registry

from mmkd.core.source import DIGITS, digest_of_module
from mmkd.files.archive import hash_of_file
from mmkd.files.folds import NAME
from mmkd.files.zoo import CONFIGS

MODULE = 'the module '
"""What a key for the code of a module begins with."""
MOST_TOLD = 3
"""Number of differences that a message lists."""


def digest(text: str) -> str:
    """Digest of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def digest_of_config(config: Config) -> str:
    """Digest of the settings of a config, independent of its file and formatting."""
    return digest(json.dumps(config.to_dict(), sort_keys=True, default=_plainly))


def digest_of_source(source: str) -> str:
    """Digest of a file: of a config its settings, of another file its content. A string that is
    not a file (an address, a word) is returned unchanged."""
    if '::' in source or (source.endswith(CONFIGS[0]) and os.path.isfile(source)):
        return f'sha256 {digest_of_config(read_config(source))}'
    path = os.path.expanduser(source)
    return f'sha256 {hash_of_file(path)[:DIGITS]}' if os.path.isfile(path) else source


def networks(config: Config) -> Dict[str, str]:
    """Digests of configs and weights of all networks other than the student, by config key."""
    found = {}
    for where, entry in networks_of(config):
        for key in ('config', 'checkpoint'):
            if isinstance(entry.get(key), str):
                found[f'{where}.{key}'] = digest_of_source(entry[key])
    for where, entry in networks_of(config, ('folder', )):  # of a mmkd.CrossFit
        if isinstance(entry['folder'], str):
            found[f'{where}.folder'] = digest_of_source(os.path.join(entry['folder'], NAME))
    return found


def code(config: Config) -> Dict[str, str]:
    """Digests of the modules of the user that a config imports and uses, by their names.

    A module that registers classes is not used if the config names none of them.
    """
    named = set(_strings_in(config.to_dict()))
    return code_of(name for name in imports_of(config)
                   if not (known := _registered_by(name)) or known & named)


def code_of(modules: Iterable[str]) -> Dict[str, str]:
    """Digests of those of some modules that are the user's, by what they are called."""
    digests = {name: digest_of_module(name) for name in modules}
    return {f'{MODULE}{name}': f'sha256 {one}' for name, one in digests.items() if one}


def _strings_in(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for one in value:
            yield from _strings_in(one)
    elif isinstance(value, (str, type)):
        yield str(getattr(value, '__name__', value)).rpartition('.')[2]


def _registered_by(name: str) -> Set[str]:
    """Names in MMEngine's registries of what a module, or a package, defines."""
    return {key for registry in _registries(registries) for key, one in registry.module_dict.items()
            if f'{getattr(one, "__module__", "")}.'.startswith(f'{name}.')}


def _registries(found: Any) -> Iterator[Registry]:
    for one in (vars(found) if isinstance(found, ModuleType) else found).values():
        if isinstance(one, Registry):
            yield one
            yield from _registries(one.children)


def data(config: Config) -> Dict[str, str]:
    """Digests of labels and images of all data sets of a config, by config key.

    For annotation files and folders of label maps, of their content; for folders of images, of the
    names and sizes of the files.
    """
    found = {}
    for part in ('train', 'val', 'test'):
        loader = config.get(f'{part}_dataloader') or {}
        for where, dataset in _datasets(loader.get('dataset'), f'{part}_dataloader.dataset'):
            root = dataset.get('data_root') or ''
            file = dataset.get('ann_file')
            if file and os.path.isfile(os.path.join(root, file)):
                found[f'{where}.ann_file'] = digest_of_source(os.path.join(root, file))
            prefixes = dataset.get('data_prefix') or {}
            if isinstance(prefixes, str):  # of mmpretrain
                prefixes = {'': prefixes}
            for key, inner in prefixes.items():
                folder = os.path.join(root, inner or '')
                if inner and os.path.isdir(folder):
                    found[f'{where}.data_prefix{key and "."}{key}'] = 'sha256 ' + digest(
                        '\n'.join(_files_in(folder, with_content='seg' in key)))
            if root and not file and not prefixes and os.path.isdir(root):  # CIFAR, ImageNet
                found[f'{where}.data_root'] = 'sha256 ' + digest(
                    '\n'.join(_files_in(root, with_content=False)))
    return found


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> List[str]:
    """Differences between two records, as sentences. Earlier versions recorded no code."""
    told = []
    for key in {**before, **now}:
        one, other = before.get(key), now.get(key)
        if one == other or (one is None and key.startswith(MODULE)):
            continue
        if all(str(each).startswith('sha256 ') for each in (one, other)):
            told.append(f'the content of {key} has changed')
        else:
            told.append(f'{key}: {_shown(one)} then, {_shown(other)} now')
    return told


def told(found: List[str]) -> str:
    """Differences in one line."""
    rest = len(found) - MOST_TOLD
    return ', '.join(found[:MOST_TOLD]) + (f' and {rest} more' if rest > 0 else '')


def _shown(value: Any) -> str:
    text = ' '.join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return 'nothing' if value in (None, []) else f'`{text:.100}`'


def _datasets(value: Any, where: str) -> Iterator[Any]:
    if isinstance(value, dict):
        yield where, value
        yield from _datasets(value.get('dataset'), f'{where}.dataset')
        for number, inner in enumerate(value.get('datasets') or ()):
            yield from _datasets(inner, f'{where}.datasets.{number}')


def _files_in(folder: str, with_content: bool) -> Iterator[str]:
    for place, inner, names in os.walk(folder):
        inner.sort()
        for name in sorted(names):
            path = os.path.join(place, name)
            beside = hash_of_file(path) if with_content else os.path.getsize(path)
            yield f'{os.path.relpath(path, folder)} {beside}'


def _plainly(value: Any) -> str:
    """Classes and functions by name, because their address changes from run to run."""
    return getattr(value, '__qualname__', None) or re.sub(r' at 0x[0-9a-f]+', '', str(value))
