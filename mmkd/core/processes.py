"""How do the processes of a run exchange rows of tensors? Requires only torch."""
import zlib
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Iterator, List, NamedTuple, Tuple

import torch
from torch import Tensor, distributed

_ALONE: ContextVar[bool] = ContextVar('mmkd_alone', default=False)


@contextmanager
def alone() -> Iterator[None]:
    """Inside the block, act as the only process: nothing of this module communicates.

    A loss is tried before training on random numbers, at a time when other processes may be
    elsewhere.

    Example:
        >>> with alone():
        ...     world_size()
        1
    """
    token = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(token)


def world_size() -> int:
    """Number of processes to communicate with, this one included.

    Returns:
        int: 1 without a process group, and inside :func:`alone`.
    """
    if _ALONE.get() or not (distributed.is_available() and distributed.is_initialized()):
        return 1
    return distributed.get_world_size()


def rank() -> int:
    """Number of this process, from 0; 0 without a process group, and inside :func:`alone`."""
    return distributed.get_rank() if world_size() > 1 else 0


class Rows(NamedTuple):
    """Rows of all processes."""
    tensors: List[Tensor]
    """Each (sum of the counts, ...), in order of rank."""
    counts: List[int]
    """Number of rows of each process."""
    notes: List[int]
    """The note of each process."""


def all_rows(*tensors: Tensor, note: int = 0) -> Rows:
    """Concatenate the rows of all processes. All of them call it; no gradient is kept.

    With several processes the CPU waits once for the GPU, to know the numbers of rows.

    Args:
        *tensors (Tensor): Each (M, ...) of any dtype; M, 0 or more, is the same for the tensors of
            one call and may differ between processes.
        note (int): A whole number for the other processes. Defaults to 0.

    Raises:
        ValueError: In every process, if rows or dtypes differ between processes.

    Example:
        >>> all_rows(torch.ones(2, 3), note=5).counts
        [2]
    """
    tensors = tuple(one.detach() for one in tensors)
    count, world = len(tensors[0]), world_size()
    if world == 1:
        return Rows(list(tensors), [count], [note])
    kinds = [(str(one.dtype), *one.shape[1:]) for one in tensors]
    own = torch.tensor([count, note, zlib.crc32(repr(kinds).encode())], device=tensors[0].device)
    table = [torch.empty_like(own) for _ in range(world)]
    distributed.all_gather(table, own)
    counts, notes, signatures = zip(*torch.stack(table).tolist())
    if len(set(signatures)) > 1:
        other = next(i for i, one in enumerate(signatures) if one != signatures[rank()])
        raise ValueError(f'rows are gathered over {world} processes, but those of process {rank()} '
                         f'are {kinds} (dtype and shape without the first dimension) and those of '
                         f'process {other} differ; use the same dtype and shape in all processes')
    return Rows([_joined(one, counts) for one in tensors], list(counts), list(notes))


def _joined(own: Tensor, counts: Tuple[int, ...]) -> Tensor:
    padded = own.new_zeros(max(counts), *own.shape[1:])
    if padded.numel() == 0:
        return own.new_empty(sum(counts), *own.shape[1:])
    padded[:len(own)] = own
    # Bytes can be exchanged whatever the dtype is; not every backend knows every dtype.
    sent = padded.reshape(-1).view(torch.uint8)
    received = [torch.empty_like(sent) for _ in counts]
    distributed.all_gather(received, sent)
    return torch.cat([one.view(own.dtype).view(padded.shape)[:count]
                      for one, count in zip(received, counts)])
