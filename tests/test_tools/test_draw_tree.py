"""tools/draw_tree.py for trees on pixels and on RoIs."""
import cv2
import numpy as np
import pytest
import torch
from conftest import build, detector_config, segmentor, segmentor_config, two_stage
from support.tools import run_tool


def with_tree(head):
    return dict(head, type='mmkd.SoftTreeHead', head=head['type'], tree=dict(depth=2))


def write(folder, config, model, scope, loader):
    config.merge_from_dict({'custom_imports': dict(imports=['mmkd'], allow_failed_imports=False)})
    config.val_dataloader = loader(config)
    config.pop('work_dir')
    config.dump(str(folder / 'tree.py'))
    torch.manual_seed(0)
    torch.save(dict(state_dict=build(model, scope).state_dict()), folder / 'tree.pth')


def drawn(folder, *options):
    out = run_tool('draw_tree.py', 'tree.py', 'tree.pth', '--out', 'tree.png', '--images', '2',
                   *options, cwd=folder)
    picture = cv2.imread(str(folder / 'tree.png'))
    assert picture is not None
    assert picture.min() < 100 < picture.max()
    return out.stdout, picture


@pytest.mark.slow
def test_tree_of_pixels(streets, tmp_path):
    model = segmentor()
    model['decode_head'] = with_tree(model['decode_head'])
    write(tmp_path, segmentor_config(streets, model, 'unused'), model, 'mmseg',
          lambda config: config.train_dataloader)
    said, patches = drawn(tmp_path)
    assert '4 leaves' in said
    assert 'of 2 images' in said
    channels = model['decode_head']['channels']
    _, filters = drawn(tmp_path, '--filter-shape', 1, 1, channels)
    assert patches.shape == filters.shape
    assert not np.array_equal(patches, filters)


def test_tree_of_rois(shapes, tmp_path):
    model = two_stage()
    model['roi_head']['bbox_head'] = with_tree(model['roi_head']['bbox_head'])
    write(tmp_path, detector_config(shapes, model, 'unused'), model, 'mmdet',
          lambda config: config.train_dataloader)
    assert '4 leaves' in drawn(tmp_path)[0]


@pytest.mark.parametrize(('options', 'message'), [
    ((), "has 0 soft trees; build its head by type='mmkd.SoftTreeHead'"),
    (('--layer', 'decode_head.conv_seg'), 'is not a soft tree; the soft trees of the model are '
                                          'none')])
def test_model_without_a_tree(streets, tmp_path, options, message):
    model = segmentor()
    write(tmp_path, segmentor_config(streets, model, 'unused'), model, 'mmseg',
          lambda config: config.train_dataloader)
    out = run_tool('draw_tree.py', 'tree.py', 'tree.pth', *options, cwd=tmp_path, check=False)
    assert out.returncode != 0
    assert message in out.stderr
