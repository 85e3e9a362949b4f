"""If several processes need a file, one downloads it, and the others wait and get its error."""
import os
import signal
import time

import pytest
from support.server import kept, serving, value_at  # noqa: F401

from mmkd.files import download_lock, downloads
from mmkd.files.checkpoint import read_checkpoint


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
def test_only_one_of_several_processes_downloads(server, tmp_path, monkeypatch, ranks):
    """Also if all have local rank 0, or no process has it."""
    monkeypatch.setattr(download_lock, 'YIELD_SECONDS', 0.5)
    server.pace = 0.02
    url = server.url('good/net.pth')

    def load():
        assert value_at(url) == 1

    processes = [forked(load, LOCAL_RANK=rank) for rank in ranks]
    assert [ended(process) for process in processes] == [0, 0, 0]
    assert len(server.asked) == 1


def test_local_rank_0_downloads_even_if_it_starts_last(server, tmp_path):
    url, note = server.url('good/net.pth'), tmp_path / 'note'

    def load():
        receive = downloads.receive

        def noted(*args):
            note.write_text(os.environ['LOCAL_RANK'])
            receive(*args)

        downloads.receive = noted
        assert value_at(url) == 1

    late = forked(load, LOCAL_RANK='1')
    time.sleep(0.5)
    first = forked(load, LOCAL_RANK='0')
    assert [ended(late), ended(first)] == [0, 0]
    assert note.read_text() == '0'
    assert len(server.asked) == 1


def test_waiting_processes_get_the_error(server, tmp_path):
    url = server.url('hangs/net.pth')

    def fail():
        with pytest.raises(FileNotFoundError, match='could not download'):
            read_checkpoint(url)

    start = time.monotonic()
    processes = [forked(fail, LOCAL_RANK=rank) for rank in '0123']
    assert [ended(process) for process in processes] == [0] * 4
    assert len(server.asked) == 1
    assert time.monotonic() - start < 20
    with pytest.raises(FileNotFoundError, match='could not download'):  # a later call tries again
        read_checkpoint(url)
    assert len(server.asked) == 2


def test_killed_download_does_not_block_others(server, tmp_path):
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


def test_suspended_process_is_named_after_a_timeout(server, tmp_path):
    server.pace = 0.05
    url = server.url('good/net.pth')
    process = forked(lambda: read_checkpoint(url))
    while not kept(tmp_path):
        time.sleep(0.02)
    os.kill(process, signal.SIGSTOP)
    try:
        with pytest.raises(FileNotFoundError, match=rf'process {process} on .* downloads {url} to '
                           r'`.*net.pth`, but has made no progress for 3 s; stop it, or'):
            read_checkpoint(url)
    finally:
        os.kill(process, signal.SIGKILL)
        ended(process)
