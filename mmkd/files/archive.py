"""Is a file what torch has written: of its own size, and unchanged since?"""
import hashlib
import os
import zipfile
from typing import BinaryIO, Optional, Tuple

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
    """What changes when somebody writes into an open file: its size and time; (0, 0) of bytes in
    memory."""
    try:
        found = os.fstat(file.fileno())
    except OSError:  # io.UnsupportedOperation
        return 0, 0
    return found.st_size, found.st_mtime_ns


def is_of_torch(file: BinaryIO) -> bool:
    """Whether a file begins as those of ``torch.save``: a zip, or before 1.6 a pickle."""
    file.seek(0)
    return file.read(1) in (b'P', b'\x80')


def is_zip(file: BinaryIO) -> bool:
    """Whether a file is a zip archive."""
    file.seek(0)
    return zipfile.is_zipfile(file)


def growing_part(file: BinaryIO) -> str:
    """How a file may hold more than its own size, said of it in words; '' if it may not.

    Looked for before anything is unpacked: in files of torch nothing is compressed, and every part
    has bytes of its own.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            file.seek(0, os.SEEK_END)
            size, parts = file.tell(), archive.infolist()
    except (OSError, zipfile.BadZipFile):
        return ''  # no zip at all
    for part in parts:
        if part.compress_type != zipfile.ZIP_STORED or part.file_size > size:
            return f'`{part.filename}` in it is compressed, and may grow without bound'
    claimed = sum(max(part.file_size, part.compress_size) for part in parts)
    if claimed > size:
        return (f'its {len(parts)} parts claim {claimed} bytes together, the file has {size}: they '
                'overlap')
    return ''


def damaged_part(file: BinaryIO) -> Optional[str]:
    """The first part of a zip whose checksum does not agree; torch does not compare them."""
    if not is_zip(file):
        return None
    try:
        with zipfile.ZipFile(file) as archive:
            if not any(part.CRC for part in archive.infolist()):
                return None  # written without, by torch.serialization.set_crc32_options(False)
            return archive.testzip()
    except zipfile.BadZipFile as error:
        return str(error)
