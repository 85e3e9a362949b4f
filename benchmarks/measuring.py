"""Time, memory, and the machine: what all benchmarks measure with."""
import argparse
import gc
import json
import os
import subprocess
import sys
import time
from typing import Any, Callable, Dict, List, Optional

import tools_on_path  # noqa: F401
import torch
from command import last_words
from tqdm import tqdm

GIVE_BACK = dict(MALLOC_MMAP_THRESHOLD_='65536')
"""Setting of glibc. Freed memory is returned to the system, so that the measured peak does not
include memory that the allocator keeps for later."""


def timed(parts: Dict[str, Callable], args: argparse.Namespace,
          last: Optional[Dict[str, Any]] = None) -> Dict[str, List[float]]:
    """Measure the seconds of every part in every round, after two warm-up rounds.

    ``last`` receives the return value of each part in the last round.
    """
    last = {} if last is None else last
    seconds: Dict[str, List[float]] = {name: [] for name in parts}
    for number in tqdm(range(args.rounds + 2), desc='rounds', ncols=100):
        for name, part in parts.items():
            wait_for(args.device)
            begin = time.perf_counter()
            last[name] = part()
            wait_for(args.device)
            if number >= 2:
                seconds[name].append(time.perf_counter() - begin)
    return seconds


def wait_for(device: str) -> None:
    if device.startswith('cuda'):
        torch.cuda.synchronize()


def peak(device: str) -> float:
    """Peak in MiB: of the allocator on a GPU, of the resident memory of the process on a CPU."""
    if device.startswith('cuda'):
        return torch.cuda.max_memory_allocated() / 2**20
    # `ru_maxrss` starts with the value of the parent process
    with open('/proc/self/status') as file:
        return next(int(line.split()[1]) for line in file if line.startswith('VmHWM:')) / 2**10


def reset_peak(device: str) -> None:
    """Let :func:`peak` begin again, at the memory in use."""
    if device.startswith('cuda'):
        torch.cuda.reset_peak_memory_stats()
    else:
        with open('/proc/self/clear_refs', 'w') as file:
            file.write('5')


def in_a_process(name: str, *more: str) -> Dict[str, float]:
    """Memory of a part, measured by the same command in a separate process."""
    found = subprocess.run([sys.executable, '-W', 'ignore', *sys.argv, *more, '--only', name],
                           capture_output=True, text=True, env=dict(os.environ, **GIVE_BACK))
    if found.returncode:
        raise SystemExit(f'measuring the memory of {name} failed:\n{last_words(found.stderr)}')
    result: Dict[str, float] = json.loads(found.stdout.strip().splitlines()[-1])
    return result


def allocated(device: str) -> float:
    """MiB of the tensors on a GPU; 0 on a CPU."""
    return torch.cuda.memory_allocated() / 2**20 if device.startswith('cuda') else 0.


def peak_of(step: Callable[[], Any], device: str) -> float:
    """Peak in MiB of a step on a GPU, beyond what is in use before it."""
    gc.collect()
    reset_peak(device)
    before = allocated(device)
    step()
    return peak(device) - before


def as_table(rows: List[List[str]]) -> str:
    return ''.join(f'| {" | ".join(row)} |\n'
                   for row in [rows[0], ['---'] * len(rows[0]), *rows[1:]])


def device_name(device: str) -> str:
    """The GPU or the processor, and the number of threads on a CPU."""
    if device.startswith('cuda'):
        return torch.cuda.get_device_name()
    return f'CPU, {torch.get_num_threads()} threads, ' + (cpu_name() or 'unknown')


def cpu_name() -> Optional[str]:
    try:
        with open('/proc/cpuinfo') as file:
            return next((line.split(':')[1].strip() for line in file
                         if line.startswith('model name')), None)
    except OSError:
        return None
