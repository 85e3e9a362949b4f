"""A teacher's predictions train students of all other model families."""
import os
import sys

import pytest
import torch
from conftest import (
    CLASSES,
    detector_config,
    distiller,
    retinanet,
    save_teacher,
    saved_at,
    segmentor,
    segmentor_config,
    train,
    two_stage,
)
from support.queries import detector
from support.rtmdet import rtmdet

LABELS = dict(type='mmkd.PseudoLabels', score_thr=0.)


def mask_transformer(package):
    sys.path.append(os.path.join(os.path.dirname(os.path.dirname(__file__)), 'test_points'))
    try:
        from test_mask import model_of
    finally:
        sys.path.pop()
    model = model_of(f'{package}-mask2former')[1]
    if package == 'mmdet':
        model['test_cfg'].update(max_per_image=6)
    return model


def with_queries(kind):
    return dict(detector(kind, 20), test_cfg=dict(max_per_img=20))


DETECTORS = dict(
    retinanet=retinanet, faster_rcnn=two_stage, dino=lambda: with_queries('dino'), rtmdet=rtmdet,
    cascade=lambda: two_stage('cascade-rcnn'), detr=lambda: with_queries('detr'))


@pytest.mark.slow
@pytest.mark.parametrize(('other', 'student'), [
    ('dino', 'retinanet'), ('retinanet', 'dino'), ('rtmdet', 'faster_rcnn'), ('cascade', 'rtmdet'),
    ('faster_rcnn', 'detr')])
def test_detectors(shapes, tmp_path, other, student):
    entry = save_teacher(tmp_path / 't.pth', DETECTORS[other](), classes=CLASSES[::-1])
    if other == 'rtmdet':  # its initial boxes have no area
        checkpoint = saved_at(tmp_path / 't.pth')
        for name, tensor in checkpoint['state_dict'].items():
            if 'rtm_reg' in name and name.endswith('bias'):
                tensor += 3.
        torch.save(checkpoint, tmp_path / 't.pth')
    model = dict(distiller(DETECTORS[student](), entry, LABELS), unlabelled=shapes)
    _, losses = train(detector_config(shapes, model, str(tmp_path / 'run'),
                                      **{'train_cfg.val_interval': 100}))
    for one in losses:
        own = {name for name in one if 'loss' in name and not name.startswith('unlabelled.')}
        assert {name.removeprefix('unlabelled.') for name in one if name.startswith(
            'unlabelled.') and 'loss' in name} == own
        assert all(torch.tensor(list(one.values())).isfinite())
        assert sum(value for name, value in one.items() if name.startswith('unlabelled.loss')) > 0


@pytest.mark.slow
def test_a_detector_of_coco_labels_for_three_classes(shapes, tmp_path):
    """With `classes=` alone, without a term. One class has no teacher."""
    from mmdet.datasets import CocoDataset
    other = retinanet()
    other['bbox_head']['num_classes'] = 80
    entry = save_teacher(tmp_path / 't.pth', other, classes=CocoDataset.METAINFO['classes'])
    model = dict(distiller(retinanet(), dict(entry, classes={
        CLASSES[0]: ['car', 'truck', 'bus'], CLASSES[1]: 'dog', CLASSES[2]: None}), LABELS),
        unlabelled=shapes)
    _, losses = train(detector_config(shapes, model, str(tmp_path / 'run'),
                                      **{'train_cfg.val_interval': 100}))
    assert all(one['unlabelled.loss_bbox'] > 0 for one in losses)
    log, = (tmp_path / 'run').rglob('*.log')
    assert f'knows no {CLASSES[2]}, so on unlabelled images these objects are learnt as ' in (
        log.read_text())


@pytest.mark.slow
def test_masks(shapes, tmp_path):
    """From a mask transformer to Mask R-CNN. The masks of the labels are rectangles."""
    import json
    with open(f'{shapes}/instances.json') as file:
        content = json.load(file)
    for one in content['annotations']:
        x, y, w, h = one['bbox']
        one['segmentation'] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    (tmp_path / 'masks.json').write_text(json.dumps(content))
    entry = save_teacher(tmp_path / 't.pth', mask_transformer('mmdet'))
    model = dict(distiller(two_stage('cascade-mask-rcnn'), entry, LABELS), unlabelled=shapes)
    config = detector_config(shapes, model, str(tmp_path / 'run'), **{
        'train_cfg.val_interval': 100,
        'train_dataloader.dataset.ann_file': str(tmp_path / 'masks.json')})
    config.train_dataloader.dataset.pipeline[1].with_mask = True
    _, losses = train(config)
    assert all(one['unlabelled.s0.loss_mask'] > 0 for one in losses)


@pytest.mark.slow
def test_label_maps(streets, tmp_path):
    """From a mask transformer to DeepLabV3."""
    other, student = mask_transformer('mmseg'), segmentor('deeplabv3', classes=3)
    names = ('road', 'sidewalk', 'building')  # in the order of the labels
    entry = save_teacher(tmp_path / 't.pth', other, classes=names[::-1], scope='mmseg')
    model = dict(distiller(student, entry, dict(LABELS, score_thr=0.01)), unlabelled=streets,
                 classes=names)
    config = segmentor_config(streets, model, str(tmp_path / 'run'))
    config.train_dataloader.dataset.pipeline.insert(2, dict(type='LabelsBelow', count=3))
    config.train_cfg.val_interval = 100
    config.val_dataloader = config.val_evaluator = config.val_cfg = None
    _, losses = train(config)
    own = {name for name in losses[0] if 'loss' in name and not name.startswith('unlabelled.')}
    for one in losses:
        found = {name.removeprefix('unlabelled.'): value for name, value in one.items()
                 if name.startswith('unlabelled.') and 'loss' in name}
        assert found.keys() == own
        assert sum(found.values()) > 0


@pytest.mark.slow
def test_a_mean_teacher_labels(shapes, tmp_path):
    """The checkpoint contains the plain student."""
    model = dict(distiller(retinanet(), dict(type='mmkd.MeanTeacher'), LABELS), unlabelled=shapes)
    _, losses = train(detector_config(shapes, model, str(tmp_path / 'run')))
    assert all(one['unlabelled.loss_cls'] > 0 for one in losses)
    state = saved_at(tmp_path / 'run' / 'epoch_1.pth')['state_dict']
    from conftest import build
    build(retinanet()).load_state_dict(state)


@pytest.fixture(autouse=True, scope='module')
def labels_below():
    """Register a transform that ignores labels that the small students do not have."""
    from mmengine.registry import TRANSFORMS

    @TRANSFORMS.register_module(force=True)
    class LabelsBelow:
        def __init__(self, count):
            self.count = count

        def __call__(self, results):
            labels = results['gt_seg_map']
            labels[labels >= self.count] = 255
            return results
