"""Examinations of small models of each family, with data from their configs."""
import copy
import json
import os

import pytest
import torch
from conftest import (
    build,
    detector_config,
    retinanet,
    save_teacher,
    segmentor,
    segmentor_config,
    two_stage,
)
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmkd.networks import FrozenTeacher
from mmkd.training.distillation import Distillation
from mmkd.worth import MethodFinding, recommend
from mmkd.worth.at_point import standing_of, watching
from mmkd.worth.examine import examine
from mmkd.worth.images import (
    labelled_pipeline,
    labels_are_scaled,
    loader_of,
    split_loader,
    training_batches,
)
from mmkd.worth.pull import fill, lesson_of
from mmkd.worth.scores import evaluator_of, restrict


@pytest.fixture(scope='module')
def pair(shapes, tmp_path_factory):
    folder = tmp_path_factory.mktemp('pair')
    teacher = save_teacher(folder / 'teacher.pth', retinanet(width=12))
    save_teacher(folder / 'student.pth', retinanet(), seed=2)
    config = detector_config(shapes, retinanet(), str(folder))
    return config, teacher, folder


def examined(config, teacher, **settings):
    return examine(config, Config(teacher['config']), teacher['checkpoint'], minutes=30,
                   **settings)


def test_a_detector(pair):
    config, teacher, folder = pair
    before = copy.deepcopy(config._cfg_dict)
    done = examined(config, teacher, student_checkpoint=str(folder / 'student.pth'),
                    methods=['dist', 'mimic', 'dkd'])
    found = done.findings
    assert found.problems == []
    # The training images of this data set are those of the validation.
    assert [os.path.basename(path) for path in found.seen] == [f'{n}.png' for n in range(4)]
    assert set(found.advantage) == {'accuracy', 'cross_entropy'}
    assert config._cfg_dict == before
    assert found.kind == 'dense'
    assert found.images == dict(scored=4, train=4, held_out=4)
    assert found.metric == 'coco/bbox_mAP'
    assert set(found.scores) == {'student', 'teacher'}
    assert found.point == 'cls'
    for sides in found.standings.values():
        # In this test, both splits are the same images, without augmentation.
        assert sides.train == sides.held_out
        assert sides.train['positions'] > 0
    dist, mimic, dkd = found.methods
    assert (dist.on, dist.kinds, mimic.on, mimic.kinds) == (
        ['cls'], ['prediction'], ['neck'], ['feature'])
    for one in (dist, mimic):
        term, = one.terms
        assert (term.shared, term.ratio, term.cosine) == (one.shared, one.ratio, one.cosine)
        assert one.shared == 'neck'
        assert one.ratio > 0
        assert -1 <= one.cosine <= 1
        assert one.seconds > 0
        assert one.memory > found.alone['memory']
    assert 'it is for' in dkd.problem
    assert found.cache['method'] == 'dist'
    assert found.cache['bytes'] > 0
    json.dumps(found.as_dict())
    assert recommend(found).verdict in ('distil', 'another teacher')
    assert all(set(one) == {'student', 'teacher'} for one in done.examples)


def flat_gradient(loss, tensors):
    return torch.cat([one.flatten() for one in torch.autograd.grad(
        loss, tensors, retain_graph=True)])


def test_the_gradient_is_that_of_a_step_of_the_distiller(pair):
    """The gradient ratio at the neck, compared with that of a plain step."""
    config, teacher, folder = pair
    with DefaultScope.overwrite_default_scope('mmdet'):
        student = build(retinanet())
        student.load_state_dict(torch.load(folder / 'student.pth')['state_dict'])
        batches = training_batches(config, 1, 2)
        entries = [dict(type='mmkd.MSELoss', on='neck', connector=None)]
        one = FrozenTeacher(**teacher)
        distillation = Distillation(student, one, entries, config=config)
        distillation.prepare()
        finding = MethodFinding('mimic')
        fill(finding, lesson_of(distillation, batches), distillation)
        data = student.train().data_preprocessor(copy.deepcopy(batches[0]), True)
        own = student.neck(student.backbone(data['inputs']))
        losses = student.bbox_head.loss(own, data['data_samples'])
        task = flat_gradient(sum(sum(value) for value in losses.values()), own)
        with torch.no_grad():
            theirs = one.model.neck(one.model.backbone(data['inputs']))
        term = flat_gradient(sum((a - b).square().mean() for a, b in zip(own, theirs)), own)
    assert finding.ratio == pytest.approx((term.norm() / task.norm()).item(), rel=1e-3)
    assert finding.cosine == pytest.approx(
        torch.cosine_similarity(term, task, dim=0).item(), abs=1e-4)


@pytest.mark.slow
def test_a_two_stage_pair_is_measured_at_the_rois_of_the_student(shapes, tmp_path):
    teacher = save_teacher(tmp_path / 'teacher.pth', two_stage(width=12))
    config = detector_config(shapes, two_stage(), str(tmp_path))
    found = examined(config, teacher, methods=['kd']).findings
    assert found.problems == []
    assert found.kind == 'roi'
    sides = found.standings
    # 4 images with at most 16 RoIs, the same for both networks
    assert 0 < sides['teacher'].train['positions'] <= 64
    assert sides['teacher'].train['positions'] == sides['student'].train['positions']
    assert not found.is_trained
    assert found.cache == {}  # RoIs cannot be cached


@pytest.mark.slow
def test_a_segmentor(streets, tmp_path):
    from mmseg.datasets import CityscapesDataset
    names = CityscapesDataset.METAINFO['classes']
    teacher = save_teacher(tmp_path / 'teacher.pth', segmentor(depth=50), names, scope='mmseg')
    config = segmentor_config(streets, segmentor(), str(tmp_path))
    found = examined(config, teacher, methods=['cwd', 'mimic']).findings
    assert found.problems == []
    assert found.metric == 'mIoU'
    assert {'road', 'building', 'car'} <= set(found.by_class)
    assert found.agreement['unit'] == 'pixels'
    assert sum(found.agreement['total'].values()) == sum(
        sum(one.values()) for one in found.agreement['by_class'].values())
    assert [one.shared for one in found.methods] == ['backbone', 'backbone']
    assert found.standings['teacher'].held_out['positions'] > 0


def test_teacher_is_scored_by_its_own_predictions(pair):
    """A teacher with the student's weights has the same figures, another teacher has not."""
    config, teacher, folder = pair
    student = build(retinanet())
    student.load_state_dict(torch.load(folder / 'student.pth')['state_dict'])
    same = dict(config=dict(default_scope='mmdet', model=retinanet()),
                checkpoint=str(folder / 'student.pth'))
    with DefaultScope.overwrite_default_scope('mmdet'):
        sides = {}
        for name, one in dict(same=same, other=teacher).items():
            distillation = Distillation(student, FrozenTeacher(**one), [watching('cls')],
                                        config=config)
            distillation.prepare()
            sides[name] = standing_of(distillation, dict(
                train=split_loader(config, 'train', 2)), float('inf')).standings
    assert sides['same']['teacher'] == sides['same']['student'] == sides['other']['student']
    assert sides['other']['teacher'] != sides['other']['student']


def test_labels_are_in_the_frame_of_the_input(pair):
    """mmdet's test pipelines load boxes after the resize, in pixels of the original image."""
    config, _, _ = pair
    config = copy.deepcopy(config)
    assert labels_are_scaled(config)
    image, labels, _, pack = config.val_dataloader.dataset.pipeline
    found = []
    for scale in (48, 32), (96, 64):
        resize = dict(type='Resize', scale=scale, keep_ratio=True)
        config.val_dataloader.dataset.pipeline = [image, resize, labels, pack]
        assert not labels_are_scaled(config)
        assert [one['type'] for one in labelled_pipeline(config)][1:3] == [
            'LoadAnnotations', 'Resize']
        with DefaultScope.overwrite_default_scope('mmdet'):
            sample = next(iter(split_loader(config, 'held_out', 1)))['data_samples'][0]
        boxes = sample.gt_instances.bboxes
        found.append(boxes if torch.is_tensor(boxes) else boxes.tensor)
    assert torch.allclose(found[0] * 2, found[1])


def test_part_of_the_validation_is_scored_alone(pair):
    """Images that were not evaluated do not count as images without detections."""
    config, _, _ = pair
    with DefaultScope.overwrite_default_scope('mmdet'):
        loader = loader_of(config, config.val_dataloader.dataset, 2)
        evaluator = evaluator_of(config, loader)
        for batch in loader:
            for sample in batch['data_samples']:
                sample.pred_instances = copy.deepcopy(sample.gt_instances)
                boxes = sample.gt_instances.bboxes
                sample.pred_instances.bboxes = boxes if torch.is_tensor(boxes) else boxes.tensor
                sample.pred_instances.scores = torch.ones(len(sample.gt_instances))
                evaluator.process(data_samples=[sample], data_batch=batch)
        restrict(evaluator, loader.dataset, 2)
        assert evaluator.evaluate(2)['coco/bbox_mAP'] == pytest.approx(1.)


def test_time_limit_is_reported(pair):
    config, teacher, _ = pair
    found = examine(config, Config(teacher['config']), teacher['checkpoint'],
                    minutes=1e-6, methods=['dist', 'mimic']).findings
    assert found.images == dict(scored=4, train=4, held_out=4)  # the smallest useful number
    assert all(one.is_left_out for one in found.methods)
    # They are the same images, but the time was up.
    assert found.seen == []
    assert 'training and validation images: not compared; the time was up; allow more by ' \
        '--minutes' in found.problems
    assert found.methods[0].on == ['cls']
    assert len(recommend(found).reasons) == 3


def test_a_config_without_data_is_refused(pair):
    config, teacher, _ = pair
    config = copy.deepcopy(config)
    config.pop('val_dataloader')
    with pytest.raises(ValueError, match='has no `val_dataloader`, which --data needs to evaluate '
                                         'the pair; add it, or leave out --data'):
        examined(config, teacher)
