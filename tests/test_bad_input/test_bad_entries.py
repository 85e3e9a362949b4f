"""Mistakes in what a config says: entries, names, types, pairs that do not fit."""
import copy
import math
from typing import Any

import pytest
import torch
from catalogue import Row, refused, rows
from conftest import build, detector_config, distiller, retinanet, segmentor, train, two_stage
from mmengine.config import Config, ConfigDict
from mmengine.registry import HOOKS, MODELS, TRANSFORMS, DefaultScope
from torch import nn

DIST = dict(type='mmkd.DISTLoss', on='cls')
KD = dict(type='mmkd.KDLoss', on='cls')
HINT = dict(type='mmkd.MSELoss', on='neck')


def teacher(model: Any = None, **more: Any) -> dict:
    """A teacher of random weights; ``more`` goes into the config beside its model."""
    return dict(config=dict(default_scope='mmdet', model=model or retinanet(width=12), **more),
                checkpoint=None)


def entry(says: str, error: type = ValueError, **changes: Any) -> Row:
    """DIST on 'cls' with these changes is refused."""
    shown = ', '.join(f'{key}={value!r}' for key, value in changes.items())
    return Row(f'entry: {shown}', dict(distill=[dict(DIST, **changes)]), error, says)


def model(name: str, says: str, error: type = ValueError, **changes: Any) -> Row:
    """A Distiller with these changes is refused."""
    return Row(f'model: {name}', changes, error, says)


def fine(name: str, check: Any = None, **changes: Any) -> Row:
    return Row(f'fine: {name}', changes, check=check or is_prepared)


def is_prepared(distilled: Any) -> None:
    assert distilled.distillation.is_prepared
    assert all(match.shapes[0] == match.shapes[1] or match.connectors
               for match in distilled.matches)


def of_one_channel() -> dict:
    """A model for grayscale images."""
    model = retinanet()
    model['backbone']['in_channels'] = 1
    model['data_preprocessor'].update(mean=[100.], std=[50.], bgr_to_rgb=False)
    return model


def without(thing: dict, *keys: str) -> dict:
    return {key: value for key, value in thing.items() if key not in keys}


ENTRIES = [
    # --- the point
    entry('no point `clss` in the student.*closest: `cls`', on='clss'),
    entry('in the student.*closest: `neck`; points of it', on='nekc'),
    entry('needs a loss and a point, for instance', on=None),
    entry("`on` must be a point.*but got \\{\\}", TypeError, on={}),
    entry("`on` must be a point.*but got \\['cls'\\]", TypeError, on=['cls']),
    entry('`on` must be a point', TypeError, on=dict(student='cls')),
    entry('`on` must be a point', TypeError, on=dict(teacher='cls', pupil='cls')),
    entry('`on` must be a point', TypeError, on=dict(student='cls', teacher=None)),
    entry('`on` must be a point', TypeError, on=7),
    entry('no point `` in the student.*points of it are', on=''),
    entry('a point of `cls` as teacher, but there is no such network; there are', on='cls:'),
    entry('`backbone.conv9`.*closest.*backbone.conv1', on='backbone.conv9'),
    entry('compares a point of `techer` as teacher, but there is no such network.*`teacher`',
          on=dict(student='cls', teacher='techer:cls')),
    entry('as student, but it is not trained; there is `student`',
          on=dict(student='teacher:cls', teacher='teacher:cls')),
    entry('with itself, from which there is nothing to learn; name another',
          on=dict(student='cls', teacher='student:cls')),
    entry('no point `bbox_hed.retina_cls` in the teacher',
          on=dict(student='cls', teacher='bbox_hed.retina_cls')),
    entry('`neck` of the student is not known to be class logits.*write `use_sigmoid', on='neck'),
    entry('`reg` of the student is boxes.*mmkd.MSELoss', on='reg'),
    entry('was not passed.*choose', on='bbox_head.loss_cls', type='mmkd.MSELoss'),
    # --- the loss
    entry('no type `mmkd.DISTLos`.*closest: `mmkd.DISTLoss`', type='mmkd.DISTLos'),
    entry('no type ``', type=''),
    entry('must be a name or a class', TypeError, type=None),
    entry('no type `../x`', type='../x'),
    entry('must be a name or a class', TypeError, type=nn.Identity()),
    entry('FocalLoss is no DistillLoss', TypeError, type='mmdet.FocalLoss'),
    entry('Linear is no DistillLoss', TypeError, type=nn.Linear),
    entry('FrozenTeacher is no DistillLoss', TypeError, type='mmkd.FrozenTeacher'),
    entry('has no argument `taw` \\(closest: `tau`\\).*it takes', TypeError, taw=4.),
    entry('has no argument `weight`.*closest: `loss_weight`', TypeError, weight=4.),
    entry('has no argument `self`', TypeError, self=1),
    entry('`tau` must be greater than 0', tau=0),
    entry('`tau` must be greater than 0', tau=-1.),
    entry('`tau` must be a number, but got True', TypeError, tau=True),
    entry('`tau` must be finite', tau=math.inf),
    entry("`loss_weight` must be a number, but got '1'", TypeError, loss_weight='1'),
    entry('`loss_weight` must be a number, but got None', TypeError, loss_weight=None),
    entry('`loss_weight` must be finite', loss_weight=math.nan),
    entry('`loss_weight` must be 0 or more', loss_weight=-1.),
    entry("`beta` must be a number", TypeError, beta='a'),
    entry('`use_sigmoid` must be True, False or None', TypeError, use_sigmoid='yes'),
    entry('`sync` must be True or False', TypeError, sync=1),
    Row('entry: softmax over one column', dict(
        student=retinanet(classes=1), teacher=teacher(retinanet(classes=1)),
        distill=[dict(DIST, use_sigmoid=False, per_anchor=True)]), ValueError,
        'cannot teach anything at `cls` of the student.*DISTLoss has a gradient of 0.*softmax over '
        '1 column is 1.*write `use_sigmoid=True`'),
    Row('entry: KD over one column', dict(
        student=retinanet(classes=1), teacher=teacher(retinanet(classes=1)),
        distill=[dict(KD, use_sigmoid=False, per_anchor=True)]), ValueError,
        'cannot teach anything at `cls`.*KDLoss has a gradient of 0.*write `use_sigmoid=True`'),
    # --- the match
    entry("must contain 'loss'", name='dist'),
    entry("must contain 'loss'", name=''),
    entry("must contain 'loss'", name=3),
    entry('`per_anchor` must be True', TypeError, per_anchor='x'),
    entry("`connector` must be 'auto', 'conv' or None", connector='linear'),
    entry("`connector` must be 'auto', 'conv' or None", connector=True),
    entry("`connector='conv'`, but `cls` of the student is a prediction", connector='conv'),
    entry('`alpha` must be between 0 and 1', alpha=1.5),
    entry('`alpha` must be between 0 and 1', alpha=-0.1),
    entry('`alpha` must be a number', TypeError, alpha=True),
    entry('`replaces` must be one of', alpha=0.5, replaces='foreground'),
    entry('needs `alpha`', replaces='background'),
    entry('`stage` must be', TypeError, stage=0.5),
    entry('stage', stage=0),
    entry('no mask `valid` for the student.*leave `mask` out', mask='valid'),
    entry('`mask` must be', TypeError, mask=True),
    entry('`between` must be two networks', between=['student']),
    entry('`between` must be two networks', between='student'),
    entry('`between` must be two networks', between=['student', 'student']),
    entry('`between` needs one point', TypeError, between=['student', 'teacher'], name='loss_a'),
    entry('it is not trained', between=['student', 'teacher']),
    Row('entry: two of one name', dict(distill=[DIST, DIST]), ValueError, 'are called.*`name='),
    Row('entry: two alphas', dict(distill=[dict(DIST, alpha=0.5), dict(KD, alpha=0.5)]),
        ValueError, "two entries of `distill` have an `alpha`"),
    Row('entry: keys that are no names', dict(distill=[{1: 2}]), TypeError, 'names as keys'),
    # --- distill as a whole
    model('distill misspelt', 'has no argument `distil` \\(closest: `distill`\\)', TypeError,
          distil=[DIST]),
    model('distill is a dict', '`distill` is a list of dicts, for instance', TypeError,
          distill=DIST),
    model('distill is empty', '`distill` is empty.*add an entry', distill=[]),
    model('distill is a string', '`distill` is a list of dicts', TypeError, distill='mmkd.KDLoss'),
    model('distill of strings', '`distill` is a list of dicts', TypeError, distill=['mmkd.KDLoss']),
    model('distill is None', '`distill` is a list of dicts', TypeError, distill=None),
    model('distill is a generator', '`distill` is a list of dicts', TypeError,
          distill=iter([DIST])),
]

TEACHERS = [
    model('teacher misspelt', 'has no argument `techer` \\(closest: `teacher`\\)', TypeError,
          techer=teacher()),
    model('teacher is a path', '`teacher` must be a dict, but got str', TypeError,
          teacher='teacher.py'),
    model('teacher is a list', '`teacher` must be a dict.*mmkd.Committee', TypeError,
          teacher=[teacher(), teacher()]),
    model('teacher is a module', '`teacher` must be a dict', TypeError, teacher=nn.Identity()),
    model('teacher is missing', 'there is no such network.*give a `teacher`', teacher=None),
    model('teacher without config', '`teacher`: FrozenTeacher needs `config`', TypeError,
          teacher=dict(checkpoint=None)),
    model('checkpoint misspelt', 'has no argument `checkpont` \\(closest: `checkpoint`\\)',
          TypeError, teacher=dict(teacher(), checkpont='x')),
    model('checkpoint left out', 'has no published checkpoint; write `checkpoint=`',
          teacher=without(teacher(), 'checkpoint')),
    model('checkpoint is a number', '`teacher.checkpoint` must be a path', TypeError,
          teacher=dict(teacher(), checkpoint=3)),
    model('type of a teacher misspelt', 'no type `mmkd.FrozenTeachr`.*closest',
          teacher=dict(teacher(), type='mmkd.FrozenTeachr')),
    model('a model in place of a teacher', 'RetinaNet is no BaseTeacher', TypeError,
          teacher=dict(retinanet(), type='mmdet.RetinaNet')),
    model('a model in place of its config', 'must hold a `model`.*write dict\\(model=...\\)',
          teacher=dict(config=retinanet(), checkpoint=None)),
    model('config is a number', '`teacher.config` must be a path or a config', TypeError,
          teacher=dict(config=3, checkpoint=None)),
    model('config is the root', r'no config `/` \(looked for /, which is a folder\); give the '
          'absolute path of a file', FileNotFoundError,
          teacher=dict(config='/', checkpoint=None)),
    model('config is a folder', 'looked for .*, which is a folder, from the folder .*; give',
          FileNotFoundError, teacher=dict(config='..', checkpoint=None)),
    model('config is relative to another folder', r'no config `no/such.py` \(looked for /.*, from '
          r'the folder /.*; give the absolute path.*\{\{ fileDirname \}\}/teacher.py',
          FileNotFoundError, teacher=dict(config='no/such.py', checkpoint=None)),
    model('config is no name of a file', 'no config `a\0b`.*give', FileNotFoundError,
          teacher=dict(config='a\0b', checkpoint=None)),
    model('config of a package that no name is', 'package `.mmdet` .* is not installed',
          FileNotFoundError, teacher=dict(config='.mmdet::x.py', checkpoint=None)),
    model('config is empty', '`teacher.config` must hold a `model`',
          teacher=dict(config={}, checkpoint=None)),
    model('model of the config is empty', 'the model of the teacher cannot be built.*look at',
          teacher=dict(config=dict(model={}), checkpoint=None)),
    model('a Distiller without a model for a student', '`student` is the model; it must be a dict, '
          'but got None', TypeError, teacher=teacher(
              dict(type='mmkd.Distiller', student=None), data_preprocessor=dict())),
    model('unregistered model', "RetinaNetX is not in.*look at `model`",
          teacher=teacher(dict(retinanet(), type='RetinaNetX'))),
    model('misspelt argument of the model', 'RetinaNet.*nek.*look at `model`',
          teacher=teacher(dict(retinanet(), nek={}))),
    model('channels of neck and backbone differ', 'the teacher does not run on a blank image',
          teacher=teacher(dict(retinanet(), neck=dict(retinanet()['neck'],
                                                      in_channels=[1, 2, 3, 4])))),
    model('unknown scope', 'is not in the.*`default_scope`',
          teacher=dict(config=dict(default_scope='mdet', model=retinanet()), checkpoint=None)),
    model('scope of another package', 'is not in the mmseg::model registry.*`default_scope`',
          teacher=dict(config=dict(default_scope='mmseg', model=retinanet()), checkpoint=None)),
    model('scope is no word', '`default_scope`',
          teacher=dict(config=dict(default_scope=3, model=retinanet()), checkpoint=None)),
    model('no network of a family', 'the teacher is a ResNet, whose points mmkd does not know',
          teacher=teacher(retinanet()['backbone'])),
    model('a segmentor for a detector', 'columns|writes|no point|points|compared',
          teacher=dict(config=dict(default_scope='mmseg', model=segmentor()), checkpoint=None)),
    model('a detector of RoIs for one of a grid', 'predicts for a grid.*for RoIs.*compare',
          teacher=teacher(two_stage())),
    model('softmax for sigmoid', 'activated by sigmoid.*by softmax', teacher=teacher(retinanet(
        loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False, _delete_=True)))),
    model('another number of classes', '3 columns.*2 in the teacher.*unknown.*give a teacher of '
          'the same classes', teacher=teacher(retinanet(classes=2))),
    *(model(f'classes of the {side}: {classes!r}'[:60], says, error, **(
        dict(teacher=dict(teacher(), classes=classes)) if side == 'teacher' else
        dict(classes=classes)))
      for side, name in (('teacher', 'teacher.classes'), ('student', 'classes'))
      for classes, error, says in (
          (dict(disc='round'), TypeError, f'`{name}` is a dict.*write the list of names'),
          ('disc', TypeError, f"`{name}` must be a list of class names.*got 'disc'"),
          ([], ValueError, f'`{name}` is empty; write'),
          (['disc', 'disc', 'cross'], ValueError, f'`{name}` has a name twice, disc.*give each'),
          (['disc', 'cross'], ValueError, f'the {side}.s head has columns for 3 classes, but its '
           '`classes` name 2.*write one name for each'))),
    model('broken data set of the teacher', 'classes of the teacher cannot be read.*look at',
          teacher=teacher(train_dataloader=dict(dataset=3))),
    model('more names than columns', 'has columns for 3 classes.*names 2', teacher=teacher(
        train_dataloader=dict(dataset=dict(metainfo=dict(classes=('a', 'b')))))),
    model('an unreadable preprocessor', 'cannot tell how Odd normalises', teacher=teacher(
        dict(retinanet(), data_preprocessor=type('Odd', (nn.Module, ), {})()))),
    model('unknown precision', "`teacher.precision` must be 'bf16'",
          teacher=dict(teacher(), precision='int8')),
    model('flag is a word', '`teacher.fuse` must be True or False', TypeError,
          teacher=dict(teacher(), fuse='yes')),
    model('a view that nobody packs', '`view` must be the name', TypeError,
          teacher=dict(teacher(), view=3)),
    *(model(f'cache of {size!r} GB', says, error, teacher=dict(
        teacher(), type='mmkd.CachedTeacher', cache='answers', max_gb=size))
      for size, says, error in (('x', "`teacher.max_gb` must be a number, but got 'x'", TypeError),
                                (-1, '`teacher.max_gb` must be 0 or more', ValueError),
                                (math.nan, '`teacher.max_gb` must be finite', ValueError))),
    model('committee of nobody', '`members` must be a list of teachers',
          teacher=dict(type='mmkd.Committee', members=[])),
    model('committee of paths', 'member 0 of the committee must be a dict', TypeError,
          teacher=dict(type='mmkd.Committee', members=['a.py'])),
    model('committee in a committee', 'no committee', TypeError,
          teacher=dict(type='mmkd.Committee', members=[
              dict(type='mmkd.Committee', members=[teacher()])])),
    model('weights of a committee', '`weights` must be 1 numbers',
          teacher=dict(type='mmkd.Committee', members=[teacher()], weights=[1, 2])),
    model('weights that are a number', '`weights` must be a list', TypeError,
          teacher=dict(type='mmkd.Committee', members=[teacher()], weights=1)),
    model('average momentum', '`momentum` is the share', teacher=dict(
        type='mmkd.MeanTeacher', momentum=1.)),
    model('earlier self of nothing', "`every` must be 'epoch' or",
          teacher=dict(type='mmkd.EarlierSelf', every=0)),
]

ITSELF = dict(DIST, on=dict(student='cls', teacher='student:cls'))
MERGED = [
    # MMEngine merges dicts with those of the base config, unless `_delete_` stands in them.
    model('merged with the model of the base', 'Distiller has no arguments `.*` and [0-9] more, '
          'which a plain model has;.*write dict\\(_delete_=True, type=.mmkd.Distiller', TypeError,
          **without(retinanet(), 'type')),
    model('merged with a model of one part', 'Distiller has no argument `backbone`.*_delete_=True',
          TypeError, backbone=retinanet()['backbone']),
    model('teacher merged with a frozen one', '`teacher`: MeanTeacher has no arguments `config`, '
          '`checkpoint`, which mmkd.FrozenTeacher has;.*write dict\\(_delete_=True', TypeError,
          teacher=dict(teacher(), type='mmkd.MeanTeacher')),
    model('teacher merged with an average', 'FrozenTeacher has no argument `momentum`, which '
          'mmkd.MeanTeacher has;.*_delete_=True', TypeError, teacher=dict(teacher(), momentum=0.1)),
    model('companion merged with a frozen one', 'companion `other`: EarlierSelf has no arguments.*'
          '_delete_=True', TypeError, companions=dict(other=dict(
              teacher(), type='mmkd.EarlierSelf'))),
]
OWN_HOOKS = [
    model('hooks are a dict', '`hooks` must be a list of hooks, for instance', TypeError,
          hooks=dict(type='EMAHook')),
    model('hook is a word', 'hook 0 of `hooks` must be a dict', TypeError, hooks=['EMAHook']),
    model('hook misspelt', 'hook 1 of `hooks`: no type `mmkd.ReseedHok` \\(closest: '
          '`mmkd.ReseedHook`\\).*registered in mmkd.HOOKS', hooks=[
              dict(type='mmkd.ReseedHook'), dict(type='mmkd.ReseedHok')]),
    model('hook of no package', 'no type `no.such.Hook`.*registered in mmkd.HOOKS',
          hooks=[dict(type='no.such.Hook')]),
    model('hook without type', '`type` of hook 0 of `hooks` must be a name', TypeError,
          hooks=[dict(momentum=0.1)]),
    model('loss for a hook', 'hook 0 of `hooks`: DISTLoss is no Hook; give', TypeError,
          hooks=[DIST]),
    model('argument of a hook misspelt', 'hook 0 of `hooks`: TeacherEvalHook has no argument '
          '`metrc` \\(closest: `metric`\\)', TypeError, hooks=[
              dict(type='mmkd.TeacherEvalHook', metrc='x')]),
    model('argument that a hook refuses', 'hook 0 of `hooks` cannot be built: AssertionError.*'
          'begin_iter.*look at', hooks=[dict(type='EMAHook', begin_iter=-1)]),
    model('priority of a hook', 'hook 0 of `hooks` cannot be built.*HIHG.*look at', hooks=[
        dict(type='EMAHook', priority='HIHG')]),
]
ALONE = [
    # There is no teacher beside the student of which something could be said.
    model('stage of a student that has none', r'stage=9(?!.*no teacher beside)', teacher=None,
          distill=[dict(ITSELF, stage=9)]),
    model('stage of a student that has three', r'stage=9(?!.*no teacher beside)', teacher=None,
          student=ConfigDict(two_stage('cascade-rcnn')), distill=[dict(ITSELF, stage=9)]),
]

STUDENTS = [
    model('student is a path', '`student` must be the config of a model', TypeError,
          student='student.py'),
    model('student is None', '`student` must be the config of a model', TypeError, student=None),
    model('student is a list', '`student` must be the config of a model', TypeError,
          student=[retinanet()]),
    model('student without type', '`student` must be a model, such as', TypeError,
          student=without(retinanet(), 'type')),
    model('student is a whole config', '`student` must be a model', TypeError,
          student=dict(model=retinanet())),
    model('student unregistered', 'the model of the student cannot be built.*look at',
          student=dict(retinanet(), type='RetinaNetX')),
    model('student is a Distiller', '`student` is a mmkd.Distiller already; move', TypeError,
          student=distiller(retinanet(), teacher())),
    model('student of no family', 'the student is a ResNet, whose points mmkd does not know',
          student=retinanet()['backbone']),
    model('companion called student', "a companion is called 'student'",
          companions=dict(student=teacher())),
    model('companion called teacher', "a companion is called 'teacher'",
          companions=dict(teacher=teacher())),
    model('companion of two words', "a companion is called 'my partner'",
          companions={'my partner': teacher()}),
    model('companions in a list', '`companions` must be a dict', TypeError,
          companions=[teacher()]),
    model('companion of whom nothing is asked', '`other` neither teaches nor learns',
          companions=dict(other=teacher())),
    model('companion with a number for a config', '`partner.config` must be a path', TypeError,
          companions=dict(other=dict(config=3))),
    model('partner shares what is not alike', '`shared` names `backbone`, which',
          companions=dict(other=dict(teacher(), shared=['backbone'])),
          distill=[dict(DIST, on=dict(student='cls', teacher='other:cls')), KD]),
    model('partner shares what is not there', 'no such module',
          companions=dict(other=dict(teacher(), shared=['backbon'])),
          distill=[dict(DIST, on=dict(student='cls', teacher='other:cls')), KD]),
    model('inherit a part that is not there', 'names `nek`, but the student has no such part',
          inherit='nek'),
    model('inherit a number', '`inherit` must name parts', TypeError, inherit=3),
    model('inherit by a strange depth', '`depth` of `inherit` must be one of',
          inherit=dict(parts='neck', depth='middle')),
    model('inherit misspelt', '`inherit` cannot be read', TypeError, inherit=dict(part='neck')),
    model('inherit what has other shapes', 'can inherit nothing of', inherit='backbone.conv1'),
    model('inherit of a mean teacher', '`inherit` takes weights of a trained `teacher`',
          inherit='neck', teacher=dict(type='mmkd.MeanTeacher')),
    model('nonfinite_limit 0', '`nonfinite_limit` must be a whole number', nonfinite_limit=0),
    model('nonfinite_limit is a fraction', '`nonfinite_limit` must be', nonfinite_limit=1.5),
    model('teacher of three channels over a student of one',
          'images of the student have 1 channel, those of the teacher 3; write '
          "`teacher=dict.*channels='repeat'", student=of_one_channel()),
    model('teacher of one channel over a student of three',
          'images of the student have 3 channels, those of the teacher 1; give a teacher of 3',
          teacher=teacher(of_one_channel())),
    model('channels repeated where there are three', "`channels='repeat'` is for a student of 1",
          teacher=dict(teacher(), channels='repeat')),
    model('channels of an unknown kind', "`teacher.channels` must be 'repeat' or None",
          teacher=dict(teacher(), channels=['repeat'])),
    model('preprocessor of other channels', '`mean` in the `data_preprocessor` of the student has '
          '3 values, but its first layer takes images of 1 channel; write one value',
          student=dict(of_one_channel(), data_preprocessor=retinanet()['data_preprocessor'])),
    model('preprocessor that is none', 'the model of the student cannot be built',
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
    """Built and initialised as a Runner does, from DIST on 'cls' with changes."""
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
def test_unusual_but_right(row):
    row.check(distilled(row.input))


# --- hooks ----------------------------------------------------------------------------------------

HOOK = dict(type='mmkd.DistillHook', teacher=teacher(), distill=[DIST])
SCHEDULE = 'mmkd.DistillScheduleHook'


def schedule(name: str, says: str, entry: Any, error: type = ValueError) -> Row:
    return Row(f'schedule: {name}', dict(type=SCHEDULE, schedules=dict(loss_cls_dist=entry)), error,
               says)


HOOKS_ALONE = [
    Row('hook: misspelt', dict(HOOK, techer=teacher()), TypeError, 'closest: `teacher`'),
    Row('hook: without teacher', without(HOOK, 'teacher'), TypeError, 'needs `teacher`'),
    Row('reseed: a seed of its own', dict(type='mmkd.ReseedHook', seed=3), TypeError,
        'ReseedHook has no argument `seed`; it takes none'),
    Row('schedule: misspelt', dict(type=SCHEDULE, schedule={}), TypeError, 'closest: `schedules`'),
    Row('schedule: none', dict(type=SCHEDULE, schedules={}), TypeError, 'must be a dict'),
    Row('schedule: under a number', dict(type=SCHEDULE, schedules={3: dict(type='constant')}),
        TypeError, "by the name of the term, such as 'loss_cls_dist', but got {3"),
    Row('teacher eval: misspelt', dict(type='mmkd.TeacherEvalHook', metrics='x'), TypeError,
        'closest: `metric`'),
    Row('teacher eval: a list', dict(type='mmkd.TeacherEvalHook', metric=['x']), TypeError,
        '`metric` must be the name'),
    schedule('unknown type', "there are 'constant'", dict(type='linaer')),
    schedule('without type', 'must be a dict with a `type`', dict(begin=3), TypeError),
    schedule('factor of a word', 'must be a number', dict(type='linear', start_factor='a'),
             TypeError),
    schedule('factor below 0', 'must be 0 or more', dict(type='linear', end_factor=-1)),
    schedule('ends before it begins', 'must end after it begins',
             dict(type='linear', begin=3, end=3)),
    schedule('argument of another type', 'has no argument `gamma`', dict(type='linear', gamma=1),
             TypeError),
    schedule('milestones missing', 'needs `milestones`', dict(type='step')),
    schedule('milestones are a number', '`milestones`.*must be a list of steps.*but got 3',
             dict(type='step', milestones=3), TypeError),
    schedule('milestones are a word', "`milestones`.*must be a list of steps.*but got '12'",
             dict(type='step', milestones='12'), TypeError),
    schedule('milestones of words', '`milestones` must be a number', dict(
        type='step', milestones=['12']), TypeError),
    schedule('type is a list', "has the type \\['linear'\\]; there are 'constant'",
             dict(type=['linear'])),
    schedule('by_epoch is a word', '`by_epoch` must be True or False',
             dict(type='linear', by_epoch='no'), TypeError),
]


PIPELINES = [
    Row('replay: misspelt', dict(type='mmkd.Replay', transfroms=[]), TypeError,
        'closest: `transforms`'),
    Row('replay: nothing', dict(type='mmkd.Replay', transforms=[]), TypeError, 'must be a list'),
    Row('replay: half a variant', dict(type='mmkd.Replay', transforms=[dict(type='Resize')],
                                       variants=0.5), ValueError, '`variants` must be a whole'),
    Row('views: without pack', dict(type='mmkd.PackViews', views=dict(weak=[])), TypeError,
        'needs `pack`'),
    Row('views: a list', dict(type='mmkd.PackViews', pack=dict(type='PackDetInputs'), views=[[]]),
        TypeError, '`views` must be a dict'),
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
        model=distiller(retinanet(), teacher()), custom_hooks=[HOOK]), TypeError,
        'Distiller already; move'),
    Row('run: two hooks', dict(custom_hooks=[HOOK, HOOK]), ValueError,
        'two mmkd.DistillHook.*write all'),
    Row('run: schedule of a term that is not there', dict(custom_hooks=[HOOK, dict(
        type=SCHEDULE, schedules=dict(loss_x=dict(type='constant')))]), ValueError,
        'terms are called `loss_cls_dist`'),
    Row('run: two schedules', dict(custom_hooks=[HOOK] + [dict(
        type=SCHEDULE, schedules={'*': dict(type='constant')})] * 2), ValueError, 'there are two'),
    Row('run: schedule without distillation', dict(custom_hooks=[dict(
        type=SCHEDULE, schedules={'*': dict(type='constant')})]), ValueError, 'no distillation'),
    Row('run: connector from a hook', dict(custom_hooks=[dict(HOOK, distill=[HINT], teacher=teacher(
        retinanet(channels=24)))]), ValueError, 'needs connectors.*use the model'),
    Row('run: wrong entry in a hook', dict(custom_hooks=[dict(HOOK, distill=[])]), ValueError,
        '`distill` is empty'),
    Row('run: teacher knows other classes', dict(model=distiller(retinanet(), teacher(
        train_dataloader=dict(dataset=dict(metainfo=dict(classes=('a', 'b', 'c'))))))),
        ValueError, "does not know 3 of the student's classes: disc, square, cross.*give"),
    Row('run: teacher has a class twice', dict(model=distiller(retinanet(), teacher(
        train_dataloader=dict(dataset=dict(metainfo=dict(classes=('disc', 'disc', 'cross'))))))),
        ValueError, 'the teacher has classes of one name, disc'),
    Row('run: name of a loss of the student', dict(model=distiller(retinanet(), teacher(), dict(
        DIST, name='loss_bbox'))), ValueError, 'has a loss `loss_bbox` of its own; give'),
    Row('run: an epoch-wise teacher without epochs', dict(
        model=distiller(retinanet(), dict(type='mmkd.EarlierSelf')),
        train_cfg=dict(_delete_=True, type='IterBasedTrainLoop', max_iters=1)), ValueError,
        'changes with every epoch.*write `every='),
    Row('run: a cache that no system can name', dict(model=distiller(retinanet(), dict(
        teacher(), type='mmkd.CachedTeacher', cache='a\0b'))), ValueError,
        'cannot be the name of a folder.*give another one'),
    Row('run: a frozen point', dict(model=distiller(dict(retinanet(), backbone=dict(
        retinanet()['backbone'], frozen_stages=4)), teacher(), dict(HINT, on='backbone'))),
        ValueError, 'has no gradient: it is frozen.*choose'),
]


@rows(IN_A_RUN)
def test_mistake_that_only_a_run_shows(row, shapes, tmp_path):
    """No step of the optimizer is taken."""
    config = detector_config(shapes, retinanet(), str(tmp_path))
    if 'model' in row.input:
        config.model = row.input['model']
    config.merge_from_dict(without(row.input, 'model'))
    steps = []
    with pytest.MonkeyPatch.context() as patch, refused(row):
        patch.setattr(torch.optim.SGD, 'step', lambda *args, **kwargs: steps.append(1))
        train(config)
    assert not steps


def test_classes_in_another_order_are_put_right(shapes, tmp_path):
    names = ('cross', 'disc', 'square')
    runner, losses = train(detector_config(shapes, distiller(retinanet(), teacher(
        train_dataloader=dict(dataset=dict(metainfo=dict(classes=names))))), str(tmp_path)))
    assert runner.model.matches[0].columns.order == [1, 2, 0]
    assert all(math.isfinite(value) for one in losses for value in one.values())


def test_a_test_asks_nothing_of_a_wrong_teacher(shapes, tmp_path):
    from mmengine.runner import Runner
    wrong = dict(config='no_such.py', checkpoint='no_such.pth')
    config = detector_config(shapes, distiller(retinanet(), wrong), str(tmp_path))
    assert 'coco/bbox_mAP' in Runner.from_cfg(config).test()
    config = detector_config(shapes, retinanet(), str(tmp_path / 'hook'), custom_hooks=[
        dict(HOOK, teacher=wrong)])
    assert 'coco/bbox_mAP' in Runner.from_cfg(config).test()


def test_student_teaches_itself_in_a_second_copy(shapes, tmp_path):
    """Teacher and student of one config and one file: nothing differs, nothing breaks."""
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
    """A distillation config whose teacher has that same file for a config."""
    path = str(folder / 'own.py')
    config = Config(dict(default_scope='mmdet', model=distiller(retinanet(), dict(
        config=path, **checkpoint), DIST, HINT)))
    config.dump(path)
    return Config.fromfile(path)


def test_distillation_config_that_is_its_own_teacher(tmp_path):
    """Its student is the teacher, with the weights of the checkpoint, or as one asks for."""
    model = build(retinanet())
    model.init_weights()
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'same.pth')
    built = build(own_config(tmp_path, checkpoint=str(tmp_path / 'same.pth')).model)
    built.init_weights()
    for name, value in built.teacher.model.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name

    with refused(Row('', None, ValueError, 'own.py` has no published checkpoint; write `check')):
        build(own_config(tmp_path).model).init_weights()
