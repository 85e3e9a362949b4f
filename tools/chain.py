"""Trainings that follow one another: each one's student is the next one's teacher."""
import argparse
import os
import subprocess
import sys
from typing import Any, List, NamedTuple, Optional

from common import read_config
from mmengine.config import Config

from mmkd.latest import latest_whole

TRAIN_TOOL = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'train.py')
DONE = 'done'
"""File in a stage's folder, once it is finished."""


class Stage(NamedTuple):
    """One training."""
    name: str
    """Folder in the work dir."""
    options: List[str]
    """What `tools/train.py` is told of it."""


def run_chain(args: argparse.Namespace, stages: List[Stage]) -> None:
    """Train stage after stage; those that are done are not repeated, one that was cut off resumes.

    '{NAME}' in the options of a stage stands for the last checkpoint of the stage NAME.
    """
    if args.launcher != 'none':
        raise SystemExit('--generations and --assistant start one training after another, which '
                         'several processes cannot share; run the stages by themselves, as they '
                         'stand in the work dir')
    for number, stage in enumerate(stages):
        folder = os.path.join(args.work_dir, stage.name)
        done = os.path.join(folder, DONE)
        print(f'[{number + 1}/{len(stages)}] {stage.name}: ' + (
            'done before' if os.path.isfile(done) else folder), flush=True)
        if os.path.isfile(done):
            continue
        options = [with_checkpoints(option, args.work_dir, stages[:number])
                   for option in stage.options]
        command = [sys.executable, TRAIN_TOOL, *options, '--work-dir', folder, '--resume', *(
            ['--amp'] if args.amp else []), *(['--auto-scale-lr'] if args.auto_scale_lr else [])]
        found = subprocess.run(command)
        if found.returncode:
            raise SystemExit(f'stage {stage.name} failed; its log is in {folder}. Mend the cause '
                             'and run the same command again: what is done is kept')
        with open(done, 'w') as file:
            file.write(last_checkpoint(folder) + '\n')
    print(f'The last student is {last_checkpoint(os.path.join(args.work_dir, stages[-1].name))}')


def with_checkpoints(option: str, work_dir: str, before: List[Stage]) -> str:
    """An option with the last checkpoint of a stage in the place of its '{NAME}'."""
    for stage in before:
        if f'{{{stage.name}}}' in option:
            path = last_checkpoint(os.path.join(work_dir, stage.name))
            option = option.replace(f'{{{stage.name}}}', path)
    return option


def last_checkpoint(folder: str) -> str:
    """Path of the newest checkpoint in a folder.

    Raises:
        SystemExit: If there is none.
    """
    path = latest_whole(folder)
    if path is None:
        raise SystemExit(f'no checkpoint in {folder}; let the config save one at the end '
                         '(`default_hooks.checkpoint`)')
    return os.path.abspath(path)


def given_options(args: argparse.Namespace) -> List[str]:
    """--cfg-options as they were given, for every stage."""
    words = sys.argv[1:]
    if '--cfg-options' not in words:
        return []
    rest = words[words.index('--cfg-options') + 1:]
    end = next((i for i, word in enumerate(rest) if word.startswith('--')), len(rest))
    return ['--cfg-options', *(word for word in rest[:end] if '=' in word)]


def assistants(args: argparse.Namespace) -> List[Stage]:
    """Big teaches middle, middle teaches small: `Improved Knowledge Distillation via Teacher
    Assistant <https://arxiv.org/abs/1902.03393>`_."""
    stages: List[Stage] = []
    teacher = ['--teacher', args.teacher]
    if args.teacher_checkpoint:
        teacher += ['--teacher-checkpoint', args.teacher_checkpoint]
    method = ['--method', args.method] if args.method else []
    for number, config in enumerate([*args.assistant, args.config]):
        name = f'{number}_{os.path.splitext(os.path.basename(config))[0]}'
        stages.append(Stage(name, [config, *teacher, *method, *given_options(args)]))
        teacher = ['--teacher', config, '--teacher-checkpoint', f'{{{name}}}']
    return stages


def generations(args: argparse.Namespace) -> List[Stage]:
    """Generation 0 learns from labels alone, each further one from the one before:
    `Born-Again Neural Networks <https://arxiv.org/abs/1805.04770>`_, section 3.

    A plain config is distilled by --method; a distillation config says how itself, and its teacher
    is replaced. Every generation begins anew, with a seed of its own.
    """
    config = read_config(args.config)
    is_distilled = 'student' in config.get('model', {})
    if is_distilled and args.method:
        raise SystemExit(f'{args.config} says itself what is compared; leave out --method')
    plain = Config(config._cfg_dict.copy()) if not is_distilled else plain_of(config)
    os.makedirs(args.work_dir, exist_ok=True)
    path = os.path.join(args.work_dir, 'generation0.py')
    plain.dump(path)
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
            config.dump(distilled)
            options = [distilled, *(options or ['--cfg-options']),
                       f'model.teacher.checkpoint={before}']
        else:
            options = [path, '--teacher', path, '--teacher-checkpoint', before,
                       '--method', args.method or 'kd', *options]
        stages.append(Stage(f'generation{number}', options))
    return stages


def first_seed(args: argparse.Namespace, config: Config) -> Optional[int]:
    """The seed of the first training: of the command line, or the config; None if neither."""
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
