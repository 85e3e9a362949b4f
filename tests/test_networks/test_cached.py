"""A cached teacher gives the same losses without a forward pass, and detects any change."""
import os
import re
import shutil

import mmdet
import pytest
import torch
from conftest import (
    build,
    detector_config,
    distiller,
    retinanet,
    save_teacher,
    train,
    two_stage,
)
from mmdet.structures import DetDataSample
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.structures import InstanceData
from support.queries import batch, detector
from support.tools import run_tool

from mmkd.files.store import AnswerStore
from mmkd.networks import cached as cached_module
from mmkd.points.recorder import READING


@pytest.fixture
def cached(tmp_path):
    teacher = save_teacher(tmp_path / 'teacher.pth', retinanet(width=12))
    return dict(teacher, type='mmkd.CachedTeacher', cache=str(tmp_path / 'cache'),
                stored_as='float32')


def config_with(shapes, teacher, work_dir, variants=2, epochs=3):
    """A config whose pipeline flips at random, with or without Replay."""
    model = distiller(retinanet(), teacher, dict(type='mmkd.DISTLoss', on='cls'))
    config = detector_config(shapes, model, str(work_dir))
    config.train_cfg.max_epochs = epochs
    config.train_cfg.val_interval = 100
    if variants:
        dataset = config.train_dataloader.dataset
        dataset.pipeline = [dict(type='mmkd.Replay', transforms=dataset.pipeline,
                                 variants=variants)]
    return config


@pytest.mark.slow
def test_cached_outputs_are_equal_and_no_forward_runs(shapes, tmp_path, cached):
    frozen = {key: value for key, value in cached.items()
              if key not in ('type', 'cache', 'stored_as')}
    _, expected = train(config_with(shapes, frozen, tmp_path / 'frozen'))
    runner, first = train(config_with(shapes, cached, tmp_path / 'first'))
    assert len(runner.model.teacher.store) <= 8  # 4 images, 2 variants, 1 point
    runner, second = train(config_with(shapes, cached, tmp_path / 'second'))
    assert runner.model.teacher.missed == 0
    assert first == expected
    for one, other in zip(second, first):
        assert one == pytest.approx(other, rel=1e-6)


@pytest.mark.slow
def test_what_has_changed_is_refused(shapes, tmp_path, cached):
    train(config_with(shapes, cached, tmp_path / 'first', epochs=1))
    other = save_teacher(tmp_path / 'other.pth', retinanet(width=12), seed=5)
    with pytest.raises(ValueError, match='outputs of another teacher: weights'):
        train(config_with(shapes, dict(cached, checkpoint=other['checkpoint']), tmp_path / 'b'))
    with pytest.raises(ValueError, match='outputs of another teacher: arithmetic float32, now'):
        train(config_with(shapes, dict(cached, fuse=True), tmp_path / 'c'))
    config = config_with(shapes, dict(cached, on_miss='error'), tmp_path / 'd')
    config.train_dataloader.dataset.pipeline[0].seed = 9  # other flips of the same images
    config.train_dataloader.dataset.pipeline[0].transforms[2].scale = (64, 64)
    with pytest.raises(LookupError, match='have no cached output in .*tools/cache_teacher.py'):
        train(config)


def test_images_that_never_repeat_give_a_warning(shapes, tmp_path, cached):
    config = config_with(shapes, cached, tmp_path / 'run', variants=0)
    config.train_dataloader.dataset.pipeline.insert(3, dict(type='PhotoMetricDistortion'))
    train(config)
    log, = (tmp_path / 'run').rglob('*.log')
    assert 'Wrap the training pipeline in mmkd.Replay' in log.read_text()


def test_full_cache_lets_training_go_on(shapes, tmp_path, cached):
    runner, losses = train(config_with(shapes, dict(cached, max_gb=0.), tmp_path / 'run'))
    assert len(runner.model.teacher.store) == 0
    assert len(losses) == 6


@pytest.mark.slow
@pytest.mark.parametrize('stored_as', ['float16', 'uint8'])
def test_compact_answers_change_the_loss_a_little(shapes, tmp_path, cached, stored_as):
    cached = dict(cached, stored_as=stored_as)
    _, first = train(config_with(shapes, cached, tmp_path / 'first', variants=1, epochs=1))
    _, second = train(config_with(shapes, cached, tmp_path / 'second', variants=1, epochs=1))
    assert second[0]['loss_cls_dist'] != first[0]['loss_cls_dist']
    assert second[0] == pytest.approx(first[0], rel=0.02)


def asked_images(model):
    """Record the number of images that the teacher's network gets in each batch."""
    seen, extract = [], model.teacher.model.extract_feat
    model.teacher.model.extract_feat = lambda inputs, *rest: seen.append(
        len(inputs)) or extract(inputs, *rest)
    return seen


def term_of(model, inputs, samples):
    return model(inputs, samples, mode='loss')['loss_cls_kd']


def test_only_missing_images_are_computed(cached):
    """With any mixture of cached and missing images, the terms are those of a frozen teacher."""
    teacher = {key: value for key, value in cached.items()
               if key not in ('type', 'cache', 'stored_as')}
    kd = dict(type='mmkd.KDLoss', on='cls')
    torch.manual_seed(0)
    model = build(distiller(retinanet(), cached, kd))
    model.init_weights()
    model.distillation.begin()
    torch.manual_seed(0)
    frozen = build(distiller(retinanet(), teacher, kd))
    frozen.init_weights()
    frozen.distillation.begin()
    seen = asked_images(model)
    images = torch.randn(4, 3, 64, 64)
    shapes = dict.fromkeys(('img_shape', 'pad_shape', 'batch_input_shape'), (64, 64))
    samples = [DetDataSample(metainfo=shapes, gt_instances=InstanceData(
        bboxes=torch.tensor([[4., 4., 40., 40.]]), labels=torch.tensor([0]))) for _ in range(4)]

    def batch(*numbers):
        return images[list(numbers)], [samples[n] for n in numbers]

    for numbers, found, asked in (((0, 1), 0, [2]), ((1, 2, 0), 2, [1]), ((2, 0), 2, []),
                                  ((3, 1, 3), 1, [2]), ((0, 1, 2, 3), 4, [])):
        before = model.teacher.found, model.teacher.missed
        seen.clear()
        losses = [[one.item() for one in term_of(one, *batch(*numbers))]
                  for one in (model, frozen)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-3)
        assert seen == asked
        assert model.teacher.found - before[0] == found
        assert model.teacher.missed - before[1] == len(numbers) - found


def test_a_folder_removed_in_the_middle_of_a_run(shapes, tmp_path, cached):
    """The losses stay correct, and the cache is filled again."""
    frozen = {key: value for key, value in cached.items()
              if key not in ('type', 'cache', 'stored_as')}
    _, expected = train(config_with(shapes, frozen, tmp_path / 'frozen'))

    @HOOKS.register_module(name='RemoveCache', force=True)
    class RemoveCache(Hook):

        def after_train_epoch(self, runner):
            if runner.epoch < 2:
                shutil.rmtree(cached['cache'])

    config = config_with(shapes, cached, tmp_path / 'run')
    config.custom_hooks = [dict(type='RemoveCache')]
    runner, losses = train(config)
    for one, other in zip(losses, expected):
        assert one == pytest.approx(other, rel=1e-5)
    assert len(AnswerStore(cached['cache'], runner.model.teacher._description(), 'float32')) > 0
    log, = (tmp_path / 'run').rglob('*.log')
    assert 'was removed or replaced while it was in use' in log.read_text()


@pytest.mark.slow
def test_new_teacher_after_its_folder_was_removed(shapes, tmp_path, cached):
    train(config_with(shapes, cached, tmp_path / 'first', epochs=1))
    other = save_teacher(tmp_path / 'other.pth', retinanet(width=12), seed=5)
    entry = dict(cached, checkpoint=other['checkpoint'])
    with pytest.raises(ValueError, match=r'outputs of another teacher: weights.*remove this one'):
        train(config_with(shapes, entry, tmp_path / 'b', epochs=1))
    shutil.rmtree(cached['cache'])
    train(config_with(shapes, entry, tmp_path / 'c', epochs=1))
    runner, _ = train(config_with(shapes, dict(entry, on_miss='error'), tmp_path / 'd', epochs=1))
    assert len(runner.model.teacher.store) > 0
    assert runner.model.teacher.missed == 0


def test_damaged_cache_only_costs_time(shapes, tmp_path, cached):
    _, expected = train(config_with(shapes, cached, tmp_path / 'first'))
    for name in os.listdir(cached['cache']):
        path = os.path.join(cached['cache'], name)
        if not name.endswith('.json'):
            with open(path, 'r+b') as file:
                file.seek(os.path.getsize(path) // 2)
                file.write(b'spoilt')
    runner, losses = train(config_with(shapes, cached, tmp_path / 'second'))
    assert runner.model.teacher.store.damaged > 0
    for one, other in zip(losses, expected):
        assert one == pytest.approx(other, rel=1e-5)


def test_outputs_at_student_rois_cannot_be_cached(tmp_path):
    teacher = save_teacher(tmp_path / 't.pth', two_stage(width=12))
    model = build(distiller(two_stage(), dict(
        teacher, type='mmkd.CachedTeacher', cache=str(tmp_path / 'cache'))))
    with pytest.raises(ValueError, match="cannot predict for the student's RoIs"):
        model.init_weights()


@pytest.mark.parametrize(('change', 'error', 'message'), [
    (dict(cach='x'), TypeError, r'CachedTeacher has no argument `cach` \(closest: `cache`\)'),
    (dict(cache=3), TypeError, '`teacher.cache` must be the path of a folder, but got 3'),
    (dict(stored_as='int4'), ValueError, "`teacher.stored_as` must be one of 'float32'"),
    (dict(on_miss='skip'), ValueError, "`teacher.on_miss` must be one of 'run', 'error'"),
])
def test_mistakes_are_named(cached, change, error, message):
    with pytest.raises(error, match=message):
        build(distiller(retinanet(), dict(cached, **change)))


@pytest.mark.slow
def test_tool_fills_it_for_every_variant(shapes, tmp_path, cached):
    config = config_with(shapes, dict(cached, on_miss='error'), tmp_path / 'run', variants=3)
    filling = config_with(shapes, cached, tmp_path / 'fill', variants=3)
    filling.dump(str(tmp_path / 'config.py'))
    # At least two of the three variants have the same flip and are one entry.
    for expected in (r'\d+ outputs were cached before, [4-8] are '
                     r'new', '12 outputs were cached before, 0 are new'):
        done = run_tool('cache_teacher.py', 'config.py', cwd=tmp_path)
        assert re.search(expected, done.stdout), done.stderr
    _, losses = train(config)
    assert len(losses) == 6


def test_answers_of_queries_are_kept_whole(tmp_path):
    """Queries have no order: they are paired by the boxes that are stored with them."""
    teacher = save_teacher(tmp_path / 't.pth', detector('detr', queries=9))
    entry = dict(teacher, type='mmkd.CachedTeacher', cache=str(tmp_path / 'cache'),
                 stored_as='float32')
    torch.manual_seed(3)
    model = build(distiller(detector('detr'), entry, dict(type='mmkd.KDLoss', on='cls')))
    model.init_weights()
    model.distillation.begin()
    inputs, samples = batch()
    model.eval()
    first = model(inputs, samples, mode='loss')['loss_cls_kd']
    second = model(inputs, samples, mode='loss')['loss_cls_kd']
    assert (model.teacher.found, model.teacher.missed) == (2, 2)
    torch.testing.assert_close(first, second)


def other_family(monkeypatch):
    """Replace the family by a user's own, which may read the head differently."""
    monkeypatch.setattr(cached_module, 'family_of', lambda model: type('OwnHead', (), {})())


@pytest.mark.parametrize(('change', 'said'), [
    (lambda patch: patch.setattr(cached_module, 'READING', 10**6),
     f'reading {READING}, now 1000000'),
    (lambda patch: patch.setattr(mmdet, '__version__', '3.99'),
     f'package mmdet {mmdet.__version__}, now mmdet 3.99'),
    (lambda patch: patch.setattr(cached_module, '__version__', '0.99'), 'now 0.99'),
    (other_family, 'family DenseHead, now OwnHead')])
def test_answers_made_by_other_code_are_refused(cached, monkeypatch, change, said):
    def begun():
        model = build(distiller(retinanet(), cached))
        model.init_weights()
        model.distillation.begin()
        return model.teacher

    begun()
    begun()
    change(monkeypatch)
    with pytest.raises(ValueError, match='contains outputs written by another version of the code: '
                       f'[^;]*{re.escape(said)}; use another folder'):
        begun()
