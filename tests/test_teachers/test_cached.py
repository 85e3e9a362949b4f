"""A teacher that is quoted: the same losses, no forward, and refusal of whatever has changed."""
import os
import re
import subprocess
import sys

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
from support.queries import batch, detector

from mmkd.store import OPEN

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


@pytest.fixture
def cached(tmp_path):
    teacher = save_teacher(tmp_path / 'teacher.pth', retinanet(width=12))
    yield dict(teacher, type='mmkd.CachedTeacher', cache=str(tmp_path / 'cache'),
               stored_as='float32')
    close()


def close():
    for environment in OPEN.values():
        environment.close()
    OPEN.clear()


def config_with(shapes, teacher, work_dir, variants=2, epochs=3):
    """The pipeline flips by chance; replayed, or not at all wrapped."""
    model = distiller(retinanet(), teacher, dict(type='mmkd.DISTLoss', on='cls'))
    config = detector_config(shapes, model, str(work_dir))
    config.train_cfg.max_epochs = epochs
    config.train_cfg.val_interval = 100
    if variants:
        dataset = config.train_dataloader.dataset
        dataset.pipeline = [dict(type='mmkd.Replay', transforms=dataset.pipeline,
                                 variants=variants)]
    return config


def test_quoted_it_says_the_same_and_does_not_run(shapes, tmp_path, cached):
    frozen = {key: value for key, value in cached.items()
              if key not in ('type', 'cache', 'stored_as')}
    _, expected = train(config_with(shapes, frozen, tmp_path / 'frozen'))
    runner, first = train(config_with(shapes, cached, tmp_path / 'first'))
    assert len(runner.model.teacher.store) <= 8  # 4 images, 2 variants, 1 point
    close()
    runner, second = train(config_with(shapes, cached, tmp_path / 'second'))
    assert runner.model.teacher.missed == 0
    assert first == expected
    for one, other in zip(second, first):
        assert one == pytest.approx(other, rel=1e-6)


def test_what_has_changed_is_refused(shapes, tmp_path, cached):
    train(config_with(shapes, cached, tmp_path / 'first', epochs=1))
    close()
    other = save_teacher(tmp_path / 'other.pth', retinanet(width=12), seed=5)
    with pytest.raises(ValueError, match='answers of another teacher: weights'):
        train(config_with(shapes, dict(cached, checkpoint=other['checkpoint']), tmp_path / 'b'))
    close()
    with pytest.raises(ValueError, match='answers of another teacher: arithmetic float32, now'):
        train(config_with(shapes, dict(cached, fuse=True), tmp_path / 'c'))
    close()
    config = config_with(shapes, dict(cached, on_miss='error'), tmp_path / 'd')
    config.train_dataloader.dataset.pipeline[0].seed = 9  # other flips of the same images
    config.train_dataloader.dataset.pipeline[0].transforms[2].scale = (64, 64)
    with pytest.raises(LookupError, match='have no answer in .*tools/cache_teacher.py'):
        train(config)


def test_images_that_never_come_again_are_noticed(shapes, tmp_path, cached):
    config = config_with(shapes, cached, tmp_path / 'run', variants=0)
    config.train_dataloader.dataset.pipeline.insert(3, dict(type='PhotoMetricDistortion'))
    train(config)
    log, = (tmp_path / 'run').rglob('*.log')
    assert 'Wrap the training pipeline in mmkd.Replay' in log.read_text()


def test_full_cache_lets_training_go_on(shapes, tmp_path, cached):
    runner, losses = train(config_with(shapes, dict(cached, max_gb=0.), tmp_path / 'run'))
    assert len(runner.model.teacher.store) == 0
    assert len(losses) == 6


@pytest.mark.parametrize('stored_as', ['float16', 'uint8'])
def test_compact_answers_change_the_loss_a_little(shapes, tmp_path, cached, stored_as):
    cached = dict(cached, stored_as=stored_as)
    _, first = train(config_with(shapes, cached, tmp_path / 'first', variants=1, epochs=1))
    close()
    _, second = train(config_with(shapes, cached, tmp_path / 'second', variants=1, epochs=1))
    assert second[0]['loss_cls_dist'] != first[0]['loss_cls_dist']
    assert second[0] == pytest.approx(first[0], rel=0.02)


def test_places_of_the_students_cannot_be_kept(tmp_path):
    teacher = save_teacher(tmp_path / 't.pth', two_stage(width=12))
    model = build(distiller(two_stage(), dict(
        teacher, type='mmkd.CachedTeacher', cache=str(tmp_path / 'cache'))))
    with pytest.raises(ValueError, match="asked at the student's RoIs"):
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


def test_tool_fills_it_for_every_variant(shapes, tmp_path, cached):
    config = config_with(shapes, dict(cached, on_miss='error'), tmp_path / 'run', variants=3)
    filling = config_with(shapes, cached, tmp_path / 'fill', variants=3)
    filling.dump(str(tmp_path / 'config.py'))
    # Of three variants two at least are flipped alike, and are one image.
    for expected in (r'\d+ answers were there, [4-8] are new', '12 answers were there, 0 are new'):
        done = subprocess.run([sys.executable, '-W', 'ignore',
                               os.path.join(ROOT, 'tools', 'cache_teacher.py'), 'config.py'],
                              cwd=tmp_path, capture_output=True, text=True)
        assert re.search(expected, done.stdout), done.stderr
    _, losses = train(config)
    assert len(losses) == 6


def test_answers_of_queries_are_kept_whole(tmp_path):
    """Predictions without an order are paired by what is told beside them."""
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
    close()
