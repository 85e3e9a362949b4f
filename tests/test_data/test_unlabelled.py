"""The order of the unlabelled images, and the parts of the pipeline that are kept for them."""
import random

import cv2
import numpy as np
import pytest
import torch
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope

from mmkd import ImageFolder
from mmkd.data import unlabelled
from mmkd.data.folder import images_in
from mmkd.data.unlabelled import EndlessBatches, Seeded
from mmkd.data.without_labels import first_pipeline, of_folder, without_labels
from mmkd.training.unlabelled import built


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


def written(folder, *names):
    """Write empty files, and return the folder."""
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_bytes(b'')
    return folder


def test_a_folder_lists_images_of_its_subfolders_in_order(tmp_path):
    written(tmp_path, 'b.JPG', 'a/2.png', 'a/10.png', '.hidden/c.png', 'a/notes.txt', '.d.png')
    found = [ImageFolder(str(tmp_path))[i]['img_path'] for i in range(3)]
    assert found == [f'{tmp_path}/{name}' for name in ('a/10.png', 'a/2.png', 'b.JPG')]
    assert len(ImageFolder(str(tmp_path), indices=2)) == 2
    assert len(ImageFolder(str(tmp_path), suffixes=['.txt'])) == 1
    assert len(ImageFolder(str(tmp_path), suffixes='.PNG')) == 2


def test_a_link_that_leads_nowhere_hides_no_image(tmp_path):
    """A link to itself, and one whose target may not be looked at (an error of `is_dir`)."""
    written(tmp_path, 'a.png')
    (tmp_path / 'self.png').symlink_to(tmp_path / 'self.png')
    found = images_in(str(tmp_path))
    assert found.images == (f'{tmp_path}/a.png', f'{tmp_path}/self.png')


def test_links_are_followed_once(tmp_path):
    """A link to a folder above has no end, also over two links."""
    written(tmp_path, 'one/a.ppm', 'two/b.png')
    (tmp_path / 'images').mkdir()
    (tmp_path / 'images' / 'linked').symlink_to(tmp_path / 'one')
    (tmp_path / 'one' / 'more').symlink_to(tmp_path / 'two')
    (tmp_path / 'two' / 'back').symlink_to(tmp_path / 'one')
    found = images_in(str(tmp_path / 'images'))
    assert found.images == tuple(f'{tmp_path}/images/linked/{name}'
                                 for name in ('a.ppm', 'more/b.png'))


def test_a_folder_without_images_is_refused(tmp_path):
    written(tmp_path, 'notes.txt')
    with pytest.raises(FileNotFoundError, match=r'has no images, but 1 file with another ending; '
                       r'.*jpg.*dict\(folder=..., suffixes='):
        ImageFolder(str(tmp_path))
    with pytest.raises(FileNotFoundError, match='does not exist'):
        ImageFolder(str(tmp_path / 'missing'))
    hidden = written(tmp_path / 'hidden', '.a.png', '.ipynb_checkpoints/b.png', '.c.png')
    with pytest.raises(FileNotFoundError, match='but 0 files with other endings and 3 hidden files '
                       'or folders; expected'):
        ImageFolder(str(hidden))


@pytest.mark.parametrize(('suffixes', 'message'), [
    (3, '`suffixes` must be a list of endings of files, but got 3; write for instance'),
    ([1], 'must be a list of endings'), ([], '`suffixes` has no ending'),
    (['.png', ''], 'or an empty one')])
def test_endings_are_checked(tmp_path, suffixes, message):
    with pytest.raises((TypeError, ValueError), match=message):
        ImageFolder(str(tmp_path), suffixes=suffixes)


LOADED = [dict(type='LoadImageFromFile'), dict(type='PackDetInputs')]


def with_broken(folder):
    """Two images, an empty file, and one that is text."""
    for number in (1, 3):
        cv2.imwrite(str(folder / f'{number}.png'), np.full((8, 8, 3), number, np.uint8))
    written(folder, '0.png')
    (folder / '2.png').write_text('no image')
    return str(folder)


def folder_data(folder, **settings):
    with DefaultScope.overwrite_default_scope('mmdet'):
        return ImageFolder(folder, pipeline=LOADED, **settings)


def test_another_image_takes_the_place_of_one_that_cannot_be_read(tmp_path, monkeypatch):
    """Named once. It depends only on the key, so a resumed run has the same images."""
    said = []
    monkeypatch.setattr(unlabelled, 'warn', said.append)
    data = Seeded(folder_data(with_broken(tmp_path)))
    keys = [(number, seed) for seed in range(12) for number in (0, 2)]
    taken = [data[key]['data_samples'].img_path for key in keys]
    assert {path[-5:] for path in taken} == {'1.png', '3.png'}
    resumed = Seeded(folder_data(str(tmp_path)))
    assert [resumed[key]['data_samples'].img_path for key in reversed(keys)] == taken[::-1]
    assert sorted(one.split('`')[1][-5:] for one in said) == ['0.png', '0.png', '2.png', '2.png']
    assert all('cannot be read as an image: ' in one for one in said)
    assert all('takes its place; look at it, or remove it' in one for one in said)


def test_a_folder_of_broken_images_is_named(tmp_path):
    data = folder_data(str(written(tmp_path, 'a.png', 'b.png')))
    with pytest.raises(ValueError, match=f'100 images in a row of .*`{tmp_path}`, cannot be read'):
        data[0]
    with pytest.raises(ValueError, match='a.png` cannot be read as an image: .*; remove it'):
        folder_data(str(tmp_path), test_mode=True)[0]


def test_errors_of_later_transforms_are_not_hidden(tmp_path):
    class Wrong:
        def __call__(self, results):
            raise KeyError('of the transform')

    with DefaultScope.overwrite_default_scope('mmdet'):
        data = ImageFolder(with_broken(tmp_path), pipeline=[LOADED[0], Wrong()])
    with pytest.raises(KeyError, match='of the transform'):
        data[1]


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
    assert of_folder('f', mixed, ['.png'])['dataset']['suffixes'] == ['.png']


@pytest.mark.parametrize(('settings', 'expected'), [
    (dict(type='LoadPanopticAnnotations'), (True, True, True)),
    (dict(type='LoadPanopticAnnotations', with_mask=False), (True, False, True)),
    (dict(type='mmdet.LoadAnnotations', with_seg=True), (True, False, True)),
    (dict(type='LoadTrackAnnotations'), (True, False, False)),
    (dict(type='mmseg.LoadAnnotations'), (False, False, True)),
    (dict(type='LoadOfNobodyAnnotations'), (True, False, False))])
def test_blank_annotations_are_those_that_would_be_loaded(settings, expected):
    """Also those that a class loads by default."""
    found, = without_labels(dict(pipeline=[settings]))['pipeline']
    assert tuple(found[name] for name in ('boxes', 'masks', 'label_map')) == expected


def test_only_crops_that_can_be_negative_are_allowed_to_be():
    kept = [dict(type=name, crop_size=8) for name in (
        'mmseg.RandomCrop', 'RandomCrop', 'mmdet.RandomCrop', 'NobodysRandomCrop')]
    found = without_labels(dict(pipeline=kept))['pipeline']
    assert ['allow_negative_crop' in one for one in found] == [False, True, True, False]


@pytest.mark.parametrize('dataset', [
    dict(type='mmdet.CocoDataset', ann_file='missing.json', data_prefix=dict(img='')),
    dict(type='mmdet.VOCDataset', ann_file='missing.txt', data_prefix=dict(sub_data_root='')),
    dict(type='mmseg.CityscapesDataset', data_prefix=dict(img_path='missing'), pipeline=[])])
def test_a_data_set_without_what_lists_its_images_is_refused(tmp_path, dataset):
    with pytest.raises(FileNotFoundError, match=(
            r"the unlabelled data set, \w+, does not find '.*missing.*', which lists or holds its "
            r'images; correct `data_root`, .* the images alone: unlabelled=dict\(folder=')):
        built(dict(dataset, data_root=str(tmp_path) + '/'))
