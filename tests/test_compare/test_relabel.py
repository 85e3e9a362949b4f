"""Conversion of a teacher's predictions to the student's classes, and the report of a mapping."""
import doctest
import importlib

import pytest
import torch
from conftest import build, retinanet, segmentor
from mmengine.config import Config

from mmkd.compare.class_report import report
from mmkd.files.classes import stated_mapping
from mmkd.inspection import inspect_pair, table_of
from mmkd.points import family_of
from mmkd.points.relabel import relabelled_map

NAMES = ('compare.merging', 'compare.classes', 'compare.class_report', 'files.classes',
         'points.relabel', 'points.families.stages', 'networks.libraries')


@pytest.mark.parametrize('name', NAMES)
def test_examples_of_docstrings(name):
    module = importlib.import_module(f'mmkd.{name}')
    found = doctest.testmod(module, extraglobs=dict(torch=torch))
    assert found.attempted > 0
    assert found.failed == 0


def instances(boxes, labels, scores):
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData
    prediction = DetDataSample()
    prediction.pred_instances = InstanceData(
        bboxes=torch.tensor(boxes), labels=torch.tensor(labels), scores=torch.tensor(scores))
    return prediction


def test_merged_classes_keep_one_box_per_object():
    """Teacher: car 0, truck 1, dog 2, person 3. Student: rider, vehicle, walker."""
    box, near, far = [0., 0, 10, 10], [0., 0, 10, 9], [0., 0, 10, 5]
    prediction = instances([box, near, far, box, box, near], [1, 0, 0, 2, 3, 1],
                           [.5, .9, .4, .8, .7, .3])
    family = family_of(build(retinanet()))
    got = family.relabel(prediction, [(), (0, 1), 3]).pred_instances
    # The car with score .9 suppresses both trucks (IoU 0.9 and 1), but no other object.
    assert got.labels.tolist() == [1, 1, 2]
    assert got.scores.tolist() == pytest.approx([.9, .4, .7])


def test_two_boxes_of_one_class_stay():
    box = [0., 0, 10, 10]
    got = family_of(build(retinanet())).relabel(
        instances([box, box], [0, 0], [.9, .8]), [(0, 1)]).pred_instances
    assert len(got) == 2


@pytest.mark.parametrize(('are_logits', 'expected'), [(True, 2), (False, 2)])
def test_largest_sum_of_probabilities_is_predicted(are_logits, expected):
    """The most probable class of the teacher is 0, but the sum of 1 and 2 is larger."""
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample
    sample = SegDataSample()
    p = torch.tensor([.4, .3, .3])
    sample.seg_logits = PixelData(data=(p.log() if are_logits else p).view(3, 1, 1))
    sample.pred_sem_seg = PixelData(data=torch.zeros(1, 1, 1, dtype=torch.long))
    got = relabelled_map(sample, [(), 0, (1, 2)], are_logits)
    assert got.pred_sem_seg.data.tolist() == [[[expected]]]
    if are_logits:
        assert family_of(build(segmentor(), 'mmseg')).relabel(
            sample, [(), 0, (1, 2)]).pred_sem_seg.data.item() == expected


def test_report_of_many_classes_is_short():
    names = [f'class {n}' for n in range(1000)]
    text = report(names, [*names[:-1], 'other'], stated_mapping({'class 999': None}, 'c')[1])
    assert 'without teacher: class 999' in text
    assert 'and 999 more of the same name' in text
    assert "classes of the teacher that are not used: other" in text
    assert len(text) < 300
    assert report(['a'], ['b']).startswith('classes are not matched: the teacher lacks 1')


def test_inspect_pair_shows_the_mapping(tmp_path):
    def config(names):
        model = retinanet(classes=len(names))
        return Config(dict(default_scope='mmdet', model=model, train_dataloader=dict(
            dataset=dict(type='CocoDataset', metainfo=dict(classes=names)))))

    student = config(('RBC', 'White-Cell', 'Platelets'))
    teacher = config(('cell', 'dog', 'white cell', 'disc'))
    pair = inspect_pair(student, teacher)
    assert 'the teacher lacks 2' in ' '.join(table_of(pair).split())
    assert 'classes are not matched' in pair.classes
    path = tmp_path / 'classes.yaml'
    path.write_text('RBC: cel\nPlatelets:\n')
    with pytest.raises(ValueError, match=r"^`classes` of the teacher in `.*classes.yaml` names "
                       r"'cel' \(closest: 'cell'\), but the teacher has no such class; its classes "
                       r"are \['cell', 'dog', 'white cell', 'disc'\]; correct the names$"):
        inspect_pair(student, teacher, classes=str(path))
    path.write_text('RBC: [cell, disc]\nPlatelets:\n')
    pair = inspect_pair(student, teacher, classes=str(path))
    assert next(one for one in pair if one.point == 'cls').term is not None
    assert pair.classes.splitlines() == [
        "classes, the student's and the teacher's:",
        '  RBC         cell + disc',
        '  White-Cell  white cell',
        '  Platelets   -',
        'without teacher: Platelets',
        "classes of the teacher that are not used: dog",
        "'White-Cell' is matched with 'white cell', which differs in spelling only"]
