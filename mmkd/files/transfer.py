"""How is a file received from a server, and what went wrong if it was not?"""
import shutil
import ssl
import time
from contextlib import suppress
from typing import Any, Optional
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from mmengine.logging import print_log

CONNECT_SECONDS = 30.
"""Timeout for the connection and the first answer of a server."""
STALL_SECONDS = 60.
"""How long a server may send nothing, or fewer than :data:`STALL_BYTES` bytes."""
STALL_BYTES = 1 << 16
BLOCK = 1 << 20


def receive(url: str, file: Any, folder: str) -> None:
    """Download from a URL into an open file.

    Args:
        url (str): http or https.
        file (BinaryIO): Receives the bytes.
        folder (str): Folder of the file, which must have enough free space.

    Raises:
        OSError, HTTPException, ValueError: If nothing arrives, or not everything.
    """
    request = Request(url, headers={'User-Agent': 'mmkd', 'Accept-Encoding': 'identity'})
    with urlopen(request, timeout=CONNECT_SECONDS) as response:
        kind = response.headers.get_content_type()
        if kind in ('text/html', 'application/xhtml+xml'):
            raise ValueError(f'the server sends a web page ({kind})')
        length = response.headers.get('Content-Length')
        wanted = int(length) if length and length.isdigit() else None
        free = shutil.disk_usage(folder).free
        if wanted is not None and wanted > free:
            raise ValueError(f'it has {_size(wanted)}, but only {_size(free)} are free in {folder}')
        _limit(response, STALL_SECONDS)
        start = told = time.monotonic()
        received, mark, since = 0, 0, start
        while wanted is None or received < wanted:
            block = response.read1(BLOCK)
            if not block:
                break
            file.write(block)
            received += len(block)
            now = time.monotonic()
            if received - mark >= STALL_BYTES:
                mark, since = received, now
            elif now - since > STALL_SECONDS:
                raise TimeoutError(f'only {received - mark} bytes were received in '
                                   f'{now - since:.0f} s')
            if now - told > 30:
                told = now
                print_log(f'{_size(received)} of {_size(wanted)} of {url}', 'current')
        if wanted is not None and received != wanted:
            raise ValueError(f'the transfer was interrupted: {received} of {wanted} bytes were '
                             'received')


def _limit(response: Any, seconds: float) -> None:
    """Set the timeout of a read, if the socket of the connection is accessible."""
    with suppress(AttributeError):
        response.fp.raw._sock.settimeout(seconds)


def in_words(error: BaseException) -> str:
    if isinstance(error, HTTPError):
        return f'the server answers {error.code} ({error.reason})'
    reason = getattr(error, 'reason', error)
    if isinstance(reason, ssl.SSLError):
        return f'no secure connection: {reason}'
    if isinstance(reason, TimeoutError):
        said = str(reason)
        return said if 'bytes came' in said else (
            f'the server sent nothing for {CONNECT_SECONDS:.0f} to {STALL_SECONDS:.0f} s ({said})')
    said = str(error) if isinstance(error, ValueError) else f'{type(error).__name__}: {reason}'
    return ' '.join(said.split())[:300]


def _size(count: Optional[int]) -> str:
    return '?' if count is None else f'{count / 2**20:.1f} MiB'
