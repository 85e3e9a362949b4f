"""Configs and published checkpoints of installed OpenMMLab packages."""
import os
from difflib import get_close_matches
from importlib.util import find_spec
from typing import Any

from mmengine.fileio import load


def config_path(name: str) -> str:
    """The file of a config.

    MMEngine's own look-up installs a package that it does not find, and does not find the
    maintained forks; this one looks at what can be imported and changes nothing.

    Args:
        name (str): A path, or 'package::path', for instance
            'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'.

    Returns:
        str: Its path.

    Raises:
        FileNotFoundError: If there is no such file; the message says where it was looked for, and
            names the nearest.
    """
    package, _, inner = name.rpartition('::')
    path = os.path.join(_mim_folder(package), 'configs', inner) if package else name
    if os.path.isfile(path):
        return path
    folder = os.path.dirname(path) or '.'
    siblings = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    nearest = get_close_matches(os.path.basename(path), siblings, n=3)
    raise FileNotFoundError(
        f'no config `{name}` (looked for {os.path.abspath(path)}' +
        (', which is a folder' if os.path.isdir(path) else '') +
        ('' if os.path.isabs(path) else f', from the folder {os.getcwd()}') +
        (f'; closest in its folder: {", ".join(nearest)}' if nearest else '') +
        '); give the absolute path of a file, `{{ fileDirname }}/teacher.py` for one beside the '
        'config where it is written, or `mmdet::…`, `mmseg::…` for one of a package')


def published_checkpoint(config: Any) -> str:
    """Address of the weights that a package publishes for one of its configs.

    Args:
        config (Any): As given to the teacher; only 'package::path' has an entry in an index.

    Returns:
        str: The address.

    Raises:
        ValueError: If no index knows the config.
    """
    package, _, inner = config.rpartition('::') if isinstance(config, str) else ('', '', '')
    if package:
        folder = _mim_folder(package)
        for file in load(os.path.join(folder, 'model-index.yml'))['Import']:
            models = load(os.path.join(folder, file))
            models = models if isinstance(models, list) else models.get('Models', [])
            for model in models:
                if model.get('Config') == f'configs/{inner}' and model.get('Weights'):
                    return model['Weights']
    shown = f'`{config}`' if isinstance(config, str) else 'of a dict'
    raise ValueError(
        f'the teacher config {shown} has no published checkpoint; write `checkpoint=` with the '
        'path or address of its weights, or `checkpoint=None` for a teacher with random weights')


def _mim_folder(package: str) -> str:
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):  # 'no_such.package', '.package', '__main__'
        spec = None
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f'the package `{package}` of the config '
                                f'`{package}::…` is not installed; mmdet\'s configs are '
                                '`mmdet::…`, mmsegmentation\'s `mmseg::…`; install the package, or '
                                'give the path of a file')
    return os.path.join(os.path.dirname(spec.origin), '.mim')
