"""Paths and addresses of checkpoints are read if a backend exists, and otherwise refused."""
import hashlib

import pytest
import torch
from conftest import build, retinanet, save_teacher
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import load_checkpoint

from mmkd.files.checkpoint import load_hashed, read_checkpoint


@pytest.fixture
def weights(tmp_path):
    save_teacher(tmp_path / 'my weights.pth', retinanet())
    return tmp_path / 'my weights.pth'


def same(found, path):
    expected = torch.load(path, weights_only=True)['state_dict']
    return all(torch.equal(found[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize('form', ['{}', 'file://{}', 'file://localhost{}', 'FILE://{}'])
def test_files(weights, form):
    source = form.format(str(weights).replace(' ', '%20') if '://' in form else weights)
    assert same(read_checkpoint(source)['state_dict'], weights)
    if not source.startswith('FILE'):  # MMEngine knows only lower-case schemes
        model = build(retinanet())
        load_checkpoint(model, source)
        assert same(model.state_dict(), weights)


def test_names_of_models_are_looked_up(weights, monkeypatch):
    asked = []
    monkeypatch.setattr('mmkd.files.sources.downloaded',
                        lambda url, check: asked.append(url) or str(weights))
    for source in ('torchvision://resnet18', 'modelzoo://resnet18', 'open-mmlab://msra/hrnetv2_w18',
                   'openmmlab://msra/hrnetv2_w18', 'https://x.example/a.pth'):
        loaded = load_hashed(source)
        assert same(loaded.checkpoint['state_dict'], weights)
        assert loaded.digest == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert [url.rpartition('/')[2] for url in asked] == [
        'resnet18-f37072fd.pth', 'resnet18-f37072fd.pth', 'hrnetv2_w18-00eb2006.pth',
        'hrnetv2_w18-00eb2006.pth', 'a.pth']


def test_a_store_of_objects_is_read_by_the_backend(weights, monkeypatch):
    class Backend:

        def get(self, source):
            assert source == 's3://bucket/my weights.pth'
            return weights.read_bytes()

    monkeypatch.setattr('mmkd.files.sources.get_file_backend',
                        lambda source, backend_args: Backend())
    loaded = load_hashed('s3://bucket/my weights.pth')
    assert same(loaded.checkpoint['state_dict'], weights)
    assert loaded.name == 'my weights.pth'
    assert loaded.digest == hashlib.sha256(weights.read_bytes()).hexdigest()
    model = build(retinanet())
    load_checkpoint(model, 's3://bucket/my weights.pth')
    assert same(model.state_dict(), weights)


def test_a_loader_that_was_added_is_used(weights, monkeypatch):
    monkeypatch.setattr(CheckpointLoader, '_schemes', dict(CheckpointLoader._schemes))
    CheckpointLoader.register_scheme('vault://', lambda source, map_location: torch.load(
        weights, map_location, weights_only=True), force=True)
    assert same(read_checkpoint('vault://teacher')['state_dict'], weights)


@pytest.mark.parametrize(('source', 'message'), [
    ('gs://bucket/x.pth', r'`gs://` are not supported \(`gs://bucket.*give a path, file://, http'),
    ('ftp://host/x.pth', '`ftp://` are not supported'),
    ('huggingface://a/b', '`huggingface://` are not supported'),
    ('s3://bucket/x.pth', r'cannot be read by MMEngine.s Petrel backend.*petrel_client.*install '
     'the package'),
    ('file://elsewhere/x.pth', r'is a file on the machine `elsewhere`, but only local files are '
                               r'read; write file:///PATH'),
    ('torchvision://resnet19', r'no model `resnet19` \(closest: resnet1'),
    ('open-mmlab://no/such', 'there is no model `no/such`'),
    ('https://[::1/x.pth', "'https://.*is not a valid address: .*Invalid IPv6 URL; use an http"),
    ('http:///x.pth', 'could not download the checkpoint http:///x.pth'),
    ('https://host:port/x.pth', 'could not download the checkpoint'),
    ('https://host/\0.pth', 'is not a valid address'),
])
def test_unreadable_sources_are_refused(source, message):
    for load in (read_checkpoint, lambda source: load_checkpoint(build(retinanet()), source)):
        with pytest.raises((ValueError, FileNotFoundError), match=f'(?s){message}'):
            load(source)
