"""Inspection of a pair: what each method compares, and that the configs do not change."""
import copy
import dataclasses

import pytest
import torch
from conftest import build, retinanet, segmentor, two_stage
from mmengine.config import Config
from support.queries import detector

import mmkd.inspection
from mmkd.inspection import entries_of, inspect_pair, methods_table, settings_of, table_of
from mmkd.losses import METHODS, Method
from mmkd.losses.method import entries_among, methods_of
from mmkd.written_config import config_text

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
    assert entries_of('cwd', streets) == [
        dict(type='mmkd.CWDLoss', on='cls', tau=4., loss_weight=3.)]


def test_features_are_the_necks_or_else_the_backbones(streets):
    boxes = inspect_pair(config(retinanet()), config(retinanet(width=12)))
    mimic = dict(type='mmkd.MSELoss', connector='conv')
    assert entries_of('dist+mimic', boxes) == [
        dict(type='mmkd.DISTLoss', on='cls'), dict(mimic, on='neck')]
    assert entries_of('mimic', streets) == [dict(mimic, on='backbone')]


@pytest.fixture(scope='module')
def boxes():
    return inspect_pair(config(retinanet()), config(retinanet(width=12)))


@pytest.mark.parametrize('method', ['dkd', 'nkd', 'lskd'])
def test_a_method_for_softmax_names_the_one_for_sigmoid_heads(boxes, method):
    with pytest.raises(ValueError, match='it is for two-stage detectors, .*segmentors.*, but the '
                       'student belongs to one-stage detectors; take `bckd`, the method for such '
                       'heads, or a method that fits, as `tools/inspect_pair.py STUDENT TEACHER '
                       '--methods` lists them'):
        entries_of(method, boxes)


def test_method_of_another_family_lists_suitable_methods(boxes):
    with pytest.raises(ValueError, match='segmentors, but the student belongs to one-stage '
                       'detectors; take a method that fits, as .*--methods') as info:
        entries_of('cirkd', boxes)
    assert 'bckd' not in str(info.value)


def test_pkd_beside_crosskd_has_the_weights_of_crosskds_authors(boxes):
    """Their configs use all five levels of the neck. The weight is 6 for GFL, 2 for RetinaNet and
    FCOS, and 1 for ATSS.
    """
    for written in ('crosskd+pkd', 'pkd+crosskd'):
        assert [one for one in entries_of(written, boxes) if one['type'] == 'mmkd.PKDLoss'] == [
            dict(type='mmkd.PKDLoss', on='neck', loss_weight=2.)]
    assert entries_of('pkd', boxes)[0]['loss_weight'] == 10.
    pkd, both = METHODS['pkd'], methods_of('crosskd+pkd')
    for head, weight in (('GFLHead', 6.), ('ATSSHead', 1.), ('FCOSHead', 2.)):
        assert entries_among(pkd, both, head, 'AnchorHead', 'dense')[0]['loss_weight'] == weight
    assert entries_among(pkd, both, 'segmentor') == pkd.entries('segmentor')


def test_entry_shared_by_two_methods_is_written_once(streets):
    """For segmentors, MGD also compares the logits by CWD, as its authors do."""
    assert entries_of('mgd+cwd', streets) == entries_of('mgd', streets)
    assert entries_of('dist+dist_plus', streets) == entries_of('dist_plus', streets)


def test_pair_without_the_point_lists_its_points():
    pair = inspect_pair(config(retinanet()), config(two_stage()))
    with pytest.raises(ValueError, match='`kd` has nothing to compare in this pair; `cls`: .*'
                       'Points that can be compared: .*`neck`'):
        entries_of('kd', pair)
    with pytest.raises(ValueError, match='no method `dst`; write `dist`'):
        entries_of('dst', pair)


def test_configs_are_not_changed():
    """mmseg writes `pretrained` into the backbone's part of the config that it builds."""
    student = config(dict(segmentor(), pretrained='open-mmlab://resnet18_v1c'), 'mmseg')
    before = copy.deepcopy(student)
    inspect_pair(student, student)
    assert student.model == before.model


def test_parameters_that_only_init_weights_fills_do_not_matter(monkeypatch):
    """mmdet creates the level embedding of Deformable DETR with uninitialised values."""
    model = dict(detector('deformable'), as_two_stage=False, test_cfg=dict(max_per_img=6))
    built = build(model)
    torch.nn.init.constant_(built.level_embed, float('nan'))
    monkeypatch.setattr(mmkd.inspection.pair, 'build_model', lambda *args: built)
    pair = inspect_pair(config(model), config(model))
    assert entries_of('kd', pair) == [dict(type='mmkd.KDLoss', on='cls')]


def cell_of(text, point):
    """Return the last column of a point's row as one line."""
    rows = [part for part in text.split('├') if f'\n│ {point} ' in part]
    assert len(rows) == 1
    return ' '.join(line.split('│')[4].strip() for line in rows[0].splitlines()
                    if line.count('│') == 5)


@pytest.mark.parametrize('classes', [1, 2, 3])
def test_table_says_what_a_method_cannot_teach(classes):
    """With one or two columns DIST has no inter-class part."""
    model = segmentor(classes=classes)
    for head in ('decode_head', 'auxiliary_head') if classes == 1 else ():
        model[head].update(out_channels=1, threshold=0.5, loss_decode=dict(
            type='CrossEntropyLoss', use_sigmoid=True))
    findings = inspect_pair(config(model, 'mmseg'), config(model, 'mmseg'))
    text = table_of(findings, width=160)
    part = 'DISTLoss leaves out its inter-class part, which is constant over'
    for point in ('cls', 'aux'):
        assert (f'{part} {classes} column' in cell_of(text, point)) == (classes < 3)
    assert part not in cell_of(text, 'backbone')
    assert entries_of('kd', findings)[0] == dict(type='mmkd.KDLoss', on='cls')


def test_table_is_a_string_in_jupyter_too(streets, monkeypatch):
    expected = table_of(streets)
    assert 'decode_head' in expected
    monkeypatch.setattr('rich.console._is_jupyter', lambda: True)
    assert table_of(streets) == expected


def test_method_whose_loss_is_constant_has_nothing_to_compare():
    """Softmax over one column is always 1. CWD normalises over positions, so it has a gradient."""
    model = segmentor(classes=1)
    for head in ('decode_head', 'auxiliary_head'):
        model[head].update(out_channels=1, threshold=0.5, loss_decode=dict(
            type='CrossEntropyLoss', use_sigmoid=True))
    findings = inspect_pair(config(model, 'mmseg'), config(model, 'mmseg'))
    for finding in findings:  # as in a user's own head
        point = finding.term.student_point
        finding.term.alignment = dataclasses.replace(
            finding.term.alignment, student=dataclasses.replace(
                point, use_sigmoid=False if point.num_classes else None))
    for method in ('dist', 'kd'):
        with pytest.raises(ValueError, match=f'`{method}` has nothing to compare.*`cls`: .*'
                           'gradient of .* is 0.*softmax over 1 column is always 1.*write '
                           '`use_sigmoid=True`'):
            entries_of(method, findings)
    assert entries_of('cwd', findings)[0]['on'] == 'cls'


def test_config_contains_all_settings_of_a_method(tmp_path):
    (tmp_path / 'student.py').write_text(
        "model = dict(type='A')\n"
        "optim_wrapper = dict(type='OptimWrapper', optimizer=dict(lr=1.))\n")
    text = config_text(str(tmp_path / 'student.py'), 'teacher.py', None,
                       [dict(type='mmkd.KDLoss', on='cls')],
                       around={'optim_wrapper.clip_grad': dict(max_norm=35),
                               'optim_wrapper.accumulative_counts': 2,
                               'model.inherit': 'neck'}, method='fgd')
    (tmp_path / 'distill.py').write_text(text)
    found = Config.fromfile(tmp_path / 'distill.py')
    assert found.optim_wrapper == dict(type='OptimWrapper', optimizer=dict(lr=1.),
                                       clip_grad=dict(max_norm=35), accumulative_counts=2)
    assert found.model.inherit == 'neck'
    assert text.count('# recipe of fgd: docs/methods.md') == 2
    assert found.model.distill == [dict(type='mmkd.KDLoss', on='cls')]


def test_which_methods_fit_and_why_others_do_not():
    pair = inspect_pair(config(retinanet()), config(retinanet(channels=24)))
    text = methods_table(pair, width=300)
    rows = {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in (
        line.strip('│').split('│') for line in text.splitlines() if line.startswith('│'))}
    assert rows['kd'] == ['KDLoss on cls', 'yes']
    assert rows['dkd'] == ['', 'no: it is for two-stage detectors, segmentors, classifiers, but '
                           'the student belongs to one-stage detectors; take `bckd`']
    assert 'ReviewKDLoss on neck' in rows['reviewkd'][0]
    names = list(rows)
    fits = [name.isidentifier() and rows[name][1] == 'yes' for name in names if name]
    assert fits == sorted(fits, reverse=True)
    assert 'kt, skd' in names[-1]
    assert rows[names[-1]] == ['', 'no: for students of other kinds than one-stage detectors']
    assert 'Try `dist` first: DIST raised ' in text.splitlines()[-1]


def test_only_matching_weights_are_inherited():
    method = Method('heir', [dict(type='mmkd.KDLoss', on='cls')], {'model.inherit': 'neck,head'})
    try:
        same, wider, narrow = (inspect_pair(config(retinanet()), config(retinanet(**changes)))
                               for changes in ({}, dict(width=12), dict(channels=24, classes=3)))
        assert settings_of('heir', same) == {'model.inherit': 'neck,head'}
        assert settings_of('heir', wider) == {'model.inherit': 'neck,head'}
        before = copy.deepcopy(narrow.distillation.student.state_dict())
        found = settings_of('heir', narrow).get('model.inherit', '')
        assert 'neck' not in found
        assert all(torch.equal(one, before[name]) for name, one in
                   narrow.distillation.student.state_dict().items())
    finally:
        del METHODS[method.name]
