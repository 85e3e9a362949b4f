"""Run a function in several processes that communicate through gloo."""
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, List

import torch

# A process starts twice as fast without MMEngine.
SCRIPT = '''
import importlib, sys
sys.modules['mmengine'] = None
import torch
torch.set_num_threads(1)
module, function, rank, world, folder = sys.argv[1:]
function = getattr(importlib.import_module(module), function)
torch.distributed.init_process_group('gloo', rank=int(rank), world_size=int(world),
                                     init_method=f'file://{folder}/meeting{world}')
found = function(int(rank), int(world))
torch.save(found, f'{folder}/{world}_{rank}.pth')
torch.distributed.barrier()
torch.distributed.destroy_process_group()
'''

LONGEST = 120
"""Seconds after which processes are considered to hang."""


def in_processes(function: Callable[[int, int], Any], world: int, folder: Path) -> List[Any]:
    """Call ``function(rank, world)`` in processes that have torch and no MMEngine.

    Args:
        function (Callable): A function of a module that can be imported without MMEngine. Its
            return value can be loaded with ``weights_only=True``.
        world (int): Number of processes.
        folder (Path): An empty folder.

    Returns:
        list: The return values, by rank.
    """
    source = Path(sys.modules[function.__module__].__file__)
    path = os.pathsep.join([str(source.parent), *(one for one in sys.path if 'quick' not in one)])
    started = [subprocess.Popen(
        [sys.executable, '-W', 'ignore', '-c', SCRIPT, source.stem, function.__name__, str(rank),
         str(world), str(folder)], env=dict(os.environ, PYTHONPATH=path, OMP_NUM_THREADS='1'),
        stderr=subprocess.PIPE, text=True) for rank in range(world)]
    try:
        said = [one.communicate(timeout=LONGEST)[1] for one in started]
    finally:
        for one in started:
            one.kill()
    assert not any(one.returncode for one in started), '\n'.join(said)
    return [torch.load(folder / f'{world}_{rank}.pth') for rank in range(world)]
