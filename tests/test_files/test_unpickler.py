"""The reader for torch before 2.6 accepts exactly what the reader of later versions accepts."""
import io
import os
import pickle
import struct
import zipfile
from collections import Counter, OrderedDict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import build, retinanet
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.runner.checkpoint import load_checkpoint
from test_trust import KINDS, Calls, hostile
from torch import nn

from mmkd.files import reading, safe_types, unpickler
from mmkd.files.checkpoint import read_checkpoint
from mmkd.files.latest import latest_whole
from mmkd.files.unpickler import WeightsUnpickler
from mmkd.files.whole import is_whole, wrong_with

REFUSED = r'contains more than weights.*Unsupported.*trust_checkpoint=True'


@pytest.fixture
def own(monkeypatch):
    """Make torch read as before 2.6, with mmkd's unpickler in place of torch's."""
    monkeypatch.setattr(torch._weights_only_unpickler, 'Unpickler', WeightsUnpickler)
    monkeypatch.setattr(safe_types, 'is_teachable', lambda: False)
    monkeypatch.setattr(unpickler, '_of_user', dict)


def equal(one, other):
    assert type(one) is type(other)
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other) and one.dtype == other.dtype
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, HistoryBuffer):
        return equal(list(one.data), list(other.data)) and one.mean() == other.mean()
    return one == other


class Line(BaseModel):

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def forward(self, inputs, mode='tensor'):
        return dict(loss=(self.layer(inputs) - inputs.sum(1, True)).square().mean())


def run(folder, epochs, **settings):
    """Train with MMEngine's Runner; its checkpoint has all optional parts."""
    torch.manual_seed(0)
    rows = torch.randn(8, 3, generator=torch.Generator().manual_seed(1))
    runner = Runner(
        Line(), str(folder), train_cfg=dict(by_epoch=True, max_epochs=epochs),
        train_dataloader=dict(batch_size=4, sampler=dict(type='DefaultSampler', shuffle=False),
                              dataset=[dict(inputs=row) for row in rows],
                              collate_fn=dict(type='default_collate')),
        optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=0.1)),
        param_scheduler=[dict(type='MultiStepLR', milestones=[2, 2, 3], end=9)],
        experiment_name=f'{folder.name}{epochs}', **settings)
    runner.train()
    return str(folder / f'epoch_{epochs}.pth')


@pytest.mark.parametrize('archive', [True, False])
def test_checkpoint_of_a_run_is_read_as_by_torch(tmp_path, request, archive):
    path = run(tmp_path / 'run', 2, custom_hooks=[dict(type='EMAHook')])
    expected = torch.load(path, weights_only=True)
    if not archive:  # the format of torch before 1.6
        path = str(tmp_path / 'old.pth')
        torch.save(expected, path, _use_new_zipfile_serialization=False)
    request.getfixturevalue('own')
    found = torch.load(path, weights_only=True)
    assert set(expected) >= {'message_hub', 'optimizer', 'param_schedulers', 'meta', 'state_dict',
                             'ema_state_dict'}
    for name in expected:
        assert equal(found[name], expected[name]), name
    assert found['state_dict']._metadata == expected['state_dict']._metadata
    assert is_whole(path)
    assert equal(read_checkpoint(path)['state_dict'], expected['state_dict'])
    load_checkpoint(Line(), path, strict=True)
    if archive:
        assert latest_whole(str(tmp_path / 'run')) == path  # this reads the file memory-mapped


def test_run_is_resumed(own, tmp_path):
    expected = torch.load(run(tmp_path / 'straight', 3), weights_only=True)
    run(tmp_path / 'run', 1)
    found = torch.load(run(tmp_path / 'run', 3, resume=True), weights_only=True)
    for name in ('state_dict', 'optimizer', 'param_schedulers'):
        assert equal(found[name], expected[name]), name
    start = run(tmp_path / 'started', 1, load_from=str(tmp_path / 'run' / 'epoch_1.pth'))
    assert os.path.isfile(start)


@pytest.mark.parametrize('value', [
    np.float64(0.1), np.int64(-3), np.bool_(True), np.float32(2.5), np.arange(6).reshape(2, 3),
    np.arange(3, dtype='int16'), np.ones((2, 2), order='F'), b'bytes \xff', bytearray(b'\xfe'),
    {1, 'two'}, 1 + 2j, Counter('aab'), Counter(a=3, b=1, c=2),
    OrderedDict(a=1), 2**70, -2**31, 'Größe', None, True, 0.1,
    (1, (2, 3), [4]), torch.Size([1, 2]), torch.float16, torch.device('cpu'),
    nn.Parameter(torch.ones(2)), torch.ones(4)[::2], torch.ones(2).bool(),
    HistoryBuffer([1., 2.], [1, 1])], ids=lambda value: type(value).__name__)
def test_numbers_and_containers_are_read(own, tmp_path, value):
    torch.save(dict(value=value), tmp_path / 'file.pth')
    assert equal(torch.load(tmp_path / 'file.pth', weights_only=True)['value'], value)


@pytest.mark.parametrize('archive', [True, False])
@pytest.mark.parametrize('kind', KINDS)
def test_hostile_files_are_refused(own, tmp_path, kind, archive):
    path, mark = str(tmp_path / 'hostile.pth'), tmp_path / 'mark'
    torch.save(hostile(kind, mark), path, _use_new_zipfile_serialization=archive)
    with pytest.raises(ValueError, match=REFUSED):
        read_checkpoint(path)
    with pytest.raises(ValueError, match=REFUSED):
        load_checkpoint(build(retinanet()), path)
    with pytest.raises(pickle.UnpicklingError, match='Unsupported'):
        torch.load(path, weights_only=True)
    assert not mark.exists()


def state_of(kind, state):
    """Return a pickle that makes an object and then sets its state."""
    class Built:
        def __reduce__(self):
            return (*kind, state)

    return Built()


TRICKS = {
    # Allowed names, used to do harm.
    'attribute of a class': lambda: state_of((getattr, (HistoryBuffer, 'mean')),
                                             (None, dict(__defaults__=(1, )))),
    'state of a tensor': lambda: state_of((torch.Tensor, ()), dict(a=1)),
    'getattr of the builtin kind': lambda: Calls(getattr, HistoryBuffer, '__init__'),
    'objects of numpy': lambda: np.array([dict(), []], dtype=object),
    'object as a scalar': lambda: Calls(safe_types.scalar, np.dtype('O'), b'12345678'),
    'object dtype': lambda: np.dtype('O'),
    'structure': lambda: np.zeros(1, dtype=[('a', 'i4')]),
    'flags of a dtype': lambda: state_of((np.dtype, ('f8', False, True)),
                                         (3, '<', None, None, None, -1, -1, 63)),
    'huge array': lambda: Calls(safe_types.reconstruct, np.ndarray, (1 << 40, ), b'b'),
    'codec': lambda: Calls(__import__('_codecs').encode, 'a', 'rot13'),
    'huge bytearray': lambda: Calls(bytearray, 1 << 40),
    'function in a set': lambda: {os.getcwd},
    'module': lambda: Calls(__import__, 'this'),
    'class of torch': lambda: Calls(nn.Linear, 1, 1),
    'jit': lambda: Calls(torch.jit.load, 'file'),
}


@pytest.mark.parametrize('trick', TRICKS)
def test_allowed_names_do_no_harm(own, tmp_path, trick):
    torch.save(dict(state_dict=nn.Linear(1, 1).state_dict(), extra=TRICKS[trick]()),
               tmp_path / 'file.pth')
    with pytest.raises(ValueError, match=REFUSED):
        read_checkpoint(str(tmp_path / 'file.pth'))


@pytest.mark.parametrize('code', [
    b'\x80\x02cos\nsystem\nq\x00.', b"cos\nsystem\n(S'id'\ntR.",
    b'\x80\x04\x8c\x02os\x8c\x06system\x93.',
    b"(S'id'\nios\nsystem\n.", b"(cos\nsystem\nS'id'\no.", b'\x80\x02\x82\x01.',
    b'\x80\x02cbuiltins\nset\n)\x81K\x01a.', b'\x80\x02}K\x01a.', b'\x80\x02]K\x01K\x02s.',
    b'\x80\x02X\x01\x00\x00\x00aQ.'])
def test_instructions_of_a_pickle(code):
    """GLOBAL, INST, OBJ, EXT1, STACK_GLOBAL, and items that are added to the wrong type."""
    with pytest.raises(pickle.UnpicklingError, match='Unsupported|items'):
        WeightsUnpickler(io.BytesIO(code)).load()


@pytest.mark.parametrize('reader', ['torch', 'own'])
@pytest.mark.parametrize('archive', [True, False])
@pytest.mark.parametrize('share', [0.1, 0.5, 0.98])
def test_file_cut_short_is_reported_as_such(tmp_path, request, reader, archive, share):
    path, cut = tmp_path / 'whole.pth', tmp_path / 'cut.pth'
    torch.save(dict(state_dict=nn.Linear(40, 40).state_dict(), log=HistoryBuffer([1.], [1])), path,
               _use_new_zipfile_serialization=archive)
    cut.write_bytes(path.read_bytes()[:int(share * path.stat().st_size)])
    if reader == 'own':
        request.getfixturevalue('own')
    with pytest.raises(ValueError, match='may be truncated'):
        read_checkpoint(str(cut))
    assert not is_whole(str(cut))
    assert wrong_with(str(cut)) == 'is not a checkpoint, or is truncated'


@pytest.mark.parametrize('said', [
    # torch 2.1 to 2.5 mention `weights_only` in every error; these are two of the messages.
    'Weights only load failed. Re-running `torch.load` with `weights_only` set to `False` ... '
    'unexpected EOF, expected 1234 more bytes. The file might be corrupted.',
    'Weights only load failed. ... `weights_only` ... PytorchStreamReader failed reading file'])
def test_message_of_an_older_torch_about_a_cut_file(own, tmp_path, monkeypatch, said):
    path = tmp_path / 'old.pth'
    torch.save(dict(state_dict={}), path, _use_new_zipfile_serialization=False)

    def fail(*args, **kwargs):
        raise pickle.UnpicklingError(said)

    monkeypatch.setattr(reading.torch, 'load', fail)
    with pytest.raises(ValueError, match='may be truncated'):
        read_checkpoint(str(path))
    assert not is_whole(str(path))


def test_program_of_torchscript_is_named(tmp_path):
    torch.jit.script(nn.Linear(2, 3)).save(str(tmp_path / 'program.pth'))
    with pytest.raises(ValueError, match='program.pth` is not a checkpoint of torch.save: it is a '
                       'TorchScript program.*; save it again by torch.save'):
        read_checkpoint(str(tmp_path / 'program.pth'))


def test_second_directory_of_an_archive_is_found(tmp_path):
    """Python reads the directory before the end record, torch the one at the stored offset."""
    path = tmp_path / 'file.pth'
    torch.save(dict(state_dict=dict(a=torch.ones(3))), path)
    data = path.read_bytes()
    end = data.rindex(b'PK\x05\x06')
    size, begin = struct.unpack('<II', data[end + 12:end + 20])
    shown = data[begin:begin + size].replace(b'data.pkl', b'data.txt')
    path.write_bytes(data[:end] + shown + data[end:])
    with zipfile.ZipFile(path) as archive:
        assert not any(name.endswith('data.pkl') for name in archive.namelist())
    assert torch.load(path, weights_only=True)['state_dict']['a'].tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match='several directories of its parts'):
        read_checkpoint(str(path))


def test_an_array_is_not_made_by_a_call(own, tmp_path):
    path = tmp_path / 'file.pth'
    content = b'\x80\x02cnumpy\nndarray\n(J\x00\x00\x00\x40tR.'
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('archive/data.pkl', content)
        archive.writestr('archive/version', b'3\n')
    with pytest.raises(pickle.UnpicklingError, match='Unsupported call'):
        torch.load(path, weights_only=True)


def test_order_of_bytes(own, tmp_path):
    values = np.arange(3, dtype='>i2')
    torch.save(dict(value=values), tmp_path / 'file.pth')
    assert torch.load(tmp_path / 'file.pth', weights_only=True)['value'].tolist() == [0, 1, 2]


def test_types_that_a_user_allows_are_read(own, tmp_path, monkeypatch):
    torch.save(dict(value=SimpleNamespace(a=1)), tmp_path / 'file.pth')
    with pytest.raises(pickle.UnpicklingError, match='Unsupported GLOBAL types.SimpleNamespace'):
        torch.load(tmp_path / 'file.pth', weights_only=True)
    monkeypatch.setattr(unpickler, '_of_user', lambda: {'types.SimpleNamespace': SimpleNamespace})
    assert torch.load(tmp_path / 'file.pth', weights_only=True)['value'] == SimpleNamespace(a=1)


def test_opencvs_stub_for_numpy_1_is_handled(monkeypatch):
    """With NumPy 1, OpenCV adds an almost empty module `numpy._core`."""
    import runpy
    monkeypatch.setattr(np, '_core', SimpleNamespace(), raising=False)
    found = runpy.run_path(safe_types.__file__)
    assert found['reconstruct'] is safe_types.reconstruct
    assert found['scalar'] is safe_types.scalar
