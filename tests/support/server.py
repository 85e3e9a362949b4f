"""A local server that sends checkpoints or faulty responses."""
import hashlib
import io
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from mmkd.files import download_lock, transfer
from mmkd.files.checkpoint import read_checkpoint


def content_of(value):
    buffer = io.BytesIO()
    torch.save(dict(state_dict={'weight': torch.full((40_000, ), float(value))}), buffer)
    return buffer.getvalue()


GOOD = content_of(1)
DIGEST = hashlib.sha256(GOOD).hexdigest()[:8]
PAGE = b'<!DOCTYPE html><html><body>Sign in</body></html>'


class Server(ThreadingHTTPServer):
    """Responds by path and counts the requests."""
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


@pytest.fixture(name='server')
def serving(tmp_path, monkeypatch):
    monkeypatch.setattr('torch.hub.get_dir', lambda: str(tmp_path / 'hub'))
    monkeypatch.setattr(transfer, 'CONNECT_SECONDS', 1.)
    monkeypatch.setattr(transfer, 'STALL_SECONDS', 1.)
    monkeypatch.setattr(download_lock, 'POLL_SECONDS', 0.02)
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
    """Return the names of the files in the folder, without lock files."""
    folder = tmp_path / 'hub' / 'checkpoints'
    return sorted(name for name in os.listdir(folder) if not name.startswith('.lock-')
                  ) if folder.is_dir() else []


def value_at(url):
    return read_checkpoint(url)['state_dict']['weight'][0].item()
