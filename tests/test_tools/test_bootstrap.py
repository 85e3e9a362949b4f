"""Drawing validation images again: scores of drawn images, and intervals of differences."""
import copy
import importlib
import json

import numpy as np
import pytest
import torch
from mmengine.config import Config
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from support.tools import TOOLS

CLASSES = 'cell', 'platelet', 'never there'
IMAGES = [7, 3, 12, 5, 9, 20]
"""Ids, not sorted: COCOeval sorts them."""


@pytest.fixture
def bootstrap(monkeypatch):
    monkeypatch.syspath_prepend(TOOLS)
    return importlib.import_module('bootstrap')


def areas_of(bootstrap, counts):
    return bootstrap.Areas(counts, [f'{number}.png' for number in range(len(counts))])


def made_up_content():
    """Objects and detections near them, as COCO's files have them."""
    rng = np.random.default_rng(0)
    truth, found = [], []
    for image in IMAGES:
        for _ in range(rng.integers(1, 6)):
            box = [*rng.uniform(0, 60, 2), *rng.uniform(10, 30, 2)]
            kind = int(rng.integers(1, 3))
            truth.append(dict(id=len(truth) + 1, image_id=image, category_id=kind, bbox=box,
                              area=box[2] * box[3], iscrowd=0))
            for _ in range(rng.integers(0, 3)):
                moved = (np.array(box) + rng.normal(0, 2, 4)).tolist()
                found.append(dict(image_id=image, category_id=kind, bbox=moved,
                                  score=float(rng.uniform())))
    content = dict(
        info={}, images=[dict(id=image, width=100, height=100) for image in IMAGES],
        annotations=truth, categories=[dict(id=n, name=name) for n, name in enumerate(CLASSES, 1)])
    return content, found


def as_coco(content):
    found = COCO()
    found.dataset = copy.deepcopy(content)
    found.createIndex()
    return found


def ap_of(content, found):
    evaluation = COCOeval(as_coco(content), as_coco(content).loadRes(found), 'bbox')
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return 100 * evaluation.stats[0]


def copies(content, found, numbers):
    """The same with images of these numbers alone, copied as often as they occur."""
    images, truth, detections = [], [], []
    for new, number in enumerate(numbers, 100):
        old = IMAGES[number]
        images.append(dict(id=new, width=100, height=100))
        truth += [dict(one, image_id=new, id=1000 * new + one['id'])
                  for one in content['annotations'] if one['image_id'] == old]
        detections += [dict(one, image_id=new) for one in found if one['image_id'] == old]
    return dict(content, images=images, annotations=truth), detections


@pytest.mark.parametrize('numbers', [
    [0, 1, 2, 3, 4, 5], [2, 2, 2, 2, 2, 2], [5, 0, 0, 3, 5, 1]], ids=['all', 'one', 'some'])
def test_ap_of_drawn_images_is_that_of_copied_images(bootstrap, numbers):
    content, found = made_up_content()
    counted = bootstrap.Detections(as_coco(content), found, IMAGES, [1, 2, 3])
    counted.score([0, 0, 0, 0, 0, 0])  # an earlier draw leaves nothing
    assert counted.score(numbers) == pytest.approx(ap_of(*copies(content, found, numbers)))


def test_detections_come_from_the_metric_of_mmdet(bootstrap, tmp_path):
    from mmdet.evaluation import CocoMetric
    content, found = made_up_content()
    (tmp_path / 'truth.json').write_text(json.dumps(content))
    metric = CocoMetric(ann_file=str(tmp_path / 'truth.json'), metric='bbox')
    metric.dataset_meta = dict(classes=CLASSES)
    for image in IMAGES:
        mine = [one for one in found if one['image_id'] == image]
        boxes = torch.tensor([one['bbox'] for one in mine]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        metric.process({}, [dict(img_id=image, ori_shape=(100, 100), pred_instances=dict(
            bboxes=boxes, scores=torch.tensor([one['score'] for one in mine]),
            labels=torch.tensor([one['category_id'] - 1 for one in mine])))])
    score = bootstrap.detections_of(metric).score(range(len(IMAGES)))
    told = metric.compute_metrics(metric.results)['bbox_mAP']  # rounded to three digits
    assert score > 10
    assert score == pytest.approx(100 * told, abs=0.0501)


def test_miou_of_drawn_images_adds_their_pixels(bootstrap):
    areas = areas_of(bootstrap, [([1., 0., 0.], [2., 0., 4.]), ([6., 0., 0.], [6., 0., 0.])])
    # Class 0: (1 + 6) / (2 + 6); class 1 is in no image; class 2: 0 / 4.
    assert areas.score([0, 1]) == pytest.approx(100 * (7 / 8 + 0) / 2)
    assert areas.score([1, 1]) == 100


def test_interval_is_that_of_the_mean(bootstrap):
    """One class and equal unions: the difference is a mean over images."""
    rng = np.random.default_rng(1)
    alone, better = rng.uniform(30, 60, (2, 200))
    better += 10
    low, high = bootstrap.interval(*([bootstrap.drawn(
        areas_of(bootstrap, [([one], [100.]) for one in shares]), draws=2000)]
        for shares in (better, alone)))
    difference = better - alone
    half = 1.96 * difference.std() / len(difference) ** 0.5
    assert low == pytest.approx(difference.mean() - half, abs=0.15 * half)
    assert high == pytest.approx(difference.mean() + half, abs=0.15 * half)


def test_both_groups_see_the_same_images(bootstrap):
    """A method that adds the same to each image has no spread, however different the images."""
    alone = areas_of(bootstrap, [([float(n)], [100.]) for n in range(50)])
    better = areas_of(bootstrap, [([n + 3.], [100.]) for n in range(50)])
    better, alone = (bootstrap.drawn(one, 50) for one in (better, alone))
    assert better.scores.std() > 1
    assert bootstrap.interval([better], [alone]) == pytest.approx((3, 3))


def runs_with(**shares):
    """Runs of tools/compare.py with these scores."""
    return {name: [dict(checkpoint=f'{name}{seed}', seed=seed, mIoU=score, curve=[[1, score]])
                   for seed, score in scores.items()] for name, scores in shares.items()}


def test_runs_are_paired_by_seed(bootstrap, monkeypatch):
    runs = runs_with(teacher={0: 70.}, student={0: 10., 1: 50.}, better={1: 54.},
                     worse={1: 48.}, other={5: 1.})
    scores = {run['checkpoint']: run['mIoU'] for results in runs.values() for run in results}
    asked = []

    def counts_of(run, device):
        asked.append(run['checkpoint'])
        return areas_of(bootstrap, [([scores[run['checkpoint']]], [100.])] * 4)

    monkeypatch.setattr(bootstrap, 'counts_of', counts_of)
    assert bootstrap.intervals_of(runs, 10) == dict(
        better=pytest.approx((4, 4)), worse=pytest.approx((-2, -2)))
    assert sorted(asked) == ['better1', 'student1', 'worse1'], 'a model ran twice, or for nothing'


def test_models_must_have_the_scores_of_their_runs(bootstrap, monkeypatch):
    """As after a validation that was not the last one, or with weights of another run."""
    monkeypatch.setattr(bootstrap, 'counts_of', lambda run, device: areas_of(
        bootstrap, [([20.], [100.])] * 4))
    with pytest.raises(SystemExit, match=r'better0 has mIoU 20.00 .*, but the last .* said 54.00'):
        bootstrap.intervals_of(runs_with(student={0: 20.}, better={0: 54.}), 10)


@pytest.mark.parametrize('names', [['a', 'c'], ['b', 'a'], ['a']])
def test_models_must_have_seen_the_same_images(bootstrap, names):
    better = bootstrap.Areas([([1.], [2.])] * 2, ['a', 'b'])
    alone = bootstrap.Areas([([1.], [2.])] * len(names), names)
    with pytest.raises(SystemExit, match='not evaluated on the same images in the same order'):
        bootstrap.interval([bootstrap.drawn(better, 5)], [bootstrap.drawn(alone, 5)])


@pytest.mark.parametrize(('evaluator', 'named'), [
    (dict(type='Accuracy'), 'Accuracy'), (dict(type='CocoMetric'), 'CocoMetric'),
    (None, 'nothing')])
def test_other_metrics_are_refused_before_training(bootstrap, evaluator, named):
    with pytest.raises(SystemExit, match=rf'a.py is evaluated by {named}; .* leave --bootstrap'):
        bootstrap.check_evaluator(Config(dict(val_evaluator=evaluator)), 'a.py')
    bootstrap.check_evaluator(Config(dict(val_evaluator=[dict(type='mmseg.IoUMetric')])), 'a.py')
