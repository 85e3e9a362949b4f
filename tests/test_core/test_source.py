"""The digest of a module changes with its code, and with nothing else."""
import importlib

import pytest

from mmkd.core.source import digest_of_code, digest_of_module


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_a_file(folder):
    own = folder / 'file_of_code.py'
    own.write_text('a = 1')
    first = digest_of_module('file_of_code')
    assert len(first) == 16
    assert digest_of_module('file_of_code') == first
    importlib.import_module('file_of_code')
    assert digest_of_module('file_of_code') == first
    own.write_text('a = 2')
    assert digest_of_module('file_of_code') != first


def test_a_package_has_all_its_files(folder):
    inner = folder / 'package_of_code' / 'inner' / 'one.py'
    inner.parent.mkdir(parents=True)
    (folder / 'package_of_code' / '__init__.py').touch()
    inner.write_text('a = 1')
    first = digest_of_module('package_of_code')
    inner.write_text('a = 2')
    second = digest_of_module('package_of_code')
    inner.rename(inner.with_name('other.py'))
    assert len({first, second, digest_of_module('package_of_code')}) == 3


@pytest.mark.parametrize('name', ['mmkd', 'mmkd.losses.pkd', 'torch', 'mmdet.models', 'sys',
                                  '__main__.x', 'no_such_module', 'no.such.module'])
def test_what_has_none(name):
    assert digest_of_module(name) == ''


def test_code_of_a_class_is_that_of_its_definition(folder):
    own = folder / 'class_of_code.py'
    own.write_text('class A: pass')
    module = importlib.import_module('class_of_code')
    cls, first = module.A, digest_of_code(module.A)
    own.write_text('class A: pass  # edited')
    assert digest_of_code(cls) == first
    assert digest_of_code(importlib.reload(module).A) != first
