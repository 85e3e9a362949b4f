"""Shared code of the command-line tools: options like those of mmdet's tools, and their config."""
import argparse
import os
from typing import Any, Iterator, List, Optional, Sequence, Tuple

from command import Parser
from group import join_group
from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmkd.core.build import check_arguments, parameters_of
from mmkd.core.missing import looked_for
from mmkd.files.classes import FILES, stated_mapping
from mmkd.files.zoo import config_path, published_checkpoint, read_config_file
from mmkd.networks import CachedTeacher, FrozenTeacher, ModuleTeacher
from mmkd.networks.frozen import LEFT_OUT
from mmkd.networks.libraries import is_module

NONE = 'none'
"""Value of `--teacher-checkpoint` for a teacher with random weights."""

TEACHERS = {cls.__name__: cls for cls in (FrozenTeacher, CachedTeacher)}
"""Teachers that use the published checkpoint if none is given."""


class Options(DictAction):
    """``key=value`` words; any other word is an error."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        for word in values:
            if '=' not in word:
                parser.error(f'{option_string} must have values as key=value, but got `{word}`')
        super().__call__(parser, namespace, values, option_string)


def add_common_options(parser: Parser) -> None:
    """Add the options shared by training and testing."""
    parser.add_argument('--work-dir', help='folder of logs and checkpoints')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=Options,
        help='override settings of the config, key=value; lists as key="[a,b]" or key=a,b, '
        'nested ones as key="[(a,b),(c,d)]", without blanks')
    parser.add_argument(
        '--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none',
        help='job launcher')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)


def add_teacher_checkpoint(parser: Parser) -> None:
    """Add the option for the weights of a teacher given by its plain config."""
    parser.add_argument('--teacher-checkpoint', metavar='FILE', help='the teacher\'s weights, path '
                        f'or address; by default those that its package publishes; `{NONE}` for '
                        'random ones')


def add_method(parser: Parser, file: str) -> None:
    """Add the option for the method by which several teachers teach."""
    parser.add_argument('--method', help=f'method of {file}, as in tools/train.py, several joined '
                        "by '+'; by default the recommended one for the student's family")


def add_classes(parser: Parser) -> None:
    """Add the option for a teacher with other classes than the student."""
    parser.add_argument('--classes', metavar='FILE', help="the mapping from the student's classes "
                                                          "to the teacher's: a .json, .yaml or .py "
                                                          'file with {"RBC": "cell", "vehicle": '
                                                          '["car", "bus"], "rider": null}')


def check_classes(teacher: str, classes: Optional[str]) -> None:
    """Check the value of `--classes`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no mapping of classes, or the teacher has no classes.
    """
    if classes is None:
        return
    if is_module(teacher):
        raise ValueError(f'--classes {classes}, but --teacher {teacher} has only features and no '
                         'classes; leave out --classes')
    if not classes.lower().endswith(FILES):
        raise ValueError(f'--classes must be a {", ".join(FILES)} file with a mapping of classes, '
                         f'but got `{classes}`; write a file, such as {{"RBC": "cell", "rider": '
                         'null}')
    stated_mapping(classes, '--classes')


def read_teacher(teacher: str, given: Optional[str]) -> Tuple[Any, Optional[str]]:
    """The teacher that `--teacher` names, and the value of its `checkpoint`.

    Args:
        teacher (str): A config, or what :class:`mmkd.ModuleTeacher` builds.
        given (str, optional): Value of `--teacher-checkpoint`.

    Returns:
        tuple[Config | ModuleTeacher, str | None]: See :func:`checkpoint_of_teacher`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: See :func:`checkpoint_of_teacher`.
    """
    checkpoint = checkpoint_of_teacher(teacher, given)
    if is_module(teacher):
        return ModuleTeacher(built_by(teacher), checkpoint), checkpoint
    return read_config(teacher), checkpoint


def built_by(teacher: str) -> str:
    """The name of a module with an absolute path of a folder of transformers."""
    library, _, name = teacher.partition(':')
    folder = os.path.expanduser(name)
    if library == 'transformers' and os.path.isdir(folder):
        return f'{library}:{os.path.abspath(folder)}'
    return teacher


def read_config(name: str) -> Config:
    """Read a config from a path or from an installed package ('package::path')."""
    return read_config_file(name)


def load_config(args: argparse.Namespace) -> Config:
    """Read the config and apply the options; ``--work-dir`` overrides that of the config."""
    config = finish_config(read_config(args.config), args)
    folder, name = os.path.split(os.path.abspath(config.filename))
    if folder == os.path.abspath(config.work_dir):
        # MMEngine writes the complete config into the work dir, under the name of the config: over
        # a distill.py that a user has edited. A Config has no setter of its file name.
        object.__setattr__(config, '_filename', os.path.join(folder, f'complete_{name}'))
    return config


def finish_config(config: Config, args: argparse.Namespace) -> Config:
    """Apply the options of the command line to a config."""
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    config.launcher = args.launcher
    if args.cfg_options is not None:
        config.merge_from_dict(args.cfg_options)
    if args.work_dir is not None:
        config.work_dir = args.work_dir
    elif config.get('work_dir') is None:
        name = os.path.splitext(os.path.basename(args.config))[0]
        config.work_dir = os.path.join('./work_dirs', name)
    return config


# --- checks before anything is built --------------------------------------------------------------


def checkpoint_of_teacher(teacher: str, given: Optional[str]) -> Optional[str]:
    """Value of the teacher's `checkpoint` in a distillation config.

    Args:
        teacher (str): Value of `--teacher`.
        given (str, optional): Value of `--teacher-checkpoint`.

    Returns:
        str | None: An absolute path or an address; :data:`LEFT_OUT` for the weights published by
        the teacher's package; None for random weights.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If no checkpoint is given, and none is published.
    """
    if given == NONE:
        return None
    if given is not None:
        check_checkpoint(given, '--teacher-checkpoint')
        return given if '://' in given else os.path.abspath(os.path.expanduser(given))
    if is_module(teacher):
        return _weights_of_module(teacher)
    config_path(teacher)
    try:
        published_checkpoint(teacher)
    except ValueError:
        raise ValueError(
            f'no weights are published for --teacher {teacher}; write --teacher-checkpoint FILE, '
            f'the path or address of its weights, or --teacher-checkpoint {NONE} for random ones'
        ) from None
    return LEFT_OUT


def _weights_of_module(teacher: str) -> str:
    """The weights in a folder of transformers; those of other libraries must be given.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If it has no weights.
    """
    library, _, name = teacher.partition(':')
    if library == 'transformers':
        for file in ('model.safetensors', 'pytorch_model.bin'):
            path = os.path.join(os.path.abspath(os.path.expanduser(name)), file)
            if os.path.isfile(path):
                return path
        check_folder(teacher)
        raise ValueError(f'the folder of --teacher {teacher} has no model.safetensors and no '
                         'pytorch_model.bin; write --teacher-checkpoint FILE, the path of its '
                         f'weights, or --teacher-checkpoint {NONE} for random ones')
    raise ValueError(f'mmkd does not download the weights of --teacher {teacher}; write '
                     '--teacher-checkpoint FILE, a .safetensors or .pth file, or '
                     f'--teacher-checkpoint {NONE} for random ones')


def check_folder(teacher: str) -> None:
    """Check the folder of a model of transformers.

    Raises:
        FileNotFoundError: If it does not exist.
    """
    library, _, name = teacher.partition(':')
    if library == 'transformers' and not os.path.isdir(os.path.expanduser(name)):
        raise FileNotFoundError(f'--teacher {teacher}: no folder `{name}` {looked_for(name)}; '
                                'write the folder of a model, with its config.json (mmkd '
                                'downloads none)')


def check_checkpoint(path: str, option: str) -> None:
    """Check that a checkpoint exists; one at an address is checked when it is read.

    Raises:
        FileNotFoundError: If it does not exist.
    """
    if '://' not in path and not os.path.exists(os.path.expanduser(path)):
        raise FileNotFoundError(f'{option}: no checkpoint at `{path}` {looked_for(path)}; write '
                                'the path or address of a checkpoint')


def check_files(config: Config) -> None:
    """Check the files of all networks other than the student before anything is built.

    Raises:
        FileNotFoundError: If a config or checkpoint does not exist.
        TypeError: If a teacher without a checkpoint has a misspelled argument.
        ValueError: If a teacher has no checkpoint, and none is published for its config.
    """
    for where, entry in networks_of(config):
        if isinstance(entry['config'], str):
            config_path(entry['config'])
        path = entry.get('checkpoint')
        if isinstance(path, str) and '://' not in path and not os.path.isfile(
                os.path.expanduser(path)):
            whose = 'teacher' if 'teacher' in where else where.rpartition('.')[2]
            raise FileNotFoundError(
                f'no {whose} checkpoint at `{path}` {looked_for(path)}; set '
                f'`{where}.checkpoint` to the path or address of the weights')
        scope, _, name = str(entry.get('type', 'FrozenTeacher')).rpartition('.')
        kind = TEACHERS.get(name) if scope in ('', 'mmkd') else None
        if 'checkpoint' not in entry and kind is not None and 'teacher' in where:
            # The key may be misspelled.
            check_arguments(f'`{where}`', {key: value for key, value in entry.items()
                                           if key not in ('type', '_scope_')},
                            *parameters_of(kind))
            published_checkpoint(entry['config'])
    start = config.get('load_from')
    if isinstance(start, str):
        check_checkpoint(start, '`load_from` of the config')


def networks_of(config: Config, named_by: Sequence[str] = ('config', )
                ) -> Iterator[Tuple[str, Any]]:
    """Keys and entries of a distillation that describe a network.

    Args:
        config (Config): The config.
        named_by (Sequence[str]): Keys of which an entry has one. Defaults to ('config',).
    """
    places = [('model', config.get('model'))]
    places += [(f'custom_hooks.{number}', hook)
               for number, hook in enumerate(config.get('custom_hooks') or [])]
    for where, holder in places:
        if isinstance(holder, dict) and str(holder.get('type', '')).startswith('mmkd.'):
            for key in ('teacher', 'companions'):
                yield from _networks_in(holder.get(key), f'{where}.{key}', named_by)


def _networks_in(value: Any, where: str, named_by: Sequence[str]) -> Iterator[Tuple[str, Any]]:
    if isinstance(value, dict) and any(key in value for key in named_by):
        yield where, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _networks_in(inner, f'{where}.{key}', named_by)
    elif isinstance(value, (list, tuple)):
        for number, inner in enumerate(value):
            yield from _networks_in(inner, f'{where}.{number}', named_by)


# --- the run --------------------------------------------------------------------------------------


def build_runner(config: Config) -> Any:
    """Build the Runner of a config."""
    if config.launcher == 'pytorch' and get_device() == 'cpu':
        # MMEngine's process groups and the default of its wrapper need a GPU.
        join_group(config)
        config.model_wrapper_cfg = dict(
            dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False,
                 find_unused_parameters=config.get('find_unused_parameters', False)),
            **config.get('model_wrapper_cfg') or {})
    return RUNNERS.build(config) if 'runner_type' in config else Runner.from_cfg(config)


def imports_of(config: Config) -> List[str]:
    """The modules in ``custom_imports`` of a config."""
    found = (config.get('custom_imports') or {}).get('imports') or []
    return [found] if isinstance(found, str) else list(found)
