"""Answers on disk: what is read is what was written, whatever happens to the writers."""
import os
import random
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from mmkd.store import OPEN, AnswerStore, Full, packed, unpacked

TEACHER = dict(weights='abc', config='def')


@pytest.fixture
def folder(tmp_path):
    yield str(tmp_path / 'cache')
    close()


def close():
    """As when the process ends."""
    for environment in OPEN.values():
        environment.close()
    OPEN.clear()


def tensors():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator) * 5 for shape in ((3, 4, 5), (7, ), (2, 0, 3))]


@pytest.mark.parametrize(('precision', 'size'), [('float32', 4), ('float16', 2), ('uint8', 1)])
def test_what_is_read_is_what_was_written(folder, precision, size):
    AnswerStore(folder, TEACHER, precision).put({b'key': (tensors(), dict(note=[1, 'two']))})
    close()
    found, beside = AnswerStore(folder, TEACHER, precision).get(b'key')
    assert beside == dict(note=[1, 'two'])
    for one, other in zip(found, tensors()):
        assert one.shape == other.shape
        if precision == 'uint8':  # half a step of 255 in each channel
            flat = other.flatten(1) if other.dim() > 1 else other.unsqueeze(1)
            step = (flat.amax(1) - flat.amin(1)) / 255 if flat.numel() else torch.zeros(len(flat))
            error = (one - other).abs().reshape(flat.shape)
            assert (error <= step.unsqueeze(1) / 2 + 1e-6).all()
        else:
            torch.testing.assert_close(one.float(), other, rtol=5e-4 * (size == 2), atol=0)
    large = [torch.randn(16, 64, 64)]
    assert len(packed(large, {}, precision)) < large[0].numel() * size * 1.01 + 200


def test_numbers_beyond_half_precision_stay_whole():
    (found, ), _ = unpacked(packed([torch.tensor([1e6, 1.])], {}, 'float16'), 'here')
    assert found.tolist() == [1e6, 1.]


def test_another_teacher_is_refused_by_name(folder):
    AnswerStore(folder, TEACHER)
    close()
    with pytest.raises(ValueError, match=r'answers of another teacher: weights abc, now xyz; give'):
        AnswerStore(folder, dict(TEACHER, weights='xyz'))
    close()
    with pytest.raises(ValueError, match='stored_as float16, now uint8'):
        AnswerStore(folder, TEACHER, 'uint8')


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / 'data.mdb').write_bytes(b'not a database' * 1000)
    with pytest.raises(ValueError, match='is no store of answers'):
        AnswerStore(str(tmp_path), TEACHER)


def test_a_file_that_was_cut_is_refused_before_it_is_read(folder):
    store = AnswerStore(folder, TEACHER)
    store.put({f'{n}'.encode(): ([torch.zeros(5000)], {}) for n in range(50)})
    close()
    path = os.path.join(folder, 'data.mdb')
    os.truncate(path, os.path.getsize(path) // 2 // 4096 * 4096)
    with pytest.raises(ValueError, match='was cut off: .* bytes of .* are there'):
        AnswerStore(folder, TEACHER)


def test_a_database_of_something_else_is_refused(folder):
    import lmdb
    with lmdb.open(folder) as environment, environment.begin(write=True) as transaction:
        transaction.put(b'somebody', b'else')
    with pytest.raises(ValueError, match='is an LMDB file of something else'):
        AnswerStore(folder, TEACHER)


def test_a_damaged_record_is_not_believed():
    record = bytearray(packed(tensors(), {}, 'float16'))
    record[len(record) // 2] ^= 1
    with pytest.raises(OSError, match='is damaged'):
        unpacked(bytes(record), 'here')


WRITER = '''
import sys, torch
from mmkd.store import AnswerStore
store = AnswerStore(sys.argv[1], dict(weights='abc', config='def'))
print('ready', flush=True)
for number in range(10**6):
    value = float(number % 1000)
    store.put({f'{sys.argv[2]}/{number}/{part}'.encode(): ([torch.full((50, 40), value)], {})
               for part in range(3)})
'''


def writer(folder, name):
    process = subprocess.Popen([sys.executable, '-W', 'ignore', '-c', WRITER, folder, name],
                               stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == 'ready\n'
    return process


def test_writers_killed_at_any_moment_leave_whole_batches(folder):
    """Two writers at once, killed three times in the middle of their work, and started again."""
    draw = random.Random(0)
    for turn in range(3):
        writers = [writer(folder, f'{turn}{side}') for side in 'ab']
        time.sleep(draw.uniform(0.05, 0.4))
        for process in writers:
            process.send_signal(signal.SIGKILL)
            process.wait()
    store = AnswerStore(folder, TEACHER)
    for turn in range(3):
        for side in 'ab':
            number = 0
            while store.get(f'{turn}{side}/{number}/0'.encode()) is not None:
                for part in range(3):  # all of a batch, and of each the right one
                    (found, ), _ = store.get(f'{turn}{side}/{number}/{part}'.encode())
                    assert found.shape == (50, 40)
                    assert found.eq(number % 1000).all()
                number += 1
            assert store.get(f'{turn}{side}/{number}/2'.encode()) is None
    assert len(store) > 6


def fill(store):
    for number in range(100):
        store.put({f'{number}'.encode(): ([torch.zeros(10_000)], {})})


def test_a_full_disk_loses_nothing(folder):
    """The file may grow to 200 kB: what no longer fits is refused, what is there stays."""
    store = AnswerStore(folder, TEACHER)
    store.put({b'first': ([torch.ones(100)], {})})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        with pytest.raises(Full):
            fill(store)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert store.get(b'first')[0][0].eq(1).all()
    store.put({b'later': ([torch.ones(1)], {})})
    close()
    again = AnswerStore(folder, TEACHER)
    assert again.get(b'later') is not None
    assert os.path.getsize(os.path.join(folder, 'data.mdb')) < 300_000
    assert np.isfinite(again.bytes)
