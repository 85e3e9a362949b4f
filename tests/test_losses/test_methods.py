"""Each method of --method is trained, killed, resumed and exported, for each family it supports."""
import copy
import math

import pytest
from conftest import (
    CLASSES,
    detector_config,
    distiller,
    retinanet,
    save_teacher,
    segmentor,
    segmentor_config,
    train,
    two_stage,
)
from mmengine.config import Config
from mmseg.datasets import CityscapesDataset
from support.extensions import train_kill_resume
from support.queries import detector

from mmkd.compare.spec import TermSpec
from mmkd.files.zoo import config_path
from mmkd.inspection import entries_of, inspect_pair
from mmkd.losses import METHODS
from mmkd.losses.method import around_of, methods_of


def _convs(model):
    return dict(model, bbox_head=dict(model['bbox_head'], stacked_convs=4))


def gfl(channels=16):
    """mmdet's GFL with the backbone and neck of :func:`retinanet`."""
    model = retinanet(channels=channels)
    head = Config.fromfile(config_path('mmdet::gfl/gfl_r50_fpn_1x_coco.py')).model
    model['bbox_head'] = dict(head.bbox_head.to_dict(), num_classes=3, in_channels=channels,
                              feat_channels=channels,
                              norm_cfg=dict(type='GN', num_groups=4, requires_grad=True))
    return dict(model, type='GFL', train_cfg=head.train_cfg.to_dict(),
                test_cfg=dict(head.test_cfg.to_dict(), score_thr=0.))


def deformable():
    """Deformable DETR with learned query embeddings instead of proposals of the encoder."""
    return dict(detector('deformable'), as_two_stage=False, test_cfg=dict(max_per_img=6))


PAIRS = {
    'dense': [(lambda: _convs(retinanet()), lambda: _convs(retinanet(channels=16, width=12))),
              (gfl, lambda: gfl())],
    'roi': [(two_stage, lambda: two_stage(width=12))],
    'segmentor': [(segmentor, lambda: segmentor(width=12))],
    'query': [(deformable, deformable)],
}
"""Pairs of (student, teacher) by family. A method must support one pair of each of its families."""


def found_pair(method, kind, make_file=None):
    """Return the first pair that the method supports, its entries, and its first-stage files.

    ``make_file`` makes these files for a teacher.
    """
    scope = 'mmseg' if kind == 'segmentor' else 'mmdet'
    problems = []
    for make_student, make_teacher in PAIRS[kind]:
        student, teacher = make_student(), make_teacher()
        pair = inspect_pair(*(Config(dict(default_scope=scope, model=copy.deepcopy(one)))
                              for one in (student, teacher)))
        assert pair.kind == kind
        try:
            files = make_file(teacher) if METHODS[method].prepare else []
            return student, teacher, entries_of(method, pair, files)
        except ValueError as error:
            problems.append(str(error))
    raise AssertionError('; '.join(problems))


CASES = [(method, kind) for method in METHODS for kind in PAIRS
         if METHODS[method].entries(kind)]


@pytest.mark.slow
@pytest.mark.parametrize(('method', 'kind'), CASES,
                         ids=['-'.join(case) for case in CASES])
def test_it_is_trained_killed_resumed_and_exported(method, kind, shapes, streets, tmp_path):
    is_segmentor = kind == 'segmentor'
    scope, data = ('mmseg', streets) if is_segmentor else ('mmdet', shapes)
    make_config = segmentor_config if is_segmentor else detector_config

    def saved(teacher):
        return save_teacher(tmp_path / 't.pth', copy.deepcopy(teacher), scope=scope,
                            classes=CityscapesDataset.METAINFO['classes'] if is_segmentor else
                            CLASSES)

    def prepared(teacher):
        stage = METHODS[method].prepare[kind]
        train(make_config(data, dict(type='mmkd.Prepare', teacher=saved(teacher), on=stage.on,
                                     module=stage.module), str(tmp_path / 'first')))
        return [str(tmp_path / 'first' / 'prepared.pth')]

    student, teacher, entries = found_pair(method, kind, prepared)
    teacher = saved(teacher)
    around = around_of(methods_of(method), kind)
    own = {key.removeprefix('model.'): around.pop(key) for key in list(around)
           if key.startswith('model.')}
    own['hooks'] = [dict(type='mmkd.ReseedHook'), *own.get('hooks', [])]
    length = dict(max_iters=6) if is_segmentor else dict(max_epochs=3)

    def make(folder, **more):
        model = dict(distiller(student, teacher, *entries), **own)
        return make_config(data, copy.deepcopy(model), str(folder), **{
            'train_cfg': dict(length, val_interval=9), 'optim_wrapper.optimizer.momentum': 0.9,
            **around, **more})

    losses, _ = train_kill_resume(make, student, tmp_path, scope)
    plain = set(losses[0]) - {name for name in losses[0] if is_ours(name, entries)}
    assert plain
    assert all(any(is_ours(name, [entry]) for name in losses[0]) for entry in entries)
    assert all(math.isfinite(value) for one in losses for value in one.values())


def is_ours(name, entries):
    """Whether a loss in the log belongs to an entry, as a whole or as a part."""
    return any(name.startswith(TermSpec.of(entry).name) for entry in entries)
