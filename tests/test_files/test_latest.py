"""The checkpoint from which a run resumes is chosen by the content of the files, not by names."""
import os
import time

import pytest
import torch

from mmkd.files import latest
from mmkd.files.latest import RUN, latest_whole


@pytest.fixture
def said(monkeypatch):
    found = []
    monkeypatch.setattr(latest, 'print_log', lambda text, *args: found.append(text))
    return found


def save(folder, name, iteration, epoch=0, weight=1., started=None, **meta):
    meta = dict(iter=iteration, epoch=epoch, **meta)
    if started is not None:
        meta[RUN] = dict(started=started)
    path = str(folder / name)
    torch.save(dict(meta=meta, state_dict=dict(weight=torch.full((9, ), weight))), path)
    return path


def test_checkpoint_of_the_latest_run_is_chosen(tmp_path, said):
    """A run of six epochs, and a later one of two epochs that overwrote files of the first."""
    for epoch in range(1, 7):
        save(tmp_path, f'epoch_{epoch}.pth', 10 * epoch, epoch, started=100.)
    for epoch in (1, 2):
        newest = save(tmp_path, f'epoch_{epoch}.pth', 10 * epoch, epoch, started=200.5)
    (tmp_path / 'last_checkpoint').write_text(newest)
    assert latest_whole(str(tmp_path)) == newest
    text, = said
    for epoch in (3, 4, 5, 6):
        assert f'epoch_{epoch}.pth' in text
    assert 'an earlier run' in text
    assert '`--resume PATH`' in text


@pytest.mark.parametrize('clock', ['meta', 'file'])
def test_without_a_start_time_the_time_of_saving_decides(tmp_path, said, clock):
    """Plain MMEngine stores the time of saving in `meta`. Without it, the time of the file counts.
    """
    now = time.time()
    for name, epoch, age in (('epoch_4.pth', 4, 5000), ('epoch_2.pth', 2, 50),
                             ('epoch_1.pth', 1, 90)):
        stamp = time.strftime('%Y%m%d_%H%M%S', time.localtime(now - age))
        path = save(tmp_path, name, 10 * epoch, epoch, **(dict(time=stamp) if clock == 'meta'
                                                          else {}))
        if clock == 'file':
            os.utime(path, (now - age, now - age))
    assert latest_whole(str(tmp_path)).endswith('epoch_2.pth')
    assert 'epoch_4.pth is from an earlier run' in said[0]


def test_checkpoint_with_the_most_iterations_is_chosen(tmp_path, said):
    """6 is greater than 3, but the third epoch ends with iteration 30."""
    third = save(tmp_path, 'epoch_3.pth', 30, 3, started=1.)
    save(tmp_path, 'iter_6.pth', 6, 0, started=1.)
    assert latest_whole(str(tmp_path)) == third
    later = save(tmp_path, 'iter_36.pth', 36, 3, started=1.)
    assert latest_whole(str(tmp_path)) == later
    # At the same iteration, the file that was saved after the end of the epoch is chosen.
    fourth = save(tmp_path, 'epoch_4.pth', 40, 4, started=1.)
    save(tmp_path, 'iter_40.pth', 40, 3, started=1.)
    assert latest_whole(str(tmp_path)) == fourth
    assert not said


def test_last_resumed_run_is_chosen(tmp_path, said):
    """The second run was resumed from epoch 2, although epoch 3 exists."""
    for epoch in (1, 2, 3):
        save(tmp_path, f'epoch_{epoch}.pth', 10 * epoch, epoch, started=1.)
    assert latest_whole(str(tmp_path)).endswith('epoch_3.pth')
    save(tmp_path, 'iter_25.pth', 25, 2, started=2.)
    assert latest_whole(str(tmp_path)).endswith('iter_25.pth')
    assert 'epoch_3.pth is from an earlier run' in said[0]


@pytest.mark.parametrize('number', [float('nan'), float('inf')])
def test_checkpoints_with_nan_weights_are_skipped(tmp_path, said, number):
    save(tmp_path, 'epoch_1.pth', 1, 1, started=1.)
    fine = save(tmp_path, 'epoch_2.pth', 2, 2, started=1.)
    save(tmp_path, 'epoch_3.pth', 3, 3, weight=number, started=1.)
    assert latest_whole(str(tmp_path)) == fine
    assert 'such as `weight`' in said[0]
    assert 'lower the learning rate' in said[0]


def test_infinite_masks_are_accepted(tmp_path, said):
    path = str(tmp_path / 'epoch_1.pth')
    torch.save(dict(meta=dict(iter=1, epoch=1), state_dict=dict(
        weight=torch.ones(2), attn_mask=torch.tensor([0., -float('inf')]))), path)
    assert latest_whole(str(tmp_path)) == path
    assert not said


def test_checkpoints_with_a_nan_optimizer_are_skipped(tmp_path, said):
    path = str(tmp_path / 'epoch_1.pth')
    state = {0: dict(momentum_buffer=torch.tensor([1., float('inf')]))}
    torch.save(dict(meta=dict(iter=1, epoch=1), state_dict=dict(weight=torch.ones(2)),
                    optimizer=dict(state=state)), path)
    assert latest_whole(str(tmp_path)) is None
    assert 'optimizer.state.0.momentum_buffer' in said[0]


@pytest.mark.parametrize('meta', [None, 3, dict(iter='9', epoch=[]), {RUN: 'x', 'iter': True},
                                  {RUN: dict(started='soon'), 'iter': 10**30, 'time': 3}])
def test_invalid_metadata_does_no_harm(tmp_path, meta):
    """The file is still chosen; loading it raises an error."""
    path = str(tmp_path / 'epoch_1.pth')
    torch.save(dict(meta=meta, state_dict=dict(weight=torch.ones(2))), path)
    assert latest_whole(str(tmp_path)) == path


def test_weights_of_skipped_files_are_not_read(tmp_path):
    """Files are memory-mapped, so inspecting many large files needs little memory."""
    for number in range(8):
        path = tmp_path / f'epoch_{number}.pth'
        torch.save(dict(meta=dict(iter=number, epoch=number),
                        state_dict=dict(weight=torch.zeros(4_000_000))), path)

    def resident():
        with open('/proc/self/statm') as file:
            return int(file.read().split()[1]) * os.sysconf('SC_PAGESIZE')

    before = resident()
    looked = [latest.look_at(str(tmp_path / f'epoch_{number}.pth')) for number in range(8)]
    assert [one.iteration for one in looked] == list(range(8))
    assert resident() - before < 32 * 2**20  # of 128 MiB in total
