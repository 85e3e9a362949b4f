"""Configs of installed packages are found, and nothing is installed."""
import os

import pytest

from mmkd.files.zoo import config_path, published_checkpoint


@pytest.mark.parametrize('name', [
    'mmdet::retinanet/retinanet_x101-64x4d_fpn_1x_coco.py',
    'mmseg::pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py'])
def test_config_of_an_installed_package(name):
    path = config_path(name)
    assert os.path.isfile(path)
    assert path.endswith(name.partition('::')[2])


def test_a_path_is_itself(tmp_path):
    (tmp_path / 'x.py').write_text('')
    assert config_path(str(tmp_path / 'x.py')) == str(tmp_path / 'x.py')


@pytest.mark.parametrize(('name', 'message'), [
    ('mmdet::retinanet/retinanet_x11_fpn_1x_coco.py', 'closest in its folder: retinanet_'),
    ('mmdet::retinanets/x.py', 'no config `mmdet::retinanets/x.py`'),
    ('no/such.py', r'looked for /.*, from the folder /.*; write the absolute path'),
    ('/', r'looked for /; it is a folder\); write'),
    ('no_such_package::x.py', 'package `no_such_package` .* is not installed'),
    ('.mmdet::x.py', 'package `.mmdet` .* is not installed'),
    ('mm.det::x.py', 'package `mm.det` .* is not installed'),
])
def test_mistakes_are_named_and_nothing_is_installed(name, message, monkeypatch):
    monkeypatch.setattr('subprocess.Popen', lambda *a, **k: pytest.fail('a process was started'))
    with pytest.raises(FileNotFoundError, match=message):
        config_path(name)


def test_published_checkpoint():
    assert published_checkpoint('mmdet::retinanet/retinanet_r50_fpn_2x_coco.py').endswith(
        'retinanet_r50_fpn_2x_coco_20200131-fdb43119.pth')
    for config in ('mmdet::_base_/models/retinanet_r50_fpn.py', 'configs/mine.py', dict()):
        with pytest.raises(ValueError, match='no published checkpoint; write `checkpoint='):
            published_checkpoint(config)
