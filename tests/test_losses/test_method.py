"""What a method compares, by family, and what it needs around."""
import pytest

from mmkd.losses import METHODS, Method
from mmkd.losses.method import around_of, methods_of


@pytest.fixture
def own():
    made = [Method('far', [dict(type='mmkd.MSELoss', on='neck')],
                   around={'optim_wrapper.clip_grad': dict(max_norm=35)},
                   segmentor=[dict(type='mmkd.KDLoss', on='cls', tau=4.)]),
            Method('near', dense=[dict(type='mmkd.KDLoss', on='cls')],
                   around={'optim_wrapper.clip_grad': dict(max_norm=1)})]
    yield made
    for one in made:
        del METHODS[one.name]


def test_entries_are_those_of_the_family_or_else_the_first(own):
    assert own[0].entries('segmentor') == [dict(type='mmkd.KDLoss', on='cls', tau=4.)]
    assert own[0].entries('roi') == [dict(type='mmkd.MSELoss', on='neck')]
    assert own[1].entries('roi') == []
    own[0].entries('roi')[0]['on'] = 'changed'
    assert own[0].entries('roi')[0]['on'] == 'neck'


def test_several_are_joined_and_conflicts_are_refused(own):
    assert methods_of('far+kd') == [own[0], METHODS['kd']]
    assert around_of(methods_of('far+kd')) == {'optim_wrapper.clip_grad': dict(max_norm=35)}
    with pytest.raises(ValueError, match='`far` trains with optim_wrapper.clip_grad=.*35.*`near` '
                       'with .*1.*; take one of the methods'):
        around_of(own)


@pytest.mark.parametrize(('make', 'message'), [
    (lambda: methods_of('fra'), 'no method `fra`; there are .*`far`'),
    (lambda: Method('far', [dict(type='mmkd.KDLoss', on='cls')]), 'a method `far` already'),
    (lambda: Method('a+b', [dict()]), r"without '\+'"),
    (lambda: Method('none'), '`none` has no entries')])
def test_mistakes_are_named(own, make, message):
    with pytest.raises(ValueError, match=message):
        make()
