"""Read checkpoints of MMEngine as weights only where torch cannot be taught to: before torch 2.6.

From torch 2.1 to 2.3 the unpickler of ``weights_only=True`` has a closed list of types, and in
2.4 and 2.5 the list can be extended, but not by what NumPy and MMEngine write. There, torch uses
:class:`WeightsUnpickler` in place of its own.
"""
import pickle
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import Counter, OrderedDict
from typing import Any, Callable, Dict, NoReturn, Tuple

import numpy as np
import torch
import torch._weights_only_unpickler as of_torch
from mmengine.logging import HistoryBuffer

from .safe_types import NUMBERS, reconstruct, scalar, statistic

DATA = (pickle.PROTO, pickle.STOP, pickle.MARK, pickle.NONE, pickle.NEWFALSE, pickle.NEWTRUE,
        pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG1, pickle.BINFLOAT,
        pickle.BINUNICODE, pickle.EMPTY_TUPLE, pickle.EMPTY_LIST, pickle.EMPTY_DICT, pickle.TUPLE,
        pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3, pickle.BINGET, pickle.LONG_BINGET,
        pickle.BINPUT, pickle.LONG_BINPUT)
"""Instructions of a pickle that neither call nor change an object: Python's own code reads them."""

_PYTHON: Any = pickle._Unpickler
"""The unpickler that is written in Python, whose methods can be replaced."""

LATER = '_rebuild_parameter_with_state', '_rebuild_qtensor', '_rebuild_tensor_v3'
"""Functions that later versions of torch allow: they make tensors."""


def use_own_unpickler() -> None:
    """Make ``torch.load(..., weights_only=True)`` of torch before 2.6 read MMEngine's files.

    It stays as strict: only the names of :func:`allowed_names` are looked up and called.
    """
    of_torch.Unpickler = WeightsUnpickler  # type: ignore[misc, assignment]


def allowed_names() -> Dict[str, Any]:
    """What a file may name, by full name: what torch allows for weights, and numbers of NumPy and
    MMEngine."""
    return {
        **of_torch._get_allowed_globals(),
        **_of_user(),
        # Allowed by later versions of torch.
        **{str(one): one for one in vars(torch).values() if isinstance(one, torch.dtype)},
        **{f'torch._utils.{name}': getattr(torch._utils, name) for name in LATER
           if hasattr(torch._utils, name)},
        'collections.Counter': Counter,
        'torch.device': torch.device,
        'builtins.set': set,
        'builtins.complex': complex,
        'builtins.bytearray': _bytearray,
        '_codecs.encode': _bytes,
        # As safe_types.py allows them where torch can be taught.
        'mmengine.logging.history_buffer.HistoryBuffer': HistoryBuffer,
        'builtins.getattr': statistic,
        'numpy.ndarray': np.ndarray,
        'numpy.dtype': _dtype,
        **{f'numpy.{core}.multiarray.{name}': function for core in ('core', '_core')
           for name, function in (('_reconstruct', _array), ('scalar', _scalar))},
    }


def _of_user() -> Dict[str, Any]:
    """What ``torch.serialization.add_safe_globals`` was called with, in torch 2.4 and later."""
    return getattr(of_torch, '_get_user_allowed_globals', dict)()


def _refuse(what: str) -> NoReturn:
    raise pickle.UnpicklingError(f'Unsupported {what}')


def _bytes(text: Any, encoding: Any) -> bytes:
    """Replacement for ``codecs.encode``: pickles of protocol 2 have bytes as Latin-1."""
    if type(text) is not str or encoding not in ('latin1', 'latin-1'):
        _refuse(f'encoding {encoding!r}')
    return text.encode('latin1')


def _bytearray(content: Any = b'', encoding: Any = 'latin1') -> bytearray:
    return bytearray(content if type(content) is bytes else _bytes(content, encoding))


def _dtype(code: Any, *flags: Any) -> np.dtype:
    """Replacement for ``numpy.dtype``: only numbers, no objects, which are pointers."""
    if type(code) is not str:
        _refuse(f'dtype {code!r}')
    return _number(np.dtype(code, *flags))


def _number(dtype: Any) -> np.dtype:
    if not isinstance(dtype, np.dtype) or type(dtype) not in NUMBERS:
        _refuse(f'dtype {dtype!r}')
    return dtype


def _array(kind: Any, shape: Any, dtype: Any) -> np.ndarray:
    """Replacement for NumPy's ``_reconstruct``: an empty array, whose content follows."""
    if kind is not np.ndarray or shape != (0, ):
        _refuse(f'array of {kind!r}')
    return reconstruct(kind, shape, dtype)


def _scalar(dtype: Any, content: Any) -> Any:
    return scalar(_number(dtype), content)


class WeightsUnpickler(_PYTHON):  # type: ignore[misc, valid-type]
    """Unpickler that looks up and calls only what :func:`allowed_names` lists.

    It reads what ``torch.save`` and MMEngine write, in pickle protocol 2. torch sets
    ``persistent_load``, which returns the storages of tensors.

    Args:
        file (file): The pickle.
        encoding (str): Not used: as in torch's unpickler, text is UTF-8.

    Raises:
        pickle.UnpicklingError: While loading, if the file has anything else. The message begins
            with 'Unsupported'.
    """
    dispatch: Dict[int, Callable]

    def __init__(self, file: Any, *, encoding: str = 'bytes') -> None:
        super().__init__(file)
        self.names = allowed_names()
        self.callable = {id(one) for one in self.names.values()
                         if callable(one) and one is not np.ndarray}  # it would allocate any size

    def load_global(self) -> None:
        module, name = (self.readline()[:-1].decode('utf-8') for _ in range(2))
        module, name = NAME_MAPPING.get((module, name),
                                        (IMPORT_MAPPING.get(module, module), name))
        if f'{module}.{name}' not in self.names:
            _refuse(f'GLOBAL {module}.{name}')
        self.append(self.names[f'{module}.{name}'])

    def load_reduce(self) -> None:
        function, arguments = self._call()
        self.append(function(*arguments))

    def load_newobj(self) -> None:
        kind, arguments = self._call()
        if not isinstance(kind, type):
            _refuse(f'object of {kind!r}')
        self.append(kind.__new__(kind, *arguments))

    def _call(self) -> Tuple[Any, tuple]:
        arguments, function = self.stack.pop(), self.stack.pop()
        if id(function) not in self.callable or type(arguments) is not tuple:
            _refuse(f'call of {function!r}')
        return function, arguments

    def load_build(self) -> None:
        built, state = self.stack[-2:]
        kind = type(built)
        if kind in _of_user().values():
            return super().load_build()
        if kind is OrderedDict and type(state) is dict:
            built.__dict__.update(state)
        elif kind is HistoryBuffer and type(state) is dict:
            built.__setstate__(state)
        elif kind in NUMBERS and type(state) is tuple and (
                len(state) == 8 and state[2:] == (None, None, None, -1, -1, 0)):
            built.__setstate__(state)  # the order of bytes; the other items are of structures
        elif kind is np.ndarray and type(state) is tuple and len(state) == 5 and (
                type(state[4]) is bytes):
            _number(state[2])
            built.__setstate__(state)
        else:
            _refuse(f'state of {kind!r}')
        self.stack.pop()

    def load_persid(self) -> None:
        number = self.stack.pop()
        if type(number) is not tuple or number[:1] not in (('storage', ), (b'storage', )):
            _refuse(f'reference {number!r:.80}')
        self.append(self.persistent_load(number))

    def load_append(self) -> None:
        value = self.stack.pop()
        self._of(list).append(value)

    def load_appends(self) -> None:
        values = self.pop_mark()
        self._of(list).extend(values)

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._of(dict, OrderedDict, Counter)[key] = value

    def load_setitems(self) -> None:
        items = self.pop_mark()
        target = self._of(dict, OrderedDict, Counter)
        for key, value in zip(items[::2], items[1::2]):  # `Counter.update` would count
            target[key] = value

    def _of(self, *kinds: type) -> Any:
        if type(self.stack[-1]) not in kinds:
            _refuse(f'items of {type(self.stack[-1])!r}')
        return self.stack[-1]

    def load_text(self) -> None:
        """A string of Python 2: bytes, as in torch's unpickler."""
        self.append(self.read(self.read(1)[0]))


class _Instructions(Dict[int, Callable]):

    def __missing__(self, key: int) -> NoReturn:
        _refuse(f'operand {key}')


WeightsUnpickler.dispatch = _Instructions({
    **{code[0]: _PYTHON.dispatch[code[0]] for code in DATA},
    pickle.GLOBAL[0]: WeightsUnpickler.load_global,
    pickle.REDUCE[0]: WeightsUnpickler.load_reduce,
    pickle.NEWOBJ[0]: WeightsUnpickler.load_newobj,
    pickle.BUILD[0]: WeightsUnpickler.load_build,
    pickle.BINPERSID[0]: WeightsUnpickler.load_persid,
    pickle.APPEND[0]: WeightsUnpickler.load_append,
    pickle.APPENDS[0]: WeightsUnpickler.load_appends,
    pickle.SETITEM[0]: WeightsUnpickler.load_setitem,
    pickle.SETITEMS[0]: WeightsUnpickler.load_setitems,
    pickle.SHORT_BINSTRING[0]: WeightsUnpickler.load_text,
})
