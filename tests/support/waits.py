"""Counts the operations that would make the CPU wait for a GPU. Needs no GPU."""
from collections import Counter
from contextlib import contextmanager
from functools import wraps
from unittest.mock import patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mmkd.training import gate, health

READS = ('tolist', 'item', 'cpu', 'numpy', '__bool__', '__int__', '__float__', '__index__',
         '__array__', 'new_tensor')
"""Methods of a tensor. Some of them dispatch no operator on a CPU."""

MADE = ('tensor', 'as_tensor')
"""Functions that copy numbers from the host to a device, which waits for the queue of the
device."""

OPS = ('_local_scalar_dense', 'is_nonzero', 'nonzero', 'argwhere', 'masked_select', 'unique_dim',
       '_unique', '_unique2', 'unique_consecutive', 'equal', 'bincount', 'lift_fresh')


class Waits(TorchDispatchMode):
    """Counts operators whose result, or its shape, must be read by the CPU."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()
        self.is_paused = False

    def add(self, name):
        if not self.is_paused:
            self.counts[name] += 1

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.removeprefix('aten::')
        if name in OPS:
            self.add(name)
        indices = args[1] if name.startswith('index') and len(args) > 1 else ()
        if isinstance(indices, (list, tuple)) and any(
                one is not None and one.dtype in (torch.bool, torch.uint8) for one in indices):
            self.add('index by a mask')
        return func(*args, **kwargs or {})


@contextmanager
def counted():
    """Count inside the block. Reading numbers that were already copied to the host does not count.
    """
    waits = Waits()

    def counting(name, call):
        @wraps(call)
        def counted_call(*args, **kwargs):
            waits.add(name)
            return call(*args, **kwargs)

        return counted_call

    def free(numbers):
        before, waits.is_paused = waits.is_paused, True
        try:
            return numbers.tolist()
        finally:
            waits.is_paused = before

    patches = [patch.object(torch.Tensor, name, counting(name, getattr(torch.Tensor, name)))
               for name in READS]
    patches += [patch.object(torch, name, counting(name, getattr(torch, name))) for name in MADE]
    patches += [patch.object(gate, 'on_host', free)]
    with waits:
        for one in patches:
            one.start()
        try:
            yield waits.counts
        finally:
            for one in patches:
                one.stop()


@contextmanager
def decided_on_the_device():
    """Treat the CPU as a GPU: the results of a step are not read during that step."""
    with patch.object(health, 'is_read_at_once', lambda device: False):
        yield
