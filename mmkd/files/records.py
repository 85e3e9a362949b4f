"""How is an answer of a teacher written as bytes, and read again?"""
import json
import zlib
from typing import Any, Dict, List, Tuple

import numpy as np
import torch
from torch import Tensor

PRECISIONS = ('float32', 'float16', 'uint8')

Record = Tuple[List[Tensor], Dict[str, Any]]
"""Tensors, and what is put beside them: numbers and words."""


class Damaged(OSError):
    """Bytes are not those that were written."""


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
    """What :func:`packed` has put together.

    Args:
        record (bytes | bytearray): As it was written.
        where (str): The file, for the message.

    Returns:
        tuple[list, dict]: Tensors, float32 or float16, and what was put beside them.

    Raises:
        Damaged: If the checksum does not agree.
    """
    body = memoryview(record)[:-4]
    if len(record) < 8 or zlib.crc32(body) != int.from_bytes(record[-4:], 'little'):
        raise Damaged(f'an answer in `{where}` is damaged: its checksum does not agree; remove '
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
        tensors.append(torch.from_numpy(array.copy()))  # aligned, which the record is not
    return tensors, beside


def quantised(array: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Numbers from 0 to 255, channel by channel, and each channel's least value and step."""
    rows = array.reshape(len(array), -1)
    low, high = rows.min(1), rows.max(1)
    step = np.maximum((high - low) / 255, 1e-12)
    numbers = np.rint((rows - low[:, None]) / step[:, None])
    return (numbers.reshape(array.shape),
            np.stack([low, step]).astype(np.float32))
