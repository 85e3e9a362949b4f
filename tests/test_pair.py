"""What a method compares in a pair, and what looking at a pair leaves as it was."""
import copy

import pytest
from conftest import retinanet, segmentor, two_stage
from mmengine.config import Config

from mmkd.pair import entries_of, inspect_pair

LOGITS = dict(dist='mmkd.DISTLoss', kd='mmkd.KDLoss')


def config(model, scope='mmdet'):
    return Config(dict(default_scope=scope, model=model))


@pytest.fixture(scope='module')
def streets():
    return inspect_pair(config(segmentor(), 'mmseg'), config(segmentor(depth=50), 'mmseg'))


@pytest.mark.parametrize('method', ['dist', 'kd'])
def test_logits_of_a_segmentor_and_of_its_auxiliary_head(streets, method):
    loss = LOGITS[method]
    assert entries_of(method, streets) == [
        dict(type=loss, on='cls'), dict(type=loss, on='aux', loss_weight=0.4)]


def test_channels_of_a_segmentor_as_its_authors_weigh_them(streets):
    assert entries_of('cwd', streets) == [dict(type='mmkd.CWDLoss', on='cls', loss_weight=3.)]


def test_features_are_the_necks_or_else_the_backbones(streets):
    boxes = inspect_pair(config(retinanet()), config(retinanet(width=12)))
    mimic = dict(type='mmkd.MSELoss', connector='conv')
    assert entries_of('dist+mimic', boxes) == [
        dict(type='mmkd.DISTLoss', on='cls'), dict(mimic, on='neck')]
    assert entries_of('mimic', streets) == [dict(mimic, on='backbone')]


def test_a_pair_without_the_point_is_told_what_it_has():
    pair = inspect_pair(config(retinanet()), config(two_stage()))
    with pytest.raises(ValueError, match='`kd` has nothing to compare in this pair; `cls`: .*'
                       'Points that can be compared: .*`neck`'):
        entries_of('kd', pair)
    with pytest.raises(ValueError, match='no method `dst`; there are dist, kd, cwd, '):
        entries_of('dst', pair)


def test_configs_stay_as_they_are():
    """mmseg writes what `pretrained` means into the config it builds."""
    student = config(dict(segmentor(), pretrained='open-mmlab://resnet18_v1c'), 'mmseg')
    before = copy.deepcopy(student)
    inspect_pair(student, student)
    assert student.model == before.model
