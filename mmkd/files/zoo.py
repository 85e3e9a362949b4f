"""Where is a config, by path or in an OpenMMLab package, and which weights are published for it?"""
import os
from importlib.util import find_spec
from typing import Any, List

from mmengine.config import Config
from mmengine.fileio import load

from ..core.errors import explained, how_to_import, how_to_meet, missing_package
from ..core.missing import closest_in_folder
from .data_configs import read_config_file as read_without_code

CONFIGS = '.py', '.json', '.yml', '.yaml'
CHECKPOINTS = '.pth', '.pt', '.pkl', '.ckpt', '.bin', '.safetensors'
READERS = '_file2dict', 'fromfile', '_is_lazy_import', '_parse_lazy_import'
"""Functions of MMEngine with an argument `filename`, the file that they read."""


def read_config_file(name: str, whose: str = '') -> Config:
    """Read a config. Error messages give file and line of a mistake in it or in its bases.

    Args:
        name (str): As in :func:`config_path`.
        whose (str): Whose config it is, for error messages, such as 'teacher'. Defaults to ''.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a config, or cannot be read.
    """
    path = config_path(name)
    if not path.endswith(CONFIGS):
        raise ValueError(
            f'`{name}` is not a config: its name must end in {", ".join(CONFIGS)}' +
            ('. It is a checkpoint; use the config of its model here, and the file as the '
             'checkpoint (`checkpoint=`, or `--teacher-checkpoint`)'
             if path.endswith(CHECKPOINTS) else ''))
    try:
        return read_without_code(path)
    except Exception as error:  # a Python config may raise anything
        shown = f'the {whose} config `{name}`'.replace('  ', ' ')
        remedy = (how_to_import(missing_package(error)) or how_to_meet(error) or
                  'correct it there')
        raise ValueError(f'{shown} cannot be read: {_place_in_config(error, path)}{_said(error)}; '
                         f'{remedy}') from error


def _place_in_config(error: BaseException, path: str) -> str:
    """'FILE, line N: ', or 'FILE: ' if the line is not known."""
    file, line = path, getattr(error, 'lineno', None) if isinstance(error, SyntaxError) else None
    trace = error.__traceback__
    files: List[str] = []
    while trace is not None:
        code = trace.tb_frame.f_code
        if code.co_name in READERS and code.co_filename == Config.fromfile.__code__.co_filename:
            file = str(trace.tb_frame.f_locals['filename'])
            files.append(os.path.abspath(file))
        elif os.path.abspath(code.co_filename) in files:  # the code of a config
            file, line = code.co_filename, trace.tb_lineno
        trace = trace.tb_next
    if len(files) > 1 and not os.path.isfile(files[-1]):  # a missing base config
        file = next(one for one in reversed(files) if os.path.isfile(one))
    return f'{os.path.abspath(file)}' + (f', line {line}' if line else '') + ': '


def _said(error: BaseException) -> str:
    """The type and message of an error in one line."""
    if isinstance(error, SyntaxError):
        return f'{type(error).__name__}: {error.msg}'
    if isinstance(error, ImportError) and error.__cause__ is not None:  # MMEngine lists sys.path
        cause: BaseException = error
        while cause.__cause__ or cause.__context__:
            cause = cause.__cause__ or cause.__context__  # type: ignore[assignment]
        return f'{str(error).split(", the current sys.path")[0]}: {cause}'
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return f'{type(error).__name__}: {" ".join(text.split())}'


def config_path(name: str) -> str:
    """Path of a config file.

    MMEngine's own look-up installs packages that it does not find, and does not find the
    maintained forks. This one searches the packages that can be imported, and installs nothing.

    Args:
        name (str): A path, or 'package::path', for instance
            'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'.

    Returns:
        str: Path of the file.

    Raises:
        FileNotFoundError: If there is no such file; the message gives the path that was tried and
            the names closest to it.
    """
    package, _, inner = name.rpartition('::')
    path = os.path.join(_mim_folder(package), 'configs', inner) if package else name
    if os.path.isfile(path):
        return path
    raise FileNotFoundError(
        f'no config `{name}` (looked for {os.path.abspath(path)}' +
        ('' if os.path.isabs(path) else f', from the folder {os.getcwd()}') +
        f'{closest_in_folder(path)}); write the absolute path of a file, or `mmdet::…`, '
        '`mmseg::…` for a config of a package; in a config, `{{ fileDirname }}/teacher.py` is a '
        'file in the same folder')


def published_checkpoint(config: Any) -> str:
    """URL of the weights that a package publishes for one of its configs.

    Args:
        config (Any): Config of the teacher. Only 'package::path' is in a model index.

    Returns:
        str: The URL.

    Raises:
        ValueError: If the config is in no model index.
    """
    package, _, inner = config.rpartition('::') if isinstance(config, str) else ('', '', '')
    if package:
        with explained(f'the model index of `{package}` cannot be read',
                       'write `checkpoint=` with the path or address of the weights'):
            address = _address_of(f'configs/{inner}', _mim_folder(package))
        if address:
            return address
    shown = f'`{config}`' if isinstance(config, str) else 'of a dict'
    raise ValueError(
        f'the teacher config {shown} has no published checkpoint; write `checkpoint=` with the '
        'path or address of its weights, or `checkpoint=None` for a teacher with random weights')


def _address_of(config: str, folder: str) -> str:
    for file in load(os.path.join(folder, 'model-index.yml'))['Import']:
        models = load(os.path.join(folder, file))
        models = models if isinstance(models, list) else models.get('Models', [])
        for model in models:
            if model.get('Config') == config and model.get('Weights'):
                return model['Weights']
    return ''


def _mim_folder(package: str) -> str:
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):  # 'no_such.package', '.package', '__main__'
        spec = None
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f'the package `{package}` of the config `{package}::…` is not '
                                'installed; write `mmdet::…` for configs of mmdet, `mmseg::…` for '
                                'those of mmsegmentation, install the package, or use the path of '
                                'a file')
    return os.path.join(os.path.dirname(spec.origin), '.mim')
