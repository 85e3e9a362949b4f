"""Downloads from a server on this machine: whole and checked, or refused in a line that names
address and file; never half a file under the final name."""
import hashlib
import io
import os
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from conftest import build, retinanet
from mmengine.runner.checkpoint import load_checkpoint

from mmkd.files import downloads
from mmkd.files.checkpoint import load_hashed, read_checkpoint


def content_of(value):
    buffer = io.BytesIO()
    torch.save(dict(state_dict={'weight': torch.full((40_000, ), float(value))}), buffer)
    return buffer.getvalue()


GOOD = content_of(1)
DIGEST = hashlib.sha256(GOOD).hexdigest()[:8]
PAGE = b'<!DOCTYPE html><html><body>Sign in</body></html>'


class Server(ThreadingHTTPServer):
    """Answers by path; counts the requests."""
    daemon_threads = True

    def __init__(self):
        super().__init__(('127.0.0.1', 0), Handler)
        self.asked = []
        self.pace = 0.

    def url(self, name):
        return f'http://127.0.0.1:{self.server_port}/{name}'


class Handler(BaseHTTPRequestHandler):

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.server.asked.append(self.path)
        kind = self.path.split('/')[1]
        if kind == 'gone':
            self.send_error(404)
        elif kind == 'moved':
            self.send_response(302)
            self.send_header('Location', self.path.replace('moved', 'good'))
            self.end_headers()
        elif kind == 'silent':
            time.sleep(30)
        elif kind == 'page':
            self.answer(PAGE, 'text/html')
        elif kind == 'nonsense':
            self.wfile.write(b'this is no HTTP at all\r\n\r\n')
        elif kind == 'hangs':
            self.head(len(GOOD))
            self.wfile.write(GOOD[:1000])
            self.wfile.flush()
            time.sleep(30)
        elif kind == 'drips':
            self.head(len(GOOD))
            for n in range(100):
                self.wfile.write(GOOD[n:n + 1])
                self.wfile.flush()
                time.sleep(0.05)
        elif kind == 'cut':
            self.head(len(GOOD))
            self.wfile.write(GOOD[:len(GOOD) // 2])
        else:
            body = {'good': GOOD, 'other': content_of(2), 'disguised': PAGE, 'empty': b'',
                    'half': GOOD[:len(GOOD) // 2]}[kind]
            self.answer(body)

    def head(self, length, kind='application/octet-stream'):
        self.send_response(200)
        self.send_header('Content-Type', kind)
        if length is not None and 'unsaid' not in self.path:
            self.send_header('Content-Length', str(length))
        self.end_headers()

    def answer(self, body, kind='application/octet-stream'):
        self.head(len(body), kind)
        for start in range(0, len(body), 10_000):
            self.wfile.write(body[start:start + 10_000])
            time.sleep(self.server.pace)


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setattr('torch.hub.get_dir', lambda: str(tmp_path / 'hub'))
    monkeypatch.setattr(downloads, 'CONNECT_SECONDS', 1.)
    monkeypatch.setattr(downloads, 'STALL_SECONDS', 1.)
    monkeypatch.setattr(downloads, 'POLL_SECONDS', 0.02)
    for name in ('http_proxy', 'HTTP_PROXY', 'all_proxy', 'ALL_PROXY'):
        monkeypatch.delenv(name, raising=False)
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs=dict(poll_interval=0.05))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def kept(tmp_path):
    """What lies in the folder, without the notes of who is at work."""
    folder = tmp_path / 'hub' / 'checkpoints'
    return sorted(name for name in os.listdir(folder) if not name.startswith('.lock-')
                  ) if folder.is_dir() else []


def value_at(url):
    return read_checkpoint(url)['state_dict']['weight'][0].item()


@pytest.mark.parametrize('name', [
    f'good/net-{DIGEST}.pth', 'good/epoch_12.pth', f'moved/net-{DIGEST}.pth',
    f'good/unsaid-{DIGEST}.pth', 'good/epoch_12.pth?version=3'])
def test_what_is_whole_is_kept_and_used_again(server, tmp_path, name):
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
    ('drips/net.pth', r'could not download.*only \d+ bytes came in \d s'),
    ('cut/net.pth', rf'could not download.*cut off: {len(GOOD) // 2} bytes of {len(GOOD)} came'),
    ('cut/unsaid.pth', 'what lies at .* is no checkpoint, or was cut short; look at the address'),
    ('half/net.pth', 'is no checkpoint, or was cut short'),
    ('empty/net.pth', 'is no checkpoint, or was cut short'),
    ('disguised/net.pth', 'is a web page, no checkpoint'),
    ('disguised/net-00000000.pth', 'is a web page, no checkpoint'),
    ('good/net-01234567.pth', f'has the hash {DIGEST}, not 01234567 as its name says; look at'),
    ('disguised/net.safetensors', 'is no readable checkpoint'),
]


@pytest.mark.parametrize(('name', 'message'), REFUSED)
def test_what_is_not_leaves_nothing_behind(server, tmp_path, name, message):
    url = server.url(name)
    for load in (read_checkpoint, lambda url: load_checkpoint(build(retinanet()), url)):
        start = time.monotonic()
        with pytest.raises((FileNotFoundError, ValueError), match=message) as info:
            load(url)
        assert url in str(info.value)
        assert time.monotonic() - start < 20
        assert '\n' not in str(info.value)
        assert kept(tmp_path) == []


def test_nobody_at_the_address(tmp_path, monkeypatch):
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


def test_a_bad_file_stays_where_no_better_one_comes(server, tmp_path):
    path, _ = downloads.place_of(server.url('gone/net.pth'))
    os.makedirs(os.path.dirname(path))
    with open(path, 'wb') as file:
        file.write(PAGE)
    with pytest.raises(FileNotFoundError, match='404'):
        read_checkpoint(server.url('gone/net.pth'))


def test_a_disk_without_room_is_named_before_anything_is_written(server, tmp_path, monkeypatch):
    monkeypatch.setattr('shutil.disk_usage', lambda folder: type(
        'Usage', (), dict(free=1000)))
    with pytest.raises(FileNotFoundError, match=r'it has 0.2 MiB, and 0.0 MiB are free in .*hub'):
        read_checkpoint(server.url('good/net.pth'))
    assert kept(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_named(server, tmp_path):
    (tmp_path / 'hub').write_text('a file')
    with pytest.raises(FileNotFoundError, match=r'cannot be kept at .*set TORCH_HOME to another'):
        read_checkpoint(server.url('good/net.pth'))


# --- several processes ----------------------------------------------------------------------------


def forked(act, **environment):
    process = os.fork()
    if process == 0:
        code = 1
        try:
            os.environ.update(environment)
            act()
            code = 0
        finally:
            os._exit(code)
    return process


def ended(process):
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


@pytest.mark.parametrize('ranks', [('0', '1', '2'), ('0', '0', '0'), ('1', '2', '3')])
def test_of_several_processes_one_downloads(server, tmp_path, monkeypatch, ranks):
    """Also where nobody says who is the first, or the first does not come."""
    monkeypatch.setattr(downloads, 'YIELD_SECONDS', 0.5)
    server.pace = 0.02
    url = server.url('good/net.pth')

    def load():
        assert value_at(url) == 1

    processes = [forked(load, LOCAL_RANK=rank) for rank in ranks]
    assert [ended(process) for process in processes] == [0, 0, 0]
    assert len(server.asked) == 1


def test_the_first_process_downloads_though_it_comes_last(server, tmp_path):
    url, note = server.url('good/net.pth'), tmp_path / 'note'

    def load():
        receive = downloads._receive

        def noted(*args):
            note.write_text(os.environ['LOCAL_RANK'])
            receive(*args)

        downloads._receive = noted
        assert value_at(url) == 1

    late = forked(load, LOCAL_RANK='1')
    time.sleep(0.5)
    first = forked(load, LOCAL_RANK='0')
    assert [ended(late), ended(first)] == [0, 0]
    assert note.read_text() == '0'
    assert len(server.asked) == 1


def test_a_failure_is_told_to_those_that_wait(server, tmp_path):
    url = server.url('hangs/net.pth')

    def fail():
        with pytest.raises(FileNotFoundError, match='could not download'):
            read_checkpoint(url)

    start = time.monotonic()
    processes = [forked(fail, LOCAL_RANK=rank) for rank in '0123']
    assert [ended(process) for process in processes] == [0] * 4
    assert len(server.asked) == 1
    assert time.monotonic() - start < 20
    with pytest.raises(FileNotFoundError, match='could not download'):  # later ones try again
        read_checkpoint(url)
    assert len(server.asked) == 2


def test_a_process_killed_while_it_downloads_is_no_obstacle(server, tmp_path):
    server.pace = 0.05
    url = server.url('good/net.pth')
    process = forked(lambda: read_checkpoint(url))
    while not kept(tmp_path):
        time.sleep(0.02)
    os.kill(process, signal.SIGKILL)
    assert ended(process) == -signal.SIGKILL
    assert kept(tmp_path)[0].startswith('.part-')
    assert value_at(url) == 1
    assert len(kept(tmp_path)) == 1
    assert not kept(tmp_path)[0].startswith('.part-')


def test_a_suspended_process_is_named_in_time(server, tmp_path):
    server.pace = 0.05
    url = server.url('good/net.pth')
    process = forked(lambda: read_checkpoint(url))
    while not kept(tmp_path):
        time.sleep(0.02)
    os.kill(process, signal.SIGSTOP)
    try:
        with pytest.raises(FileNotFoundError, match=rf'process {process} on .* downloads {url} to '
                           r'`.*net.pth`, but has made no progress for 3 s; end it, or'):
            read_checkpoint(url)
    finally:
        os.kill(process, signal.SIGKILL)
        ended(process)
