"""A cache that several jobs have filled is the one that a single job fills."""
import importlib
import shutil

import pytest
from conftest import detector_config, distiller, retinanet, save_teacher
from support.tools import TOOLS, run_tool

from mmkd.files.segments import INDEX, files_in
from mmkd.files.shards import Shard, content_of

SHARDS = ('1/2', '2/2')


def config_of(shapes, folder, cache, **changes):
    """Images of two sizes, so that the padding of an image depends on its batch."""
    teacher = dict(save_teacher(folder / 'teacher.pth', retinanet(width=12)),
                   type='mmkd.CachedTeacher', cache=str(folder / cache), stored_as='float32')
    config = detector_config(shapes, distiller(retinanet(), teacher), str(folder / 'work'), **{
        'train_cfg.val_interval': 100, 'train_dataloader.batch_size': 1,
        'train_dataloader.drop_last': True, **changes})
    dataset = config.train_dataloader.dataset
    pipeline = dataset.pipeline
    pipeline[2] = dict(type='RandomResize', scale=[(96, 64), (60, 40)], keep_ratio=True)
    dataset.pipeline = [dict(type='mmkd.Replay', transforms=pipeline, variants=2)]
    config.dump(str(folder / f'{cache}.py'))
    return config


def fill(folder, name, *options, check=True):
    return run_tool('cache_teacher.py', f'{name}.py', *options, cwd=folder, check=check)


def content(folder):
    return content_of(str(folder), files_in(str(folder), (INDEX, )))


@pytest.mark.slow
def test_merged_shards_are_the_cache_of_one_job(shapes, tmp_path):
    for name in ('whole', 'parts'):
        config_of(shapes, tmp_path, name, **{'train_dataloader.batch_size': 2,
                                             'train_dataloader.batch_sampler': dict(
                                                 type='AspectRatioBatchSampler')})
    fill(tmp_path, 'whole')
    for shard in SHARDS:
        out = fill(tmp_path, 'parts', '--shard', shard).stdout
        assert f'shard {shard} is complete' in out
    said = fill(tmp_path, 'parts', '--merge', '--cfg-options', 'train_dataloader.batch_size=1',
                check=False).stderr
    assert '`train_dataloader.batch_size` is 1 now and was 2 there' in said
    out = fill(tmp_path, 'parts', '--merge').stdout
    assert '2 shards with ' in out
    assert 'were merged and verified' in out
    assert content(tmp_path / 'parts') == content(tmp_path / 'whole')
    assert content(tmp_path / 'parts')[0] >= 4
    shutil.rmtree(tmp_path / 'parts.shards')
    out = fill(tmp_path, 'parts', '--verify').stdout
    assert '8 outputs were cached before, 0 are new' in out
    for path in files_in(str(tmp_path / 'parts'), (INDEX, ))[:1]:
        (tmp_path / path).unlink()
    out = fill(tmp_path, 'parts', '--verify', check=False)
    assert out.returncode == 1
    assert 'images have no cached output in' in out.stderr


@pytest.mark.slow
def test_a_shard_with_too_little_space_is_not_complete(shapes, tmp_path):
    config_of(shapes, tmp_path, 'cache')
    said = fill(tmp_path, 'cache', '--shard', '1/2', '--cfg-options', 'model.teacher.max_gb=0',
                check=False)
    assert said.returncode == 1
    assert 'shard 1/2 in ' in said.stderr
    assert 'is not complete' in said.stderr
    assert not list(tmp_path.rglob('shard.json'))


@pytest.mark.parametrize('text', ['0/3', '4/3', '3', '1/0', 'a/b', '-1/3', '1/3/5'])
def test_a_wrong_shard_is_refused(text):
    with pytest.raises(ValueError, match=r'--shard must be i/n with i from 1 to n, but got `'):
        Shard.of(text)


def test_one_process_for_each_shard(tmp_path):
    said = fill(tmp_path, 'nosuch', '--shard', '1/2', '--launcher', 'pytorch', check=False)
    assert 'run in one process; leave out --launcher' in said.stderr


@pytest.mark.parametrize(('images', 'total'), [(7, 1), (7, 3), (2, 5), (0, 2)])
def test_every_batch_is_in_one_shard(monkeypatch, images, total):
    monkeypatch.syspath_prepend(TOOLS)
    kind = importlib.import_module('cache_shards').BatchesOfShard
    shards = [kind(range(images), 2, number, total) for number in range(1, total + 1)]
    batches = [batch for one in shards for batch in one]
    assert sorted(batches) == [list(range(images))[i:i + 2] for i in range(0, images, 2)]
    assert [len(one) for one in shards] == [len(list(one)) for one in shards]


def test_names_of_images_are_a_part_of_the_plan(monkeypatch):
    """Two machines may list their files in different orders."""
    monkeypatch.syspath_prepend(TOOLS)
    plan_of = importlib.import_module('cache_shards').plan_of

    class Images(list):
        def get_data_info(self, number):
            return dict(img_path=self[number])

    plan = plan_of(dict(model=1), Images(['x/a.png', 'x/b.png']))
    assert plan == plan_of(dict(model=1), Images(['y/a.png', 'y/b.png']))
    assert plan != plan_of(dict(model=1), Images(['x/b.png', 'x/a.png']))
    assert plan != plan_of(dict(model=2), Images(['x/a.png', 'x/b.png']))
