"""Write the config of the first stage of a method, which trains a module through the teacher."""
import argparse
import os
from typing import Any, Dict, Sequence

from common import checkpoint_of_teacher, imports_of, read_config
from mmengine.config import Config
from mmengine.registry import DefaultScope
from written import check_edited, write_kept

from mmkd.core.build import build_model
from mmkd.losses.method import Preparation, methods_of
from mmkd.networks.frozen import LEFT_OUT, model_config
from mmkd.points import family_of


def make_preparation(args: argparse.Namespace) -> Config:
    """Write the config of ``--prepare``, and read it."""
    teacher = read_config(args.config)
    if 'student' in teacher.get('model', {}):
        raise SystemExit(f'{args.config} is a distillation config; use the plain config of the '
                         'teacher')
    checkpoint = checkpoint_of_teacher(args.config, args.teacher_checkpoint)
    if checkpoint is None:
        raise SystemExit('--prepare needs the weights of a trained teacher, but '
                         '--teacher-checkpoint is `none`, random weights; use the checkpoint of a '
                         'trained teacher')
    chosen = [one for one in methods_of(args.prepare) if one.prepare]
    if len(chosen) != 1:
        raise SystemExit(f'--prepare {args.prepare}: expected one method with a first stage; write '
                         'the name of such a method')
    with DefaultScope.overwrite_default_scope(teacher.get('default_scope')):
        kind = family_of(build_model(model_config(teacher), 'teacher'), 'teacher').kind
    if kind not in chosen[0].prepare:
        raise SystemExit(f'--prepare {args.prepare} is for {", ".join(chosen[0].prepare)}, and '
                         f'{args.config} is {kind or "none of these"}; write a config with '
                         "model=dict(type='mmkd.Prepare', ...) by hand")
    stem = os.path.splitext(os.path.basename(args.config))[0]
    args.work_dir = args.work_dir or os.path.join('work_dirs', f'{stem}_{args.prepare}_prepare')
    path = os.path.join(args.work_dir, 'prepare.py')
    how_to_run = f'tools/train.py {path} --work-dir {args.work_dir}'
    check_edited(path, how_to_run, args.overwrite)
    name = args.config if '::' in args.config else os.path.abspath(args.config)
    text = text_of(name, checkpoint, chosen[0].prepare[kind], imports_of(teacher))
    write_kept(path, text, 'train.py', how_to_run, args.overwrite)
    print(f'Wrote {path}:\n\n{text}')
    config = Config.fromfile(path)
    return Config(config._cfg_dict, text, os.path.join(args.work_dir, f'{stem}_{args.prepare}.py'))


def text_of(teacher: str, checkpoint: Any, stage: Preparation, imports: Sequence[str]) -> str:
    """The text of the config of a first stage."""
    given = '' if checkpoint == LEFT_OUT else f', checkpoint={checkpoint!r}'
    count = stage.iterations
    schedule: Dict[str, Any] = dict(stage.schedule, begin=0, end=count)
    if 'Cosine' in schedule['type']:
        schedule['T_max'] = count
    return f'''_base_ = [{teacher!r}]
custom_imports = dict(imports={list(dict.fromkeys(['mmkd', *imports]))!r},
                      allow_failed_imports=False)

model = dict(
    _delete_=True,
    type='mmkd.Prepare',
    teacher=dict(config={teacher!r}{given}),
    module={_call(stage.module)},
    on={stage.on!r})

train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters={count}, val_interval={count})
optim_wrapper = dict(
    _delete_=True, type='OptimWrapper',
    optimizer={_call(stage.optimizer)})
param_scheduler = [{_call(schedule)}]
train_dataloader = dict(sampler=dict(_delete_=True, type='InfiniteSampler', shuffle=True))
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    checkpoint=dict(_delete_=True, type='CheckpointHook', by_epoch=False, interval={count}))
log_processor = dict(type='LogProcessor', window_size=50, by_epoch=False)
custom_hooks = []  # those of the teacher's own training
load_from = None
resume = False
'''


def _call(arguments: Dict[str, Any]) -> str:
    return f'dict({", ".join(f"{key}={value!r}" for key, value in arguments.items())})'
