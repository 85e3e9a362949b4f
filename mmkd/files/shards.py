"""How are the parts of a cache, each filled by a job of its own, merged so that none is missing?"""
import hashlib
import json
import os
import re
import shutil
import zlib
from contextlib import suppress
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from ..core.agreement import differences
from .description import DESCRIPTION
from .parts import part_of
from .records import checked
from .segments import INDEX, Place, SegmentIndex, SegmentReader, files_in
from .store import AnswerStore

SEAL = 'shard.json'
"""Name of the file that states what a finished shard contains."""

FOLDERS = '.shards'
"""Suffix of the folder with the shards of a cache."""

SHOWN = 3
AGAIN = 'run tools/cache_teacher.py with'


class Shard(NamedTuple):
    """One of ``total`` parts of the work of filling a cache."""
    number: int
    """From 1 to ``total``."""
    total: int

    @classmethod
    def of(cls, text: str) -> 'Shard':
        """Parse 'i/n'.

        Raises:
            ValueError: If the text is something else.

        Example:
            >>> Shard.of('3/8')
            Shard(number=3, total=8)
        """
        match = re.fullmatch(r'(\d{1,6})/(\d{1,6})', text)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise ValueError(f'--shard must be i/n with i from 1 to n, but got `{text}`; write for '
                             'instance --shard 1/8 for the first of eight jobs')
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f'{self.number}/{self.total}'

    def folder(self, cache: str) -> str:
        """The folder that this shard of a cache fills."""
        return os.path.join(f'{cache.rstrip(os.sep)}{FOLDERS}', f'{self.number}-of-{self.total}')


class Sealed(NamedTuple):
    """A finished shard, as its seal states it."""
    folder: str
    shard: Shard
    plan: Dict[str, Any]
    records: int
    digest: str


class Merged(NamedTuple):
    """What :func:`merge` has done."""
    shards: int
    records: int
    """Number of records in the shards; a record in several of them counts several times."""


def unseal(folder: str) -> None:
    """Remove the seal of a shard that is filled again."""
    with suppress(FileNotFoundError):
        os.remove(os.path.join(folder, SEAL))


def seal(folder: str, shard: Shard, plan: Dict[str, Any]) -> Sealed:
    """Note that a shard is complete, and what it contains.

    Args:
        folder (str): Folder of the shard, a cache.
        shard (Shard): Which one it is.
        plan (dict): What must be the same for all shards of a cache; it can be written as JSON.

    Raises:
        ValueError: If a record is damaged.
        OSError: If the file cannot be written.
    """
    records, digest = content_of(folder, files_in(folder, (INDEX, )))
    content = dict(shard=list(shard), plan=plan, records=records, digest=digest)
    path = os.path.join(folder, SEAL)
    part = part_of(path)
    with open(part, 'w') as file:
        json.dump(dict(content, checksum=_checksum(content)), file, indent=1, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
    return Sealed(folder, shard, plan, records, digest)


def merge(store: AnswerStore, cache: str, plan: Dict[str, Any]) -> Merged:
    """Add all shards of a cache to it. It can be repeated.

    Every shard is read and compared with its seal before the first one is added. Files are linked
    where both folders are on one file system, so the answers are not on the disk twice, and copied
    elsewhere; copies are read back. The shards stay, and may be removed afterwards.

    Args:
        store (AnswerStore): The cache, opened for its teacher.
        cache (str): Its folder. The shards are in ``<cache>.shards``.
        plan (dict): The plan of this run; see :func:`seal`.

    Raises:
        ValueError: If a shard is missing, not finished, there twice, damaged, of another split of
            the work, of another teacher, or of another plan.
        OSError: If a file cannot be read or written.
    """
    sealed = sealed_in(cache)
    check_plans(sealed, plan)
    for one in sealed:
        if not os.path.isfile(os.path.join(one.folder, DESCRIPTION)):
            raise _damaged(one, f'it has no file `{DESCRIPTION}`')
        store.description.at(one.folder).agree()
        found = content_of(one.folder, files_in(one.folder, (INDEX, )))
        if found != (one.records, one.digest):
            raise _damaged(one, f'it contains {found[0]} outputs with the digest {found[1][:12]}, '
                                f'but {one.records} with {one.digest[:12]} were written')
    for one in sealed:
        indexes = files_in(one.folder, (INDEX, ))
        added = [_added(SegmentIndex(path).answers, path, store.folder) for path in indexes]
        if all(map(os.path.samefile, indexes, added)):
            continue
        if content_of(store.folder, added) != (one.records, one.digest):
            raise ValueError(f'`{store.folder}` does not contain what was copied from '
                             f'`{one.folder}`; check the disk, remove {", ".join(added[:SHOWN])}, '
                             'and merge again')
    store.refresh()
    return Merged(len(sealed), sum(one.records for one in sealed))


def sealed_in(cache: str) -> List[Sealed]:
    """The shards of a cache: all of them, each once.

    Raises:
        ValueError: If one is missing, not finished or there twice, or a seal is damaged.
    """
    folder = f'{cache.rstrip(os.sep)}{FOLDERS}'
    inside = sorted(os.path.join(folder, name) for name in os.listdir(folder)) \
        if os.path.isdir(folder) else []
    found: Dict[Shard, Sealed] = {}
    for one in filter(os.path.isdir, inside):
        if not os.path.isfile(os.path.join(one, SEAL)):
            raise ValueError(f'`{one}` is a shard that was not filled to its end; {AGAIN} its '
                             '`--shard` again, or remove the folder')
        sealed = _read_seal(one)
        other = found.setdefault(sealed.shard, sealed)
        if other is not sealed:
            raise ValueError(f'shard {sealed.shard} is there twice, in `{other.folder}` and in '
                             f'`{one}`; remove one of them')
    totals = sorted({shard.total for shard in found})
    if len(totals) > 1:
        raise ValueError(f'`{folder}` contains shards of {" and of ".join(map(str, totals))} jobs; '
                         'remove those of the outdated split')
    if not totals:
        raise ValueError(f'there are no shards in `{folder}`; fill them: {AGAIN} --shard 1/n to '
                         '--shard n/n')
    missing = [str(Shard(n, totals[0])) for n in range(1, totals[0] + 1)
               if Shard(n, totals[0]) not in found]
    if missing:
        rest = f' and {len(missing) - SHOWN} more' if len(missing) > SHOWN else ''
        raise ValueError(f'{len(missing)} of {totals[0]} shards are missing in `{folder}`: '
                         f'{", ".join(missing[:SHOWN])}{rest}; {AGAIN} --shard {missing[0]}, or '
                         'copy the folder from the machine that filled it')
    return [found[shard] for shard in sorted(found)]


def check_plans(sealed: Sequence[Sealed], plan: Dict[str, Any]) -> None:
    """Check that all shards have the plan of this run.

    Raises:
        ValueError: If one has not; the message names the differences.
    """
    for one in sealed:
        lines = list(differences(plan, one.plan))
        if lines:
            shown = '; '.join(f'`{name}` is {own} now and was {other} there'
                              for name, own, other in lines[:SHOWN])
            raise ValueError(f'shard {one.shard} in `{one.folder}` was filled with other settings: '
                             f'{shown}; merge with the config that filled it, or {AGAIN} --shard '
                             f'{one.shard} again')


def content_of(folder: str, indexes: Sequence[str]) -> Tuple[int, str]:
    """Number and SHA-256 of the records in some segments of a folder, whatever their order.

    Raises:
        ValueError: If a record or an entry of an index is damaged.
    """
    places: Dict[bytes, Place] = {}
    for path in indexes:
        index = SegmentIndex(path)
        with suppress(FileNotFoundError):  # the records are gone: fewer than the seal states
            places.update(index.news())
        if index.damaged:
            raise ValueError(f'`{path}` is damaged: {index.damaged} entries are not as they were '
                             'written, or point beyond the end of the outputs; remove '
                             f'`{folder}` and fill it again')
    reader, digest = SegmentReader(), hashlib.sha256()
    try:
        for key, place in sorted(places.items()):
            record = reader.read(place)
            checked(record, place[0])
            digest.update(key + hashlib.sha256(record).digest())
    except OSError as error:
        raise ValueError(f'`{folder}` is damaged: {error}') from error
    finally:
        reader.close()
    return len(places), digest.hexdigest()


# --- files ----------------------------------------------------------------------------------------


def _added(answers: str, index: str, folder: str) -> str:
    """Link or copy a segment into a folder, its records first; return the path of the index."""
    for path in (answers, index):
        target = os.path.join(folder, os.path.basename(path))
        if os.path.exists(target):  # from an earlier call; its content is compared afterwards
            continue
        try:
            os.link(path, target)
        except OSError:  # another file system, or one without links
            part = part_of(target)
            shutil.copyfile(path, part)
            os.replace(part, target)
    return target


def _read_seal(folder: str) -> Sealed:
    path = os.path.join(folder, SEAL)
    content: Optional[Dict[str, Any]] = None
    with open(path, 'rb') as file, suppress(ValueError, TypeError, KeyError, AttributeError):
        content = json.load(file)
        is_whole = content.pop('checksum') == _checksum(content)
        content = content if is_whole else None
    if content is None:
        raise ValueError(f'`{path}` is damaged, or was not written by tools/cache_teacher.py; '
                         'remove the folder and fill this shard again')
    return Sealed(folder, Shard(*content['shard']), content['plan'], content['records'],
                  content['digest'])


def _checksum(content: Dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())


def _damaged(one: Sealed, why: str) -> ValueError:
    return ValueError(f'shard {one.shard} in `{one.folder}` is not as it was written: {why}; copy '
                      f'it again, or {AGAIN} --shard {one.shard} again')
