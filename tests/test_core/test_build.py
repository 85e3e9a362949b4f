"""Entries of a config are built, or the error message names the mistake."""
import sys
import types

import pytest
from mmengine.hooks import Hook

from mmkd.core.build import build_entry
from mmkd.losses import KDLoss
from mmkd.losses.base import DistillLoss
from mmkd.registry import HOOKS, MODELS


def test_unknown_type_error_names_the_closest_one_alone(monkeypatch):
    monkeypatch.setitem(MODELS.module_dict, 'GuestLoss', type('GuestLoss', (KDLoss,), {}))
    with pytest.raises(ValueError, match=r'no type `mmkd.GustLoss` \(closest: `mmkd.GuestLoss`\); '
                                         r'write `mmkd.GuestLoss`, or .*custom_imports') as error:
        build_entry(dict(type='mmkd.GustLoss'), MODELS, 'a loss', DistillLoss)
    assert '`mmkd.KDLoss`' not in str(error.value)


@pytest.mark.parametrize('name', ['mmkd.NoRegLoss', 'mmkd.ScaledLoss', 'mmkd.Front', 'mmkd.'])
def test_a_common_last_word_makes_no_names_close(name):
    """`NoRegLoss` shares five of nine letters with losses that have nothing to do with it."""
    message = message_of(name)
    assert 'closest' not in message
    assert message.count('`mmkd.') == 5  # its own name, and four of mmkd's
    assert 'mmkd has `mmkd.CWDLoss`, ' in message
    assert message.endswith('write one of them, or write `@LOSSES.register` above your own class '
                            'and import its module by `custom_imports`')


@pytest.mark.parametrize(('name', 'close'), [
    ('mmkd.DIST', 'DISTLoss'), ('DISTLos', 'DISTLoss'), ('mmdet.PKDLoss', 'PKDLoss')])
def test_a_short_or_misspelt_name_has_a_close_one(name, close):
    assert f'(closest: `mmkd.{close}`); write `mmkd.{close}`, or' in message_of(name)


def test_a_class_that_is_not_registered_is_named(monkeypatch):
    module = types.ModuleType('m_noreg')
    exec('from mmkd.losses import KDLoss\n'
         'class NoRegLoss(KDLoss):\n    pass\n'
         'class Other:\n    pass\n', vars(module))
    monkeypatch.setitem(sys.modules, 'm_noreg', module)
    assert message_of('mmkd.NoRegLoss') == (
        'a loss: no type `mmkd.NoRegLoss`: NoRegLoss of m_noreg is not registered; write '
        '`@LOSSES.register` above it')
    assert 'm_noreg' not in message_of('mmkd.Other')
    for name in ('no.such.Hook', 'mmkd.EMAHook'):  # a base class; one that MMEngine has registered
        with pytest.raises(ValueError, match='mmkd has `mmkd'):
            build_entry(dict(type=name), HOOKS, 'a hook', Hook)
    assert 'is not registered' not in message_of('no.DISTLoss')  # imported here, and registered


def message_of(name):
    with pytest.raises(ValueError, match='no type') as error:
        build_entry(dict(type=name), MODELS, 'a loss', DistillLoss)
    return str(error.value)
