"""Mistakes in configs: entries, names, types, and pairs of models that do not fit."""
import copy
import importlib.util
import math
import re
from typing import Any

import pytest
import torch
from catalogue import Parts, Row, must, refused, rows
from conftest import build, detector_config, distiller, retinanet, segmentor, train, two_stage
from mmengine.config import Config, ConfigDict
from mmengine.registry import HOOKS, MODELS, TRANSFORMS, DefaultScope
from torch import nn

DIST = dict(type='mmkd.DISTLoss', on='cls')
KD = dict(type='mmkd.KDLoss', on='cls')
HINT = dict(type='mmkd.MSELoss', on='neck')


def teacher(model: Any = None, **more: Any) -> dict:
    """A teacher with random weights; ``more`` is added to its config."""
    return dict(config=dict(default_scope='mmdet', model=model or retinanet(width=12), **more),
                checkpoint=None)


def entry(says: Parts, error: type = ValueError, **changes: Any) -> Row:
    """A row for DIST on 'cls' with these changes, which must raise the error."""
    shown = ', '.join(f'{key}={value!r}' for key, value in changes.items())
    return Row(f'entry: {shown}', dict(distill=[dict(DIST, **changes)]), error, says)


def model(name: str, says: Parts, error: type = ValueError, **changes: Any) -> Row:
    """A row for a Distiller with these changes, which must raise the error."""
    return Row(f'model: {name}', changes, error, says)


def fine(name: str, check: Any = None, **changes: Any) -> Row:
    return Row(f'fine: {name}', changes, check=check or is_prepared)


def is_prepared(distilled: Any) -> None:
    assert distilled.distillation.is_prepared
    assert all(match.fitting.shapes[0] == match.fitting.shapes[1] or match.connectors
               for match in distilled.terms)


def of_one_channel() -> dict:
    """A model for grayscale images."""
    model = retinanet()
    model['backbone']['in_channels'] = 1
    model['data_preprocessor'].update(mean=[100.], std=[50.], bgr_to_rgb=False)
    return model


def without(thing: dict, *keys: str) -> dict:
    return {key: value for key, value in thing.items() if key not in keys}


POINT = Parts('`on`', 'but got ', "must be a point, such as 'cls', or dict", '; write')
NO_POINT = '; its points are `cls`, `reg`, `boxes`, `neck`, `backbone`'
NO_NETWORK = 'there is no such network; there are `student`, `teacher`'
NO_TYPE = 'mmkd has `mmkd.CWDLoss`, `mmkd.DISTLoss`, `mmkd.KDLoss`, `mmkd.MSELoss`, …; '
ONE_OF_DISTS = 'its arguments are `beta`, `gamma`, `tau`, `use_sigmoid`, `loss_weight`, `sync`'
BETWEEN = 'must be a list of two or more networks, each once'
LISTED = 'must be a list of dicts'

ENTRIES = [
    # --- point ---
    entry(Parts('no point `clss`', 'in the student .RetinaNet.; closest: `cls`', NO_POINT,
                '; write one of these'), on='clss'),
    entry(Parts('no point `nekc`', 'in the student .RetinaNet.; closest: `neck`', NO_POINT,
                '; write one of these'), on='nekc'),
    entry(Parts('an entry of `distill`', "but got {'on': None", 'needs a loss and a point',
                '; write `on=`'), on=None),
    entry(Parts('an entry of `distill`', "but got {'on': None", 'needs a loss and a point',
                '; write `on`, not `onn`'), on=None, onn='cls'),
    *(entry(POINT._replace(found=f'but got {re.escape(repr(on))}'), TypeError, on=on) for on in (
        {}, ['cls'], dict(student='cls'), dict(teacher='cls', pupil='cls'),
        dict(student='cls', teacher=None), 7)),
    entry(Parts('no point ``', 'in the student', NO_POINT, '; write'), on=''),
    entry(Parts('a point of `cls` as teacher', 'there is no such network',
                'there are `student`, `teacher`', '; write one of these before the point'),
          on='cls:'),
    entry(Parts('no point `backbone.conv9`', 'closest: `backbone.conv1`', NO_POINT, '; write'),
          on='backbone.conv9'),
    entry(Parts('a point of `techer` as teacher', 'there is no such network',
                'there are `student`, `teacher`', '; write one of these before the point'),
          on=dict(student='cls', teacher='techer:cls')),
    entry(Parts('a point of `teacher` as student', 'it is not trained', 'there is `student`',
                '; write one of these before the point, for instance `student:cls`$'),
          on=dict(student='teacher:cls', teacher='teacher:cls')),
    entry(Parts('`loss_cls_dist_from_student`', '`cls` of `student` with itself',
                'gives no gradient', '; write another point or network'),
          on=dict(student='cls', teacher='student:cls')),
    entry(Parts('no point `bbox_hed.retina_cls`', 'in the teacher .RetinaNet.; closest: '
                '`bbox_head.retina_cls`', NO_POINT, '; write'),
          on=dict(student='cls', teacher='bbox_hed.retina_cls')),
    entry(Parts('`neck` of the student', 'not known to be class logits', 'its activation is not',
                "; compare 'cls', or write `use_sigmoid=True`"), on='neck'),
    entry(Parts('`reg` of the student', 'contains boxes', 'but DISTLoss compares class '
                                                          'probabilities',
                '; use mmkd.MSELoss'), on='reg'),
    entry(Parts('`bbox_head.loss_cls` of the student', 'was not computed',
                'does not run before the points', '; choose one of them'),
          on='bbox_head.loss_cls', type='mmkd.MSELoss'),
    # --- loss ---
    entry(Parts('a loss of `distill`', 'no type `mmkd.DISTLos`',
                'closest: `mmkd.DISTLoss`', 'write `mmkd.DISTLoss`, or write `@LOSSES.register`'),
          type='mmkd.DISTLos'),
    entry(Parts('a loss of `distill`', 'no type ``', NO_TYPE, 'write one of them'), type=''),
    *(entry(Parts('`type` of a loss of `distill`', f'but got {got}', 'must be a name or a class',
                  '; write one of `mmkd.CWDLoss`'), TypeError, type=value)
      for value, got in ((None, 'None'), (nn.Identity(), r'Identity\(\)'))),
    entry(Parts('a loss of `distill`', 'no type `../x`', NO_TYPE, 'write one of them'),
          type='../x'),
    *(entry(Parts('a loss of `distill`', name, 'is not a DistillLoss', '; use one of mmkd.losses'),
            TypeError, type=kind)
      for kind, name in (('mmdet.FocalLoss', 'FocalLoss'), (nn.Linear, 'Linear'),
                         ('mmkd.FrozenTeacher', 'FrozenTeacher'))),
    entry(Parts('a loss of `distill`: DISTLoss', 'no argument `taw` .closest: `tau`.',
                ONE_OF_DISTS, '; write one of these, or leave it out'), TypeError, taw=4.),
    entry(Parts('a loss of `distill`: DISTLoss', 'no argument `weight` .closest: `loss_weight`.',
                ONE_OF_DISTS, '; write one of these'), TypeError, weight=4.),
    *(entry(Parts('a loss of `distill`: DISTLoss',
                  f'no argument `{wrong}` .closest: `{right}`.', ONE_OF_DISTS,
                  '; write one of these, or leave it out'), TypeError, **{wrong: value})
      for wrong, right, value in (
          ('level', 'levels', [0]), ('weigth', 'loss_weight', 2.), ('conector', 'connector', None),
          ('throuh', 'through', {}), ('per_anchors', 'per_anchor', True),
          ('Alpha', 'alpha', 0.5))),
    entry(Parts('a loss of `distill`: DISTLoss', 'no argument `self`', ONE_OF_DISTS,
                'or leave it out'), TypeError, self=1),
    *(entry(must('tau', 'greater than 0', str(tau)), tau=tau) for tau in (0, -1.)),
    entry(must('tau', 'must be a number', 'True'), TypeError, tau=True),
    entry(must('tau', 'must be finite', 'inf'), tau=math.inf),
    entry(must('loss_weight', 'must be a number', "'1'"), TypeError, loss_weight='1'),
    entry(must('loss_weight', 'must be a number', 'None'), TypeError, loss_weight=None),
    entry(must('loss_weight', r"a number, 'auto' or dict\(share=...\)", "'Auto'"), TypeError,
          loss_weight='Auto'),
    entry(Parts('`loss_weight`', "no key 'shares'", "the keys are 'share', 'iters'", '; write one'),
          loss_weight=dict(shares=0.3)),
    entry(must('loss_weight.share', 'must be greater than 0', '0'), loss_weight=dict(share=0)),
    entry(must('loss_weight.iters', 'must be 1 or more', '0'), loss_weight=dict(iters=0)),
    entry(Parts('`loss_weight`', 'an entry of `distill`', '`alpha` already says',
                '; write a number'),
          loss_weight='auto', alpha=0.5),
    entry(must('loss_weight', 'must be finite', 'nan'), loss_weight=math.nan),
    entry(must('loss_weight', 'must be 0 or more', '-1.0'), loss_weight=-1.),
    entry(must('beta', 'must be a number', "'a'"), TypeError, beta='a'),
    entry(must('beta', 'must be 0 or more', '-1.0'), beta=-1.),
    entry(must('gamma', 'must be 0 or more', '-0.5'), gamma=-0.5),
    entry(must('use_sigmoid', 'must be True, False or None', "'yes'"), TypeError,
          use_sigmoid='yes'),
    entry(must('sync', 'must be True or False', '1'), TypeError, sync=1),
    *(Row(f'entry: {loss["type"]} by softmax over one column', dict(
        student=retinanet(classes=1), teacher=teacher(retinanet(classes=1)),
        distill=[dict(loss, use_sigmoid=False, per_anchor=True)]), ValueError, Parts(
            '`loss_cls_.*` gives no gradient at `cls`', 'the gradient of .*Loss is 0',
            'softmax over 1 column is always '
            '1', 'write `use_sigmoid=True`')) for loss in (DIST, KD)),
    # --- match ---
    *(entry(must('name', "must contain 'loss', because MMEngine", repr(name),
                 "write for instance name='loss_a'"), name=name) for name in ('dist', '', 3)),
    entry(must('per_anchor', 'must be True, False or None', "'x'"), TypeError, per_anchor='x'),
    *(entry(must('connector', r"must be 'auto', 'conv', None or dict\(type=...\)", repr(value)),
            connector=value) for value in ('linear', True)),
    entry(Parts("`connector='conv'`", '`cls` of the student is a prediction',
                'which has no connector', '; leave `connector` out'), connector='conv'),
    *(entry(must('alpha', 'must be between 0 and 1', str(alpha)), alpha=alpha)
      for alpha in (1.5, -0.1)),
    entry(must('alpha', 'must be a number', 'True'), TypeError, alpha=True),
    entry(must('queries', "must be one of 'teacher', 'random'", "'all'"), queries='all'),
    entry(Parts('`queries` and `through`', 'the entry has both', 'cannot be combined',
                '; leave out one of them'), queries='teacher',
          through=dict(student='neck', teacher='neck')),
    entry(must('standardize', 'must be True or False', '1'), TypeError, type='mmkd.KDLoss',
          standardize=1),
    entry(must('replaces', "must be one of 'all', 'background'", "'foreground'"), alpha=0.5,
          replaces='foreground'),
    entry(must('images', "must be one of 'all', 'labelled'", "'some'"), images='some'),
    entry(Parts("`replaces='background'`", 'the entry has none', 'needs `alpha`',
                '; write one, such as `alpha=0.5`'), replaces='background'),
    entry(must('stage', "must be the number of a stage, from 0, or 'mean'", '0.5'), TypeError,
          stage=0.5),
    entry(Parts('`stage=0`', '`cls` has', 'no stages', '; leave `stage` out'), stage=0),
    entry(Parts("`region='valid'`", 'does not contain it', 'requires `label_map`',
                'or leave `region` out'), region='valid'),
    entry(must('region', "must be the name of a region, such as 'valid'", 'True'), TypeError,
          region=True),
    entry(Parts('`region`', 'got `vald`', "must be 'valid'", '; write one of these'),
          region='vald'),
    entry(Parts('`region`', 'no type `mmkd.Foregrund`', 'closest: `mmkd.Foreground`',
                '; write `mmkd.Foreground`'),
          region=dict(type='mmkd.Foregrund')),
    entry(must('inside', 'must be True or False', "'x'"), TypeError,
          region=dict(type='mmkd.Foreground', inside='x')),
    *(entry(must('levels', 'must be a list of numbers of levels, each once', repr(levels)),
            TypeError, levels=levels) for levels in ([], [0, 0], ['0'], 0)),
    entry(Parts('`levels=.9.`', '5 levels', '`cls` has', '; write numbers from 0 to 4'),
          levels=[9]),
    entry(must('also', 'must be a list of names of points', "'reg'"), TypeError, also='reg'),
    entry(must('through', r'must be dict\(student=PATH, teacher=PATH\)', "'bbox_head'"), TypeError,
          through='bbox_head'),
    entry(Parts('`connector`', 'no type `mmkd.Connektor`', 'mmkd has none',
                'write `@mmkd.MODELS.register_module..` above your own class and import'),
          type='mmkd.MSELoss', on='neck', connector=dict(type='mmkd.Connektor')),
    *(entry(must('between', BETWEEN, repr(names), 'write'), between=names)
      for names in (['student'], 'student', ['student', 'student'])),
    entry(Parts('`between`', "but got {.*'name': 'loss_a'}", 'must have one point for all networks',
                '; leave out `name`'), TypeError, between=['student', 'teacher'], name='loss_a'),
    entry(Parts('a point of `teacher` as student', 'it is not trained', 'there is `student`',
                '; write'), between=['student', 'teacher']),
    Row('entry: two of one name', dict(distill=[DIST, DIST]), ValueError, Parts(
        'two entries of `distill`', 'the name `loss_cls_dist`', 'must be unique',
        '; give one of them a `name=`')),
    Row('entry: two alphas', dict(distill=[dict(DIST, alpha=0.5), dict(KD, alpha=0.5)]),
        ValueError, Parts('two entries of `distill`', 'have an `alpha` at `cls` of `student`',
                          'both would scale', '; write `alpha` in only one')),
    Row('entry: keys that are no names', dict(distill=[{1: 2}]), TypeError, Parts(
        'an entry of `distill`', 'but got {1: 2}', 'must be strings', '; write for instance')),
    # --- distill ----------
    model('distill misspelt', Parts('Distiller', 'no argument `distil` .closest: `distill`.',
                                    'its arguments are `student`, `teacher`, `distill`', '; write'),
          TypeError, distil=[DIST]),
    model('distill is a dict', Parts('`distill`', "but got {'type': 'mmkd.DISTLoss'", LISTED,
                                     '; write for instance'), TypeError, distill=DIST),
    model('distill is empty', Parts('`distill`', 'is empty', 'there is nothing to compare',
                                    '; add an entry, for instance'), distill=[]),
    model('distill is a string', must('distill', LISTED, "'mmkd.KDLoss'"), TypeError,
          distill='mmkd.KDLoss'),
    model('distill of strings', must('distill', LISTED, "['mmkd.KDLoss']"), TypeError,
          distill=['mmkd.KDLoss']),
    model('distill is None', must('distill', LISTED, 'None'), TypeError, distill=None),
    model('distill is a generator', must('distill', LISTED, '<list_iterator'), TypeError,
          distill=iter([DIST])),
]

FROZEN = 'its arguments are `config`, `checkpoint`, `trust_checkpoint`'
A_DICT = 'must be a dict'
NO_CONFIG = 'the absolute path of a file'
NO_MODEL = 'the model of the teacher cannot be built'
SCOPE = '; check `model` in the config of the teacher, and that `default_scope`'
UNKNOWN_SCOPE = 'is not in the {} registry;'
SAME_KIND = "compare 'neck' or 'backbone'|write `use_sigmoid"

TEACHERS = [
    model('teacher misspelt', Parts('Distiller', 'no argument `techer` .closest: `teacher`.',
                                    'its arguments are `student`, `teacher`', '; write'), TypeError,
          techer=teacher()),
    model('teacher is a path', must('teacher', A_DICT, "str: 'teacher.py'"), TypeError,
          teacher='teacher.py'),
    model('teacher is a list', must('teacher', A_DICT, '2 in a list', "write several teachers as "
                                    "dict.type='mmkd.Committee'"), TypeError,
          teacher=[teacher(), teacher()]),
    model('teacher is a module', must('teacher', A_DICT, 'Identity'), TypeError,
          teacher=nn.Identity()),
    model('teacher is missing', Parts('`loss_cls_dist`', 'there is no such network',
                                      'there is `student`', '; add a `teacher`'), teacher=None),
    model('teacher without config', Parts('`teacher`: FrozenTeacher', 'needs `config`', FROZEN,
                                          '; write `config=`'), TypeError,
          teacher=dict(checkpoint=None)),
    model('checkpoint misspelt', Parts(
        '`teacher`: FrozenTeacher', 'no argument `checkpont` .closest: `checkpoint`.', FROZEN,
        '; write one of these'), TypeError, teacher=dict(teacher(), checkpont='x')),
    model('checkpoint left out', Parts(
        'the teacher config of a dict', 'has no published', 'checkpoint',
        '; write `checkpoint=` with the path or address'),
        teacher=without(teacher(), 'checkpoint')),
    model('checkpoint is a number', must('teacher.checkpoint', 'must be a path, an address or None',
                                         '3'), TypeError, teacher=dict(teacher(), checkpoint=3)),
    model('type of a teacher misspelt', Parts(
        '`teacher`:', 'no type `mmkd.FrozenTeachr`', 'closest: `mmkd.FrozenTeacher`',
        '; write `mmkd.FrozenTeacher`'),
        teacher=dict(teacher(), type='mmkd.FrozenTeachr')),
    model('a model in place of a teacher', Parts(
        '`teacher`:', 'RetinaNet', 'is not a BaseTeacher', '; use one of mmkd.networks'), TypeError,
        teacher=dict(retinanet(), type='mmdet.RetinaNet')),
    model('a model in place of its config', Parts(
        '`teacher.config`', "its keys are .'type'", 'must contain a `model`',
        'write dict.model=...'), teacher=dict(config=retinanet(), checkpoint=None)),
    model('config is a number', must('teacher.config', 'must be a path or a config', 'int'),
          TypeError, teacher=dict(config=3, checkpoint=None)),
    model('config is the root', Parts('no config `/`', 'looked for /; it is a folder',
                                      NO_CONFIG, '; write'), FileNotFoundError,
          teacher=dict(config='/', checkpoint=None)),
    model('config is a folder', Parts(
        'no config `..`', 'looked for .*, from the '
                          'folder', NO_CONFIG, '; write'),
        FileNotFoundError, teacher=dict(config='..', checkpoint=None)),
    model('config is relative to another folder', Parts(
        'no config `no/such.py`', 'looked for /.*, from the folder /',
        r'\{\{ fileDirname \}\}/teacher.py', '; write the absolute path'),
        FileNotFoundError, teacher=dict(config='no/such.py', checkpoint=None)),
    model('config is no name of a file', Parts('no config `a\0b`', 'looked for', NO_CONFIG,
                                               '; write'),
          FileNotFoundError, teacher=dict(config='a\0b', checkpoint=None)),
    model('config of a package that no name is', Parts(
        'the package `.mmdet`', 'is not installed', "`mmdet::…` for configs of mmdet", 'install'),
        FileNotFoundError, teacher=dict(config='.mmdet::x.py', checkpoint=None)),
    model('config is empty', Parts('`teacher.config`', r'its keys are \[\]', 'must contain a '
                                                                             '`model`',
                                   '; use the config of a whole run'),
          teacher=dict(config={}, checkpoint=None)),
    model('model of the config is empty', Parts(NO_MODEL, 'but got {}', 'contain the key "type"',
                                                SCOPE),
          teacher=dict(config=dict(model={}), checkpoint=None)),
    model('a Distiller without a model for a student', Parts(
        '`student` of a distillation config', 'but got None', 'must be the config of a model',
        '; use a config whose `student`'), TypeError, teacher=teacher(
            dict(type='mmkd.Distiller', student=None), data_preprocessor=dict())),
    model('unregistered model', Parts(NO_MODEL, 'RetinaNetX', UNKNOWN_SCOPE.format('mmdet::model'),
                                      SCOPE[2:]),
          teacher=teacher(dict(retinanet(), type='RetinaNetX'))),
    model('misspelt argument of the model', Parts(
        NO_MODEL, "keyword argument 'nek'", 'RetinaNet.__init__.. got an unexpected', SCOPE),
        teacher=teacher(dict(retinanet(), nek={}))),
    model('channels of neck and backbone differ', Parts(
        'the teacher does not run on a blank image', 'but got 16 channels',
        'expected input.* to have 2 channels', '; check that the parts of its config'),
          teacher=teacher(dict(retinanet(), neck=dict(retinanet()['neck'],
                                                      in_channels=[1, 2, 3, 4])))),
    model('unknown scope', Parts(NO_MODEL, 'RetinaNet', UNKNOWN_SCOPE.format('mmengine::model'),
                                 SCOPE[2:]),
          teacher=dict(config=dict(default_scope='mdet', model=retinanet()), checkpoint=None)),
    model('scope of another package', Parts(
        NO_MODEL, 'RetinaNet', UNKNOWN_SCOPE.format('mmseg::model'), SCOPE[2:]),
          teacher=dict(config=dict(default_scope='mmseg', model=retinanet()), checkpoint=None)),
    model('scope is no word', Parts(NO_MODEL, 'but got 3', 'scope_name should be a string', SCOPE),
          teacher=dict(config=dict(default_scope=3, model=retinanet()), checkpoint=None)),
    *(model(f'classes of the {side}: {classes!r}'[:60], says, error, **(
        dict(teacher=dict(teacher(), classes=classes)) if side == 'teacher' else
        dict(classes=classes)))
      for side, name in (('teacher', 'teacher.classes'), ('student', 'classes'))
      for classes, error, says in (
          (dict(disc=3), TypeError, Parts(
              f'`{name}`', "got 'disc': 3", 'must map each class of the student', '; write for')
           if side == 'teacher' else Parts(
              f'`{name}`', 'but got a dict', 'must be the list of class names', '; write for')),
          ('disc', TypeError, Parts(
              f'`{name}`', "got 'disc'", 'must be a list of class names', '; write')),
          ([], ValueError, Parts(f'`{name}`', 'is empty', 'class names in the order', '; write')),
          (['disc', 'disc', 'cross'], ValueError, Parts(
              f'`{name}`', 'a name twice, disc', "'disc', 'disc', 'cross'", '; give each')),
          (['disc', 'cross'], ValueError, Parts(
              f'the {side}.s head', '`classes` name 2', 'has columns for 3 classes',
              'write one name for each')))),
    model('no network of a family', Parts(
        'points of the teacher', 'a ResNet', 'it supports .*single-stage detectors',
        '; register a family'), teacher=teacher(retinanet()['backbone'])),
    model('a segmentor for a detector', Parts(
        '`cls` of the student', 'by sigmoid.*by softmax', 'their probabilities cannot be compared',
        SAME_KIND), teacher=dict(config=dict(default_scope='mmseg', model=segmentor()),
                                 checkpoint=None)),
    model('a detector of RoIs for one of a grid', Parts(
        '`cls` of the student', 'predicts for a grid', 'of the teacher for RoIs',
        "; compare 'neck' or 'backbone', or use a teacher of the student's model family"),
        teacher=teacher(two_stage())),
    model('softmax for sigmoid', Parts(
        '`cls` of the student', 'by sigmoid.*by softmax', 'their probabilities cannot be compared',
        SAME_KIND), teacher=teacher(retinanet(
            loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False, _delete_=True)))),
    model('another number of classes', Parts(
        '`cls` of the student has', 'for 3 classes, `cls` of the teacher has columns for 2 classes',
        "student's classes are unknown, the teacher's unknown",
        '; use a teacher with the same classes'), teacher=teacher(retinanet(classes=2))),
    model('broken data set of the teacher', Parts(
        'the classes of the teacher', 'AttributeError', 'cannot be read',
        '; check `dataset_meta`'), teacher=teacher(train_dataloader=dict(dataset=3))),
    model('more names than columns', Parts(
        "the teacher's head", r"names 2: \['a', 'b'\]", 'columns for 3 classes', '; use'),
        teacher=teacher(train_dataloader=dict(dataset=dict(metainfo=dict(classes=('a', 'b')))))),
    model('an unreadable preprocessor', Parts(
        'Odd', 'is not known', 'normalises images',
        '; use the same `data_preprocessor`'), teacher=teacher(
            dict(retinanet(), data_preprocessor=type('Odd', (nn.Module, ), {})()))),
    model('unknown precision', must('teacher.precision', "must be 'bf16', 'fp16' or None",
                                    "'int8'"), teacher=dict(teacher(), precision='int8')),
    *(model(f'flag is a word: {name}', must(f'teacher.{name}', 'must be True or False', "'yes'"),
            TypeError, teacher=dict(teacher(), **{name: 'yes'}))
      for name in ('fuse', 'channels_last', 'compile', 'trust_checkpoint')),
    model('a view that nobody packs', must('view', 'must be the name of a view', '3'), TypeError,
          teacher=dict(teacher(), view=3)),
    *(model(f'cache of {size!r} GB', must('teacher.max_gb', expected, repr(size)), error,
            teacher=dict(teacher(), type='mmkd.CachedTeacher', cache='answers', max_gb=size))
      for size, expected, error in (('x', 'must be a number', TypeError),
                                    (-1, 'must be 0 or more', ValueError),
                                    (math.nan, 'must be finite', ValueError))),
    *(model(f'cache: {name}', must(f'teacher.{name}', 'must be one of', "'x'"),
            teacher=dict(teacher(), type='mmkd.CachedTeacher', cache='answers', **{name: 'x'}))
      for name in ('stored_as', 'on_miss')),
    model('committee of nobody', must('members', 'must be a list of teachers', '[]', 'write'),
          teacher=dict(type='mmkd.Committee', members=[])),
    model('committee of paths', Parts('member 0 of the committee', "but got str: 'a.py'", A_DICT,
                                      '; write'), TypeError,
          teacher=dict(type='mmkd.Committee', members=['a.py'])),
    model('committee in a committee', Parts(
        'member 0 of the committee', 'is a Committee', 'must be a teacher', '; write its members'),
        TypeError, teacher=dict(type='mmkd.Committee', members=[
            dict(type='mmkd.Committee', members=[teacher()])])),
    model('weights of a committee', must('weights', 'must be 1 numbers of 0 or more',
                                         '[1.0, 2.0]'),
          teacher=dict(type='mmkd.Committee', members=[teacher()], weights=[1, 2])),
    model('weights that are a number', must('weights', 'must be a list of numbers', '1'), TypeError,
          teacher=dict(type='mmkd.Committee', members=[teacher()], weights=1)),
    model('average of a committee', must('average', "must be one of 'probability', 'loss'",
                                         "'mean'"),
          teacher=dict(type='mmkd.Committee', members=[teacher()], average='mean')),
    model('cross-fitting without a folder', must('folder', 'must be the path of a folder', '3'),
          TypeError, teacher=dict(type='mmkd.CrossFit', folder=3)),
    model('cross-fitting by one teacher', must('teachers', 'must be a list of dict', "'a.pth'"),
          TypeError, teacher=dict(type='mmkd.CrossFit', folder='f', teachers='a.pth')),
    model('unseen images', must('unseen', "must be one of 'one', 'mean'", "'all'"),
          teacher=dict(type='mmkd.CrossFit', folder='f', unseen='all')),
    model('average momentum', must('momentum', 'between 0 and 1', '1.0'), teacher=dict(
        type='mmkd.MeanTeacher', momentum=1.)),
    model('warm-up of nothing', must('warmup', 'must be a number of steps, 1 or more', '0'),
          teacher=dict(type='mmkd.MeanTeacher', warmup=0)),
    model('earlier self of nothing', must('every', "must be 'epoch' or a number of iterations",
                                          '0'), teacher=dict(type='mmkd.EarlierSelf', every=0)),
]

MODEL = 'such as `_base_.model`'
NAMES = "without 'loss', because MMEngine adds up"
PARTNER = [dict(DIST, on=dict(student='cls', teacher='other:cls')), KD]
ITSELF = dict(DIST, on=dict(student='cls', teacher='student:cls'))
MERGED = [
    # MMEngine merges dicts with those of the base config unless they contain `_delete_`.
    model('merged with the model of the base', Parts(
        'Distiller', 'has no arguments `.*` and [0-9] more', 'which a plain model has',
        'write dict\\(_delete_=True, type=.mmkd.Distiller'), TypeError,
          **without(retinanet(), 'type')),
    model('merged with a model of one part', Parts(
        'Distiller', 'has no argument `backbone`', 'which a plain model has',
        'write dict\\(_delete_=True'), TypeError, backbone=retinanet()['backbone']),
    model('teacher merged with a frozen one', Parts(
        '`teacher`: MeanTeacher', 'has no arguments `config`, `checkpoint`',
        'which mmkd.FrozenTeacher has', 'write dict\\(_delete_=True'), TypeError,
          teacher=dict(teacher(), type='mmkd.MeanTeacher')),
    model('teacher merged with an average', Parts(
        'FrozenTeacher', 'has no argument `momentum`', 'which mmkd.MeanTeacher has',
        'write dict\\(_delete_=True'), TypeError, teacher=dict(teacher(), momentum=0.1)),
    model('companion merged with a frozen one', Parts(
        'companion `other`: EarlierSelf', 'has no arguments', 'which mmkd.* has',
        'write dict\\(_delete_=True'), TypeError, companions=dict(other=dict(
            teacher(), type='mmkd.EarlierSelf'))),
]
OWN_HOOKS = [
    model('hooks are a dict', Parts(
        '`hooks`', "got {'type': 'EMAHook'}", 'must be a list of hooks', '; write'),
          TypeError, hooks=dict(type='EMAHook')),
    model('hook is a word', Parts(
        'hook 0 of `hooks`', "got str: 'EMAHook'", 'must be a dict', '; write'), TypeError,
          hooks=['EMAHook']),
    model('hook misspelt', Parts(
        'hook 1 of `hooks`', 'no type `mmkd.ReseedHok`', 'closest: `mmkd.ReseedHook`',
        'mmkd.HOOKS'), hooks=[
            dict(type='mmkd.ReseedHook'), dict(type='mmkd.ReseedHok')]),
    model('hook of no package', Parts(
        'hook 0 of `hooks`', 'no type `no.such.Hook`', 'mmkd has', 'mmkd.HOOKS'),
          hooks=[dict(type='no.such.Hook')]),
    model('hook without type', Parts(
        '`type` of hook 0 of `hooks`', 'got None', 'must be a name', '; write one of'), TypeError,
          hooks=[dict(momentum=0.1)]),
    model('loss for a hook', Parts(
        'hook 0 of `hooks`', 'DISTLoss', 'is not a Hook', '; use'), TypeError, hooks=[DIST]),
    model('argument of a hook misspelt', Parts(
        'hook 0 of `hooks`: TeacherEvalHook', 'no argument `metrc` .closest: `metric`.',
        'its arguments are `metric`', '; write'), TypeError, hooks=[
            dict(type='mmkd.TeacherEvalHook', metrc='x')]),
    model('argument that a hook refuses', Parts(
        'hook 0 of `hooks`', 'got begin_iter: -1', 'cannot be built', 'check'),
          hooks=[dict(type='EMAHook', begin_iter=-1)]),
    model('priority of a hook', Parts(
        'hook 0 of `hooks`', 'HIHG', 'cannot be built', 'check'), hooks=[
            dict(type='EMAHook', priority='HIHG')]),
]
ALONE = [
    # The student is its own teacher, so the message must not mention a teacher.
    model('stage of a student that has none', Parts(
        '`stage=9`', '`cls` has', 'no stages(?!.*no teacher beside)', '; leave `stage` out'),
          teacher=None, distill=[dict(ITSELF, stage=9)]),
    model('stage of a student that has three', Parts(
        '`stage=9`', '`cls` has', 'stages 0 to 2(?!.*no teacher beside)', '; choose one'),
          teacher=None, student=ConfigDict(two_stage('cascade-rcnn')),
          distill=[dict(ITSELF, stage=9)]),
]

STUDENTS = [
    model('student is a path', must('student', MODEL, "str: 'student.py'"), TypeError,
          student='student.py'),
    model('student is None', must('student', MODEL, 'NoneType: None'), TypeError, student=None),
    model('student is a list', must('student', MODEL, "list: [{'type': 'RetinaNet'"), TypeError,
          student=[retinanet()]),
    model('student without type', Parts('`student`', r"its keys are \['data_preprocessor'", MODEL,
                                        '; use the dict of the model, which has a '
                                        '`type`'), TypeError,
          student=without(retinanet(), 'type')),
    model('student is a whole config', Parts('`student`', r"its keys are \['model'\]", MODEL,
                                             '; use the dict of the model'), TypeError,
          student=dict(model=retinanet())),
    model('student unregistered', Parts(
        'the model of the student cannot be built', 'RetinaNetX',
        UNKNOWN_SCOPE.format('mmdet::model'), 'check `model` in the config of the student'),
          student=dict(retinanet(), type='RetinaNetX')),
    *(model(f'student of a package that is not there: {kind}', Parts(
        'the model of the student cannot be built', found, f'`{package}` cannot be imported',
        'if its name is spelt right, install the package'), student=dict(retinanet(), backbone=dict(
            type=kind, model_name='resnet18')))
      for kind, found, package in (
          ('no_such.ConvNeXt', 'no_such.ConvNeXt is not in the', 'no_such'),
          *([] if importlib.util.find_spec('timm') else [
              ('mmseg.TIMMBackbone', 'timm is not installed', 'timm')]))),
    model('student is a Distiller', Parts('`student`', 'is a mmkd.Distiller already',
                                          'its own `student`', '; move its `distill`'), TypeError,
          student=distiller(retinanet(), teacher())),
    model('student of no family', Parts(
        'points of the student', 'a ResNet', 'it supports .*single-stage detectors',
        '; register a family'),
          student=retinanet()['backbone']),
    *(model(f'companion called {name!r}', Parts(
        'name of a companion', f'but got {name!r}', NAMES, '; write for instance'),
            companions={name: teacher()}) for name in ('student', 'teacher', 'my partner')),
    model('companions in a list', Parts('`companions`', r"but got \[{'config'",
                                        'must be a dict of networks by name', '; give each a name'),
          TypeError, companions=[teacher()]),
    model('companion of whom nothing is asked', Parts(
        '`other`', 'is not used', 'no entry of `distill` contains it',
        '; compare one of its points'), companions=dict(other=teacher())),
    model('companion with a number for a config', must(
        'partner.config', 'must be a path or a config', 'int'), TypeError,
          companions=dict(other=dict(config=3))),
    model('partner shares what is not alike', Parts(
        '`shared` contains `backbone`', 'a ResNet with `conv1.weight` of 12x3x7x7 in the partner '
                                        'and '
        'a ResNet with `conv1.weight` of 8x3x7x7 in the student', 'of the same type and shapes',
        '; write modules'),
          companions=dict(other=dict(teacher(), shared=['backbone'])), distill=PARTNER),
    model('partner shares what is not there', Parts(
        '`shared` contains `backbon`', 'the partner .RetinaNet.', 'has no such module',
        '; write a path inside of data_preprocessor, backbone'),
          companions=dict(other=dict(teacher(), shared=['backbon'])), distill=PARTNER),
    model('partner shares a word', must('shared', 'must be a list of dotted paths', "'backbone'"),
          TypeError, companions=dict(other=dict(teacher(), shared='backbone')), distill=PARTNER),
    model('partner with norms of a kind', must('separate_norm', 'must be True or False', "'x'"),
          TypeError, companions=dict(other=dict(teacher(), separate_norm='x')), distill=PARTNER),
    model('partner with norms of nothing', Parts(
        '`separate_norm=True`', 'there are none', 'needs `shared` modules', '; write them'),
        companions=dict(other=dict(teacher(), separate_norm=True)), distill=PARTNER),
    model('inherit a part that is not there', Parts(
        '`inherit` contains `nek`', 'the student has no such part',
        'its parts are data_preprocessor, backbone, neck', '; write one of these'), inherit='nek'),
    model('inherit a number', must('inherit', 'must be a string of parts of the '
                                              'model', '3'), TypeError,
          inherit=3),
    model('inherit by a strange depth', Parts(
        '`depth` of `inherit`', "but got 'middle'", "must be one of 'spread'", '; write'),
          inherit=dict(parts='neck', depth='middle')),
    model('teacher of three channels over a student of one', Parts(
        'images of the student', 'have 1 channel', 'those of the teacher 3',
        "write `?teacher=dict.*channels='repeat'"), student=of_one_channel()),
    model('teacher of one channel over a student of three', Parts(
        'images of the student', 'have 3 channels', 'those of the teacher 1',
        'use a teacher of 3'), teacher=teacher(of_one_channel())),
    model('channels repeated where there are three', Parts(
        "`channels='repeat'`", '3 channels', 'is for a student of 1', 'leave'),
          teacher=dict(teacher(), channels='repeat')),
    model('prompts of a teacher without text', Parts(
        '`teacher.prompts`', 'is for detectors with a text prompt', 'the teacher is a RetinaNet',
        'leave it out'), teacher=dict(teacher(), prompts=['a', 'b', 'c'])),
    model('channels of an unknown kind', must(
        'teacher.channels', "must be 'repeat' or None", "['repeat']"),
          teacher=dict(teacher(), channels=['repeat'])),
    model('preprocessor of other channels', Parts(
        '`mean` in the `data_preprocessor` of the student', 'has 3 values',
        'its first layer takes images of 1 channel', '; write one value'),
          student=dict(of_one_channel(), data_preprocessor=retinanet()['data_preprocessor'])),
    model('inherit misspelt', Parts('`inherit` cannot be read', "argument 'part'",
                                    'its keys are `parts`, `depth` and '
                                    '`width`', '; write'), TypeError,
          inherit=dict(part='neck')),
    model('inherit what has other shapes', Parts(
        'can inherit nothing of `backbone.conv1`', r'`backbone.conv1.weight` \(8, 3, 7, 7\)',
        'no tensor of the teacher has the name and shape', '; leave the part out'),
        inherit='backbone.conv1'),
    model('inherit of a mean teacher', Parts(
        '`inherit`', '`teacher` is a MeanTeacher', 'copies weights of a trained `teacher`',
        '; leave out `inherit`'), inherit='neck', teacher=dict(type='mmkd.MeanTeacher')),
    *(model(f'nonfinite_limit {limit}', must('nonfinite_limit', 'a whole number of 1 or more',
                                             str(limit)), nonfinite_limit=limit)
      for limit in (0, 1.5)),
    model('unlabelled is a number', must('unlabelled', 'must be a folder of images or a dict',
                                         '3'), TypeError, unlabelled=3),
    model('unlabelled.suffixes is a number', must(
        'unlabelled.suffixes', 'a list of endings of files', '3'), TypeError,
          unlabelled=dict(folder='x', suffixes=3)),
    model('classes of the teacher in a .txt file', must(
        'teacher.classes', "a mapping from the student's classes", "'map.txt'"), TypeError,
          teacher=dict(teacher(), classes='map.txt')),
    model('score_thr in per cent', must('score_thr', 'from 0 to 1', '50'), unlabelled='x',
          distill=[dict(type='mmkd.PseudoLabels', score_thr=50)]),
    model('preprocessor that is none', Parts(
        'the model of the student cannot be built', "but got <class 'int'>",
        'data_preprocessor should be a `dict`', '; check `model`'),
          student=without(retinanet(), 'data_preprocessor'), data_preprocessor=3),
]

FINE = [
    fine('entries as ConfigDict', distill=[ConfigDict(DIST)], teacher=ConfigDict(teacher())),
    fine('entries in a tuple', distill=(DIST, KD)),
    fine('a class for a type', distill=[dict(KD, type=__import__('mmkd').KDLoss)]),
    fine('a type without its scope', distill=[dict(KD, type='KDLoss')]),
    fine('weight 0', distill=[dict(DIST, loss_weight=0.)]),
    fine('alpha 0 and 1', distill=[dict(DIST, alpha=0)]),
    fine('a Config for a config', teacher=dict(config=Config(teacher()['config']),
                                               checkpoint=None)),
    fine('teacher of another width, by a connector',
         teacher=teacher(retinanet(width=12, channels=24)), distill=[DIST, HINT]),
    fine('one channel, repeated', student=of_one_channel(),
         teacher=dict(teacher(), channels='repeat')),
    fine('one class', student=retinanet(classes=1), teacher=teacher(retinanet(classes=1))),
    fine('a Distiller for a teacher: its student', teacher=teacher(
        distiller(retinanet(width=12), teacher()))),
    fine('a path inside of a point that both have', distill=[
        dict(DIST, on='bbox_head.retina_cls')]),
    fine('a preprocessor beside and inside of the student', data_preprocessor=dict(
        type='DetDataPreprocessor')),
]


def distilled(changes: dict) -> Any:
    """Build and initialise DIST on 'cls' with changes, as a Runner does."""
    config = dict(distiller(retinanet(), teacher(), DIST), **changes)
    with DefaultScope.overwrite_default_scope('mmdet'):
        built = MODELS.build(config)
        built.init_weights()
    return built


@rows(ENTRIES, TEACHERS, STUDENTS, MERGED, OWN_HOOKS, ALONE)
def test_mistake_is_named_before_training(row):
    with refused(row):
        distilled(row.input)


@rows(FINE)
def test_unusual_valid_entries_are_accepted(row):
    row.check(distilled(row.input))


# --- hooks ----------------------------------------------------------------------------------------

HOOK = dict(type='mmkd.DistillHook', teacher=teacher(), distill=[DIST])
SCHEDULE = 'mmkd.DistillScheduleHook'


def schedule(name: str, says: Parts, entry: Any, error: type = ValueError) -> Row:
    return Row(f'schedule: {name}', dict(type=SCHEDULE, schedules=dict(loss_cls_dist=entry)), error,
               says)


SCHEDULES = "'constant', 'linear', 'cosine', 'step', 'warmup', 'stop'"
BY_NAME = "a dict of schedules by the name of the term"
STEPS = 'must be a list of steps, for instance'


HOOKS_ALONE = [
    Row('hook: misspelt', dict(HOOK, techer=teacher()), TypeError, Parts(
        'DistillHook', 'no argument `techer` .closest: '
                       '`teacher`.', 'its arguments are `teacher`, `distill`',
        '; write one of these')),
    Row('hook: without teacher', without(HOOK, 'teacher'), TypeError, Parts(
        'DistillHook', 'needs `teacher`', 'its arguments are `teacher`, '
                                          '`distill`', '; write `teacher=`')),
    Row('reseed: a seed of its own', dict(type='mmkd.ReseedHook', seed=3), TypeError, Parts(
        'ReseedHook', 'has no argument `seed`', 'its arguments are none', '; leave it out')),
    Row('schedule: misspelt', dict(type=SCHEDULE, schedule={}), TypeError, Parts(
        'DistillScheduleHook', 'no argument `schedule` .closest: `schedules`.',
        'its arguments are `schedules`', '; write `schedules=`')),
    Row('schedule: none', dict(type=SCHEDULE, schedules={}), TypeError, must(
        'schedules', BY_NAME, '{}')),
    Row('schedule: under a number', dict(type=SCHEDULE, schedules={3: dict(type='constant')}),
        TypeError, must('schedules', BY_NAME, "{3: {'type': 'constant'}}")),
    Row('teacher eval: misspelt', dict(type='mmkd.TeacherEvalHook', metrics='x'), TypeError, Parts(
        'TeacherEvalHook', 'no argument `metrics` .closest: '
                           '`metric`.', 'its arguments are `metric`',
        '; write')),
    Row('teacher eval: a list', dict(type='mmkd.TeacherEvalHook', metric=['x']), TypeError, must(
        'metric', 'must be the name of a metric', "['x']")),
    Row('gradient share: misspelt', dict(type='mmkd.GradientShareHook', every=5), TypeError, Parts(
        'GradientShareHook', 'no argument `every`', 'its arguments are `interval`',
        '; write')),
    Row('gradient share: interval of 0', dict(type='mmkd.GradientShareHook', interval=0),
        ValueError, must('interval', 'must be 1 or more', '0')),
    Row('gradient share: interval of a fraction', dict(
        type='mmkd.GradientShareHook', interval=0.5), TypeError,
        must('interval', 'must be a whole number', '0.5')),
    schedule('unknown type', Parts('no schedule', "of type 'linaer'", SCHEDULES, '; write'),
             dict(type='linaer')),
    schedule('without type', must('loss_cls_dist', 'must be a dict with a `type`',
                                  "{'begin': 3}"), dict(begin=3), TypeError),
    schedule('factor of a word', must('start_factor', 'must be a number', "'a'"),
             dict(type='linear', start_factor='a'), TypeError),
    schedule('factor below 0', must('end_factor', 'must be 0 or more', '-1'),
             dict(type='linear', end_factor=-1)),
    schedule('ends before it begins', Parts(
        'a schedule', 'but got begin=3 and end=3', 'must end after it begins',
        '; write a later `end`'), dict(type='linear', begin=3, end=3)),
    schedule('argument of another type', Parts(
        "the schedule of `loss_cls_dist`", 'has no argument `gamma`',
        'it has `start_factor`, `end_factor`', '; write one of these'),
        dict(type='linear', gamma=1), TypeError),
    schedule('milestones missing', Parts("a schedule of type 'step'", 'it is missing',
                                         'needs `milestones`', '; write `milestones=`'),
             dict(type='step')),
    schedule('milestones are a number', must('milestones', STEPS, '3'),
             dict(type='step', milestones=3), TypeError),
    schedule('milestones are a word', must('milestones', STEPS, "'12'"),
             dict(type='step', milestones='12'), TypeError),
    schedule('milestones of words', must('milestones', 'must be a number', "'12'"), dict(
        type='step', milestones=['12']), TypeError),
    schedule('type is a list', Parts('no schedule', r"of type \['linear'\]", SCHEDULES,
                                     '; write'), dict(type=['linear'])),
    schedule('by_epoch is a word', must('by_epoch', 'must be True or False', "'no'"),
             dict(type='linear', by_epoch='no'), TypeError),
]


PIPELINES = [
    Row('replay: misspelt', dict(type='mmkd.Replay', transfroms=[]), TypeError, Parts(
        'Replay', 'no argument `transfroms` .closest: '
                  '`transforms`.', 'its arguments are `transforms`',
        '; write `transforms=`')),
    Row('replay: nothing', dict(type='mmkd.Replay', transforms=[]), TypeError, must(
        'transforms', 'must be a list of transforms', '[]', 'write transforms=')),
    *(Row(f'replay: {name} {value}', dict(type='mmkd.Replay', transforms=[dict(type='Resize')],
                                          **{name: value}), ValueError,
          must(name, f'must be a whole number of {least} or more', str(value)))
      for name, value, least in (('variants', 0.5, 1), ('seed', -1, 0))),
    Row('views: without pack', dict(type='mmkd.PackViews', views=dict(weak=[])), TypeError, Parts(
        'PackViews', 'needs `pack`', 'its arguments are `pack`, `views`', '; write `pack=`')),
    Row('views: a list', dict(type='mmkd.PackViews', pack=dict(type='PackDetInputs'), views=[[]]),
        TypeError, must('views', 'must be a dict of lists', '[[]]', 'give each view a name')),
]


@rows(PIPELINES)
def test_mistake_in_a_pipeline(row):
    with refused(row), DefaultScope.overwrite_default_scope('mmdet'):
        TRANSFORMS.build(copy.deepcopy(row.input))


@rows(HOOKS_ALONE)
def test_mistake_in_a_hook(row):
    with refused(row):
        HOOKS.build(copy.deepcopy(row.input))


IN_A_RUN = [
    Row('run: hook on a Distiller', dict(
        model=distiller(retinanet(), teacher()), custom_hooks=[HOOK]), TypeError, Parts(
            'the model', 'is a mmkd.Distiller already', 'and remove mmkd.DistillHook from',
            '; move the entries of `distill`')),
    Row('run: two hooks', dict(custom_hooks=[HOOK, HOOK]), ValueError, Parts(
        'in `custom_hooks`', 'there are two mmkd.DistillHook', 'a model can have only one',
        '; put all entries')),
    Row('run: schedule of a term that is not there', dict(custom_hooks=[HOOK, dict(
        type=SCHEDULE, schedules=dict(loss_x=dict(type='constant')))]), ValueError, Parts(
            'mmkd.DistillScheduleHook', 'a schedule for `loss_x`',
            'the terms are `loss_cls_dist`', '; write one of these')),
    Row('run: two schedules', dict(custom_hooks=[HOOK] + [dict(
        type=SCHEDULE, schedules={'*': dict(type='constant')})] * 2), ValueError, Parts(
            'in `hooks` and `custom_hooks`', 'there are two mmkd.DistillScheduleHook',
            'the last would override',
            '; put all schedules into one')),
    Row('run: schedule without distillation', dict(custom_hooks=[dict(
        type=SCHEDULE, schedules={'*': dict(type='constant')})]), ValueError, Parts(
            'mmkd.DistillScheduleHook', 'a schedule for `\\*`', 'the run has no distillation',
            '; remove the hook')),
    Row('run: connector from a hook', dict(custom_hooks=[dict(HOOK, distill=[HINT], teacher=teacher(
        retinanet(channels=24)))]), ValueError, Parts(
            'loss_neck_mse', 'needs connectors', 'a hook cannot train or save it',
            '; use the model')),
    Row('run: wrong entry in a hook', dict(custom_hooks=[dict(HOOK, distill=[])]), ValueError,
        Parts('`distill`', 'is empty', 'there is nothing to compare', '; add an entry')),
    Row('run: teacher knows other classes', dict(model=distiller(retinanet(), teacher(
        train_dataloader=dict(dataset=dict(metainfo=dict(classes=('a', 'b', 'c'))))))),
        ValueError, Parts("the teacher lacks 3 of the student's classes",
                          'disc, square, cross', "'a', 'b', 'c'",
                          '; use a teacher trained on these classes')),
    Row('run: teacher has a class twice', dict(model=distiller(retinanet(), teacher(
        train_dataloader=dict(dataset=dict(metainfo=dict(classes=('disc', 'disc', 'cross'))))))),
        ValueError, Parts('the teacher has', 'of the same name, disc', 'a unique name', '; give')),
    Row('run: name of a loss of the student', dict(model=distiller(retinanet(), teacher(), dict(
        DIST, name='loss_bbox'))), ValueError, Parts(
            'the student', 'has a loss `loss_bbox`', 'as well',
            '; give the entry another `name=`')),
    Row('run: an epoch-wise teacher without epochs', dict(
        model=distiller(retinanet(), dict(type='mmkd.EarlierSelf')),
        train_cfg=dict(_delete_=True, type='IterBasedTrainLoop', max_iters=1)), ValueError, Parts(
            '`teacher`', 'training is by iterations', 'changes after every epoch',
            '; set `every=`')),
    Row('run: a cache that no system can name', dict(model=distiller(retinanet(), dict(
        teacher(), type='mmkd.CachedTeacher', cache='a\0b'))), ValueError, Parts(
            r"'a\\x00b'", 'embedded null byte', 'is not a valid folder name',
            '; use another one')),
    Row('run: a frozen point', dict(model=distiller(dict(retinanet(), backbone=dict(
        retinanet()['backbone'], frozen_stages=4)), teacher(), dict(HINT, on='backbone'))),
        ValueError, Parts('`backbone` of the student', 'has no gradient', 'it is frozen',
                          '; choose a point outside')),
]


@rows(IN_A_RUN)
def test_mistake_that_is_found_in_a_run(row, shapes, tmp_path):
    """The error is raised before the first step of the optimizer."""
    config = detector_config(shapes, retinanet(), str(tmp_path))
    if 'model' in row.input:
        config.model = row.input['model']
    config.merge_from_dict(without(row.input, 'model'))
    steps = []
    with pytest.MonkeyPatch.context() as patch, refused(row):
        patch.setattr(torch.optim.SGD, 'step', lambda *args, **kwargs: steps.append(1))
        train(config)
    assert not steps


def test_classes_in_another_order_are_reordered(shapes, tmp_path):
    names = ('cross', 'disc', 'square')
    runner, losses = train(detector_config(shapes, distiller(retinanet(), teacher(
        train_dataloader=dict(dataset=dict(metainfo=dict(classes=names))))), str(tmp_path)))
    assert runner.model.terms[0].alignment.columns.order == [1, 2, 0]
    assert all(math.isfinite(value) for one in losses for value in one.values())


def test_testing_ignores_an_invalid_teacher(shapes, tmp_path):
    from mmengine.runner import Runner
    wrong = dict(config='no_such.py', checkpoint='no_such.pth')
    config = detector_config(shapes, distiller(retinanet(), wrong), str(tmp_path))
    assert 'coco/bbox_mAP' in Runner.from_cfg(config).test()
    config = detector_config(shapes, retinanet(), str(tmp_path / 'hook'), custom_hooks=[
        dict(HOOK, teacher=wrong)])
    assert 'coco/bbox_mAP' in Runner.from_cfg(config).test()


def test_teacher_that_equals_the_student_has_no_loss(shapes, tmp_path):
    """Teacher and student have the same config and the same checkpoint, so the terms are 0."""
    model = build(retinanet())
    model.init_weights()
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'same.pth')
    same = dict(config=dict(default_scope='mmdet', model=retinanet()),
                checkpoint=str(tmp_path / 'same.pth'))
    student = dict(retinanet(), backbone=dict(retinanet()['backbone'], norm_eval=True))
    _, losses = train(detector_config(
        shapes, distiller(student, same, KD, dict(HINT)), str(tmp_path / 'run'),
        load_from=str(tmp_path / 'same.pth')))
    assert losses[0]['loss_cls_kd'] == pytest.approx(0, abs=1e-6)
    assert losses[0]['loss_neck_mse'] == pytest.approx(0, abs=1e-10)
    assert all(math.isfinite(value) for one in losses for value in one.values())


def own_config(folder: Any, **checkpoint: Any) -> Config:
    """Return a distillation config whose teacher has the same file as its config."""
    path = str(folder / 'own.py')
    config = Config(dict(default_scope='mmdet', model=distiller(retinanet(), dict(
        config=path, **checkpoint), DIST, HINT)))
    config.dump(path)
    return Config.fromfile(path)


def test_distillation_config_that_is_its_own_teacher(tmp_path):
    """The student of the config becomes the teacher. Without a checkpoint, the message asks for
    one.
    """
    model = build(retinanet())
    model.init_weights()
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'same.pth')
    built = build(own_config(tmp_path, checkpoint=str(tmp_path / 'same.pth')).model)
    built.init_weights()
    for name, value in built.teacher.model.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name

    with refused(Row('', None, ValueError, Parts(
            'own.py`', 'has no published', 'checkpoint;', 'write `checkpoint=`'))):
        build(own_config(tmp_path).model).init_weights()
