"""Is this file as `torch.save` wrote it: nothing compressed, no overlapping parts, unchanged?"""
import hashlib
import os
import zipfile
from typing import BinaryIO, Optional, Tuple

import torch

BLOCK = 1 << 20


def hash_of_file(path: str) -> str:
    """SHA-256 of a file's content."""
    with open(path, 'rb') as file:
        return hash_of(file)


def hash_of(file: BinaryIO) -> str:
    """SHA-256 of an open file's content, from its beginning."""
    digest = hashlib.sha256()
    file.seek(0)
    for block in iter(lambda: file.read(BLOCK), b''):
        digest.update(block)
    return digest.hexdigest()


def state_of(file: BinaryIO) -> Tuple[int, int]:
    """Size and modification time of an open file, to detect writes; (0, 0) for bytes in memory."""
    try:
        found = os.fstat(file.fileno())
    except OSError:  # io.UnsupportedOperation
        return 0, 0
    return found.st_size, found.st_mtime_ns


def is_of_torch(file: BinaryIO) -> bool:
    """Whether a file starts like those of ``torch.save``: a zip archive, or a pickle before 1.6."""
    file.seek(0)
    return file.read(1) in (b'P', b'\x80')


def is_zip(file: BinaryIO) -> bool:
    """Whether a file is a zip archive."""
    file.seek(0)
    return zipfile.is_zipfile(file)


def foreign_part(file: BinaryIO) -> str:
    """Why a zip archive was not written by ``torch.save``, as part of a message; '' if it was.

    Checked before anything is unpacked. ``torch.save`` compresses nothing, and its parts do not
    overlap, so unpacking a file takes no more than its size. A TorchScript archive holds a program,
    which torch before 2.6 would load.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            file.seek(0, os.SEEK_END)
            size, parts = file.tell(), archive.infolist()
    except (OSError, zipfile.BadZipFile):
        return ''  # no zip at all
    if any(part.filename.endswith('constants.pkl') for part in parts):
        return 'it is a TorchScript program, which has more than weights'
    for part in parts:
        if part.compress_type != zipfile.ZIP_STORED or part.file_size > size:
            return f'`{part.filename}` in it is compressed, so its size in memory is not limited'
    claimed = sum(max(part.file_size, part.compress_size) for part in parts)
    if claimed > size:
        return (f'its {len(parts)} parts overlap: they have {claimed} bytes together, but the file '
                f'has {size}')
    file.seek(0)
    try:
        read_by_torch = sorted(torch._C.PyTorchFileReader(file).get_all_records())
    except RuntimeError:
        return ''  # torch cannot read it either, and says why
    if read_by_torch != sorted(part.filename.partition('/')[2] for part in parts):
        return 'it has several directories of its parts, so readers find different parts'
    return ''


def damaged_part(file: BinaryIO) -> Optional[str]:
    """The first part of a zip archive with a wrong checksum; torch does not check them."""
    if not is_zip(file):
        return None
    try:
        with zipfile.ZipFile(file) as archive:
            if not any(part.CRC for part in archive.infolist()):
                return None  # written with torch.serialization.set_crc32_options(False)
            return archive.testzip()
    except zipfile.BadZipFile as error:
        return str(error)
