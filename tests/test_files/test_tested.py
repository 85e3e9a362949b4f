"""Test, validation and inference require all weights. Training may start from a part of them."""
import copy

import pytest
import torch
from conftest import build, detector_config, distiller, retinanet, save_teacher, segmentor, train
from mmengine.model import BaseTTAModel
from mmengine.runner import Runner

from mmkd.files.tested import fit_for_test


def of(model, change=None):
    """Return a checkpoint of a model, with changed weights."""
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    return dict(meta={}, state_dict=weights if change is None else change(weights))


def renamed(prefix):
    return lambda weights: {f'{prefix}{key}': value for key, value in weights.items()}


def without(*ends):
    return lambda weights: {key: value for key, value in weights.items() if not key.endswith(ends)}


def with_more(name, value=1.):
    return lambda weights: dict(weights, **{name: torch.full((2, ), value)})


@pytest.fixture(scope='module')
def model():
    return build(retinanet())


@pytest.mark.parametrize(('change', 'says'), [
    (renamed('model.'), r'does not fit the model that is tested \(RetinaNet\): .*missing in the '
     'file.*begin with `model.`, and fit without it'),
    (renamed('student.'), 'begin with `student.`'),
    (without('retina_cls.bias'), r'1 missing in the file \(bbox_head.retina_cls.bias\); use the '
     'config'),
    (without('running_var'), 'missing in the file .backbone.bn1.running_var'),
    (with_more('backbone.layer3.2.conv1.weight'), 'unknown to the model .backbone.layer3.2.conv1'),
    (with_more('bbox_head.cls_convs.1.conv.weight'), '1 unknown to the model'),
    (lambda weights: dict(weights, **{'backbone.conv1.weight': torch.ones(3)}),
     r'1 with other shapes \(backbone.conv1.weight: \(3,\) in the file, \(8, 3, 7, 7\)'),
    (lambda weights: {}, 'missing in the file'),
    (lambda weights: dict(weights, **{
        'bbox_head.retina_cls.bias': torch.full((27, ), float('nan'))}),
     'infinite or NaN values in bbox_head.retina_cls.bias'),
])
def test_incomplete_weights_are_refused(model, change, says):
    with pytest.raises(ValueError, match=f'(?s){says}'):
        fit_for_test(copy.deepcopy(model), of(build(retinanet()), change), 'epoch_1.pth')


@pytest.mark.parametrize('change', [
    None, renamed('module.'), without('num_batches_tracked'), with_more('auxiliary_head.conv.bias'),
    with_more('ema_backbone_conv1_weight')])
def test_complete_weights_are_loaded(model, change):
    torch.manual_seed(7)
    other = build(retinanet())
    other.init_weights()
    mine = copy.deepcopy(model)
    fit_for_test(mine, of(other, change), 'epoch_1.pth')
    for name, value in other.named_parameters():
        assert torch.equal(mine.get_parameter(name), value)


def test_masks_may_be_left_out_but_no_layer():
    from conftest import two_stage
    masks, boxes = build(two_stage('mask-rcnn')), build(two_stage())
    fit_for_test(boxes, of(masks), 'epoch_1.pth')
    with pytest.raises(ValueError, match='roi_head.mask_head'):
        fit_for_test(masks, of(boxes), 'epoch_1.pth')


@pytest.mark.parametrize('way', ['test', 'val', 'distilled', 'tta'])
def test_a_runner_does_not_score_random_weights(shapes, tmp_path, way):
    path = tmp_path / 'other.pth'
    torch.save(of(build(retinanet()), renamed('model.')), path)
    model = retinanet()
    if way == 'distilled':
        model = distiller(model, dict(config='unused.py', checkpoint='unused.pth'))
    if way == 'tta':
        model = dict(type='DetTTAModel', module=model)
    config = detector_config(shapes, model, str(tmp_path / 'run'), load_from=str(path))
    runner = Runner.from_cfg(config)
    assert isinstance(runner.model, BaseTTAModel) == (way == 'tta')
    with pytest.raises(ValueError, match=r'other.pth` does not fit the model that is tested'):
        runner.val() if way == 'val' else runner.test()


@pytest.mark.slow
def test_an_average_is_tested_by_a_config_that_averages(shapes, tmp_path):
    """Its checkpoint has the average as weights, and stores the current weights separately."""
    config = detector_config(shapes, retinanet(), str(tmp_path / 'run'), custom_hooks=[
        dict(type='EMAHook')])
    train(config)
    config.load_from = str(tmp_path / 'run' / 'epoch_1.pth')
    assert 'coco/bbox_mAP' in Runner.from_cfg(config).test()


def test_init_detector_refuses_what_does_not_fit(shapes, tmp_path):
    from mmdet.apis import init_detector
    path = tmp_path / 'other.pth'
    config = detector_config(shapes, retinanet(), str(tmp_path / 'run'))
    torch.save(of(build(retinanet()), without('retina_cls.weight')), path)
    with pytest.raises(ValueError, match='missing in the file .bbox_head.retina_cls.weight'):
        init_detector(config, str(path), device='cpu')
    whole = save_teacher(tmp_path / 'whole.pth', retinanet())['checkpoint']
    loaded = init_detector(config, whole, device='cpu')
    assert torch.equal(loaded.state_dict()['bbox_head.retina_cls.weight'],
                       torch.load(whole)['state_dict']['bbox_head.retina_cls.weight'])


def test_init_model_refuses_what_does_not_fit(streets, tmp_path):
    from conftest import segmentor_config
    from mmseg.apis import init_model
    path = tmp_path / 'other.pth'
    config = segmentor_config(streets, segmentor(), str(tmp_path / 'run'))
    torch.save(of(build(segmentor(), 'mmseg'), without('conv_seg.weight')), path)
    with pytest.raises(ValueError, match='missing in the file .*conv_seg.weight'):
        init_model(config, str(path), device='cpu')


def test_training_may_start_from_a_part(shapes, tmp_path):
    """The checkpoint has another number of classes, as in fine-tuning."""
    path = tmp_path / 'start.pth'
    torch.save(of(build(retinanet(classes=4))), path)
    runner, losses = train(detector_config(
        shapes, retinanet(), str(tmp_path / 'run'), load_from=str(path)))
    assert len(losses) == 2
    assert runner.iter == 2
