"""Which types, in addition to tensors, may a checkpoint hold and be read without running code?"""
from typing import Any, List

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.utils import digit_version

NUMBERS = frozenset(type(np.dtype(code)) for code in '?bBhHiIlLqQefd')
"""Types of NumPy's dtypes of numbers."""

# NumPy 1 and NumPy 2 name other modules for these two, and with NumPy 1, OpenCV registers an empty
# module under the name of NumPy 2.
reconstruct: Any = np.empty(0).__reduce__()[0]
"""NumPy's function that makes the empty array of a pickle."""
scalar: Any = np.float64(0).__reduce__()[0]
"""NumPy's function that makes the scalar of a pickle."""


def allow_mmengine_checkpoints() -> None:
    """Allow torch to read checkpoints of MMEngine with ``weights_only=True``.

    MMEngine 0.10 stores its log history in every checkpoint and calls ``torch.load`` without
    ``weights_only``, so since torch 2.6 it cannot read its own files (``resume``, ``load_from``).
    Before 2.6, torch cannot be taught these types, and reads by an unpickler of mmkd. The types
    allowed here hold numbers and run no code.
    """
    if is_teachable():
        torch.serialization.add_safe_globals(_number_types())
    else:
        from .unpickler import use_own_unpickler
        use_own_unpickler()


def is_teachable() -> bool:
    """Whether torch can be taught what MMEngine writes."""
    return digit_version(torch.__version__) >= digit_version('2.6')


def _number_types() -> List[Any]:
    types: List[Any] = [HistoryBuffer, np.ndarray, np.dtype, reconstruct, scalar, *NUMBERS]
    types += [(function, f'numpy.{core}.multiarray.{name}') for core in ('core', '_core')
              for function, name in ((reconstruct, '_reconstruct'), (scalar, 'scalar'))]
    return types + [(statistic, 'builtins.getattr')]


def statistic(owner: Any, name: str) -> Any:
    """Replacement for ``getattr`` in a log history: allows only HistoryBuffer's statistics."""
    if owner is HistoryBuffer and name in ('min', 'max', 'current', 'mean'):
        return getattr(owner, name)
    raise ValueError(f'Unsupported getattr({owner}, {name!r}) in a checkpoint')


def is_refusal(error: Exception) -> bool:
    """Whether an error of :func:`torch.load` says that a file has more than weights.

    Before torch 2.6 its message also names ``weights_only`` where a file is cut short.
    """
    return 'Unsupported' in str(error) or (is_teachable() and 'weights_only' in str(error))


def first_line(error: Exception) -> str:
    """The line of a :func:`torch.load` error that names the refused type, or its first 200
    characters."""
    for word in ('Unsupported', 'GLOBAL', 'Unpickler error'):
        for line in str(error).splitlines():
            if word in line:
                return line.strip()[:200]
    return str(error).strip()[:200]
