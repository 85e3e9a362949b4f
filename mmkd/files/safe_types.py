"""Which types, beside tensors, may a checkpoint hold and be read without running code?"""
from typing import Any, List

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.utils import digit_version


def allow_mmengine_checkpoints() -> None:
    """Let torch read what MMEngine writes beside the weights, with ``weights_only=True``.

    MMEngine 0.10 stores its log history in every checkpoint and calls ``torch.load`` plainly, so
    since torch 2.6 it cannot read its own files (``resume``, ``load_from``). The types allowed here
    hold numbers and run no code.
    """
    if hasattr(torch.serialization, 'add_safe_globals'):
        torch.serialization.add_safe_globals(_number_types())


def _number_types() -> List[Any]:
    core = np._core if hasattr(np, '_core') else np.core  # renamed in NumPy 2
    reconstruct, scalar = core.multiarray._reconstruct, core.multiarray.scalar
    types: List[Any] = [HistoryBuffer, np.ndarray, np.dtype, reconstruct, scalar]
    types += [type(np.dtype(code)) for code in '?bBhHiIlLqQefd']
    if digit_version(torch.__version__) >= digit_version('2.6'):
        types += [
            # Files written under NumPy 1 or 2 name these two by other modules.
            (reconstruct, 'numpy.core.multiarray._reconstruct'),
            (reconstruct, 'numpy._core.multiarray._reconstruct'),
            (scalar, 'numpy.core.multiarray.scalar'),
            (scalar, 'numpy._core.multiarray.scalar'),
            (_statistic, 'builtins.getattr'),
        ]
    return types


def _statistic(owner: Any, name: str) -> Any:
    """What a checkpoint's log history may ask of ``getattr``: HistoryBuffer's own statistics."""
    if owner is HistoryBuffer and name in ('min', 'max', 'current', 'mean'):
        return getattr(owner, name)
    raise ValueError(f'Unsupported getattr({owner}, {name!r}) in a checkpoint')


def first_line(error: Exception) -> str:
    """The line of an error of :func:`torch.load` that names the refused type, else its first 200
    letters."""
    lines = [line for line in str(error).splitlines()
             if 'GLOBAL' in line or 'Unpickler error' in line] or [str(error)]
    return lines[0].strip()[:200]
