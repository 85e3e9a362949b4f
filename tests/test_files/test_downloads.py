"""Downloads are complete and verified, or the error names address and file.

No partial file ever has the final name.
"""
import hashlib
import os
import time

import pytest
from conftest import build, retinanet
from mmengine.runner.checkpoint import load_checkpoint
from support.server import (
    DIGEST,
    GOOD,
    PAGE,
    Server,
    content_of,
    kept,
    serving,  # noqa: F401
    value_at,
)

from mmkd.files import downloads
from mmkd.files.checkpoint import load_hashed, read_checkpoint


@pytest.mark.parametrize('name', [
    f'good/net-{DIGEST}.pth', 'good/epoch_12.pth', f'moved/net-{DIGEST}.pth',
    f'good/unsaid-{DIGEST}.pth', 'good/epoch_12.pth?version=3'])
def test_complete_files_are_kept_and_reused(server, tmp_path, name):
    url = server.url(name)
    loaded = load_hashed(url)
    assert loaded.digest == hashlib.sha256(GOOD).hexdigest()
    assert len(kept(tmp_path)) == 1
    asked = len(server.asked)
    assert value_at(url) == 1
    assert len(server.asked) == asked


def test_files_of_one_name_are_kept_apart(server, tmp_path):
    for _ in range(2):
        assert [value_at(server.url(f'{kind}/epoch_12.pth')) for kind in ('good', 'other')] == [
            1, 2]
    assert len(server.asked) == 2


REFUSED = [
    ('gone/net.pth', 'could not download the checkpoint .*the server answers 404.*by hand'),
    ('silent/net.pth', 'could not download.*the server sent nothing for'),
    ('page/net.pth', r'could not download.*the server sends a web page \(text/html\)'),
    ('nonsense/net.pth', 'could not download.*BadStatusLine'),
    ('hangs/net.pth', 'could not download.*the server sent nothing for'),
    ('drips/net.pth', r'could not download.*only \d+ bytes were received in \d s'),
    ('cut/net.pth', rf'could not download.*interrupted: {len(GOOD) // 2} of {len(GOOD)} bytes'),
    ('cut/unsaid.pth', 'the file at .* is not a checkpoint, or is truncated; check the address'),
    ('half/net.pth', 'is not a checkpoint, or is truncated'),
    ('empty/net.pth', 'is not a checkpoint, or is truncated'),
    ('disguised/net.pth', 'is a web page, not a checkpoint'),
    ('disguised/net-00000000.pth', 'is a web page, not a checkpoint'),
    ('good/net-01234567.pth', f'has the hash {DIGEST}, but its name contains 01234567; check'),
    ('disguised/net.safetensors', 'is not a readable checkpoint'),
]


@pytest.mark.parametrize(('name', 'message'), REFUSED)
def test_incomplete_downloads_leave_no_file(server, tmp_path, name, message):
    url = server.url(name)
    for load in (read_checkpoint, lambda url: load_checkpoint(build(retinanet()), url)):
        start = time.monotonic()
        with pytest.raises((FileNotFoundError, ValueError), match=message) as info:
            load(url)
        assert url in str(info.value)
        assert time.monotonic() - start < 20
        assert '\n' not in str(info.value)
        assert kept(tmp_path) == []


def test_unreachable_address_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr('torch.hub.get_dir', lambda: str(tmp_path))
    server = Server()
    url = server.url('net.pth')
    server.server_close()
    with pytest.raises(FileNotFoundError, match=r'could not download.*Connection refused'):
        read_checkpoint(url)


def flipped(content):
    return content[:len(content) // 2] + b'?' + content[len(content) // 2 + 1:]


@pytest.mark.parametrize('old', [PAGE, GOOD[:5000], b'', flipped(content_of(7))])
@pytest.mark.parametrize('name', [f'good/net-{DIGEST}.pth', 'good/net.pth'])
def test_a_bad_file_of_an_earlier_download_is_replaced(server, tmp_path, name, old):
    path, _ = downloads.place_of(server.url(name))
    os.makedirs(os.path.dirname(path))
    with open(path, 'wb') as file:
        file.write(old)
    assert value_at(server.url(name)) == 1
    assert len(server.asked) == 1


def test_damaged_file_stays_if_the_download_fails(server, tmp_path):
    path, _ = downloads.place_of(server.url('gone/net.pth'))
    os.makedirs(os.path.dirname(path))
    with open(path, 'wb') as file:
        file.write(PAGE)
    with pytest.raises(FileNotFoundError, match='404'):
        read_checkpoint(server.url('gone/net.pth'))


def test_full_disk_is_reported_before_writing(server, tmp_path, monkeypatch):
    monkeypatch.setattr('shutil.disk_usage', lambda folder: type(
        'Usage', (), dict(free=1000)))
    with pytest.raises(FileNotFoundError, match=r'it has 0.2 MiB, but only 0.0 MiB are free'):
        read_checkpoint(server.url('good/net.pth'))
    assert kept(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_named(server, tmp_path):
    (tmp_path / 'hub').write_text('a file')
    with pytest.raises(FileNotFoundError, match=r'cannot be saved at .*set TORCH_HOME to another'):
        read_checkpoint(server.url('good/net.pth'))
