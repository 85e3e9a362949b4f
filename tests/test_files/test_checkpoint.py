"""Checkpoints: reading them runs no code, and weights must fit the model."""
import copy
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import load_checkpoint
from torch import nn

from mmkd.files.checkpoint import read_checkpoint
from mmkd.files.fit import check_start, load_exactly
from mmkd.files.whole import is_whole


class Payload:
    """Creates a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path, )


def write(path, **extra):
    torch.save(dict(state_dict=nn.Linear(2, 3).state_dict(), meta={}, **extra), path)
    return str(path)


def test_hostile_file_does_not_run(tmp_path):
    mark = str(tmp_path / 'ran')
    path = write(tmp_path / 'evil.pth', extra=Payload(mark))
    with pytest.raises(ValueError, match=r'was not opened, .*run code.*`trust_checkpoint=True`'):
        read_checkpoint(path)
    assert not os.path.exists(mark)
    plain = tmp_path / 'plain.pth'
    plain.write_bytes(pickle.dumps(dict(state_dict=Payload(mark))))
    with pytest.raises(ValueError, match='trust_checkpoint=True'):
        read_checkpoint(str(plain))
    assert not os.path.exists(mark)


def test_trusted_file_is_read(tmp_path):
    path = write(tmp_path / 'odd.pth', extra=Payload(str(tmp_path / 'made')))
    assert 'weight' in read_checkpoint(path, trust=True)['state_dict']
    assert os.path.exists(tmp_path / 'made')


def test_getattr_in_a_file_reaches_only_statistics(tmp_path):
    class Reach:

        def __reduce__(self):
            return getattr, (HistoryBuffer, '__init__')

    path = write(tmp_path / 'reach.pth', extra=Reach())
    with pytest.raises(ValueError, match='trust_checkpoint=True'):
        read_checkpoint(path)


def test_what_mmengine_writes_is_read(tmp_path):
    history = HistoryBuffer([1., 2.], [1, 1])
    path = write(tmp_path / 'run.pth', message_hub=dict(
        log_scalars=dict(loss=history), runtime_info=dict(number=np.float64(0.1), i=np.int64(3))))
    read = read_checkpoint(path)['message_hub']
    assert read['log_scalars']['loss'].mean() == 1.5
    assert read['runtime_info']['number'] == 0.1


def test_cut_file_and_other_content(tmp_path):
    path = write(tmp_path / 'whole.pth')
    content = (tmp_path / 'whole.pth').read_bytes()
    (tmp_path / 'cut.pth').write_bytes(content[:len(content) // 2])
    with pytest.raises(ValueError, match='may be truncated'):
        read_checkpoint(str(tmp_path / 'cut.pth'))
    (tmp_path / 'text.pth').write_text('hello')
    with pytest.raises(ValueError, match=r'text.pth'):
        read_checkpoint(str(tmp_path / 'text.pth'))
    torch.save([1, 2], tmp_path / 'list.pth')
    with pytest.raises(ValueError, match='contains no weights: expected a dict.*found list'):
        read_checkpoint(str(tmp_path / 'list.pth'))
    with pytest.raises(FileNotFoundError, match='no teacher checkpoint at `nowhere.pth`'):
        read_checkpoint('nowhere.pth')
    assert os.path.isfile(path)


def test_bare_weights_and_wrapper_prefix_are_understood(tmp_path):
    weights = nn.Linear(2, 3).state_dict()
    torch.save({f'module.{k}': v for k, v in weights.items()}, tmp_path / 'bare.pth')
    model = nn.Linear(2, 3)
    load_exactly(model, read_checkpoint(str(tmp_path / 'bare.pth')), 'bare.pth')
    assert torch.equal(model.weight, weights['weight'])


def test_long_lists_of_keys_are_cut(tmp_path):
    model = nn.Sequential(*[nn.Linear(1, 1) for _ in range(9)])
    with pytest.raises(ValueError, match=r'18 missing in the file \(0.bias.* and 10 more\)'):
        load_exactly(model, dict(state_dict=dict()), 'x.pth')


@pytest.mark.skipif(not hasattr(torch.serialization, 'set_crc32_options'),
                    reason='this torch always writes checksums')
def test_file_without_checksums_is_read(tmp_path):
    weight, path = torch.randn(100), str(tmp_path / 'weights.pth')
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(dict(state_dict=dict(weight=weight)), path)
    finally:
        torch.serialization.set_crc32_options(True)
    assert torch.equal(read_checkpoint(path)['state_dict']['weight'], weight)
    assert is_whole(path)
    (tmp_path / 'cut.pth').write_bytes((tmp_path / 'weights.pth').read_bytes()[:-30])
    assert not is_whole(str(tmp_path / 'cut.pth'))


def test_file_that_would_grow_is_refused(tmp_path):
    path = str(tmp_path / 'weights.pth')
    torch.save(dict(state_dict=dict(weight=torch.zeros(10**6))), path)
    with zipfile.ZipFile(path) as file, zipfile.ZipFile(
            tmp_path / 'bomb.pth', 'w', zipfile.ZIP_DEFLATED) as bomb:
        for part in file.infolist():
            bomb.writestr(part.filename, file.read(part))
    with pytest.raises(ValueError, match='is compressed, so its size in memory is not limited'):
        read_checkpoint(str(tmp_path / 'bomb.pth'))
    assert not is_whole(str(tmp_path / 'bomb.pth'))


def test_file_whose_parts_overlap_is_refused_before_it_is_read(tmp_path, monkeypatch):
    """A file of 1 MB that claims 100 MB: a hundred entries of its directory share one part."""
    path = tmp_path / 'overlap.pth'
    with zipfile.ZipFile(path, 'w') as file:
        file.writestr('archive/data/0', bytes(10**6))
        first = file.infolist()[0]
        for number in range(1, 100):
            part = copy.copy(first)
            part.filename = f'archive/data/{number}'
            file.filelist.append(part)
        file._didModify = True
    assert path.stat().st_size < 1.1e6
    monkeypatch.setattr('torch.load', lambda *args, **kwargs: pytest.fail('it was read'))
    for trust in (False, True):
        with pytest.raises(ValueError, match=r'100 parts overlap: they have 100000000 bytes '
                           r'together, but the file has 1\d+; save it again'):
            read_checkpoint(str(path), trust)
    assert not is_whole(str(path))


def test_infinite_mask_buffers_are_accepted(tmp_path):
    model = nn.Sequential(nn.Linear(2, 2))
    model.register_buffer('mask', torch.full((2, 2), -float('inf')).triu(1))
    load_exactly(model, dict(state_dict=model.state_dict()), 'file.pth')
    broken = {key: value * float('nan') for key, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=r'`file.pth` has infinite or NaN values in 0\.weight'):
        load_exactly(model, dict(state_dict=broken), 'file.pth')


@pytest.mark.parametrize(('odd', 'message'), [
    (lambda w: w.to_sparse(), 'sparse_coo in the file'), (lambda w: w.to('meta'), 'no values'),
    (lambda w: w.to(torch.complex64), 'complex64 in the file'),
    *((lambda w, kind=kind: w.to(kind), f'weight: {kind} in the file, torch.float32 in the model')
      for kind in (torch.int8, torch.uint8, torch.int32, torch.int64, torch.bool,
                   torch.float8_e4m3fn)),
    (lambda w: torch.quantize_per_tensor(w, 0.1, 0, torch.qint8), 'quantized in the file')])
def test_tensors_of_another_kind_are_named(odd, message):
    model = nn.Sequential(nn.Linear(2, 2))
    weights = dict(model.state_dict())
    weights['0.weight'] = odd(weights['0.weight'])
    for load in (lambda: load_exactly(model, dict(state_dict=weights), 'file.pth'),
                 lambda: check_start(model, dict(state_dict=weights), 'file.pth')):
        with pytest.raises(ValueError, match=message):
            load()


@pytest.mark.parametrize('kind', [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_taken(kind):
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    weights = {key: value.to(kind) if value.is_floating_point() else value
               for key, value in model.state_dict().items()}
    weights['1.num_batches_tracked'] = torch.tensor(7, dtype=torch.int32)
    for load in (load_exactly, check_start):
        load(model, dict(state_dict=weights), 'file.pth')
    assert model[1].num_batches_tracked == 7


@pytest.mark.parametrize(('given', 'is_fine'), [
    (torch.tensor([1., 0.]), True), (torch.tensor([1, 0], dtype=torch.uint8), True),
    (torch.tensor([0.5, 0.]), False), (torch.tensor([2, 0]), False)])
def test_numbers_that_a_mask_cannot_hold_are_named(given, is_fine):
    model = nn.Linear(2, 2)
    model.register_buffer('mask', torch.tensor([True, True]))
    weights = dict(model.state_dict(), mask=given)
    if is_fine:
        load_exactly(model, dict(state_dict=weights), 'file.pth')
        assert model.mask.tolist() == [True, False]
        return
    with pytest.raises(ValueError, match='mask: .* torch.bool in the model, which cannot hold'):
        load_exactly(model, dict(state_dict=weights), 'file.pth')


@pytest.mark.parametrize('kind', [torch.int8, torch.bool])
def test_mmengine_loads_no_integers_into_weights(tmp_path, kind):
    """mmkd does not know the model here, as for pretrained backbones and inferencers."""
    weights = {key: value.to(kind) for key, value in nn.Linear(2, 3).state_dict().items()}
    torch.save(dict(state_dict=weights), tmp_path / 'quantised.pth')
    with pytest.raises(ValueError, match=rf'quantised.pth` contains weights that are not floating.*'
                       rf'bias: {kind}, weight: {kind}.*use float32'):
        load_checkpoint(nn.Linear(2, 3), str(tmp_path / 'quantised.pth'))


def test_mmengine_logs_the_loading_backend(tmp_path, monkeypatch):
    """MMEngine logs the part of the function name that follows 'load_from_'."""
    path = str(tmp_path / 'file.pth')
    torch.save(dict(state_dict={}), path)
    lines = []
    monkeypatch.setattr('mmengine.runner.checkpoint.print_log',
                        lambda text, **settings: lines.append(text))
    CheckpointLoader.load_checkpoint(path)
    assert lines == [f'Loads checkpoint by guarded backend from path: {path}']
    for address in ('http://a.b/c.pth', 'https://a.b/c.pth', 'torchvision://resnet18'):
        assert CheckpointLoader._get_checkpoint_loader(address).__name__.startswith('load_from_')


def test_config_in_the_place_of_a_checkpoint_is_named(tmp_path):
    path = tmp_path / 'student.py'
    path.write_text('model = dict()\n')
    with pytest.raises(ValueError, match=r'student.py` is a config, not a checkpoint; use the'):
        read_checkpoint(str(path))
