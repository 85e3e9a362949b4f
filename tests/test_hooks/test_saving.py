"""At every moment a whole checkpoint is on disk, and a run that was cut off finds it."""
import os

import pytest
import torch
from conftest import detector_config, distiller, retinanet, save_teacher, saved_at, train
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmkd.checkpoint import is_whole, latest_whole
from mmkd.hooks import CheckpointHook


def config_of(shapes, tmp_path, **changes):
    teacher = save_teacher(tmp_path / 'teacher.pth', retinanet())
    return detector_config(shapes, distiller(retinanet(), teacher), str(tmp_path / 'run'), **{
        'train_cfg.max_epochs': 4, 'train_cfg.val_interval': 100,
        'default_hooks.checkpoint.type': 'mmkd.CheckpointHook',
        'default_hooks.checkpoint.max_keep_ckpts': 1, **changes})


class PowerCut(Exception):
    pass


@pytest.mark.parametrize('written', [0, 2000, 10**9])
def test_run_that_dies_while_it_saves_keeps_the_last_whole_one(
        shapes, tmp_path, monkeypatch, written):
    """In the third epoch nothing, a part, or all is written when the end comes."""
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


def test_no_more_are_kept_than_asked_for(shapes, tmp_path):
    train(config_of(shapes, tmp_path))
    found = sorted(path.name for path in (tmp_path / 'run').glob('epoch_*'))
    assert found == ['epoch_4.pth']
    assert latest_whole(str(tmp_path / 'run')).endswith('epoch_4.pth')


def test_best_checkpoint_is_saved_the_same_way(shapes, tmp_path):
    train(config_of(shapes, tmp_path, **{
        'default_hooks.checkpoint.save_best': 'coco/bbox_mAP', 'train_cfg.val_interval': 1,
        'default_hooks.checkpoint.rule': 'greater', 'train_cfg.max_epochs': 1}))
    assert not list((tmp_path / 'run').glob('*.part*'))


def test_what_a_killed_run_left_half_written_is_removed(shapes, tmp_path):
    os.makedirs(tmp_path / 'run')
    (tmp_path / 'run' / 'epoch_9.pth.part').write_bytes(b'half')
    train(config_of(shapes, tmp_path, **{'train_cfg.max_epochs': 1}))
    assert sorted(one.name for one in (tmp_path / 'run').glob('*.pth*')) == ['epoch_1.pth']


def test_best_checkpoint_of_another_folder_stays(shapes, tmp_path):
    """A work dir that was copied goes on without touching the one it was copied from."""
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


def test_run_that_could_not_be_resumed_is_told_at_its_first_save(shapes, tmp_path):
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


def test_half_a_file_is_passed_by(tmp_path):
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
    (tmp_path / 'last_checkpoint').write_text('')  # cut off while it was written
    assert latest_whole(str(tmp_path)) == second
    # Cut off between the two files: the newer one is whole, and only not named yet.
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


def test_note_of_strange_content_does_no_harm(tmp_path):
    note = tmp_path / 'last_checkpoint'
    for content in (b'/', b'.', b'/gone/', b'\xff\xfe', b'a\0b', b'x' * 9999):
        note.write_bytes(content)
        assert latest_whole(str(tmp_path)) is None
    first = save(tmp_path / 'epoch_1.pth')
    for content in (b'/', b'.', b'\xff\xfe'):
        note.write_bytes(content)
        assert latest_whole(str(tmp_path)) == first


def test_a_copied_folder_is_gone_on_with_not_the_one_it_was_copied_from(tmp_path):
    for name in ('one', 'two'):
        os.makedirs(tmp_path / name)
    first = save(tmp_path / 'two' / 'epoch_1.pth')
    (tmp_path / 'two' / 'last_checkpoint').write_text(save(tmp_path / 'one' / 'epoch_2.pth'))
    assert latest_whole(str(tmp_path / 'two')) == first


def test_checkpoints_of_other_names_are_not_passed_by_in_silence(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr('mmkd.checkpoint.print_log', lambda text, *args: said.append(text))
    path = save(tmp_path / 'model_1.pth')
    assert latest_whole(str(tmp_path)) is None
    assert 'name it by `--resume PATH`' in said[0]
    (tmp_path / 'last_checkpoint').write_text(path)
    assert latest_whole(str(tmp_path)) == path
