"""Valid entries with random changes either work or raise a helpful error."""
import copy
import functools
import math
from typing import Any, List

import pytest
from catalogue import assert_helpful
from conftest import build, retinanet
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, DefaultScope
from torch import nn, ones

import mmkd

RUBBISH = st.sampled_from([
    None, True, False, 0, 1, -1, 3, 10**9, 0.5, -1., 1e-30, 1e30, math.nan, math.inf, '', 'cls',
    ':', '::', 'a.b', '../x', '\n', 'loss', 'ü', '%s{}', 'mmkd', 'None', '1', b'cls', 1j, dict,
    nn.Identity, len, object(), ones(2), [], [None], ['cls'], [[]], [{}], (), ('cls', ), {'cls'},
    {}, {'type': 'x'}, {'type': None}, {1: 2}, {'on': 'cls'}, {'model': {}}, ConfigDict(),
    ConfigDict(type='Linear'), Config(), nn.Identity(), float, slice(1)])
WORDS = st.one_of(st.text(max_size=6), st.sampled_from([
    'self', 'args', 'type', '_scope_', 'on', 'loss', 'entry', 'what', 'name', 'config', 'tau',
    'alpha', '_delete_', '_base_', 'checkpoint', 'init_cfg', 'student', 'teacher', 'model']))
LIKE = dict(
    type=('mmkd.DISTLoss', 'mmkd.KDLoss', 'mmkd.MSELoss', mmkd.KDLoss, 'KDLoss', 'Linear',
          'mmkd.FrozenTeacher', 'mmdet.FocalLoss', 'no.such', 'mmkd.Distiller', 'mmkd.Partner',
          'mmkd.EarlierSelf', 'mmkd.MeanTeacher', 'mmkd.Committee', 'mmkd.CachedTeacher', 'FCOS',
          'mmseg.EncoderDecoder', 'mmdet.ResNet', 'ATSSHead', 'mmengine.BaseDataPreprocessor'),
    on=('cls', 'neck', 'reg', 'backbone', 'bbox_head.retina_cls', 'backbone.layer1.0',
        'student:cls', 'teacher:cls', 'other:cls', ':cls', 'cls:', 'bbox_head', 'backbone.bn1',
        'neck.fpn_convs.0', 'bbox_head.loss_cls', 'no.such', 'data_preprocessor',
        dict(student='neck', teacher='neck'), dict(student='other:cls', teacher='student:cls')),
    config=('mmdet::retinanet/no_such.py', 'no_such::a.py', 'no_such.py', '.', '::', 'mmdet::',
            __file__),
    checkpoint=('no_such.pth', __file__, '.', 'ftp://x/y.pth'),
    between=(['student', 'teacher'], ['student'], 'student', ['student', 'other'],
             [['student'], 'x']),
    region=('valid', ), stage=('mean', ), connector=('conv', ), replaces=('background', ),
    every=('epoch', ), precision=('bf16', 'fp16'), parts=(['neck'], 'backbone,neck', 'no_such'),
    default_scope=('mmseg', 'no_such'), average=('loss', ))
"""Valid and plausible values by key."""

MODEL = retinanet(width=12)
TEACHER = dict(config=dict(default_scope='mmdet', model=MODEL), checkpoint=None)
LOSS = dict(type='mmkd.DISTLoss', on='cls')
FULL = dict(type='mmkd.KDLoss', on='cls', name='loss_a', per_anchor=True, stage=None, region=None,
            connector='auto', alpha=0.5, replaces='background', tau=2., use_sigmoid=True,
            loss_weight=1.)
WHOLE = dict(
    default_scope='mmdet', model=MODEL, data_preprocessor=None,
    train_dataloader=dict(dataset=dict(type='CocoDataset', metainfo=dict(classes=('a', 'b', 'c')))))
RIGHT = dict(
    distill=[
        dict(teacher=TEACHER, distill=[LOSS, dict(type='mmkd.MSELoss', on='neck')]),
        dict(teacher=TEACHER, distill=[FULL]),
        dict(teacher=TEACHER, distill=[dict(LOSS, on=dict(student='cls', teacher='cls'))]),
        dict(distill=[dict(type='mmkd.KDLoss', on='cls', between=['student', 'other'])],
             companions=dict(other=TEACHER)),
    ],
    teacher=[
        dict(teacher=dict(type='mmkd.FrozenTeacher', config=WHOLE, checkpoint=None),
             distill=[LOSS]),
        dict(teacher=dict(TEACHER, view=None, precision=None, fuse=False), distill=[LOSS]),
        dict(teacher=dict(type='mmkd.Committee', members=[TEACHER, TEACHER], weights=[1, 2],
                          average='loss'), distill=[LOSS]),
        dict(teacher=dict(type='mmkd.MeanTeacher', momentum=0.1, warmup=10), distill=[LOSS]),
        dict(teacher=dict(type='mmkd.EarlierSelf', every=10), distill=[LOSS]),
    ],
    model=[
        dict(teacher=TEACHER, distill=[LOSS], inherit='neck', nonfinite_limit=3, companions=None),
        dict(teacher=TEACHER, distill=[LOSS], inherit=dict(parts=['neck'], depth='first')),
        dict(distill=[dict(LOSS, on=dict(student='cls', teacher='other:cls'))], companions=dict(
            other=dict(config=dict(model=retinanet()), shared=['backbone.conv1'],
                       separate_norm=False, loss_weight=0.5))),
    ])


def paths_of(thing: Any, depth: int) -> List[tuple]:
    """Return the paths of all items in nested dicts and lists, down to a depth."""
    items = list(thing.items()) if isinstance(thing, dict) else list(
        enumerate(thing)) if isinstance(thing, list) else []
    return [(key, *rest) for key, value in items if depth
            for rest in [(), *paths_of(value, depth - 1)]]


@st.composite
def mutated(draw: Any, examples: List[dict], depth: int) -> dict:
    """Draw one of the examples and change it at up to two places."""
    entries = copy.deepcopy(draw(st.sampled_from(examples)))
    for _ in range(draw(st.integers(0, 2))):
        paths = paths_of(entries, depth)
        if not paths:
            break
        *path, key = draw(st.sampled_from(paths))
        where = entries
        for step in path:
            where = where[step]
        change = draw(st.sampled_from(['value', 'value', 'like', 'like', 'gone', 'misspelt', 'more',
                                       'wrapped', 'kind']))
        if change == 'like' and key in LIKE:
            where[key] = copy.deepcopy(draw(st.sampled_from(LIKE[key])))
        elif change in ('value', 'like'):
            where[key] = copy.deepcopy(draw(RUBBISH))
        elif change == 'gone':
            del where[key]
        elif change == 'misspelt' and isinstance(where, dict):
            where[f'{key}s'] = where.pop(key)
        elif change == 'more' and isinstance(where, dict):
            name = draw(st.one_of(WORDS, st.sampled_from(list(LIKE))))
            where[name] = copy.deepcopy(draw(RUBBISH))
        elif change == 'wrapped':
            where[key] = draw(st.sampled_from([list, tuple, dict]))([(key, where[key])])
        elif change == 'kind' and isinstance(where[key], dict):
            where[key] = ConfigDict(where[key])
    return entries


@functools.cache
def student() -> nn.Module:
    return build(retinanet())


def prepare(entries: dict) -> None:
    """Build and initialise the model, as a Runner does before the first batch."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        entries.pop('_scope_', None)  # MMEngine reads this key
        MODELS.build({**entries, 'type': 'mmkd.Distiller', 'student': student()}).init_weights()


FUZZED = dict(distill=mutated(RIGHT['distill'], 4), teacher=mutated(RIGHT['teacher'], 5),
              deep=mutated(RIGHT['teacher'][:2], 9), model=mutated(RIGHT['model'], 3))


@pytest.mark.parametrize('part', FUZZED)
def test_changed_entries_work_or_raise_a_helpful_error(part):
    @settings(max_examples=50, derandomize=True, deadline=None, database=None,
              phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck))
    @given(FUZZED[part])
    def check(entries: dict) -> None:
        try:
            prepare(entries)
        except Exception as error:
            assert_helpful(error)

    check()
