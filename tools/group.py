"""The process group of a run on CPUs. MMEngine makes one for GPUs only."""
import atexit
import gc
import os
from datetime import timedelta
from typing import Optional

from mmengine.config import Config
from torch import distributed


def join_group(config: Config) -> None:
    """Join the processes that torchrun has started, unless this process has joined a group.

    Raises:
        SystemExit: If torchrun has not started this process.
        ValueError: If the timeout in the config is no number of seconds.
    """
    if distributed.is_initialized():
        return
    if 'RANK' not in os.environ:
        raise SystemExit('--launcher pytorch must be started by torchrun; use tools/dist_train.sh '
                         'CONFIG PROCESSES')
    distributed.init_process_group('gloo', timeout=timeout_of(config))
    atexit.register(leave_group)


def timeout_of(config: Config) -> Optional[timedelta]:
    """How long processes wait for one another; None for torch's default.

    Raises:
        ValueError: If it is no number of seconds greater than 0.
    """
    seconds = ((config.get('env_cfg') or {}).get('dist_cfg') or {}).get('timeout')
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or seconds <= 0:
        raise ValueError('`env_cfg.dist_cfg.timeout` must be a number of seconds greater than 0, '
                         f'but got {seconds!r}; write for instance timeout=600')
    return timedelta(seconds=seconds)


def leave_group() -> None:
    """End the process group: its threads may abort a finished run when the interpreter exits.

    Collects garbage first, because a distributed wrapper that is deleted later would end the group
    while its threads wait for the interpreter.
    """
    gc.collect()
    distributed.destroy_process_group()
