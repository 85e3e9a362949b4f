"""How are a teacher's answers kept on disk, so that none is lost, mixed up or read half written?"""
import json
import os
import zlib
from typing import Any, Dict, List, Optional, Tuple

import numpy as np
import torch
from torch import Tensor

FORMAT = 1
"""Of the records; another one is refused."""

DESCRIPTION = b'mmkd'
"""Key of what the store was made from."""

MAP_SIZES = (1 << 40, 1 << 36, 1 << 33)
"""Bytes of address space that a store may grow to, the first that the system grants; the file is as
large as what is in it."""

PRECISIONS = ('float32', 'float16', 'uint8')


Record = Tuple[List[Tensor], Dict[str, Any]]
"""Tensors, and what is put beside them: numbers and words."""


class Full(Exception):
    """Nothing more can be written."""


class AnswerStore:
    """Answers by key, in one LMDB file, mapped into memory.

    LMDB's transactions are atomic: a process that is killed while it writes leaves the file as it
    was before. Several processes may read and write at once, one at a time writes. Every record has
    a checksum.

    Args:
        folder (str): Where it lies; made if it is not there.
        description (dict): What the answers depend on beside the key: strings by name.
        precision (str): 'float32'; 'float16', a relative error of 5e-4, of numbers below 6e-5 an
            absolute one of 3e-8; or 'uint8', in each channel an error of at most 1/510 of its
            range. Defaults to 'float16'.

    Raises:
        ImportError: If the package lmdb is not installed.
        ValueError: If the folder cannot be opened, or holds the answers of something else; the
            message names what differs.
    """

    def __init__(self, folder: str, description: Dict[str, Any],
                 precision: str = 'float16') -> None:
        try:
            self.folder = os.path.realpath(folder)
        except ValueError as error:  # of characters that no system takes
            raise ValueError(f'{folder!r} cannot be the name of a folder: {error}; give another '
                             'one') from error
        self.precision = precision
        self._lmdb = import_lmdb()
        self._environment = self._opened()
        self._check(dict(description, format=FORMAT, stored_as=precision))

    def get(self, key: bytes) -> Optional[Record]:
        """Tensors and what was put beside them, or None.

        Raises:
            OSError: If the record is damaged, or cannot be read.
        """
        try:
            with self._environment.begin(buffers=True) as transaction:
                record = transaction.get(key)
                return None if record is None else unpacked(record, self.folder)
        except self._lmdb.Error as error:
            raise OSError(f'an answer in `{self.folder}` cannot be read: {error}; remove the '
                          'folder and fill it anew') from error

    def put(self, records: Dict[bytes, Record]) -> None:
        """Keep several records, all or none of them.

        Raises:
            Full: If the disk is full, or the file may not grow; the store stays as it was.
        """
        packed_records = {key: packed(tensors, beside, self.precision)
                          for key, (tensors, beside) in records.items()}
        try:
            with self._environment.begin(write=True) as transaction:
                for key, record in packed_records.items():
                    transaction.put(key, record)
        except self._lmdb.Error as error:
            raise Full(str(error)) from error

    def __len__(self) -> int:
        count: int = self._environment.stat()['entries']
        return count - 1  # its description

    @property
    def bytes(self) -> int:
        """Size on disk."""
        size: int = self._environment.info()['last_pgno'] * self._environment.stat()['psize']
        return size

    def _opened(self) -> Any:
        # LMDB's locks allow a file to be opened once by a process.
        if self.folder not in OPEN:
            try:
                os.makedirs(self.folder, exist_ok=True)
                OPEN[self.folder] = self._mapped()
            except (self._lmdb.Error, OSError) as error:
                raise ValueError(f'`{self.folder}` is no store of answers, or cannot be opened: '
                                 f'{error}; give another folder') from error
            self._check_length(OPEN[self.folder])
        return OPEN[self.folder]

    def _mapped(self) -> Any:
        for size in MAP_SIZES:
            try:
                return self._lmdb.open(self.folder, map_size=size, max_readers=512,
                                       readahead=False)
            except (MemoryError, self._lmdb.MemoryError):  # a limit on address space
                if size == MAP_SIZES[-1]:
                    raise

    def _check_length(self, environment: Any) -> None:
        """A file that was cut would end Python without a word when its end is read."""
        wanted = (environment.info()['last_pgno'] + 1) * environment.stat()['psize']
        found = os.path.getsize(os.path.join(self.folder, 'data.mdb'))
        if found < wanted:
            OPEN.pop(self.folder).close()
            raise ValueError(f'`{self.folder}` was cut off: {found} bytes of {wanted} are there; '
                             'remove the folder and fill it anew')

    def _check(self, description: Dict[str, Any]) -> None:
        own = json.dumps(description, sort_keys=True).encode()
        try:
            with self._environment.begin(write=True) as transaction:
                found = transaction.get(DESCRIPTION)
                is_foreign = found is None and transaction.stat()['entries'] > 0
                if found is None and not is_foreign:
                    transaction.put(DESCRIPTION, own)
        except self._lmdb.Error as error:
            raise ValueError(f'`{self.folder}` cannot be written: {error}') from error
        if is_foreign:
            raise ValueError(f'`{self.folder}` is an LMDB file of something else; give another '
                             'folder')
        if found is not None and bytes(found) != own:
            before = json.loads(bytes(found))
            names = [name for name in {**before, **description}
                     if before.get(name) != description.get(name)]
            shown = '; '.join(f'{name} {_shown(before.get(name))}, now '
                              f'{_shown(description.get(name))}' for name in names)
            raise ValueError(f'`{self.folder}` holds the answers of another teacher: {shown}; give '
                             'another folder, or remove this one')


OPEN: Dict[str, Any] = {}
"""LMDB environments of this process, by folder."""


def import_lmdb() -> Any:
    """The package lmdb.

    Raises:
        ImportError: If it is not installed; the message says how to.
    """
    try:
        import lmdb
    except ImportError as error:
        raise ImportError('answers are kept by the package lmdb, which is not installed; '
                          "run `pip install lmdb`") from error
    return lmdb


def packed(tensors: List[Tensor], beside: Dict[str, Any], precision: str) -> bytes:
    """A record: length of the header, header, numbers, checksum."""
    parts: List[bytes] = []
    heads = []
    for tensor in tensors:
        array = tensor.detach().float().cpu().numpy()
        kind = precision
        if kind == 'float16' and np.abs(array).max(initial=0) > np.finfo(np.float16).max:
            kind = 'float32'
        if kind == 'uint8' and (array.ndim == 0 or not array.size):
            kind = 'float32'
        if kind == 'uint8':
            array, scales = quantised(array)
            parts.append(scales.tobytes())
        heads.append([list(array.shape), kind])
        parts.append(np.ascontiguousarray(array.astype(kind)).tobytes())
    header = json.dumps([heads, beside]).encode()
    body = b''.join([len(header).to_bytes(4, 'little'), header, *parts])
    return body + zlib.crc32(body).to_bytes(4, 'little')


def unpacked(record: Any, where: str) -> Record:
    """What :func:`packed` has put together; float32 tensors, or float16.

    Raises:
        OSError: If the checksum does not agree.
    """
    body = memoryview(record)[:-4]
    if len(record) < 8 or zlib.crc32(body) != int.from_bytes(record[-4:], 'little'):
        raise OSError(f'an answer in `{where}` is damaged (its checksum does not agree); remove '
                      'the folder and fill it anew')
    start = 4 + int.from_bytes(body[:4], 'little')
    heads, beside = json.loads(bytes(body[4:start]))
    tensors = []
    for shape, kind in heads:
        scales: List[np.ndarray] = []
        if kind == 'uint8':
            for _ in range(2):
                scales.append(np.frombuffer(body, np.float32, shape[0], start))
                start += 4 * shape[0]
        array = np.frombuffer(body, kind, int(np.prod(shape)), start).reshape(shape)
        start += array.nbytes
        if scales:
            low, step = (one.reshape(-1, *[1] * (len(shape) - 1)) for one in scales)
            array = array * step + low
        tensors.append(torch.from_numpy(array.copy()))  # the record is gone after the transaction
    return tensors, beside


def quantised(array: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Numbers from 0 to 255, channel by channel, and each channel's least value and step."""
    rows = array.reshape(len(array), -1)
    low, high = rows.min(1), rows.max(1)
    step = np.maximum((high - low) / 255, 1e-12)
    numbers = np.rint((rows - low[:, None]) / step[:, None])
    return (numbers.reshape(array.shape),
            np.stack([low, step]).astype(np.float32))


def _shown(value: Any) -> str:
    text = 'none' if value is None else str(value)
    return text if len(text) <= 24 else f'{text[:12]}…'
