"""Every method has a doc card, and docs/methods.md contains the cards."""
import runpy
import sys
import types
from pathlib import Path

import pytest

from mmkd.losses import METHODS, Method
from mmkd.losses.card import FIELDS, card_of, losses_of, needs_of

DOCS = Path(__file__).resolve().parents[2] / 'docs'


@pytest.mark.parametrize('name', [name for name, method in METHODS.items()
                                  if method.module.startswith('mmkd.')])
def test_every_method_has_a_card(name):
    card = card_of(METHODS[name])
    assert card.summary.endswith('.')
    assert list(card.fields) == list(FIELDS)


def test_a_card_without_a_field_is_named():
    module = types.ModuleType('unfinished', 'NEW: something.\n\n:Paper: one.\n:Compares: two.\n')
    sys.modules['unfinished'] = module
    try:
        exec("from mmkd.losses import Method\n"
             "Method('unfinished', [dict(type='mmkd.KDLoss', on='cls')])", vars(module))
        with pytest.raises(ValueError, match='`unfinished`, the docstring of unfinished, has no '
                           '`:Defaults:`, `:Differs:`, `:Published:`'):
            card_of(METHODS['unfinished'])
    finally:
        METHODS.pop('unfinished', None)
        del sys.modules['unfinished']


def test_what_a_method_needs_is_read_from_its_losses():
    assert needs_of(METHODS['kd']) == []
    assert [one.__name__ for one in losses_of(METHODS['mimic'])] == ['MSELoss']
    assert needs_of(METHODS['reviewkd']) == ['layers']
    assert needs_of(METHODS['pgd']) == ['boxes', 'box_labels']
    assert 'label_map' in needs_of(METHODS['kt'])
    assert isinstance(METHODS['kd'], Method)


def test_the_page_is_up_to_date():
    page = runpy.run_path(str(DOCS / 'generate_methods.py'))['page']()
    assert (DOCS / 'methods.md').read_text() == page, (
        'docs/methods.md is not what the cards say; run docs/generate_methods.py')
