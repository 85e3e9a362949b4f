"""The order of the unlabelled images, and the parts of the pipeline that are kept for them."""
import random

import cv2
import numpy as np
import pytest
import torch
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope

from mmkd import ImageFolder
from mmkd.data.unlabelled import EndlessBatches, Seeded
from mmkd.data.without_labels import first_pipeline, of_folder, without_labels


def taken(steps, start=0, **settings):
    batches = iter(EndlessBatches(range(7), start=start, **settings))
    return [next(batches) for _ in range(steps)]


def test_every_image_is_used_once_before_any_repeats():
    per_rank = [taken(7, batch_size=2, rank=rank, world_size=3) for rank in range(3)]
    images = [key[0] for step in zip(*per_rank) for batch in step for key in batch]
    rounds = [images[i:i + 7] for i in range(0, 42, 7)]
    assert all(sorted(one) == list(range(7)) for one in rounds)
    assert len(set(map(tuple, rounds))) > 1
    assert len(EndlessBatches(range(7), 2, world_size=3)) == 2


def test_later_start_continues_and_seeds_differ():
    whole = taken(9, batch_size=3, seed=5)
    assert taken(4, start=5, batch_size=3, seed=5) == whole[5:]
    assert taken(9, batch_size=3, seed=6) != whole
    seeds = [key[1:] for batch in whole for key in batch]
    assert len(set(seeds)) == len(seeds)


class Drawing(torch.utils.data.Dataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        return index, random.random(), np.random.rand(), torch.rand(()).item()


def test_augmentation_depends_only_on_its_key():
    data = Seeded(Drawing())
    torch.manual_seed(1)
    expected = torch.rand(())
    torch.manual_seed(1)
    one, other, again = data[1, 0, 4], data[1, 0, 5], data[1, 0, 4]
    assert one == again
    assert not set(one[1:]) & set(other[1:])
    assert torch.rand(()) == expected


def test_a_folder_lists_images_of_its_subfolders_in_order(tmp_path):
    for name in ('b.JPG', 'a/2.png', 'a/10.png', '.hidden/c.png', 'a/notes.txt', '.d.png'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b'')
    found = [ImageFolder(str(tmp_path))[i]['img_path'] for i in range(3)]
    assert found == [f'{tmp_path}/{name}' for name in ('a/10.png', 'a/2.png', 'b.JPG')]
    assert len(ImageFolder(str(tmp_path), indices=2)) == 2
    assert len(ImageFolder(str(tmp_path), suffixes=['.txt'])) == 1


def test_a_folder_without_images_is_refused(tmp_path):
    (tmp_path / 'notes.txt').write_text('')
    with pytest.raises(FileNotFoundError, match='has no images, but 1 other files; .*jpg'):
        ImageFolder(str(tmp_path))
    with pytest.raises(FileNotFoundError, match='does not exist'):
        ImageFolder(str(tmp_path / 'missing'))


@pytest.mark.parametrize(('scope', 'pipeline'), [
    ('mmdet', [dict(type='LoadImageFromFile'),
               dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
               dict(type='RandomChoice', transforms=[
                   [dict(type='Resize', scale=(48, 32))],
                   [dict(type='RandomCrop', crop_size=(20, 20)),
                    dict(type='RandomFlip', prob=1.)]]),
               dict(type='MinIoURandomCrop'),
               dict(type='FilterAnnotations', min_gt_bbox_wh=(1, 1)),
               dict(type='PackDetInputs')]),
    ('mmseg', [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'),
               dict(type='RandomResize', scale=(64, 48), ratio_range=(.5, 2.), keep_ratio=True),
               dict(type='RandomCrop', crop_size=(16, 16), cat_max_ratio=0.75),
               dict(type='PackSegInputs')])])
def test_pipelines_of_training_run_without_labels(tmp_path, scope, pipeline):
    cv2.imwrite(str(tmp_path / '0.png'), np.zeros((32, 48, 3), np.uint8))
    config = without_labels(of_folder(str(tmp_path), dict(type='Any', pipeline=pipeline)), scope)
    with DefaultScope.overwrite_default_scope(scope):
        data = ImageFolder(config['folder'])
        transforms = Compose(config['pipeline'])
        for _ in range(5):
            found = transforms(data.get_data_info(0))['data_samples']
            if scope == 'mmdet':
                assert found.gt_instances.bboxes.shape[0] == len(found.gt_instances.masks) == 0
            else:
                assert (found.gt_sem_seg.data == 255).all()


def test_wrappers_of_a_data_set():
    inner = dict(type='CocoDataset', ann_file='x.json', pipeline=['load'])
    mixed = dict(type='MultiImageMixDataset', pipeline=['mosaic'],
                 dataset=dict(type='RepeatDataset', times=2, dataset=inner))
    assert of_folder('f', mixed) == dict(
        type='MultiImageMixDataset', pipeline=['mosaic'],
        dataset=dict(type='mmkd.ImageFolder', folder='f', pipeline=['load']))
    several = dict(type='ConcatDataset', datasets=[inner, dict(inner, pipeline=['other'])])
    assert of_folder('f', several)['pipeline'] == ['load'] == first_pipeline(several)
    kept = without_labels(dict(several, filter_cfg=dict(filter_empty_gt=True)))
    assert kept['filter_cfg'] == dict(filter_empty_gt=False)
