"""The rule of `--method auto` chooses existing methods, in the order of the results."""
import os

import pytest

from mmkd.losses import METHODS
from mmkd.losses.method import FAMILIES
from mmkd.losses.recommended import CHOICES, OTHERS, order_of, recommended

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def test_choices_are_methods_of_known_families():
    assert set(CHOICES) <= set(FAMILIES)
    for choice in (one for some in (*CHOICES.values(), OTHERS) for one in some):
        for name in choice.method.split('+'):
            assert name in METHODS
        for word in choice.reason.replace('(', ' ').replace(')', ' ').split():
            if word.startswith('docs/'):
                assert os.path.exists(os.path.join(ROOT, word))


@pytest.mark.parametrize('kind', [*FAMILIES, 'a family of a user'])
def test_every_family_has_a_first_choice_with_entries(kind):
    found = recommended(kind, lambda method: all(
        METHODS[name].entries(kind) for name in method.split('+')))
    assert found.reason
    assert found.method in order_of(kind)
    assert len(set(order_of(kind))) == len(order_of(kind))


def test_first_suitable_method_is_chosen():
    found = recommended('query', lambda method: method == 'dist')
    assert found.method == 'dist'
    assert found.reason.startswith('pkd, detrdistill cannot be used for this pair; ')


def test_first_choices():
    assert recommended('dense').method == 'dist'
    assert recommended('roi').method == 'dist+mimic'
    assert recommended('classifier').method == 'kd'
    assert recommended('segmentor').method == 'cwd'
    assert recommended('query').method == 'pkd'
    found = recommended('dense', is_module=True)
    assert found.method == 'mimic'
    assert found.reason.startswith('the teacher has features alone; ')


def test_no_method_is_an_error():
    with pytest.raises(ValueError, match='because dist, cwd, pkd, kd, mimic cannot be used; '
                                         'choose one that `tools/inspect_pair.py'):
        recommended('dense', lambda method: False)
