"""A Distiller must be the outermost model of a run. It distils whichever method is called."""
import pytest
import torch
from conftest import (
    build,
    detector_config,
    distiller,
    retinanet,
    save_teacher,
    segmentor,
    train,
    two_stage,
)
from mmdet.testing import demo_mm_inputs
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS
from mmengine.runner import Runner

KD = dict(type='mmkd.KDLoss', on='cls')


def batch(model, **more):
    torch.manual_seed(0)
    return model.data_preprocessor(demo_mm_inputs(
        2, (3, 64, 96), num_items=[2, 1], num_classes=3, **more), True)


def test_loss_method_equals_forward_in_loss_mode(tmp_path):
    """Models that contain a detector call `loss`, the method of mmdet and mmseg."""
    model = build(distiller(retinanet(), save_teacher(tmp_path / 'a.pth', retinanet()), KD))
    model.init_weights()
    data = batch(model)
    model.eval()  # in train mode, the running statistics would change
    whole = model(**data, mode='loss')
    found = model.loss(data['inputs'], data['data_samples'])
    assert found.keys() == whole.keys() == {'loss_cls', 'loss_bbox', 'loss_cls_kd'}
    for name in whole:
        for one, other in zip(found[name], whole[name]):
            assert torch.equal(one, other)
    assert sum(found['loss_cls_kd']) > 0


class Around(BaseModel):
    """Calls `loss` of a detector and renames the losses, like mmdet's SemiBaseDetector."""

    def __init__(self, detector):
        super().__init__()
        self.student = MODELS.build(detector) if isinstance(detector, dict) else detector
        self.data_preprocessor = self.student.data_preprocessor

    def forward(self, inputs, data_samples=None, mode='tensor'):
        if mode != 'loss':
            return self.student(inputs, data_samples, mode=mode)
        return {f'sup_{name}': value for name, value in self.student.loss(
            inputs, data_samples).items()}


MODELS.register_module(module=Around, force=True)


def test_outer_model_is_allowed_without_a_runner(tmp_path):
    """All losses are returned, and the mean teacher is updated."""
    torch.manual_seed(0)
    inner = build(distiller(retinanet(), dict(
        type='mmkd.MeanTeacher', momentum=0.5, warmup=1), dict(KD, loss_weight=10.)))
    inner.student.init_weights()
    outer = Around(inner)
    wrapper = OptimWrapper(torch.optim.SGD(outer.parameters(), lr=0.05))
    data = demo_mm_inputs(2, (3, 64, 96), num_items=[2, 1], num_classes=3)
    name = 'bbox_head.retina_cls.weight'
    expected = before = None
    for step in range(4):
        losses = outer.train_step(data, wrapper)
        assert losses['sup_loss_cls_kd'] > 0
        if step:  # the teacher is updated when the next step begins
            share = max(0.5, 1 / step)
            expected = (1 - share) * (0 if expected is None else expected) + share * before
            torch.testing.assert_close(inner.teacher.model.state_dict()[name], expected)
        before = inner.student.state_dict()[name].clone()


def soft_teacher(shapes, tmp_path, detector):
    """Config of mmdet's SoftTeacher with its own pipeline of three branches."""
    return dict(type='SoftTeacher', detector=detector, data_preprocessor=dict(
        type='MultiBranchDataPreprocessor', data_preprocessor=detector.get('student', detector)[
            'data_preprocessor']), semi_train_cfg=dict(
        freeze_teacher=True, sup_weight=1., unsup_weight=1., pseudo_label_initial_score_thr=0.5,
        rpn_pseudo_thr=0.9, cls_pseudo_thr=0.9, reg_pseudo_thr=0.02, jitter_times=1,
        jitter_scale=0.06, min_pseudo_bbox_wh=(1e-2, 1e-2)), semi_test_cfg=dict(
        predict_on='teacher'))


@pytest.mark.parametrize('kind', ['SoftTeacher', 'Around'])
def test_outer_model_is_refused_in_a_run(shapes, tmp_path, kind):
    student = two_stage() if kind == 'SoftTeacher' else retinanet()
    teacher = save_teacher(tmp_path / 'a.pth', student)
    inner = distiller(student, teacher, KD)
    model = soft_teacher(shapes, tmp_path, inner) if kind == 'SoftTeacher' else dict(
        type='Around', detector=inner)
    runner = Runner.from_cfg(detector_config(shapes, model, str(tmp_path / 'run')))
    with pytest.raises(ValueError, match=f'must be the outermost model.*`student` of {kind}'
                       '.*use the plain student'):
        runner.train()


def test_uninitialised_distiller_is_refused_in_its_first_step(shapes, tmp_path):
    teacher = save_teacher(tmp_path / 'a.pth', retinanet())
    runner = Runner.from_cfg(detector_config(shapes, dict(type='Around', detector=distiller(
        retinanet(), teacher, KD)), str(tmp_path / 'run')))
    runner.model.init_weights = lambda: None
    with pytest.raises(ValueError, match='must be the outermost model'):
        runner.train()


def test_wrappers_and_averages_are_not_outer_models(shapes, streets, tmp_path):
    """A copy for weight averaging, and the wrapper around the model, do not count as outer models.
    """
    from conftest import segmentor_config
    teacher = save_teacher(tmp_path / 'a.pth', segmentor(), classes=(), scope='mmseg')
    model = dict(distiller(segmentor(), teacher, KD), hooks=[dict(type='EMAHook')])
    _, losses = train(segmentor_config(streets, model, str(tmp_path / 'run')))
    assert len(losses) == 2
    assert losses[0]['loss_cls_kd'] > 0
