"""Train several models one after another: the student of one stage teaches the next one."""
import argparse
import copy
import json
import os
import re
import subprocess
import sys
from typing import Any, Dict, List, NamedTuple, Optional

from command import FLAG
from common import NONE, checkpoint_of_teacher, finish_config, read_config
from fingerprint import (
    code,
    code_of,
    data,
    differences,
    digest_of_config,
    digest_of_source,
    told,
)
from mmengine.config import Config
from written import check_edited, write_kept

from mmkd.files.latest import latest_whole
from mmkd.files.zoo import config_path
from mmkd.losses import METHODS
from mmkd.losses.method import name_of

TRAIN_TOOL = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'train.py')
ENVIRONMENT = dict(
    PYTHONUNBUFFERED='1',
    # By default a waiting OpenMP thread spins, which slows down other processes on the same cores.
    OMP_WAIT_POLICY='PASSIVE',
    # Keep freed memory, in large pages. Returning it and allocating it again for every tensor took
    # a tenth of the time of an iteration on a CPU.
    GLIBC_TUNABLES='glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:'
    'glibc.malloc.trim_threshold=17179869184:glibc.malloc.top_pad=268435456')
DONE = 'done'
"""File in a stage's folder, once it is finished."""
RECORD = 'stage.json'
"""File in a stage's folder with the options of its training."""


class Stage(NamedTuple):
    """One training."""
    name: str
    """Folder in the work dir."""
    options: List[str]
    """Options of `tools/train.py`."""
    files: Dict[str, Config] = {}
    """Configs that are written for it, by path."""


def run_chain(args: argparse.Namespace, stages: List[Stage]) -> None:
    """Train the stages in order; finished ones are skipped, and an interrupted one is resumed.

    A stage that was started with other options is an error. With `--overwrite` it is restarted,
    and its old folder is renamed. '{NAME}' in the options of a stage stands for the last checkpoint
    of the stage NAME.

    Raises:
        SystemExit: If a stage fails.
        ValueError: If a stage was trained with other options.
    """
    if args.launcher != 'none':
        raise SystemExit('this command runs several trainings in a row, which is '
                         'not supported with several processes; run each stage by its config in '
                         'the work dir')
    for stage in stages:  # check all of them before the first starts
        for path in stage.files:
            check_edited(path, f'tools/train.py {path}', args.overwrite)
        if not args.overwrite:
            check_record(args, stage, stages)
    for number, stage in enumerate(stages):
        folder = os.path.join(args.work_dir, stage.name)
        if not args.overwrite:
            check_record(args, stage, stages)
        elif misfits(args, stage, stages):
            move_aside(folder)
        is_done = os.path.isfile(os.path.join(folder, DONE))
        print(f'[{number + 1}/{len(stages)}] {stage.name}: ' + (
            'finished before' if is_done else folder), flush=True)
        for path, config in stage.files.items():
            write_kept(path, config.pretty_text, 'train.py', f'tools/train.py {path}',
                       args.overwrite)
        if is_done:
            continue
        write_record(args, stage, stages)
        options = [with_checkpoints(option, args.work_dir, stages) for option in stage.options]
        command = [sys.executable, TRAIN_TOOL, *options, '--work-dir', folder, '--resume', *(
            ['--amp'] if args.amp else []), *(['--auto-scale-lr'] if args.auto_scale_lr else []),
            *([FLAG] if getattr(args, 'debug', False) else [])]
        found = subprocess.run(command)
        if found.returncode:
            raise SystemExit(f'stage {stage.name} failed; its log is in {folder}. Correct the '
                             'cause and run the same command again: finished stages are kept')
        with open(os.path.join(folder, DONE), 'w') as file:
            file.write(last_checkpoint(folder) + '\n')
    print(f'The last checkpoint is {last_checkpoint(os.path.join(args.work_dir, stages[-1].name))}')


def plain_config(args: argparse.Namespace, whose: str) -> Config:
    """The config of the networks that a tool trains as teachers; sets ``args.work_dir``.

    Args:
        args (argparse.Namespace): With ``config`` and ``student``, the plain config of the student.
        whose (str): What the networks are called, for messages.

    Raises:
        FileNotFoundError: If there is no such config.
        SystemExit: If the config has a teacher itself.
    """
    config = finish_config(read_config(args.config), args)
    if 'student' in config.model:
        raise SystemExit(f'{args.config} has a teacher; use the plain config of the {whose}')
    config_path(args.student or args.config)
    args.work_dir = args.work_dir or config.work_dir
    return config


# --- with which options ---------------------------------------------------------------------------


def check_record(args: argparse.Namespace, stage: Stage, stages: List[Stage]) -> None:
    """Refuse what was trained with other options.

    Raises:
        ValueError: If so.
    """
    found = misfits(args, stage, stages)
    if found:
        raise ValueError(
            f'the stage {stage.name} in {args.work_dir} was trained with other options '
            f'({told(found)}); use another --work-dir, or train it again by --overwrite')


def misfits(args: argparse.Namespace, stage: Stage, stages: List[Stage]) -> List[str]:
    """In what the options of a stage differ from those it was begun with; nothing if it was not."""
    folder = os.path.join(args.work_dir, stage.name)
    path = os.path.join(folder, RECORD)
    if not os.path.isfile(path):
        return ['the options were not recorded'] if latest_whole(folder) else []
    with open(path) as file:
        before = json.load(file)
    now = record_of(args, stage, stages)
    unknown = [key for key, value in now.items() if re.search(r'\{\w+\}', str(value))]
    return differences(*({key: value for key, value in record.items() if key not in unknown}
                         for record in (before, now)))


def record_of(args: argparse.Namespace, stage: Stage, stages: List[Stage]) -> Dict[str, Any]:
    """Options of a stage, with digests in place of files. The checkpoint of an unfinished stage
    stays as the name of the stage in braces."""
    config, *rest = stage.options
    record: Dict[str, Any] = dict(amp=args.amp, auto_scale_lr=args.auto_scale_lr)
    flag = 'config'
    for word in [config, *rest]:
        if word.startswith('--'):
            flag = word
            continue
        word = with_checkpoints(word, args.work_dir, stages)
        key, equal, value = word.partition('=')
        if flag == '--cfg-options' and equal:
            record[key] = digest_of_source(value)
        elif word in stage.files:
            record[flag] = f'sha256 {digest_of_config(stage.files[word])}'
        else:
            record[flag] = digest_of_source(word)
    own = stage.files.get(config) or read_config(config)
    written = str(record.get('--method') or '').split('+')
    methods = [METHODS.get(name_of(name)) for name in written]
    modules = {module for method in methods if method for module in method.modules()}
    return {**record, **data(own), **code(own), **code_of(sorted(modules))}


def write_record(args: argparse.Namespace, stage: Stage, stages: List[Stage]) -> None:
    """Write the options of a stage into its folder."""
    folder = os.path.join(args.work_dir, stage.name)
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, RECORD)
    with open(f'{path}.part', 'w') as file:
        json.dump(record_of(args, stage, stages), file, indent=1)
    os.replace(f'{path}.part', path)


def move_aside(folder: str) -> None:
    """Rename the folder of a stage to keep its files."""
    number = 1
    while os.path.exists(f'{folder}.old{number}'):
        number += 1
    os.replace(folder, f'{folder}.old{number}')
    print(f'{folder} was trained with other options; it was renamed to '
          f'{folder}.old{number}', flush=True)


def with_checkpoints(option: str, work_dir: str, stages: List[Stage]) -> str:
    """Replace '{NAME}' in an option by the last checkpoint of the finished stage NAME."""
    for stage in stages:
        folder = os.path.join(work_dir, stage.name)
        if f'{{{stage.name}}}' in option and os.path.isfile(os.path.join(folder, DONE)):
            option = option.replace(f'{{{stage.name}}}', last_checkpoint(folder))
    return option


def last_checkpoint(folder: str) -> str:
    """Path of the newest checkpoint in a folder.

    Raises:
        SystemExit: If there is none.
    """
    path = latest_whole(folder)
    if path is None:
        raise SystemExit(f'no checkpoint in {folder}; set `default_hooks.checkpoint` in the config '
                         'to save one at the end')
    return os.path.abspath(path)


def given_options(args: argparse.Namespace) -> List[str]:
    """The words of --cfg-options on the command line, for every stage."""
    words = sys.argv[1:]
    if '--cfg-options' not in words:
        return []
    rest = words[words.index('--cfg-options') + 1:]
    end = next((i for i, word in enumerate(rest) if word.startswith('--')), len(rest))
    return ['--cfg-options', *(word for word in rest[:end] if '=' in word)]


def assistants(args: argparse.Namespace) -> List[Stage]:
    """Stages in which the teacher trains an assistant, and the assistant the student: `Improved
    Knowledge Distillation via Teacher Assistant <https://arxiv.org/abs/1902.03393>`_."""
    stages: List[Stage] = []
    for config in args.assistant:
        config_path(config)
    checkpoint = checkpoint_of_teacher(args.teacher, args.teacher_checkpoint)
    teacher = ['--teacher', args.teacher]
    if args.teacher_checkpoint:
        teacher += ['--teacher-checkpoint', checkpoint or NONE]
    method = ['--method', args.method or 'dist']
    for number, config in enumerate([*args.assistant, args.config]):
        name = f'{number}_{os.path.splitext(os.path.basename(config))[0]}'
        stages.append(Stage(name, [config, *teacher, *method, *given_options(args)]))
        teacher = ['--teacher', config, '--teacher-checkpoint', f'{{{name}}}']
    return stages


def generations(args: argparse.Namespace) -> List[Stage]:
    """Stages in which generation 0 is trained on labels only, and each further one by the previous
    one: `Born-Again Neural Networks <https://arxiv.org/abs/1805.04770>`_, section 3.

    A plain config is distilled with --method. A distillation config keeps its entries, and its
    teacher is replaced. Every generation starts from scratch with a different seed.
    """
    config = read_config(args.config)
    is_distilled = 'student' in config.get('model', {})
    if is_distilled and args.method:
        raise SystemExit(f'{args.config} has a `distill` already; leave out --method')
    plain = Config(config._cfg_dict.copy()) if not is_distilled else plain_of(config)
    path = os.path.join(args.work_dir, 'generation0.py')
    files = {path: plain}
    seed = first_seed(args, config)
    stages: List[Stage] = []
    for number in range(args.generations):
        options = given_options(args)
        if seed is not None and number:
            options = (options or ['--cfg-options']) + [f'randomness.seed={seed + number}']
        before = f'{{generation{number - 1}}}'
        if not number:
            options = [path, *options]
        elif is_distilled:
            distilled = os.path.join(args.work_dir, f'generation{number}.py')
            config.model.teacher = dict(config=os.path.abspath(path), checkpoint='')
            files = {distilled: Config(copy.deepcopy(config._cfg_dict))}
            options = [distilled, *(options or ['--cfg-options']),
                       f'model.teacher.checkpoint={before}']
        else:
            options = [path, '--teacher', path, '--teacher-checkpoint', before,
                       '--method', args.method or 'kd', *options]
        stages.append(Stage(f'generation{number}', options, files))
    return stages


def first_seed(args: argparse.Namespace, config: Config) -> Optional[int]:
    """Seed of the first training, from the command line or the config; None if there is none."""
    given = (args.cfg_options or {}).get('randomness.seed')
    return given if given is not None else (config.get('randomness') or {}).get('seed')


def plain_of(config: Any) -> Config:
    """A distillation config without its distillation."""
    plain = Config(config._cfg_dict.copy())
    plain.model = plain.model.student
    hooks = [hook for hook in plain.get('custom_hooks') or []
             if not str(hook.get('type', '')).startswith('mmkd.')]
    plain.custom_hooks = hooks
    return plain
