"""Examples in docstrings run, and every public name has one."""
import doctest
import importlib
import inspect
import re
from pathlib import Path

import pytest
import torch

import mmkd
import mmkd.worth
from mmkd.compare import vocabulary

PACKAGE = Path(mmkd.__file__).parent
MODULES = sorted('.'.join(['mmkd', *path.relative_to(PACKAGE).with_suffix('').parts])
                 for path in PACKAGE.rglob('*.py') if '>>> ' in path.read_text())
OF_MMENGINE = {'DATASETS', 'DATA_SAMPLERS', 'FAMILIES', 'HOOKS', 'MODELS', 'TRANSFORMS'}
"""Registries, of which the docstring is MMEngine's."""
VALUES = {'METHODS', 'LOSSES', 'PREPARED', '__version__'}
"""Objects that are no classes and functions, so they have no docstring of their own."""
PUBLIC = sorted((module.__name__, name) for module in (mmkd, mmkd.worth)
                for name in module.__all__ if name not in OF_MMENGINE | VALUES)


@pytest.mark.parametrize('name', MODULES)
def test_the_examples_of_a_module(name, monkeypatch):
    module = importlib.import_module(name)
    monkeypatch.setattr(vocabulary, 'PROVIDERS', dict(vocabulary.PROVIDERS))  # one adds its own
    torch.manual_seed(0)
    done = doctest.testmod(module, extraglobs=dict(torch=torch, mmkd=mmkd))
    assert done.failed == 0
    assert done.attempted > 0


@pytest.mark.parametrize(('module', 'name'), PUBLIC)
def test_every_public_name_has_an_example(module, name):
    thing = getattr(importlib.import_module(module), name)
    text = inspect.cleandoc((vars(thing) if inspect.isclass(thing) else dict(
        __doc__=thing.__doc__)).get('__doc__') or '')
    assert re.search(r'^Examples?:\n\s+>>> ', text, re.M), f'{module}.{name} has no example'
