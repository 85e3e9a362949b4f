"""Which types, in addition to tensors, may a checkpoint hold and be read without running code?"""
from typing import Any, List

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.utils import digit_version


def allow_mmengine_checkpoints() -> None:
    """Allow torch to read checkpoints of MMEngine with ``weights_only=True``.

    MMEngine 0.10 stores its log history in every checkpoint and calls ``torch.load`` without
    ``weights_only``, so since torch 2.6 it cannot read its own files (``resume``, ``load_from``).
    The types allowed here hold numbers and run no code.
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
            # NumPy 1 and NumPy 2 name other modules for these two.
            (reconstruct, 'numpy.core.multiarray._reconstruct'),
            (reconstruct, 'numpy._core.multiarray._reconstruct'),
            (scalar, 'numpy.core.multiarray.scalar'),
            (scalar, 'numpy._core.multiarray.scalar'),
            (_statistic, 'builtins.getattr'),
        ]
    return types


def _statistic(owner: Any, name: str) -> Any:
    """Replacement for ``getattr`` in a log history: allows only HistoryBuffer's statistics."""
    if owner is HistoryBuffer and name in ('min', 'max', 'current', 'mean'):
        return getattr(owner, name)
    raise ValueError(f'Unsupported getattr({owner}, {name!r}) in a checkpoint')


def first_line(error: Exception) -> str:
    """The line of a :func:`torch.load` error that names the refused type, or its first 200
    characters."""
    lines = [line for line in str(error).splitlines()
             if 'GLOBAL' in line or 'Unpickler error' in line] or [str(error)]
    return lines[0].strip()[:200]
