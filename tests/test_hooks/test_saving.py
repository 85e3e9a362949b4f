"""A complete checkpoint is on disk at every moment, and an interrupted run resumes from it."""
import os
import re
import resource
from multiprocessing import get_context

import pytest
import torch
from conftest import detector_config, distiller, retinanet, save_teacher, saved_at, train
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmkd.files.latest import latest_whole
from mmkd.files.parts import Process
from mmkd.files.whole import is_whole
from mmkd.hooks import CheckpointHook


def config_of(shapes, tmp_path, **changes):
    teacher = save_teacher(tmp_path / 'teacher.pth', retinanet())
    return detector_config(shapes, distiller(retinanet(), teacher), str(tmp_path / 'run'), **{
        'train_cfg.max_epochs': 4, 'train_cfg.val_interval': 100,
        'default_hooks.checkpoint.type': 'mmkd.CheckpointHook',
        'default_hooks.checkpoint.max_keep_ckpts': 1, **changes})


def plain_config_of(shapes, tmp_path, **changes):
    config = config_of(shapes, tmp_path, **changes)
    config.model = retinanet()
    return config


class PowerCut(Exception):
    pass


@pytest.mark.parametrize('written', [0, 2000, 10**9])
def test_interrupted_save_keeps_the_previous_checkpoint(
        shapes, tmp_path, monkeypatch, written):
    """In the third epoch, nothing, a part, or everything is written before the run ends."""
    from mmengine.fileio import LocalBackend
    put = LocalBackend.put

    def cut(self, content, path):
        if 'epoch_3' not in str(path):
            return put(self, content, path)
        put(self, content[:written], path)
        raise PowerCut

    monkeypatch.setattr(LocalBackend, 'put', cut)
    with pytest.raises(PowerCut):
        Runner.from_cfg(config_of(shapes, tmp_path)).train()
    monkeypatch.undo()
    folder = tmp_path / 'run'
    assert latest_whole(str(folder)) == str(folder / 'epoch_2.pth')
    assert not (folder / 'epoch_3.pth').exists()
    saved_at(folder / 'epoch_2.pth')


def test_max_keep_ckpts_is_respected(shapes, tmp_path):
    train(config_of(shapes, tmp_path))
    found = sorted(path.name for path in (tmp_path / 'run').glob('epoch_*'))
    assert found == ['epoch_4.pth']
    assert latest_whole(str(tmp_path / 'run')).endswith('epoch_4.pth')


def test_best_checkpoint_is_saved_the_same_way(shapes, tmp_path):
    train(config_of(shapes, tmp_path, **{
        'default_hooks.checkpoint.save_best': 'coco/bbox_mAP', 'train_cfg.val_interval': 1,
        'default_hooks.checkpoint.rule': 'greater', 'train_cfg.max_epochs': 1}))
    assert not list((tmp_path / 'run').glob('*.part*'))


def test_partial_files_of_killed_runs_are_removed(shapes, tmp_path):
    os.makedirs(tmp_path / 'run')
    own = Process.this()
    gone = own._replace(started=own.started + 1)
    for name in (f'epoch_9.pth.part.{gone}', f'epoch_8.pth.part.{own._replace(host="elsewhere")}',
                 'epoch_7.pth.part'):
        (tmp_path / 'run' / name).write_bytes(b'half')
    # written long ago by an earlier version
    os.utime(tmp_path / 'run' / 'epoch_7.pth.part', (1, 1))
    train(config_of(shapes, tmp_path, **{'train_cfg.max_epochs': 1}))
    assert sorted(one.name for one in (tmp_path / 'run').glob('*.pth*')) == [
        'epoch_1.pth', f'epoch_8.pth.part.{own._replace(host="elsewhere")}']


class At(Hook):
    """Calls a function at the start of an epoch."""

    def __init__(self, epoch, act):
        self.epoch, self.act = epoch, act

    def before_train_epoch(self, runner):
        if runner.epoch + 1 == self.epoch:
            self.act(runner)


def run_with(config, *hooks):
    runner = Runner.from_cfg(config)
    for hook in hooks:
        runner.register_hook(hook)
    return runner


def test_a_save_whose_part_is_gone_is_an_error(shapes, tmp_path, monkeypatch):
    """Another process removes the part while it is written. The previous checkpoint is kept."""
    from mmengine.fileio import LocalBackend
    put = LocalBackend.put

    def put_and_lose(self, content, path):
        put(self, content, path)
        if 'epoch_2' in str(path):
            os.remove(path)

    monkeypatch.setattr(LocalBackend, 'put', put_and_lose)
    with pytest.raises(FileNotFoundError, match='epoch_2.pth` was not saved: .* was removed by '
                                                'another process'):
        Runner.from_cfg(config_of(shapes, tmp_path)).train()
    assert [one.name for one in (tmp_path / 'run').glob('*.pth*')] == ['epoch_1.pth']
    assert (tmp_path / 'run' / 'last_checkpoint').read_text().endswith('epoch_1.pth')


def in_another_process(act, *args):
    """Run a function in a forked process; return its error message, or 'ended'."""
    context = get_context('fork')
    answers = context.Queue()

    def work():
        try:
            act(*args)
            answers.put('ended')
        except BaseException as error:
            answers.put(f'{type(error).__name__}: {error}')

    process = context.Process(target=work)
    process.start()
    answer = answers.get(timeout=120)
    process.join()
    return answer


@pytest.mark.slow
def test_a_second_run_in_the_same_folder_is_refused(shapes, tmp_path):
    """The second run starts during the second epoch of the first."""
    said = []

    def start_another(runner):
        said.append(in_another_process(lambda: Runner.from_cfg(config_of(
            shapes, tmp_path, experiment_name='other')).train()))

    run_with(config_of(shapes, tmp_path, **{'train_cfg.max_epochs': 2}),
             At(2, start_another)).train()
    assert re.match(rf'ValueError: `.*run` is in use: process {os.getpid()} on .*is training there',
                    said[0])
    assert [one.name for one in (tmp_path / 'run').glob('*.pth*')] == ['epoch_2.pth']
    # When the first run ends, its folder is free again.
    for number in (1, 2):
        assert in_another_process(lambda number=number: run_with(
            config_of(shapes, tmp_path, experiment_name=f'third{number}',
                      **{'train_cfg.max_epochs': 1}))
            .train()) == 'ended'


@pytest.mark.slow
def test_full_disk_keeps_checkpoints_and_lists_removable_files(shapes, tmp_path):
    """A limit on the file size causes the same error as a full disk."""
    def limited(runner):
        size = os.path.getsize(tmp_path / 'run' / 'epoch_1.pth') // 2
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    config = config_of(shapes, tmp_path, **{'default_hooks.checkpoint.max_keep_ckpts': -1})
    answer = in_another_process(lambda: run_with(config, At(3, limited)).train())
    assert answer.startswith('OSError: ')
    assert 'epoch_3.pth` was not saved' in answer
    assert 'are needed; epoch_1.pth (' in answer
    assert sorted(one.name for one in (tmp_path / 'run').glob('*.pth*')) == [
        'epoch_1.pth', 'epoch_2.pth']
    # The next run can resume.
    config.update(resume=True, load_from=latest_whole(str(tmp_path / 'run')))
    assert config.load_from.endswith('epoch_2.pth')
    _, losses = train(config)
    assert len(losses) == 4


def filled_with(number):
    def act(runner):
        with torch.no_grad():
            runner.model.backbone.conv1.weight[0] = number

    return act


@pytest.mark.parametrize('kind', ['last', 'best'])
def test_a_student_that_diverges_keeps_its_last_good_checkpoint(
        shapes, tmp_path, monkeypatch, kind):
    """All weights are NaN from the third epoch on, and only one checkpoint is kept."""
    best = {'default_hooks.checkpoint.save_best': 'coco/bbox_mAP', 'train_cfg.val_interval': 1,
            'default_hooks.checkpoint.rule': 'greater'} if kind == 'best' else {}
    from mmdet.evaluation import CocoMetric
    scores = iter([0.1, 0.2, 0.3, 0.4])
    monkeypatch.setattr(CocoMetric, 'compute_metrics',
                        lambda self, results: dict(bbox_mAP=next(scores)))
    config = plain_config_of(shapes, tmp_path, **best)
    config.optim_wrapper.optimizer.lr = 0.
    runner = run_with(config, At(3, filled_with(float('nan'))))
    runner.train()
    folder = tmp_path / 'run'
    assert {one.name for one in folder.glob('epoch*')} == {'epoch_2.pth', 'epoch_4.pth'}
    assert latest_whole(str(folder)) == str(folder / 'epoch_2.pth')
    # MMEngine's own `resume=True` reads this file.
    assert (folder / 'last_checkpoint').read_text() == str(folder / 'epoch_2.pth')
    log, = folder.rglob('*.log')
    assert 'epoch_3.pth contains' in log.read_text()
    assert 'epoch_2.pth is the newest checkpoint without them, and is kept' in log.read_text()
    if kind == 'best':
        assert (folder / 'best_coco_bbox_mAP_epoch_2.pth').exists()
    with pytest.raises(ValueError, match='infinite or NaN values in backbone.conv1.weight'):
        train(plain_config_of(shapes, tmp_path, resume=True,
                              load_from=str(folder / 'epoch_4.pth')))


def test_extra_checkpoint_is_removed_when_weights_are_finite(shapes, tmp_path):
    def heal(runner):
        runner.model.load_state_dict(saved_at(tmp_path / 'run' / 'epoch_1.pth')['state_dict'])

    config = plain_config_of(shapes, tmp_path)
    config.optim_wrapper.optimizer.lr = 0.
    run_with(config, At(2, filled_with(float('inf'))), At(4, heal)).train()
    assert [one.name for one in (tmp_path / 'run').glob('epoch*')] == ['epoch_4.pth']


def test_best_checkpoint_of_another_folder_stays(shapes, tmp_path):
    """A run in a copied work dir does not change the original folder."""
    best = {'default_hooks.checkpoint.save_best': 'coco/bbox_mAP', 'train_cfg.val_interval': 1,
            'default_hooks.checkpoint.rule': 'greater'}
    runner, _ = train(config_of(shapes, tmp_path, **best, **{'train_cfg.max_epochs': 1}))
    hook = next(one for one in runner.hooks if isinstance(one, CheckpointHook))
    other = tmp_path / 'other' / 'best_coco_bbox_mAP_epoch_1.pth'
    os.makedirs(other.parent)
    save(other)
    hook.best_ckpt_path = str(other)
    hook._save_best_checkpoint(runner, {'coco/bbox_mAP': 2.})
    assert other.exists()


def test_mmengines_hook_of_a_built_run_is_protected(shapes, tmp_path):
    runner = Runner.from_cfg(config_of(shapes, tmp_path, **{
        'default_hooks.checkpoint.type': 'mmengine.CheckpointHook'}))
    CheckpointHook.protect(runner)
    assert sum(isinstance(one, CheckpointHook) for one in runner.hooks) == 1


def test_misspelt_argument_is_found_before_training(shapes, tmp_path):
    runner = Runner.from_cfg(config_of(shapes, tmp_path, **{
        'default_hooks.checkpoint.intervall': 1}))
    with pytest.raises(TypeError, match='has no argument `intervall` .closest: `interval`'):
        runner.train()


def test_unresumable_state_is_reported_at_the_first_save(shapes, tmp_path):
    class Path(Hook):
        def before_save_checkpoint(self, runner, checkpoint):
            checkpoint['where'] = tmp_path

    runner = Runner.from_cfg(config_of(shapes, tmp_path))
    runner.register_hook(Path())
    runner.train()
    log, = (tmp_path / 'run').rglob('*.log')
    assert log.read_text().count('this run could not be resumed') == 1


def test_old_best_checkpoint_stays_until_the_new_one_is_whole(shapes, tmp_path, monkeypatch):
    from mmengine.fileio import LocalBackend
    put, evaluations = LocalBackend.put, []

    def cut(self, content, path):
        if os.path.basename(path).startswith('best'):
            evaluations.append(path)
            if len(evaluations) == 2:
                raise PowerCut
        return put(self, content, path)

    monkeypatch.setattr(LocalBackend, 'put', cut)
    from mmdet.evaluation import CocoMetric
    scores = iter([0.1, 0.2])
    monkeypatch.setattr(CocoMetric, 'compute_metrics',
                        lambda self, results: dict(bbox_mAP=next(scores)))
    config = config_of(shapes, tmp_path, **{
        'default_hooks.checkpoint.save_best': 'coco/bbox_mAP', 'train_cfg.val_interval': 1,
        'default_hooks.checkpoint.rule': 'greater'})
    with pytest.raises(PowerCut):
        Runner.from_cfg(config).train()
    best, = (tmp_path / 'run').glob('best*.pth')
    assert is_whole(str(best))


def save(path, number=0.):
    torch.save(dict(state_dict=dict(weight=torch.full((100, ), number))), path)
    return str(path)


def test_partial_file_is_skipped(tmp_path):
    assert latest_whole(str(tmp_path)) is None
    first = save(tmp_path / 'epoch_1.pth')
    os.utime(first, (1, 1))
    second = save(tmp_path / 'epoch_2.pth', 1.5)
    (tmp_path / 'last_checkpoint').write_text(second)
    assert latest_whole(str(tmp_path)) == second
    content = (tmp_path / 'epoch_2.pth').read_bytes()
    flipped = content.replace(b'\x00\x00\xc0\x3f', b'\x01\x00\xc0\x3f', 1)  # a weight of 1.5
    for spoilt in (content[:-10], content[:100], b'', flipped):
        (tmp_path / 'epoch_2.pth').write_bytes(spoilt)
        assert not is_whole(second)
        assert latest_whole(str(tmp_path)) == first
    (tmp_path / 'epoch_2.pth').write_bytes(content)
    (tmp_path / 'last_checkpoint').write_text('')  # cut off during the write
    assert latest_whole(str(tmp_path)) == second
    # The run ended between the two writes: the newer checkpoint is complete, but not named yet.
    (tmp_path / 'last_checkpoint').write_text(first)
    assert latest_whole(str(tmp_path)) == second


def test_folders_with_strange_names_and_old_files(tmp_path):
    folder = tmp_path / 'run[a]*'
    folder.mkdir()
    path = folder / 'epoch_10.pth'
    torch.save(dict(state_dict=dict(weight=torch.ones(3))), path,
               _use_new_zipfile_serialization=False)
    save(folder / 'epoch_9.pth')
    assert latest_whole(str(folder)) == str(path)
    path.write_bytes(path.read_bytes()[:-20])
    assert latest_whole(str(folder)) == str(folder / 'epoch_9.pth')


def test_invalid_last_checkpoint_file_does_no_harm(tmp_path):
    note = tmp_path / 'last_checkpoint'
    for content in (b'/', b'.', b'/gone/', b'\xff\xfe', b'a\0b', b'x' * 9999):
        note.write_bytes(content)
        assert latest_whole(str(tmp_path)) is None
    first = save(tmp_path / 'epoch_1.pth')
    for content in (b'/', b'.', b'\xff\xfe'):
        note.write_bytes(content)
        assert latest_whole(str(tmp_path)) == first


def test_copied_folder_resumes_from_its_own_checkpoints(tmp_path):
    for name in ('one', 'two'):
        os.makedirs(tmp_path / name)
    first = save(tmp_path / 'two' / 'epoch_1.pth')
    (tmp_path / 'two' / 'last_checkpoint').write_text(save(tmp_path / 'one' / 'epoch_2.pth'))
    assert latest_whole(str(tmp_path / 'two')) == first


def test_checkpoints_with_other_names_give_a_warning(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr('mmkd.files.latest.print_log', lambda text, *args: said.append(text))
    path = save(tmp_path / 'model_1.pth')
    assert latest_whole(str(tmp_path)) is None
    assert 'write `--resume PATH`' in said[0]
    (tmp_path / 'last_checkpoint').write_text(path)
    assert latest_whole(str(tmp_path)) == path


def test_new_run_in_a_used_folder_logs_what_it_overwrites(shapes, tmp_path, capsys):
    told = f'{tmp_path / "run"} contains epoch_1.pth of an earlier run'
    changes = {'train_cfg.max_epochs': 1}
    train(config_of(shapes, tmp_path, **changes))
    assert told not in capsys.readouterr().out
    train(config_of(shapes, tmp_path, **changes))
    assert told in capsys.readouterr().out
    train(config_of(shapes, tmp_path, resume=True, **{'train_cfg.max_epochs': 2}))
    assert told not in capsys.readouterr().out
