"""Agreement of two networks, with predictions written by hand."""
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData, PixelData
from mmseg.structures import SegDataSample

from mmkd.worth.agreement import Agreement, found_objects, overlap_of


def boxes(*rows):
    """Make instances from (x, y, width, height, label, score)."""
    table = torch.tensor(rows).reshape(-1, 6)
    return InstanceData(bboxes=torch.cat([table[:, :2], table[:, :2] + table[:, 2:4]], 1),
                        labels=table[:, 4].long(), scores=table[:, 5])


def sample(truth, predicted):
    found = DetDataSample(gt_instances=boxes(*truth), pred_instances=boxes(*predicted))
    del found.gt_instances.scores
    return found


TRUTH = [(0., 0., 10., 10., 0, 1.), (20., 0., 10., 10., 1, 1.), (40., 0., 10., 10., 1, 1.),
         (60., 0., 10., 10., 2, 1.)]


def test_objects_are_found_by_one_or_both():
    student = [(0., 0., 10., 10., 0, .9), (20., 0., 10., 10., 0, .9), (40., 0., 10., 9., 1, .4)]
    teacher = [(0., 1., 10., 10., 0, .9), (20., 0., 10., 10., 1, .9), (40., 0., 10., 9., 1, .2)]
    agreement = Agreement(3)
    assert agreement.add(sample(TRUTH, student), sample(TRUTH, teacher))
    found = agreement.result(['a', 'b', 'c'])
    assert found['total'] == dict(both=1, teacher=1, student=1, neither=1)
    assert found['by_class']['b'] == dict(both=0, teacher=1, student=1, neither=0)
    assert found['unit'] == 'objects'
    assert agreement.images == [dict(index=0, teacher=1, student=1, total=4)]


def test_a_detection_finds_one_object():
    twice = [(0., 0., 10., 10., 0, 1.), (0., 1., 10., 10., 0, 1.)]
    truth = boxes(*twice)
    one = found_objects(truth.bboxes, truth.labels, boxes((0., 0., 10., 10., 0, .9)))
    assert one.tolist() == [True, False]
    assert found_objects(truth.bboxes, truth.labels, boxes(*twice)).all()
    assert found_objects(truth.bboxes[:0], truth.labels[:0], boxes(*twice)).tolist() == []
    assert not found_objects(truth.bboxes, truth.labels, boxes()).any()


def test_labels_in_pixels_of_the_input():
    small = [(0., 0., 5., 20., 0, .9)]
    agreement = Agreement(3)
    agreement.add(sample(TRUTH[:1], small), sample(TRUTH[:1], []), (2., .5))
    assert agreement.result(['a', 'b', 'c'])['total']['student'] == 1


def test_iou_of_boxes():
    one = torch.tensor([[0., 0., 2., 2.], [5., 5., 6., 6.]])
    other = torch.tensor([[1., 1., 3., 3.]])
    assert overlap_of(one, other).flatten().tolist() == [pytest.approx(1 / 7), 0.]


def test_pixels_and_their_iou():
    def of(*labels):
        return PixelData(data=torch.tensor([labels]).reshape(1, 1, -1))

    truth = of(0, 0, 1, 1, 255)
    student, teacher = (SegDataSample(gt_sem_seg=truth, pred_sem_seg=of(*labels))
                        for labels in ((0, 1, 1, 1, 0), (0, 0, 0, 1, 1)))
    agreement = Agreement(3)
    assert agreement.add(student, teacher)
    found = agreement.result(['road', 'sky', 'car'])
    assert found['total'] == dict(both=2, teacher=1, student=1, neither=0)
    assert agreement.iou('student') == [pytest.approx(50.), pytest.approx(200 / 3), None]
    assert agreement.iou('teacher') == [pytest.approx(200 / 3), pytest.approx(50.), None]


def test_the_images_that_differ_most():
    agreement = Agreement(3)
    for student in ([], TRUTH, TRUTH[:2], TRUTH[:3]):
        agreement.add(sample(TRUTH, student), sample(TRUTH, TRUTH))
    assert agreement.most_different(2) == [0, 2]
    assert agreement.most_different(9) == [0, 2, 3]


def test_samples_without_labels_are_left_out():
    found = DetDataSample(pred_instances=boxes(*TRUTH))
    agreement = Agreement(3)
    assert not agreement.add(found, found)
    assert agreement.images == []
