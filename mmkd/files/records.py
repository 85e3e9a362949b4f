"""How are a teacher's outputs written as bytes, and read again?"""
import json
import zlib
from typing import Any, Dict, List, Tuple

import numpy as np
import torch
from torch import Tensor

PRECISIONS = ('float32', 'float16', 'uint8')

Record = Tuple[List[Tensor], Dict[str, Any]]
"""Tensors, and a dict of numbers and strings that is stored with them."""


class Damaged(OSError):
    """The bytes read are not the bytes that were written."""


def packed(tensors: List[Tensor], beside: Dict[str, Any], precision: str) -> bytes:
    """Encode a record: length of the header, header (JSON), values, checksum (CRC-32)."""
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


def checked(record: Any, where: str) -> memoryview:
    """The bytes of an encoded record without its checksum.

    Raises:
        Damaged: If the checksum is wrong.
    """
    body = memoryview(record)[:-4]
    if len(record) < 8 or zlib.crc32(body) != int.from_bytes(record[-4:], 'little'):
        raise Damaged(f'a cached output in `{where}` is damaged: its checksum does not match; '
                      'remove the folder and fill it again')
    return body


def unpacked(record: Any, where: str) -> Record:
    """Decode what :func:`packed` returned.

    Args:
        record (bytes | bytearray): The encoded record.
        where (str): Name of the file, for error messages.

    Returns:
        tuple[list, dict]: Tensors, float32 or float16, and the dict stored with them.

    Raises:
        Damaged: If the checksum is wrong.
    """
    body = checked(record, where)
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
        tensors.append(torch.from_numpy(array.copy()))  # a copy is aligned, the record is not
    return tensors, beside


def quantised(array: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Quantize an array (C, ...) to 0...255 per channel; also returns minima and steps (2, C)."""
    rows = array.reshape(len(array), -1)
    low, high = rows.min(1), rows.max(1)
    step = np.maximum((high - low) / 255, 1e-12)
    numbers = np.rint((rows - low[:, None]) / step[:, None])
    return (numbers.reshape(array.shape),
            np.stack([low, step]).astype(np.float32))
