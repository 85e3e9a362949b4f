"""A sample of docs/zoo.md: one config per head has the points that the page lists, and learns."""
import copy
import os
import sys

import pytest
from support.rows import slow_but
from support.tools import BENCHMARKS, ROOT

sys.path.insert(0, BENCHMARKS)

import cover_zoo


def rows():
    """Yield package, folder, config, head and points of every line of the tables."""
    package = ''
    with open(os.path.join(ROOT, 'docs', 'zoo.md')) as file:
        for line in file:
            if line.startswith('## '):
                package = line[3:].strip()
            cells = [cell.strip() for cell in line.strip().strip('|').split('|')]
            if line.startswith('| ') and cells[0] != 'folder':
                yield package, cells[0], cells[1], cells[2], cells[5]


LEFT_TO_THE_TOOL = (
    # mmkd treats these like CornerHead, ATSSHead and RetinaHead.
    'CentripetalHead', 'DDODHead', 'VFNetHead', 'FreeAnchorRetinaHead', 'FSAFHead',
    'RetinaSepBNHead', 'SSDHead', 'GFLHead', 'RepPointsHead', 'YOLOXHead',
    # mmkd treats these like FCNHead.
    'EncHead', 'OCRHead',
    'ANNHead', 'APCHead', 'CCHead', 'DMHead', 'DNLHead', 'DPTHead', 'EMAHead', 'GCHead', 'ISAHead',
    'LRASPPHead', 'NLHead', 'PSAHead', 'SETRMLAHead', 'UPerHead', 'DAHead',
    # mmkd treats these like the same RoI heads with Shared2FCBBoxHead, or like StandardRoIHead.
    'CascadeRoIHead / Shared4Conv1FCBBoxHead', 'StandardRoIHead / Shared4Conv1FCBBoxHead',
    'DynamicRoIHead / Shared2FCBBoxHead', 'GridRoIHead / Shared2FCBBoxHead',
    'MaskScoringRoIHead / Shared2FCBBoxHead', 'PISARoIHead / Shared2FCBBoxHead',
    'PointRendRoIHead / Shared2FCBBoxHead', 'StandardRoIHead / BBoxHead',
    'DoubleHeadRoIHead / DoubleConvFCBBoxHead',
    # tests/test_points tests these in detail.
    'CascadeRoIHead / SABLHead', 'CornerHead', 'HybridTaskCascadeRoIHead / Shared2FCBBoxHead',
    'IterativeDecodeHead', 'SCNetRoIHead / SCNetBBoxHead', 'SOLOHead', 'SparseRoIHead / DIIHead',
    'TridentRoIHead / BBoxHead', 'Mask2FormerHead',
    # SAN, with the two encoders of CLIP, would take a tenth of the suite's time.
    'SideAdapterCLIPHead')
"""Heads that only benchmarks/cover_zoo.py tests, to save time."""

LEFT_OF_MMSEG = 'MaskFormerHead', 'Mask2FormerHead'
"""Heads of mmdet."""

FAMILIES = {(package, head): (f'{package}::{folder}', config, points)
         for package, folder, config, head, points in reversed(list(rows()))
         if head not in LEFT_TO_THE_TOOL and not (package == 'mmseg' and head in LEFT_OF_MMSEG)}


@pytest.mark.parametrize(('folder', 'config', 'points'), slow_but(
    ('mmdet-RetinaHead', 'mmdet-DINOHead', 'mmseg-ASPPHead'),
    ((f'{package}-{head}', row) for (package, head), row in FAMILIES.items())))
def test_every_kind_of_head_learns(folder, config, points, monkeypatch):
    """The same checks as the tool, but faster: a shallower teacher and one backward pass less."""
    monkeypatch.setattr(cover_zoo, 'deeper', copy.deepcopy)
    monkeypatch.setattr(cover_zoo, 'TRACED', ('loss_cls_dist', ))
    package, _, name = folder.partition('::')
    outcome = cover_zoo.Outcome(folder, config)
    cover_zoo.cover(os.path.join(cover_zoo.config_root(package), name, config), outcome)
    assert ' '.join(f'`{point}`' for point in outcome.points) == points


def test_page_lists_every_family():
    found = [package for package, *_ in rows()]
    assert found.count('mmdet') >= 92
    assert found.count('mmseg') >= 50


def test_a_broken_pair_does_not_pass(tmp_path):
    """Each check can fail: the teacher is the student, or the checkpoint is of another model."""
    path = os.path.join(cover_zoo.config_root('mmdet'), 'retinanet', 'retinanet_r18_fpn_1x_coco.py')
    outcome = cover_zoo.Outcome('mmdet::retinanet', 'retinanet_r18_fpn_1x_coco.py')

    class Same(Exception):
        pass

    def step(model, batch):
        model.teacher.model.load_state_dict(model.state_dict())
        model.teacher.model.train(model.training)
        with pytest.raises(AssertionError, match='as if the teacher were the student'):
            cover_zoo_step(model, batch)
        raise Same

    cover_zoo_step, cover_zoo.step = cover_zoo.step, step
    try:
        with pytest.raises(Same):
            cover_zoo.cover(path, outcome)
    finally:
        cover_zoo.step = cover_zoo_step
