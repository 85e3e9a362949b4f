"""A run with what harmed a student of its kind is told so, and no other."""
import pathlib
import re

import pytest
from conftest import (
    build,
    detector_config,
    distiller,
    retinanet,
    save_teacher,
    segmentor,
    two_stage,
)
from mmengine.runner import FlexibleRunner, Runner
from support.queries import detector
from support.tools import ROOT

from mmkd.losses import METHODS
from mmkd.training.harmed import HARMS, warnings_about

KD, DIST = (dict(type=f'mmkd.{name}Loss', on='cls') for name in ('KD', 'DIST'))
MIMIC = dict(type='mmkd.MSELoss', on='neck')
PGD = dict(type='mmkd.PGDClsLoss', on='bbox_head.cls_convs.0')
KD_DETR = METHODS['kd_detr'].entries('query')
FBKD = dict(type='mmkd.FBKDLoss', on='neck')
PARTNER = dict(type='mmkd.Partner', config=dict(default_scope='mmdet', model=retinanet()))


def detr():
    return detector('detr', 6)


def said_of(student, *entries, scope='mmdet', **arguments):
    model = build(dict(type='mmkd.Distiller', student=student, distill=entries, **arguments), scope)
    return warnings_about(model.student, model.distillation)


@pytest.mark.parametrize(('make', 'entries', 'beginning'), [
    (retinanet, [PGD], "PGD with its authors' weights lowered the score of such a student on BCCD, "
                       '205 images, from 46.2 ± 2.0 to 30.5 ± 1.7 AP, 3 seeds '
                       r'\(docs/results/bccd_methods\); try'),
    (retinanet, [KD, FBKD], "FBKD with its authors' weight "),
    (two_stage, [DIST], r'DIST alone .*51.6 ± 0.7 to 49.8 ± 0.3 AP.*take --method dist\+mimic'),
    (retinanet, [dict(type='mmkd.RKDLoss', on='backbone', levels=[-1])], 'RKD .*47.9 to 43.6'),
    (detr, KD_DETR, "KD-DETR with its default weights .*34.5 to 28.4 AP.*take --method pkd"),
    (detr, [dict(one, loss_weight=0.2) for one in KD_DETR], None),
    (retinanet, [dict(PGD, loss_weight='auto')], None),
    (retinanet, [dict(FBKD, loss_weight=1e-4)], None),
    (retinanet, [DIST], None),
    (retinanet, [KD, MIMIC], None),
    (two_stage, [DIST, MIMIC], None),
    (two_stage, [KD], None),
])
def test_methods(make, entries, beginning, tmp_path):
    teacher = save_teacher(tmp_path / 't.pth', make())
    found = said_of(make(), *entries, teacher=teacher)
    assert len(found) == (beginning is not None)
    for text in found:
        assert re.match(beginning, text), text


def test_segmentors(tmp_path):
    teacher = save_teacher(tmp_path / 't.pth', segmentor(), scope='mmseg')
    at = dict(type='mmkd.ATLoss', on='features')
    for entry, beginning in ((DIST, ''), (at, ''), (  # the method writes another weight
            dict(at, loss_weight=10000.), "AT with its authors' weight lowered the score of such a "
            'student on CamVid, 367 images, from 42.6 ± 0.1 to 25.2 ± 2.5 mIoU')):
        found = said_of(segmentor(), entry, scope='mmseg', teacher=teacher)
        assert ''.join(found).startswith(beginning)
        assert bool(found) is bool(beginning)


def test_pages_exist():
    for harm in HARMS:
        text = (pathlib.Path(ROOT) / harm.page / 'README.md').read_text()
        before, after = re.match(r'([\d.]+).* to ([\d.]+)', harm.figures).groups()
        assert before in text, harm
        assert after in text, harm


def test_schemes():
    mutual, = said_of(retinanet(), dict(KD, between=['student', 'other']),
                      companions=dict(other=PARTNER))
    assert mutual.startswith('mutual learning lowered')
    branch = dict(KD, on=dict(student='other:cls', teacher='student:cls'))
    own, = said_of(retinanet(), branch, companions=dict(other=dict(PARTNER, shared=['backbone'])))
    assert own.startswith('be your own teacher lowered')
    assert not said_of(retinanet(), branch, companions=dict(other=PARTNER))  # nothing is shared
    assert not said_of(retinanet(), dict(KD, on=dict(student='cls', teacher='other:cls')),
                       companions=dict(other=PARTNER))  # Rocket Launching
    assert not said_of(retinanet(), KD, teacher=dict(type='mmkd.MeanTeacher'))


@pytest.mark.parametrize('runner', [Runner, FlexibleRunner])
def test_a_run_is_warned(runner, shapes, tmp_path):
    """Whatever tool starts it."""
    teacher = save_teacher(tmp_path / 't.pth', retinanet())
    for name, entry in dict(pgd=PGD, kd=KD).items():
        config = detector_config(
            shapes, distiller(retinanet(), teacher, entry), str(tmp_path / name),
            env_cfg=dict(dist_cfg=dict(backend='gloo')))
        runner.from_cfg(config).train()
        log, = (tmp_path / name).rglob('*.log')
        assert log.read_text().count("PGD with its authors' weights lowered") == (name == 'pgd')
