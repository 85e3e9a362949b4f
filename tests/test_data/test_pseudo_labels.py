"""The predictions that become labels, and the images that two data sets share."""
import importlib
import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData, PixelData

from mmkd.data.pixel_scores import pixel_scores, scoring_of
from mmkd.data.pseudo_labels import Selection, overlap, truth_of
from mmkd.networks.predicting import own_threshold

mmdet = pytest.importorskip('mmdet')
mmseg = pytest.importorskip('mmseg')
from mmdet.structures import DetDataSample  # noqa: E402
from mmseg.structures import SegDataSample  # noqa: E402

CLASSES = ['cat', 'dog']


def found(scores, labels, masks=None, boxes=None):
    sample = DetDataSample(metainfo=dict(img_shape=(20, 30)))
    count = len(scores)
    boxes = torch.tensor([[0., 0., 10. + n, 10.] for n in range(count)]).reshape(-1, 4) \
        if boxes is None else torch.tensor(boxes)
    sample.pred_instances = InstanceData(
        bboxes=boxes, scores=torch.tensor(scores), labels=torch.tensor(labels).long())
    if masks is not None:
        sample.pred_instances.masks = masks
    return sample


def test_a_threshold_for_all_and_highest_first():
    truth = truth_of(found([.4, .5, .9], [0, 1, 0]), Selection(.5), CLASSES)
    assert truth.gt_instances.labels.tolist() == [0, 1]
    assert truth.gt_instances.scores.tolist() == pytest.approx([.9, .5])
    assert truth.gt_instances.bboxes[:, 2].tolist() == [12, 11]
    assert len(truth.ignored_instances) == 0
    assert truth.img_shape == (20, 30)


def test_a_threshold_for_each_class_by_name():
    truth = truth_of(found([.6, .6, .3], [0, 1, 1]), Selection(dict(dog=.2, cat=.7)), CLASSES)
    assert truth.gt_instances.labels.tolist() == [1, 1]


def test_between_two_thresholds_instances_are_ignored():
    truth = truth_of(found([.9, .4, .1], [0, 1, 0]), Selection(.5, ignore_thr=.3), CLASSES)
    assert truth.gt_instances.labels.tolist() == [0]
    assert truth.ignored_instances.labels.tolist() == [1]
    assert truth.ignored_instances.bboxes.tolist() == [[0, 0, 11, 10]]


def test_the_best_of_each_class():
    scores, labels = [.7, .9, .8, .95, .6], [0, 0, 0, 1, 1]
    truth = truth_of(found(scores, labels), Selection(.5, per_class=2), CLASSES)
    assert truth.gt_instances.scores.tolist() == pytest.approx([.95, .9, .8, .6])


def test_small_and_broken_boxes_and_scores_are_no_labels():
    boxes = [[0., 0., 8., 8.], [0., 0., 3., 8.], [0., 0., math.inf, 8.], [0., 0., 8., 8.]]
    sample = found([.9, .9, .9, math.nan], [0, 0, 0, 0], boxes=boxes)
    truth = truth_of(sample, Selection(.5, min_size=4, ignore_thr=.1), CLASSES)
    assert len(truth.gt_instances) == 1
    assert len(truth.ignored_instances) == 0


@pytest.mark.parametrize('kind', [torch.tensor, np.array])
def test_masks_are_kept_in_mmdets_format(kind):
    masks = np.zeros((2, 20, 30), dtype=bool)
    masks[1, :5] = True
    truth = truth_of(found([.1, .9], [0, 1], kind(masks)), Selection(.5), CLASSES)
    assert truth.gt_instances.masks.masks.tolist() == masks[1:].astype(int).tolist()


def test_no_predictions_are_no_labels():
    truth = truth_of(found([], []), Selection(.5), CLASSES)
    assert truth.gt_instances.bboxes.shape == (0, 4)


def pixels(logits):
    sample = SegDataSample()
    sample.seg_logits = PixelData(data=torch.tensor(logits).reshape(2, 1, -1))
    return sample


def test_pixels_below_the_threshold_are_ignored():
    sample = pixels([[0., math.log(9.), math.nan], [math.log(3.), 0., 0.]])  # .75 dog, .9 cat
    truth = truth_of(sample, Selection(dict(cat=.5, dog=.8)), CLASSES)
    assert truth.gt_sem_seg.data.tolist() == [[[255, 0, 255]]]
    assert truth.gt_sem_seg_scores.data[0, 0, :2].tolist() == pytest.approx([.75, .9])
    assert truth_of(sample, Selection(.7), CLASSES).gt_sem_seg.data.tolist() == [[[1, 0, 255]]]


def test_scores_of_mask_transformers_are_shares():
    scores, labels = pixel_scores(torch.tensor([[[.1, 0.]], [[.3, 0.]]]), 'share')
    assert scores.tolist() == [[pytest.approx(.75), 0]]
    assert labels.tolist() == [[1, 0]]


def test_one_output_is_the_probability_of_the_second_class():
    scores, labels = pixel_scores(torch.tensor([[[.9, .2]]]))
    assert scores[0].tolist() == pytest.approx([.9, .8])
    assert labels.tolist() == [[1, 0]]


def test_scoring_of_a_head_is_known():
    from mmseg.models.decode_heads import FCNHead, Mask2FormerHead
    model = torch.nn.Module()
    assert scoring_of(model) == 'softmax'
    model.decode_head = FCNHead(in_channels=4, channels=4, num_classes=2)
    assert scoring_of(model) == 'softmax'
    model.decode_head = Mask2FormerHead.__new__(Mask2FormerHead)
    torch.nn.Module.__init__(model.decode_head)
    assert scoring_of(model) == 'share'


@pytest.mark.parametrize(('arguments', 'words'), [
    (dict(score_thr=1.5), '`score_thr` must be from 0 to 1, but got 1.5; write for instance 0.5'),
    (dict(score_thr=50), 'from 0 to 1, but got 50; write for instance 0.5$'),
    (dict(score_thr=-3), 'from 0 to 1, but got -3; write for instance 0.5$'),
    (dict(score_thr=dict(cat=70)), r"`score_thr\['cat'\]` .* got 70; write for instance 0.7$"),
    (dict(score_thr='0.5'), "must be a number from 0 to 1, but got '0.5'; write for instance 0.5, "
                            'or a dict with one for each class$'),
    (dict(ignore_thr='low'), "`ignore_thr` .*, but got 'low'; write for instance 0.5$"),
    (dict(score_thr={}), 'is an empty dict'),
    (dict(per_class=0), '`per_class` must be 1 or more'),
    (dict(per_class=2.5), 'a whole number or None, but got 2.5; write for instance 10, or leave'),
    (dict(min_size='8'), "a number of pixels, but got '8'; write for instance 8$"),
    (dict(ignore_thr=.6), '`ignore_thr` must be below `score_thr`'),
    (dict(min_size=-1), '`min_size` must be 0 or more pixels, but got -1; write for instance 8'),
])
def test_wrong_rules_are_refused(arguments, words):
    with pytest.raises((TypeError, ValueError), match=words):
        Selection(**arguments)


def test_own_threshold_of_a_model():
    from mmengine.config import ConfigDict
    for settings, expected in (
            (dict(score_thr=.05), ('model.test_cfg.score_thr', .05)),
            (dict(rpn=dict(score_thr=.9), rcnn=dict(score_thr=.1)),
             ('model.test_cfg.rcnn.score_thr', .1)),
            (dict(score_thr=0.), None), (dict(mode='whole'), None), (None, None)):
        model = SimpleNamespace(test_cfg=settings and ConfigDict(settings))
        assert own_threshold(model) == expected
    assert own_threshold(SimpleNamespace()) is None
    assert own_threshold(SimpleNamespace(test_cfg=dict(score_thr=.05)), 'model.student') == (
        'model.student.test_cfg.score_thr', .05)


def test_thresholds_must_fit_the_classes():
    with pytest.raises(ValueError, match='has bird, which is not one of .* and lacks dog'):
        Selection(dict(cat=.5, bird=.5)).thresholds(CLASSES)
    with pytest.raises(ValueError, match='label 2, but there are 2 classes'):
        truth_of(found([.9], [2]), Selection(), CLASSES)
    with pytest.raises(ValueError, match='`per_class` and `ignore_thr` are for instances'):
        truth_of(pixels([[0.], [0.]]), Selection(per_class=3), CLASSES)
    with pytest.raises(ValueError, match='`pred_instances` of a detector or `seg_logits`'):
        truth_of(SegDataSample(), Selection(), CLASSES)


class Images:
    """A data set with the methods that `overlap` calls."""

    def __init__(self, *paths):
        self.paths = [str(path) for path in paths]

    def __len__(self):
        return len(self.paths)

    def get_data_info(self, number):
        return dict(img_path=self.paths[number])


class Joined:
    def __init__(self, *datasets):
        self.datasets = list(datasets)


def test_overlap_ends_at_a_time(tmp_path, monkeypatch):
    """Before each image, and before each piece of a file."""
    for name in 'ab':
        (tmp_path / name).write_bytes(b'x' * 10)
    a, b = ([str(tmp_path / name)] for name in 'ab')
    module = importlib.import_module('mmkd.data.overlap')
    monkeypatch.setattr(module, 'PIECE', 5)
    now = itertools.count()
    monkeypatch.setattr(module, 'time', SimpleNamespace(monotonic=lambda: next(now)))
    # One look for each of both images, and for two pieces of each: at 0, 1, ..., 5.
    assert overlap(a, b, ends=5) == b
    for ends in range(5):
        now = itertools.count()
        with pytest.raises(TimeoutError, match='not compared within the time allowed'):
            overlap(a, b, ends=ends)


def test_overlap_finds_copies_under_other_names(tmp_path):
    for name, content in dict(a=b'one', b=b'two', c=b'one', d=b'three').items():
        (tmp_path / name).write_bytes(content)
    a, b, c, d = (tmp_path / name for name in 'abcd')
    assert overlap(Joined(Images(a), Images(d)), Images(b, c, tmp_path / 'missing', c)) == [str(c)]
    assert overlap([str(a)], [str(b), str(d)]) == []  # a and b have the same size but other content
    with pytest.raises(TypeError, match='int is not a data set'):
        overlap(3, [])
