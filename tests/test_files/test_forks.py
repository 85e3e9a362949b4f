"""Configs of a fork, whose package has another name than the official one."""
import sys
from importlib import metadata

import pytest
from conftest import is_fork
from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE

from mmkd.files.forks import know_forks


@pytest.mark.skipif(is_fork(), reason='the official packages are not there to be hidden')
def test_configs_inherit_from_the_fork_of_mmseg(monkeypatch, tmp_path):
    """The official package is hidden, and its fork is stated: the module is there all the same."""
    find = metadata.Distribution.from_name

    def found(name):
        if name == 'mmsegmentation':
            raise metadata.PackageNotFoundError(name)
        return find('mmdet' if name == 'onedl-mmsegmentation' else name)

    monkeypatch.setattr(metadata.Distribution, 'from_name', staticmethod(found))
    monkeypatch.setattr(sys.modules['mmengine.config.config'], 'is_installed',
                        lambda package: package != 'mmsegmentation')
    monkeypatch.setitem(MODULE2PACKAGE, 'mmseg', 'mmsegmentation')
    (tmp_path / 'own.py').write_text(
        "_base_ = ['mmseg::pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py']\n")
    with pytest.raises(ModuleNotFoundError, match='mmsegmentation is not installed'):
        Config.fromfile(tmp_path / 'own.py')
    know_forks()
    assert MODULE2PACKAGE['mmdet'] == 'mmdet'
    config = Config.fromfile(tmp_path / 'own.py')
    assert config.model.backbone.depth == 18


@pytest.mark.skipif(is_fork(), reason='the official packages are not there')
def test_nothing_changes_for_the_official_packages():
    before = dict(MODULE2PACKAGE)
    know_forks()
    assert before == MODULE2PACKAGE
