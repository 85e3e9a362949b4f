"""Pseudo-labels of a teacher with other classes: renamed, summed, or ignored."""
import copy

import numpy as np
import pytest
import torch
from conftest import CLASSES, build, retinanet, save_teacher, segmentor
from loops import images
from mmdet.datasets import CocoDataset

from mmkd import FrozenTeacher, PseudoLabels

COCO = CocoDataset.METAINFO['classes']
OF_COCO = {CLASSES[0]: ['car', 'truck', 'bus'], CLASSES[1]: 'dog', CLASSES[2]: None}


def spread_scores(path, spread):
    """Give the scores of a saved model a larger spread."""
    saved = torch.load(path, weights_only=False)
    torch.manual_seed(3)
    for name, tensor in saved['state_dict'].items():
        if 'retina_cls' in name or 'conv_seg' in name:
            tensor.normal_(std=spread)
    torch.save(saved, path)


def labelling(student, entry, classes, **settings):
    network = FrozenTeacher(**entry)
    network.prepare(student)
    labels = PseudoLabels(**settings)
    labels.prepare(network, student, classes, (64, 64))
    return network, labels


def iou(one, other):
    """Return the IoU of two boxes."""
    sides = (torch.minimum(one[2:], other[2:]) - torch.maximum(one[:2], other[:2])).clamp(min=0)
    areas = [(box[2:] - box[:2]).prod() for box in (one, other)]
    return sides.prod() / (sum(areas) - sides.prod())


def expected_boxes(found, least):
    """Return the expected boxes: dogs, and one box per car, truck or bus."""
    kept = []
    for one in sorted(range(len(found)), key=lambda n: -found.scores[n].item()):
        name = COCO[found.labels[one]]
        label = 0 if name in OF_COCO[CLASSES[0]] else 1 if name == 'dog' else None
        twice = any(new == label and COCO[found.labels[other]] != name and iou(
            found.bboxes[other], found.bboxes[one]) > 0.6 for other, new in kept)
        if label is not None and not twice:
            kept.append((one, label))
    return [(label, found.bboxes[one].tolist()) for one, label in kept
            if found.scores[one] >= least and (
                found.bboxes[one, 2:] - found.bboxes[one, :2] >= 4).all()]


def test_objects_of_coco_are_renamed(tmp_path):
    model = retinanet(channels=24)
    model['bbox_head']['num_classes'] = 80
    model['test_cfg'].update(score_thr=0.01, max_per_img=300)
    entry = save_teacher(tmp_path / 't.pth', model, classes=COCO)
    spread_scores(tmp_path / 't.pth', 0.5)
    student, network = build(retinanet()), FrozenTeacher(**entry, classes=OF_COCO)
    network.prepare(student)
    raw = images([0, 1])
    predicted = [one.pred_instances for one in network.model.test_step(copy.deepcopy(raw))]
    scores = torch.cat([one.scores for one in predicted])
    low, least = scores.quantile(.2).item(), scores.quantile(.5).item()
    labels = PseudoLabels(score_thr=least, ignore_thr=low, min_size=4)
    labels.prepare(network, student, CLASSES, (64, 64))
    assert labels.without == [CLASSES[2]]
    batch = student.data_preprocessor(copy.deepcopy(raw), True)
    counts = np.zeros(2, int)
    for one, other in zip(labels.truth(
            network, student, batch['inputs'], batch['data_samples']), predicted):
        expected = expected_boxes(other, least)
        got = one.gt_instances
        assert got.labels.tolist() == [label for label, _ in expected]
        assert np.allclose(got.bboxes, np.reshape([box for _, box in expected], (-1, 4)), atol=.02)
        uncertain = expected_boxes(other, low)[len(expected):]
        assert one.ignored_instances.labels.tolist() == [label for label, _ in uncertain]
        counts += len(expected), len(uncertain)
    assert counts.min() > 2


def test_probabilities_of_pixels_add_up(tmp_path):
    names = ('car', 'road', 'truck', 'sky', 'tree')
    entry = save_teacher(tmp_path / 't.pth', segmentor(classes=5), classes=names, scope='mmseg')
    spread_scores(tmp_path / 't.pth', 1.)
    student = build(segmentor(classes=3), 'mmseg').eval()
    network = FrozenTeacher(**entry, classes=dict(vehicle=['truck', 'car'], rider=None))
    network.prepare(student)
    torch.manual_seed(0)
    inputs = torch.randn(2, 3, 64, 64)
    metas = [dict(ori_shape=(64, 64), img_shape=(64, 64))] * 2
    with torch.no_grad():  # so that every class is predicted somewhere
        network.model.decode_head.conv_seg.bias -= network.model.inference(
            inputs, metas).mean((0, 2, 3))
    car, road, truck, sky, tree = network.model.inference(inputs, metas).softmax(1).unbind(1)
    vehicle, others = car + truck, torch.maximum(sky, tree)
    wins = (vehicle > road) & (vehicle > others)
    least = vehicle[wins].median().item()
    labels = PseudoLabels(score_thr=dict(road=.25, rider=1., vehicle=least))
    labels.prepare(network, student, ('road', 'rider', 'vehicle'), (64, 64))
    from mmseg.structures import SegDataSample
    samples = [SegDataSample(metainfo=dict(img_shape=(64, 64))) for _ in range(2)]
    got = torch.stack([one.gt_sem_seg.data[0] for one in labels.truth(
        network, student, inputs, samples)])
    expected = torch.full_like(got, 255)
    expected[(road >= .25) & (road > vehicle) & (road > others)] = 0
    expected[(vehicle >= least) & wins] = 2
    clear = ((road - .25).abs() > 1e-4) & ((vehicle - least).abs() > 1e-4)
    assert torch.equal(got[clear], expected[clear])
    assert set(got.unique().tolist()) == {0, 2, 255}
    # only their sum is large enough
    assert ((torch.maximum(car, truck) < least) & (got == 2)).any()


def test_head_threshold_applies_to_one_output(tmp_path):
    """The head's threshold of 0.3 applies to its second class."""
    model = segmentor(classes=2)
    model['decode_head'].update(out_channels=1, threshold=0.3, loss_decode=dict(
        type='CrossEntropyLoss', use_sigmoid=True))
    entry = save_teacher(tmp_path / 't.pth', model, classes=('no', 'yes'), scope='mmseg')
    spread_scores(tmp_path / 't.pth', .5)
    student = build(segmentor(classes=2), 'mmseg').eval()
    network, labels = labelling(student, entry, ('yes', 'no'), score_thr=0.35)
    from mmseg.structures import SegDataSample
    torch.manual_seed(0)
    inputs = torch.randn(1, 3, 64, 64)
    found, = labels.truth(network, student, inputs, [
        SegDataSample(metainfo=dict(img_shape=(64, 64)))])
    yes = network.model.inference(inputs, [dict(ori_shape=(64, 64), img_shape=(64, 64))])[
        0].sigmoid()
    expected = torch.where(yes > 0.3, torch.where(yes >= .35, 0, 255), 1)
    clear = ((yes - .3).abs() > 1e-4) & ((yes - .35).abs() > 1e-4)
    assert torch.equal(found.gt_sem_seg.data[clear], expected[clear])
    assert set(expected.unique().tolist()) == {0, 1, 255}


@pytest.mark.parametrize(('kind', 'classes', 'settings', 'message'), [
    ('boxes', None, {}, r'PseudoLabels: the teacher lacks 3 of the student.*'
     r'teacher=dict\(classes='),
    ('boxes', {CLASSES[0]: 'cars', CLASSES[1]: 'dog', CLASSES[2]: None}, {},
     r"names 'cars' \(closest: 'car'\), but the teacher has no such class"),
    ('boxes', OF_COCO, dict(score_thr=dict(dog=.5)), 'PseudoLabels: `score_thr` must have a '
     f'threshold for each class, but has dog, .* lacks {CLASSES[0]}'),
    ('boxes', OF_COCO, dict(weigh=True), '`weigh` is for pixels .* `ignore_thr` for objects'),
    ('boxes', OF_COCO, dict(ignore_thr=.7), '`ignore_thr` must be below `score_thr`'),
    ('boxes', OF_COCO, dict(min_size='4'), '`min_size` must be a number'),
    ('boxes', OF_COCO, dict(weigh=1), '`weigh` must be True or False, but got 1'),
    ('pixels', None, dict(per_class=2), '`per_class` and `ignore_thr` are for objects, but the '
     'student, EncoderDecoder, learns from label maps; leave them out')])
def test_what_does_not_fit_is_refused(tmp_path, kind, classes, settings, message):
    if kind == 'boxes':
        model, student, names = retinanet(), build(retinanet()), CLASSES
        model['bbox_head']['num_classes'] = 80
        entry = save_teacher(tmp_path / 't.pth', model, classes=COCO)
    else:
        student, names = build(segmentor(classes=3), 'mmseg'), 'abc'
        entry = save_teacher(tmp_path / 't.pth', segmentor(classes=3), classes=names,
                             scope='mmseg')
    with pytest.raises((TypeError, ValueError), match=message):
        labelling(student, dict(entry, **({} if classes is None else dict(classes=classes))),
                  names, **settings)
