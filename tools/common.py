"""What the command-line tools share: options as mmdet's have them, and the config they make."""
import argparse
import atexit
import gc
import os
from typing import Any

from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from torch import distributed

from mmkd.data_configs import read_config_file
from mmkd.zoo import config_path


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """Options that training and testing have in common."""
    parser.add_argument('--work-dir', help='folder of logs and checkpoints')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='override settings of the config, key=value; lists as key="[a,b]" or key=a,b, '
        'nested ones as key="[(a,b),(c,d)]", without blanks')
    parser.add_argument(
        '--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none',
        help='job launcher')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)


def read_config(name: str) -> Config:
    """The config of a path or of an installed package's 'package::path'."""
    return read_config_file(config_path(name) if '::' in name else name)


def load_config(args: argparse.Namespace) -> Config:
    """The config with what the command line says of it; for the folder, that goes first."""
    return finish_config(read_config(args.config), args)


def finish_config(config: Config, args: argparse.Namespace) -> Config:
    """Add to a config what the command line says of it."""
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


def build_runner(config: Config) -> Any:
    """The Runner that the config asks for."""
    if config.launcher == 'pytorch' and get_device() == 'cpu':
        # MMEngine's own start of processes, and its wrapper's default, want a GPU.
        if not distributed.is_initialized():
            if 'RANK' not in os.environ:
                raise SystemExit('--launcher pytorch goes with torchrun; use tools/dist_train.sh '
                                 'CONFIG PROCESSES')
            distributed.init_process_group('gloo')
            atexit.register(leave_group)
        config.model_wrapper_cfg = dict(
            dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False,
                 find_unused_parameters=config.get('find_unused_parameters', False)),
            **config.get('model_wrapper_cfg') or {})
    return RUNNERS.build(config) if 'runner_type' in config else Runner.from_cfg(config)


def leave_group() -> None:
    """End the process group, whose threads, left to the interpreter, may abort a finished run.

    A distributed wrapper that outlives it would end it while its threads wait for the interpreter.
    """
    gc.collect()
    distributed.destroy_process_group()
