"""The store of teacher outputs returns what was written, even if writers are killed."""
import errno
import os
import random
import resource
import shutil
import signal
import tempfile
import time

import pytest
import torch

from mmkd.files.description import DESCRIPTION
from mmkd.files.records import packed, unpacked
from mmkd.files.segments import ENTRY
from mmkd.files.store import AnswerStore, Full

TEACHER = dict(weights='abc', config='def')


@pytest.fixture
def folder(tmp_path):
    return str(tmp_path / 'cache')


def tensors():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator) * 5 for shape in ((3, 4, 5), (7, ), (2, 0, 3))]


def one(value=1., size=100):
    return [torch.full((size, ), float(value))], {}


def path_of(folder, end):
    found, = (name for name in os.listdir(folder) if name.endswith(end))
    return os.path.join(folder, found)


def flip(path, position):
    with open(path, 'r+b') as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ 4]))


@pytest.mark.parametrize(('precision', 'size'), [('float32', 4), ('float16', 2), ('uint8', 1)])
def test_records_are_read_as_written(folder, precision, size):
    AnswerStore(folder, TEACHER, precision).put({b'key': (tensors(), dict(note=[1, 'two']))})
    found, beside = AnswerStore(folder, TEACHER, precision).get(b'key')
    assert beside == dict(note=[1, 'two'])
    for one, other in zip(found, tensors()):
        assert one.shape == other.shape
        if precision == 'uint8':  # half a step of 1/255 of each channel's range
            flat = other.flatten(1) if other.dim() > 1 else other.unsqueeze(1)
            step = (flat.amax(1) - flat.amin(1)) / 255 if flat.numel() else torch.zeros(len(flat))
            error = (one - other).abs().reshape(flat.shape)
            assert (error <= step.unsqueeze(1) / 2 + 1e-6).all()
        else:
            torch.testing.assert_close(one.float(), other, rtol=5e-4 * (size == 2), atol=0)
    large = [torch.randn(16, 64, 64)]
    assert len(packed(large, {}, precision)) < large[0].numel() * size * 1.01 + 200


def test_large_values_are_not_stored_in_half_precision():
    (found, ), _ = unpacked(packed([torch.tensor([1e6, 1.])], {}, 'float16'), 'here')
    assert found.tolist() == [1e6, 1.]


def test_damaged_record_is_rejected():
    record = bytearray(packed(tensors(), {}, 'float16'))
    record[len(record) // 2] ^= 1
    with pytest.raises(OSError, match='is damaged'):
        unpacked(bytes(record), 'here')


# --- which teacher the outputs belong to ----------------------------------------------------------

def test_another_teacher_is_refused_by_name(folder):
    AnswerStore(folder, TEACHER)
    with pytest.raises(ValueError, match=r'outputs of another teacher: weights abc, now xyz; use'):
        AnswerStore(folder, dict(TEACHER, weights='xyz'))
    with pytest.raises(ValueError, match='stored_as float16, now uint8'):
        AnswerStore(folder, TEACHER, 'uint8')


@pytest.mark.parametrize('change', [
    lambda path: flip(path, 30), lambda path: os.truncate(path, 20), lambda path: flip(path, 0),
    lambda path: os.truncate(path, 0), lambda path: path_written(path, b'\xff\xfe\x00'),
    lambda path: path_written(path, b'[1, 2]'), lambda path: path_written(path, b'[' * 100_000)])
def test_a_damaged_description_is_named(folder, change):
    AnswerStore(folder, TEACHER).put({b'key': one()})
    change(os.path.join(folder, DESCRIPTION))
    with pytest.raises(ValueError, match=r'description.json` is damaged.*remove the folder'):
        AnswerStore(folder, TEACHER)


def path_written(path, content):
    with open(path, 'wb') as file:
        file.write(content)


def test_answers_without_a_description_are_refused(folder):
    AnswerStore(folder, TEACHER).put({b'key': one()})
    os.remove(os.path.join(folder, DESCRIPTION))
    with pytest.raises(ValueError, match=r'but not the file `description.json`.*remove the folder'):
        AnswerStore(folder, TEACHER)


def test_a_cache_of_an_earlier_version_is_refused_by_name(tmp_path):
    (tmp_path / 'data.mdb').write_bytes(b'not a database' * 1000)
    with pytest.raises(ValueError, match=r'contains the LMDB file `data.mdb`.*remove this one'):
        AnswerStore(str(tmp_path), TEACHER)


# --- damage ---------------------------------------------------------------------------------------

def filled(folder, count=50):
    store = AnswerStore(folder, TEACHER)
    for n in range(count):
        store.put({f'{n}'.encode(): one(n, 500)})
    return store


def found_in(store, count=50):
    """Return the numbers of the records that can be read; each must have its own content."""
    numbers = []
    for n in range(count):
        record = store.get(f'{n}'.encode())
        if record is not None:
            assert record[0][0].shape == (500, )
            assert record[0][0].eq(n).all()
            numbers.append(n)
    return numbers


@pytest.fixture
def said(monkeypatch):
    """Collect the messages of the log."""
    lines = []
    monkeypatch.setattr('mmkd.files.store.print_log', lambda text, *args: lines.append(text))
    return lines


def test_truncated_file_returns_the_remaining_records(folder, said):
    filled(folder)
    path = path_of(folder, '.answers')
    os.truncate(path, os.path.getsize(path) // 2 + 100)
    store = AnswerStore(folder, TEACHER)
    assert store.damaged == 25
    assert found_in(store) == list(range(25))
    assert len(said) == 1
    assert f'`{path}` is damaged' in said[0]
    assert 'the teacher computes them again' in said[0]
    store.put({b'40': one(40, 500)})
    assert found_in(AnswerStore(folder, TEACHER)) == [*range(25), 40]


def test_truncated_index_returns_the_remaining_records(folder):
    filled(folder)
    os.truncate(path_of(folder, '.index'), ENTRY.size * 10 + 7)
    assert found_in(AnswerStore(folder, TEACHER)) == list(range(10))


def test_bit_flips_lose_only_the_damaged_records(folder, tmp_path):
    """A damaged batch of the index loses its three entries; other damage loses one record."""
    store = AnswerStore(folder, TEACHER)
    for n in range(0, 48, 3):
        store.put({f'{n + part}'.encode(): one(n + part, 500) for part in range(3)})
    draw = random.Random(0)
    for turn in range(60):
        copy = str(tmp_path / f'{turn}')
        shutil.copytree(folder, copy)
        end = ('.index', '.answers')[turn % 2]
        path = path_of(copy, end)
        flip(path, draw.randrange(os.path.getsize(path)))
        found = found_in(AnswerStore(copy, TEACHER))
        assert len(found) == 48 - (3 if end == '.index' else 1)


def test_damaged_record_is_replaced(folder):
    filled(folder)
    flip(path_of(folder, '.answers'), 300)
    store = AnswerStore(folder, TEACHER)
    assert store.get(b'0') is None
    store.put({b'0': one(0, 500)})
    assert found_in(store) == found_in(AnswerStore(folder, TEACHER)) == list(range(50))


# --- several processes ----------------------------------------------------------------------------

def forked(act):
    """Run a function in a child process; return the process id."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            act()
            code = 0
        finally:
            os._exit(code)
    return process


def writer(folder, name):
    """Start a process that writes batches of three records until it is killed."""
    def work():
        store = AnswerStore(folder, TEACHER)
        for number in range(10**6):
            value = float(number % 1000)
            store.put({f'{name}/{number}/{part}'.encode(): ([torch.full((50, 40), value)], {})
                       for part in range(3)})

    return forked(work)


def end(process):
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)


def test_writers_killed_at_any_moment_leave_whole_batches(folder):
    """Two writers at a time are killed while they write, three times."""
    draw = random.Random(0)
    for turn in range(3):
        writers = [writer(folder, f'{turn}{side}') for side in 'ab']
        time.sleep(draw.uniform(0.05, 0.4))
        for process in writers:
            end(process)
    store = AnswerStore(folder, TEACHER)
    assert store.damaged == 0
    for turn in range(3):
        for side in 'ab':
            number = 0
            while store.get(f'{turn}{side}/{number}/0'.encode()) is not None:
                for part in range(3):  # the whole batch, with the right content
                    (found, ), _ = store.get(f'{turn}{side}/{number}/{part}'.encode())
                    assert found.shape == (50, 40)
                    assert found.eq(number % 1000).all()
                number += 1
            assert store.get(f'{turn}{side}/{number}/2'.encode()) is None
    assert len(store) > 6


def test_suspended_writer_does_not_block_others(folder):
    """The writer is suspended at random moments, also during a write, while another one works."""
    process = writer(folder, 'other')
    store = AnswerStore(folder, TEACHER)
    draw = random.Random(0)
    try:
        for turn in range(10):
            time.sleep(draw.uniform(0, 0.02))
            os.kill(process, signal.SIGSTOP)
            start = time.monotonic()
            store.put({f'{turn}'.encode(): one(turn)})
            fresh = AnswerStore(folder, TEACHER)
            assert fresh.get(f'{turn}'.encode())[0][0].eq(turn).all()
            assert time.monotonic() - start < 5
            os.kill(process, signal.SIGCONT)
    finally:
        end(process)


def test_records_of_other_processes_are_found(folder):
    """Incomplete batches of the other process are not read."""
    reader, other = AnswerStore(folder, TEACHER), AnswerStore(folder, TEACHER)
    assert reader.get(b'a') is None
    other.put({b'a': one(1), b'b': one(2)})
    index = path_of(folder, '.index')
    with open(index, 'rb') as file:
        whole = file.read()
    assert len(whole) == 2 * ENTRY.size
    for size in (ENTRY.size - 1, ENTRY.size, 2 * ENTRY.size - 1):  # an incomplete batch
        os.truncate(index, size)
        assert reader.get(b'a') is None
        assert reader.get(b'b') is None
        path_written(index, whole)
    assert reader.get(b'a')[0][0].eq(1).all()
    assert reader.get(b'b')[0][0].eq(2).all()
    assert reader.damaged == 0


# --- disk and folder ------------------------------------------------------------------------------

def fill(store):
    for number in range(100):
        store.put({f'{number}'.encode(): ([torch.zeros(10_000)], {})})


def test_full_disk_loses_no_records(folder):
    """Files are limited to 200 kB: writing more fails, and existing records stay readable."""
    store = AnswerStore(folder, TEACHER)
    store.put({b'first': one()})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        with pytest.raises(Full, match='File too large'):
            fill(store)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert store.get(b'first')[0][0].eq(1).all()
    store.put({b'later': one()})
    again = AnswerStore(folder, TEACHER)
    assert again.damaged == 0
    assert again.get(b'first') is not None
    assert again.get(b'later') is not None
    assert again.get(b'8') is not None
    assert again.get(b'9') is None
    assert again.bytes < 200_000


def test_a_disk_that_is_full_for_the_index_alone(folder, monkeypatch):
    store = AnswerStore(folder, TEACHER)
    store.put({b'first': one()})
    size = store.bytes

    def fails(file):
        raise OSError(errno.ENOSPC, 'No space left on device')

    with monkeypatch.context() as patch:
        patch.setattr('os.fsync', fails)
        with pytest.raises(Full, match='No space left'):
            store.put({b'second': one()})
    assert store.bytes == size
    store.put({b'third': one(3)})
    again = AnswerStore(folder, TEACHER)
    assert again.get(b'second') is None
    assert again.get(b'third')[0][0].eq(3).all()


def test_read_only_folder_is_read():
    """Root can write everywhere, so the test changes to the user `nobody`."""
    with tempfile.TemporaryDirectory() as parent:
        os.chmod(parent, 0o755)
        folder = os.path.join(parent, 'cache')
        AnswerStore(folder, TEACHER).put({b'key': one(7)})
        before = sorted(os.listdir(folder))
        for name in before:
            os.chmod(os.path.join(folder, name), 0o444)
        os.chmod(folder, 0o555)

        def read():
            if os.getuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            store = AnswerStore(folder, TEACHER)
            assert store.get(b'key')[0][0].eq(7).all()
            with pytest.raises(Full, match='Permission denied'):
                store.put({b'new': one()})
            assert store.get(b'key')[0][0].eq(7).all()

        _, status = os.waitpid(forked(read), 0)
        assert status == 0
        assert sorted(os.listdir(folder)) == before
        os.chmod(folder, 0o755)


def test_a_folder_removed_and_filled_anew_in_one_process(folder):
    store = AnswerStore(folder, TEACHER)
    store.put({b'key': one(1)})
    shutil.rmtree(folder)
    # the folder belongs to no teacher any more
    again = AnswerStore(folder, dict(TEACHER, weights='other'))
    again.put({b'key': one(2)})
    assert again.get(b'key')[0][0].eq(2).all()
    assert AnswerStore(folder, dict(TEACHER, weights='other')).get(b'key')[0][0].eq(2).all()
    with pytest.raises(Full, match='outputs of another teacher: weights other, now abc'):
        store.put({b'new': one(3)})
    assert store.get(b'key') is None  # not the record of the other teacher
    assert len(AnswerStore(folder, dict(TEACHER, weights='other'))) == 1


def test_removed_folder_is_created_again(folder, said):
    store = AnswerStore(folder, TEACHER)
    store.put({b'key': one(1)})
    shutil.rmtree(folder)
    assert store.get(b'key') is None
    assert 'was removed or replaced while it was in use' in said[0]
    assert len(said) == 1
    store.put({b'new': one(2)})
    assert store.get(b'new')[0][0].eq(2).all()
    assert AnswerStore(folder, TEACHER).get(b'new')[0][0].eq(2).all()


def test_removed_parent_folder_is_created_again(tmp_path):
    store = AnswerStore(str(tmp_path / 'a' / 'b'), TEACHER)
    store.put({b'key': one(1)})
    shutil.rmtree(tmp_path / 'a')
    store.put({b'new': one(2)})
    assert len(AnswerStore(str(tmp_path / 'a' / 'b'), TEACHER)) == 1


def test_many_segments_keep_few_files_open(folder):
    for n in range(60):
        AnswerStore(folder, TEACHER).put({f'{n}'.encode(): one(n, 500)})
    before = len(os.listdir('/proc/self/fd')) if os.path.isdir('/proc/self/fd') else 0
    store = AnswerStore(folder, TEACHER)
    assert found_in(store, 60) == list(range(60))
    if before:
        assert len(os.listdir('/proc/self/fd')) - before < 40
