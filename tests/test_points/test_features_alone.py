"""Models of mmpose and mmdet3d, of which only features are points.

Models with their conventions stand in for them, because neither need be installed.
"""
import sys
import types

import pytest
import torch
from conftest import build, distiller, retinanet
from mmdet.models import SingleStageDetector
from mmengine.registry import MODELS

from mmkd.points import family_of, find_point, points_of
from mmkd.points.families.mono3d import MonocularDetector
from mmkd.points.families.pose import PoseEstimator

PACKAGES = dict(
    pose=('mmpose.models.pose_estimators.base', 'BasePoseEstimator', PoseEstimator),
    mono3d=('mmdet3d.models.detectors.single_stage_mono3d', 'SingleStageMono3DDetector',
            MonocularDetector))


class Base(SingleStageDetector):
    """A detector without a head of mmdet."""

    def __init__(self, bbox_head, **parts):
        super().__init__(bbox_head=dict(type='mmdet.RetinaHead', num_classes=1, in_channels=16,
                                        feat_channels=16), **parts)
        del self._modules['bbox_head']


class StandInPose(Base):
    def loss(self, inputs, data_samples):
        return dict(loss_kpt=self.extract_feat(inputs)[0].mean())


class StandInMono3D(Base):
    def extract_feat(self, inputs):
        return super().extract_feat(inputs['imgs'])

    def loss(self, inputs, data_samples):
        assert inputs['cameras'] == 'those of the batch'
        return dict(loss_depth=self.extract_feat(inputs)[0].mean())


@pytest.fixture(params=PACKAGES)
def student(request, monkeypatch):
    """The config of a student, its family, and a function that makes what it is given."""
    module, base, family = PACKAGES[request.param]
    cls = dict(pose=StandInPose, mono3d=StandInMono3D)[request.param]
    monkeypatch.setitem(sys.modules, module, types.SimpleNamespace(**{base: cls}))
    registry = MODELS.children['mmdet']
    monkeypatch.setitem(registry._module_dict, cls.__name__, cls)

    def config(width=8):
        return dict(retinanet(width=width), type=cls.__name__)

    def inputs(images):
        return images if cls is StandInPose else dict(imgs=images, cameras='those of the batch')

    return config, family, inputs


def test_only_features_are_points(student):
    config, family, _ = student
    model = build(config())
    assert isinstance(family_of(model), family)
    assert list(points_of(model)) == ['neck', 'backbone']
    with pytest.raises(ValueError, match="compare features by on='backbone'"):
        find_point(model, 'cls')


def test_learns_features_and_remains_an_ordinary_student(student):
    config, _, inputs = student
    teacher = dict(config=dict(default_scope='mmdet', model=config(12)), checkpoint=None)
    model = build(distiller(config(), teacher,
                            dict(type='mmkd.MSELoss', on='backbone', connector='conv'),
                            dict(type='mmkd.PKDLoss', on='neck')))
    model.init_weights()
    losses = model.train()(inputs(torch.randn(2, 3, 64, 64)), [None, None], mode='loss')
    own = 'loss_kpt' if 'loss_kpt' in losses else 'loss_depth'
    assert set(losses) == {own, 'loss_backbone_mse', 'loss_neck_pkd'}
    for name in ('loss_backbone_mse', 'loss_neck_pkd'):
        assert all(torch.isfinite(one) for one in losses[name])
        gradients = torch.autograd.grad(sum(losses[name]), list(model.backbone.parameters()),
                                        retain_graph=True, allow_unused=True)
        assert any(one is not None and one.any() for one in gradients)
    build(config()).load_state_dict(model.state_dict(), strict=True)


def test_images_without_labels_are_for_models_that_are_given_images(student, tmp_path):
    config, family, _ = student
    teacher = dict(config=dict(default_scope='mmdet', model=config(12)), checkpoint=None)
    given = dict(distiller(config(), teacher, dict(type='mmkd.PKDLoss', on='neck')),
                 unlabelled=str(tmp_path))
    if family is PoseEstimator:
        build(given)
    else:
        with pytest.raises(ValueError, match='`unlabelled` is for models that are given images'):
            build(given)


def test_networks_are_asked_about_a_batch_in_the_form_of_the_student(student):
    """As by tools/cache_teacher.py."""
    config, _, inputs = student
    teacher = dict(config=dict(default_scope='mmdet', model=config(12)), checkpoint=None)
    model = build(distiller(config(), teacher, dict(type='mmkd.PKDLoss', on='neck')))
    images = torch.randn(2, 3, 64, 64)
    model.distillation.prepare(images)
    told = [model.distillation.ask({}, given, [None, None], model.distillation.terms)
            for given in (images, inputs(images))]
    torch.testing.assert_close(*([list(answers.values()) for answers in one['teacher'].values()]
                                 for one in told), rtol=0, atol=0)


def test_missing_images_are_named():
    with pytest.raises(ValueError, match=r"must have `imgs`, but got \['points'\]"):
        MonocularDetector.batches.images(dict(points=[]))
