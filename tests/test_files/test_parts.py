"""Files get their name when they are complete, parts name their process, one run per folder."""
import errno
import json
import os
import resource
import subprocess
import sys
import time
from multiprocessing import get_context

import pytest

from mmkd.files import parts
from mmkd.files.folder import HeldFolder
from mmkd.files.parts import PART, Process, part_of, remove_abandoned, whole_or_not


def test_process_ids_that_are_reused_are_recognised():
    own = Process.this()
    assert Process.of(str(own)) == own
    assert own.is_gone is False
    assert own._replace(started=own.started + 1).is_gone is True
    assert own._replace(host='elsewhere').is_gone is None
    ended = subprocess.Popen([sys.executable, '-c', ''])
    ended.wait()
    assert own._replace(pid=ended.pid).is_gone is True
    for text in ('', 'x', '1.2', 'host.1', 'host.one.2', 'host.-1.2'):
        assert Process.of(text) is None


def test_parts_of_running_processes_are_kept(tmp_path):
    own = Process.this()
    old = time.time() - parts.STALE - 1
    kept = [part_of(str(tmp_path / 'epoch_1.pth')),
            part_of(str(tmp_path / 'epoch_2.pth'), own._replace(host='elsewhere')),
            str(tmp_path / f'epoch_3.pth{PART}'),  # the name in earlier versions
            str(tmp_path / 'notes.part.txt'), str(tmp_path / f'data.bin{PART}')]
    gone = [part_of(str(tmp_path / 'epoch_4.pth'), own._replace(started=own.started + 1)),
            part_of(str(tmp_path / 'epoch_5.pth'), own._replace(host='elsewhere', pid=7)),
            str(tmp_path / f'epoch_6.pth{PART}')]
    for path in (*kept, *gone):
        with open(path, 'w') as file:
            file.write('half')
    for path in gone[1:]:
        os.utime(path, (old, old))
    folder = part_of(str(tmp_path / 'epoch_7.pth'), own._replace(started=own.started + 1))
    os.makedirs(folder)
    remove_abandoned(str(tmp_path))
    assert sorted(os.path.join(tmp_path, name) for name in os.listdir(tmp_path)) == sorted(kept)


def write(path, content, after=lambda part: None, **options):
    with whole_or_not(path, **options) as part:
        with open(part, 'w') as file:
            file.write(content)
        after(part)


def stop(part):
    raise KeyError


def test_file_gets_its_name_when_it_is_complete(tmp_path):
    path = str(tmp_path / 'epoch_1.pth')
    with whole_or_not(path) as part:
        with open(part, 'w') as file:
            file.write('all')
        assert not os.path.exists(path)
    with open(path) as file:
        assert file.read() == 'all'
    with pytest.raises(KeyError):
        write(path, 'ha', stop)
    assert os.listdir(tmp_path) == ['epoch_1.pth']
    with open(path) as file:
        assert file.read() == 'all'


def test_missing_part_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match='was not saved.*was removed by another process'):
        write(str(tmp_path / 'epoch_1.pth'), 'all', os.remove)


def test_disk_that_is_full_is_named(tmp_path):
    """A limit on the file size causes the same error as a full disk."""
    for number, size in ((1, 300), (2, 200), (3, 100)):
        (tmp_path / f'epoch_{number}.pth').write_bytes(bytes(size))
        os.utime(tmp_path / f'epoch_{number}.pth', (number, number))
    (tmp_path / 'teacher.pth').write_bytes(bytes(500))

    def write_much(errors):
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        try:
            write(str(tmp_path / 'epoch_4.pth'), 'x' * 10**6, needed=lambda: 3 * 2**20)
        except OSError as error:
            errors.put((error.errno, str(error)))

    context = get_context('fork')
    errors = context.Queue()
    process = context.Process(target=write_much, args=(errors, ))
    process.start()
    number, text = errors.get(timeout=30)
    process.join()
    assert number == errno.EFBIG
    assert 'epoch_4.pth` was not saved' in text
    assert 'are free, about 3.0 MiB are needed' in text
    assert 'epoch_1.pth (300 bytes), epoch_2.pth (200 bytes) could be removed' in text
    assert 'teacher.pth' not in text
    assert 'epoch_3.pth' not in text  # the newest one, from which the run would resume
    assert not list(tmp_path.glob(f'*{PART}*'))


def test_resume_checkpoint_is_not_listed_as_removable(tmp_path):
    """The checkpoint that `last_checkpoint` names is kept, even if it is not the newest."""
    for number in (1, 2, 3, 4):
        (tmp_path / f'epoch_{number}.pth').write_bytes(bytes(number))
        os.utime(tmp_path / f'epoch_{number}.pth', (number, number))
    assert parts.removable(str(tmp_path), str(tmp_path / 'epoch_5.pth')) == [
        'epoch_3.pth (3 bytes)', 'epoch_2.pth (2 bytes)', 'epoch_1.pth (1 bytes)']
    (tmp_path / 'last_checkpoint').write_text('/moved/from/epoch_2.pth')
    assert parts.removable(str(tmp_path), str(tmp_path / 'epoch_5.pth')) == [
        'epoch_4.pth (4 bytes)', 'epoch_3.pth (3 bytes)', 'epoch_1.pth (1 bytes)']


def test_full_disk_is_recognised_in_torchs_error(tmp_path):
    with pytest.raises(OSError, match='the disk is full.*no older checkpoint is there to remove'), \
            whole_or_not(str(tmp_path / 'epoch_1.pth')):
        raise RuntimeError('[enforce fail at inline_container.cc] . PytorchStreamWriter failed')
    with pytest.raises(RuntimeError, match='another thing'), whole_or_not(str(tmp_path / 'a.pth')):
        raise RuntimeError('another thing')


def hold(folder, is_held, may_end):
    held = HeldFolder(folder)
    is_held.set()
    may_end.wait(30)
    held.release()


def test_folder_is_used_by_one_run_at_a_time(tmp_path):
    context = get_context('fork')
    is_held, may_end = context.Event(), context.Event()
    process = context.Process(target=hold, args=(str(tmp_path), is_held, may_end))
    process.start()
    assert is_held.wait(30)
    with pytest.raises(ValueError, match=rf'is in use: process {process.pid} on .*, since '
                       r'\d.*is training there.*use another folder'):
        HeldFolder(str(tmp_path))
    process.kill()  # the lock is released however the process ends
    process.join()
    HeldFolder(str(tmp_path)).release()
    HeldFolder(str(tmp_path)).release()


def test_process_can_lock_its_folder_twice(tmp_path):
    """A failed run whose Runner still exists, and the next run in the same process."""
    first, second = HeldFolder(str(tmp_path)), HeldFolder(str(tmp_path))
    first.release()
    first.release()
    context = get_context('fork')
    answers = context.Queue()

    def ask():
        try:
            HeldFolder(str(tmp_path))
            answers.put('free')
        except ValueError:
            answers.put('in use')

    for expected in ('in use', 'free'):
        process = context.Process(target=ask)
        process.start()
        assert answers.get(timeout=30) == expected
        process.join()
        second.release()


def test_lock_file_decides_where_locks_are_not_supported(tmp_path, monkeypatch):
    from mmkd.files import folder
    monkeypatch.setattr(folder, 'fcntl', None)
    other = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE)
    started = parts._start_of(other.pid)
    note = tmp_path / folder.NAME
    own = Process.this()
    note.write_text(json.dumps(dict(process=str(own._replace(pid=other.pid, started=started)),
                                    since='x')))
    with pytest.raises(ValueError, match=f'process {other.pid} on'):
        HeldFolder(str(tmp_path))
    other.communicate(b'\n')
    HeldFolder(str(tmp_path)).release()
    for text in ('', '[]', '{"process": 3}', 'x' * 9999,
                 '{"process": "elsewhere.1.2", "since": 1}'):
        note.write_text(text)
        HeldFolder(str(tmp_path)).release()
