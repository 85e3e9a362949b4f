"""How does a file come from an address onto the disk: whole, checked, once per machine?"""
import hashlib
import os
import re
import socket
from contextlib import suppress
from http.client import HTTPException
from typing import Callable, Tuple
from urllib.parse import urlparse

import torch
from mmengine.logging import print_log

from ..core.build import explained
from .archive import hash_of_file
from .download_lock import BY_HAND, one_at_a_time
from .transfer import in_words, receive

PUBLISHED = re.compile(r'-([0-9a-f]{8,64})\.\w+$')
"""How published names end: in the first digits of the file's SHA-256 (OpenMMLab, torch.hub)."""


def downloaded(url: str, check: Callable[[str], str]) -> str:
    """The path of what lies at an address; downloaded if it is not there yet.

    It is written under another name, compared with the length that the server tells and with the
    hash in its name, checked, and moved to its final name only then. Of the processes of a machine
    one downloads (the first, if it comes), the others wait for it, by a lock on a file, so it works
    before there is a process group.

    Args:
        url (str): http or https.
        check (Callable[[str], str]): Why a file is not what was wanted; '' if it is. It is given
            the path of the file; what it reads the name for, it finds in the name's end.

    Returns:
        str: The path, in the folder where torch.hub keeps its own.

    Raises:
        FileNotFoundError: If it cannot be downloaded, in time.
        ValueError: If it is no address, or what came is not what was wanted.
    """
    with explained(f'{url!a:.300} is no address', 'give one of http or https, or a path'):
        if any(ord(letter) < 33 for letter in url):
            raise ValueError('there are blanks or control characters in it')
        path, digest = place_of(url)
    try:
        if _is_good(path, url, digest, check):
            return path
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with one_at_a_time(path, url) as note:
            if _is_good(path, url, digest, check):  # by another process meanwhile
                return path
            try:
                _download(url, path, digest, check)
            except (FileNotFoundError, ValueError) as error:
                note(error)
                raise
    except OSError as error:
        if isinstance(error, FileNotFoundError) and url in str(error):
            raise
        raise FileNotFoundError(f'{url} cannot be kept at `{path}`: {error}; make room there or '
                                f'set TORCH_HOME to another folder, or {BY_HAND}') from error
    return path


def place_of(url: str) -> Tuple[str, str]:
    """Where a download is kept, and the hash that its name promises ('' if none)."""
    name = os.path.basename(urlparse(url).path)
    published = PUBLISHED.search(name)
    if not published:  # another name may stand for several files
        name = f'{hashlib.sha256(url.encode()).hexdigest()[:8]}-{name}'
    return (os.path.join(torch.hub.get_dir(), 'checkpoints', name),
            published.group(1) if published else '')


def _is_good(path: str, url: str, digest: str, check: Callable[[str], str]) -> bool:
    """Whether a file under the final name is what it should be."""
    if not os.path.isfile(path):
        return False
    problem = _wrong_with(path, digest, check)
    if problem:
        print_log(f'`{path}`, kept from an earlier download, {problem}; it is downloaded anew from '
                  f'{url}', 'current')
    elif not digest:
        print_log(f'`{path}` is what was downloaded earlier from {url}; remove it to download it '
                  'anew', 'current')
    return not problem


def _wrong_with(path: str, digest: str, check: Callable[[str], str]) -> str:
    if digest:
        found = hash_of_file(path)
        if not found.startswith(digest):
            with open(path, 'rb') as file:
                start = file.read(64).lstrip().lower()
            if start.startswith((b'<!doctype', b'<html')):
                return 'is a web page, no checkpoint'
            return f'has the hash {found[:len(digest)]}, not {digest} as its name says'
    return check(path)


def _download(url: str, path: str, digest: str, check: Callable[[str], str]) -> None:
    # The end of the name says how the file is read.
    folder, name = os.path.split(path)
    part = os.path.join(folder, f'.part-{socket.gethostname()}-{os.getpid()}-{name}')
    print_log(f'Downloading {url} to {path}', 'current')
    try:
        with open(part, 'wb') as file:
            try:
                receive(url, file, folder)
            except (OSError, HTTPException, ValueError, UnicodeError) as error:
                raise FileNotFoundError(f'could not download the checkpoint {url}: '
                                        f'{in_words(error)}; {BY_HAND}') from error
            file.flush()
            os.fsync(file.fileno())
        problem = _wrong_with(part, digest, check)
        if problem:
            raise ValueError(f'what lies at {url} {problem}; look at the address, or {BY_HAND}')
        os.replace(part, path)
    finally:
        with suppress(OSError):
            os.remove(part)
