"""Method: the entries by model family, and the other settings that a method needs."""
import pytest

from mmkd.losses import METHODS, Method
from mmkd.losses.method import Recipe, alternatives, around_of, methods_of


@pytest.fixture
def own():
    made = [Method('far', [dict(type='mmkd.MSELoss', on='neck')],
                   around={'optim_wrapper.clip_grad': dict(max_norm=35)},
                   segmentor=[dict(type='mmkd.KDLoss', on='cls', tau=4.)]),
            Method('near', dense=[dict(type='mmkd.KDLoss', on='cls')],
                   roi=Recipe([dict(type='mmkd.MSELoss', on='reg')],
                              {'model.inherit': 'neck', 'model.hooks': ['b']}),
                   around={'optim_wrapper.clip_grad': dict(max_norm=1), 'model.hooks': ['a']})]
    yield made
    for one in made:
        del METHODS[one.name]


def test_entries_are_chosen_by_family(own):
    assert own[0].entries('segmentor') == [dict(type='mmkd.KDLoss', on='cls', tau=4.)]
    assert own[0].entries('roi') == [dict(type='mmkd.MSELoss', on='neck')]
    assert own[1].entries('query') == []
    assert own[1].entries('roi') == [dict(type='mmkd.MSELoss', on='reg')]
    own[0].entries('roi')[0]['on'] = 'changed'
    assert own[0].entries('roi')[0]['on'] == 'neck'


def test_several_are_joined_and_conflicts_are_refused(own):
    assert methods_of('far+kd') == [own[0], METHODS['kd']]
    clip = {'optim_wrapper.clip_grad': dict(max_norm=35)}
    assert around_of(methods_of('far+kd'), 'roi') == clip
    assert around_of(own[1:], 'roi') == {
        'optim_wrapper.clip_grad': dict(max_norm=1), 'model.hooks': ['b'], 'model.inherit': 'neck'}
    joined = Method('hooked', [dict(type='mmkd.KDLoss', on='cls')], {'model.hooks': ['c']})
    try:
        assert around_of([joined, own[1]], 'dense')['model.hooks'] == ['c', 'a']
    finally:
        del METHODS['hooked']
    with pytest.raises(ValueError, match='`far` needs optim_wrapper.clip_grad=.*35.*`near` needs '
                                         '.*1.*; use one of the methods'):
        around_of(own, 'dense')


def test_a_method_may_have_another_name():
    assert methods_of('mse+kd') == [METHODS['mimic'], METHODS['kd']]
    assert 'mse' not in METHODS  # it is listed once
    with pytest.raises(ValueError, match='no method `mze`; write `mse`'):
        methods_of('mze')
    entries = [dict(type='mmkd.KDLoss', on='cls')]
    for taken in ('kd', 'mse'):
        with pytest.raises(ValueError, match=f"`also` of the method `own`, '{taken}', is the name "
                                             'of another method'):
            Method('own', entries, also=taken)
    own = Method('mse', entries)  # a name of its own is taken first
    try:
        assert methods_of('mse') == [own]
    finally:
        del METHODS['mse']


def test_a_tuple_stands_for_alternatives():
    entry = dict(type='A', on=('a', 'b'), levels=[0], through=(dict(x=1), dict(x=2)), if_there=True)
    assert alternatives(entry) == [
        dict(type='A', on=on, levels=[0], through=dict(x=x)) for on in 'ab' for x in (1, 2)]


@pytest.mark.parametrize(('make', 'message'), [
    (lambda: methods_of('fra'), 'no method `fra`; write `far`.*your METHOD by `custom_imports`'),
    (lambda: methods_of('pooled_kl'), 'no method `pooled_kl`; write one of docs/methods.md.*import '
     'the module that has your METHOD'),
    (lambda: Method('far', [dict(type='mmkd.KDLoss', on='cls')]), 'a method `far` already'),
    (lambda: Method('a+b', [dict()]), r"without '\+'"),
    (lambda: Method('none'), '`none` has no entries')])
def test_mistakes_are_named(own, make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_head_class_precedes_the_family():
    method = Method('headed', dense=[dict(type='mmkd.KDLoss', on='cls')],
                    FCOSHead=Recipe([dict(type='mmkd.MSELoss', on='neck')], {'model.inherit': 'n'}))
    try:
        kinds = 'NASFCOSHead', 'FCOSHead', 'AnchorFreeHead', 'dense'
        assert method.entries(*kinds) == [dict(type='mmkd.MSELoss', on='neck')]
        assert around_of([method], *kinds) == {'model.inherit': 'n'}
        assert method.entries('RetinaHead', 'dense') == [dict(type='mmkd.KDLoss', on='cls')]
        assert around_of([method], 'RetinaHead', 'dense') == {}
        assert method.entries('roi') == []
    finally:
        del METHODS['headed']
