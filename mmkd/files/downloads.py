"""How is a file downloaded: complete, checked, and once per machine?"""
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

from ..core.errors import explained
from .archive import hash_of_file
from .download_lock import BY_HAND, one_at_a_time
from .transfer import in_words, receive

PUBLISHED = re.compile(r'-([0-9a-f]{8,64})\.\w+$')
"""Suffix of published names: the first digits of the file's SHA-256 (OpenMMLab, torch.hub)."""


def downloaded(url: str, check: Callable[[str], str]) -> str:
    """Download a file if it is not cached, and return its path.

    The file is written under a temporary name, compared with the length that the server states and
    with the hash in its name, checked, and only then renamed. One process of a machine downloads,
    the local rank 0 if it arrives in time; the others wait for a file lock, so no process group is
    needed.

    Args:
        url (str): http or https.
        check (Callable[[str], str]): Takes the path of a file and returns why it is wrong, '' if
            it is not. A temporary name ends like the final one.

    Returns:
        str: The path, in the folder where torch.hub keeps checkpoints.

    Raises:
        FileNotFoundError: If it cannot be downloaded in time.
        ValueError: If the URL is not valid, or the downloaded file is wrong.
    """
    with explained(f'{url!a:.300} is not a valid address', 'use an http or https address, or a '
                                                           'path'):
        if any(ord(letter) < 33 for letter in url):
            raise ValueError('it contains blanks or control characters')
        path, digest = place_of(url)
    try:
        if _is_good(path, url, digest, check):
            return path
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with one_at_a_time(path, url) as note:
            if _is_good(path, url, digest, check):  # downloaded by another process meanwhile
                return path
            try:
                _download(url, path, digest, check)
            except (FileNotFoundError, ValueError) as error:
                note(error)
                raise
    except OSError as error:
        if isinstance(error, FileNotFoundError) and url in str(error):
            raise
        raise FileNotFoundError(f'{url} cannot be saved at `{path}`: {error}; free disk space '
                                f'there, set TORCH_HOME to another folder, or {BY_HAND}') from error
    return path


def place_of(url: str) -> Tuple[str, str]:
    """Path of a download in the cache, and the hash in its name ('' if there is none)."""
    name = os.path.basename(urlparse(url).path)
    published = PUBLISHED.search(name)
    if not published:  # several files may have such a name
        name = f'{hashlib.sha256(url.encode()).hexdigest()[:8]}-{name}'
    return (os.path.join(torch.hub.get_dir(), 'checkpoints', name),
            published.group(1) if published else '')


def _is_good(path: str, url: str, digest: str, check: Callable[[str], str]) -> bool:
    """Whether a file exists under the final name and passes the check."""
    if not os.path.isfile(path):
        return False
    problem = _wrong_with(path, digest, check)
    if problem:
        print_log(f'`{path}`, from an earlier download, {problem}; it is downloaded again from '
                  f'{url}', 'current')
    elif not digest:
        print_log(f'`{path}` was downloaded earlier from {url} and is used; remove it to download '
                  'it again', 'current')
    return not problem


def _wrong_with(path: str, digest: str, check: Callable[[str], str]) -> str:
    if digest:
        found = hash_of_file(path)
        if not found.startswith(digest):
            with open(path, 'rb') as file:
                start = file.read(64).lstrip().lower()
            if start.startswith((b'<!doctype', b'<html')):
                return 'is a web page, not a checkpoint'
            return f'has the hash {found[:len(digest)]}, but its name contains {digest}'
    return check(path)


def _download(url: str, path: str, digest: str, check: Callable[[str], str]) -> None:
    # The suffix stays at the end: it determines how the file is read.
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
            raise ValueError(f'the file at {url} {problem}; check the address, or {BY_HAND}')
        os.replace(part, path)
    finally:
        with suppress(OSError):
            os.remove(part)
