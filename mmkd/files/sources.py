"""Which file does the path or address of a checkpoint stand for?"""
import os
import re
from difflib import get_close_matches
from io import BytesIO
from typing import Any, Callable, Dict, Optional
from urllib.parse import urlparse
from urllib.request import url2pathname

import mmengine
from mmengine.fileio import get_file_backend, load
from mmengine.runner import CheckpointLoader

from ..core.errors import explained
from .downloads import downloaded

SUPPORTED = ('a path, file://, http://, https://, torchvision://NAME, open-mmlab://NAME, or s3:// '
             'and petrel:// with the package petrel_client')
OWN_SCHEMES = ('', 'file://', 'http://', 'https://', 'torchvision://', 'modelzoo://',
               'open-mmlab://', 'openmmlab://', r'(\S+\:)?s3://', r'(\S+\:)?petrel://')
"""Prefixes of addresses that mmkd reads in place of MMEngine's loaders, in MMEngine's notation."""

OBJECT_STORES = ('s3', 'petrel')


def is_in_object_store(source: str) -> bool:
    """Whether MMEngine's Petrel backend reads an address: s3://, petrel://, or CLUSTER:s3://."""
    return scheme_of(source).rpartition(':')[2] in OBJECT_STORES


def is_of_others(source: str) -> bool:
    """Whether an address is read by a loader that mmkd does not replace, MMEngine's or a user's."""
    return bool(scheme_of(source)) and any(
        re.match(prefix, source) for prefix in CheckpointLoader._schemes
        if prefix and prefix not in OWN_SCHEMES)


def scheme_of(source: str) -> str:
    """The part of an address before '://', in lower case; '' for a path."""
    scheme, is_address, _ = source.partition('://')
    return scheme.lower() if is_address else ''


def local_path(source: str, check: Callable[[str], str]) -> str:
    """The local file for a path or address; downloads are cached on disk.

    Args:
        source (str): A path, in which '~' is expanded, or an address.
        check (Callable[[str], str]): Returns why a downloaded file is wrong, '' if it is not.

    Returns:
        str: The path. The file may not exist.

    Raises:
        FileNotFoundError: If it cannot be downloaded.
        ValueError: If the kind of address is not supported, or the downloaded file is wrong.
    """
    scheme = scheme_of(source)
    if not scheme:
        return os.path.expanduser(source)
    if scheme == 'file':
        parts = urlparse(source)
        if parts.netloc not in ('', 'localhost'):
            raise ValueError(f'`{source}` is a file on the machine `{parts.netloc}`, but only '
                             'local files are read; write file:///PATH, with three slashes, or the '
                             'path')
        return url2pathname(parts.path)
    named = _named(source, scheme)
    if named is None:
        raise ValueError(f'addresses of the kind `{scheme}://` are not supported (`{source}`); '
                         f'give {SUPPORTED}')
    if scheme_of(named) in ('http', 'https'):
        return downloaded(named, check)
    return named


def from_object_store(source: str) -> BytesIO:
    """Read an object of an object store by MMEngine's backend.

    Raises:
        ValueError: If the backend cannot read it.
    """
    with explained(f'`{source}` cannot be read by MMEngine\'s Petrel backend',
                   f'copy the file onto this machine, or give {SUPPORTED}'):
        backend = get_file_backend(source, backend_args=dict(backend='petrel'))
        return BytesIO(backend.get(source))


def _named(source: str, scheme: str) -> Optional[str]:
    """The address or path that a name stands for; None for an unsupported kind of address."""
    name = source.partition('://')[2]
    if scheme in ('http', 'https'):
        return source
    if scheme in ('torchvision', 'modelzoo'):
        return _looked_up(name, _torchvision_models(), source)
    if scheme in ('open-mmlab', 'openmmlab'):
        from mmengine.runner.checkpoint import (
            _get_mmengine_home,
            get_deprecated_model_names,
            get_external_models,
        )
        models = get_external_models()
        found = _looked_up(get_deprecated_model_names().get(name, name), models, source)
        return found if scheme_of(found) else os.path.join(_get_mmengine_home(), found)
    return None


def _torchvision_models() -> Dict[str, Any]:
    from mmengine.runner.checkpoint import get_torchvision_models
    try:
        return get_torchvision_models()
    except ImportError:  # without torchvision, the list that MMEngine ships
        return load(os.path.join(mmengine.__path__[0], 'hub', 'torchvision_0.12.json'))


def _looked_up(name: str, models: Dict[str, Any], source: str) -> str:
    if name not in models:
        nearest = get_close_matches(name, list(models), n=3, cutoff=0.4)
        raise ValueError(f'`{source}`: there is no model `{name}`' +
                         (f' (closest: {", ".join(nearest)})' if nearest else '') +
                         f'; use the name of one of the {len(models)} models, or the path of a '
                         'file')
    return models[name]
