"""The digest of a module changes with its code, and with nothing else."""
import importlib

import pytest

from mmkd.core.source import digest_of_code, digest_of_module


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def written(folder, **files):
    """Write modules, and import the last one."""
    for name, text in files.items():
        path = folder / f'{name.replace("__", "/")}.py'
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return importlib.import_module(name.replace('__', '.'))


def test_a_file(folder):
    written(folder, file_of_code='a = 1')
    first = digest_of_module('file_of_code')
    assert len(first) == 16
    assert digest_of_module('file_of_code') == first
    (folder / 'file_of_code.py').write_text('a = 2')
    assert digest_of_module('file_of_code') != first
    (folder / 'file_of_code.py').write_text('a = ')  # is being edited
    assert digest_of_module('file_of_code') != first


def test_modules_that_it_imports_count(folder):
    written(folder, helper_of_code='SCALE = 1', not_of_code='a = 1', user_of_code=(
        'import os, torch\nfrom helper_of_code import SCALE'))
    first = digest_of_module('user_of_code')
    (folder / 'not_of_code.py').write_text('a = 2')
    assert digest_of_module('user_of_code') == first
    (folder / 'helper_of_code.py').write_text('SCALE = 2')
    assert digest_of_module('user_of_code') != first


def test_a_package_has_what_it_imports(folder):
    """Not what a run, or an editor, writes into its folder."""
    package = folder / 'package_of_code'
    package.mkdir()
    (package / '__init__.py').write_text('from .losses import A')
    written(folder, package_of_code__base='a = 1',
            package_of_code__losses='from . import base\nclass A: pass')
    first = digest_of_module('package_of_code')
    (package / 'config.py').write_text('written = 1')
    (package / '.#losses.py').symlink_to('nowhere')
    assert digest_of_module('package_of_code') == first
    (package / 'base.py').write_text('a = 2')
    assert digest_of_module('package_of_code') != first


@pytest.mark.parametrize('name', ['mmkd', 'mmkd.losses.pkd', 'torch', 'mmdet.models', 'sys',
                                  'json', 'no_such_module', 'no.such.module'])
def test_what_has_none(name):
    assert digest_of_module(name) == ''


def test_code_of_a_class_is_that_of_its_definition(folder):
    module, own = written(folder, class_of_code='class A: pass'), folder / 'class_of_code.py'
    cls, first = module.A, digest_of_code(module.A)
    own.write_text('class A: pass  # edited')
    assert digest_of_code(cls) == first
    assert digest_of_code(importlib.reload(module).A) != first
