"""PackViews: all views share the geometry but not the colours, and each network gets its own view.
"""
import numpy as np
import pytest
import torch
from conftest import (
    detector_config,
    distiller,
    retinanet,
    save_teacher,
    segmentor,
    segmentor_config,
    train,
)
from mmengine.registry import TRANSFORMS

from mmkd import PackViews
from mmkd.networks.inputs import view_of
from mmkd.points.recorder import recording

DIST = dict(type='mmkd.DISTLoss', on='cls')


@TRANSFORMS.register_module()
class Brighter:
    """Adds a constant to every pixel."""

    def __init__(self, by):
        self.by = by

    def __call__(self, results):
        results['img'] = np.clip(results['img'].astype(np.int64) + self.by, 0, 255).astype(
            np.uint8)
        return results


@TRANSFORMS.register_module()
class Mirror:
    def __call__(self, results):
        results['img'] = results['img'][:, ::-1]
        results['flip'] = True
        return results


def views(pack, student=(), **views):
    return dict(type='mmkd.PackViews', pack=dict(type=pack), student=list(student), views=views)


def run(package, data, work_dir, model, pack):
    if package == 'mmdet':
        config = detector_config(data, model, str(work_dir))
    else:
        config = segmentor_config(data, model, str(work_dir))
    config.train_dataloader.dataset.pipeline[-1] = pack
    return config


@pytest.mark.parametrize('package', ['mmdet', 'mmseg'])
def test_each_network_sees_its_view(package, shapes, streets, tmp_path):
    """The teacher's input is brighter by 14 gray values, with the same geometry."""
    plain, data, pack, classes = dict(
        mmdet=(retinanet, shapes, 'PackDetInputs', ('disc', 'square', 'cross')),
        mmseg=(segmentor, streets, 'PackSegInputs', None))[package]
    from mmseg.datasets import CityscapesDataset
    classes = classes or CityscapesDataset.METAINFO['classes']
    teacher = save_teacher(tmp_path / 't.pth', plain(), classes=classes, scope=package)
    model = distiller(plain(), dict(teacher, view='bright'), DIST)
    config = run(package, data, tmp_path / 'run', model,
                 views(pack, [dict(type='Brighter', by=-5)], bright=[dict(type='Brighter', by=9)]))
    from mmengine.runner import Runner
    runner = Runner.from_cfg(config)
    seen = []
    distillation = runner.model.distillation
    losses = distillation.losses

    def watched(forward, inputs, data_samples):
        with recording(distillation.teacher.model, ['backbone']) as calls:
            result = losses(forward, inputs, data_samples)
        seen.append((inputs, calls['backbone'][-1].args[0], data_samples))
        return result

    distillation.losses = watched
    runner.train()
    std = runner.model.data_preprocessor.std
    for inputs, told, samples in seen:
        for own, other, sample in zip(inputs, told, samples):
            height, width = sample.img_shape[:2]
            inside = ((other - own) * std)[:, :height, :width]
            # The difference is 14, or less where values were clipped at 0.
            assert inside.max() == pytest.approx(14, abs=1e-3)
            assert inside.min() >= 9 - 1e-3
            outside = torch.ones_like(own, dtype=torch.bool)
            outside[:, :height, :width] = False
            assert torch.equal(own[outside], other[outside])


def test_view_of_another_size_is_refused(shapes, tmp_path):
    teacher = save_teacher(tmp_path / 't.pth', retinanet())
    student = retinanet()
    student['data_preprocessor']['batch_augments'] = [
        dict(type='BatchSyncRandomResize', random_size_range=(128, 129), size_divisor=32,
             interval=1)]
    config = run('mmdet', shapes, tmp_path / 'run',
                 distiller(student, dict(teacher, view='weak'), DIST),
                 views('PackDetInputs', weak=[]))
    config.train_cfg.max_epochs = 3
    with pytest.raises(ValueError, match='the view `weak` of an image is .* `batch_augments`'):
        train(config)


def test_view_that_is_not_packed_is_named(shapes, tmp_path):
    teacher = dict(save_teacher(tmp_path / 't.pth', retinanet()), view='weak')
    model = distiller(retinanet(), teacher, DIST)
    with pytest.raises(ValueError, match='needs the view `weak`, but the samples contain no views; '
                                         'add it to mmkd.PackViews'):
        train(detector_config(shapes, model, str(tmp_path / 'run')))
    with pytest.raises(ValueError, match=r"the samples contain the views \['strong'\]"):
        train(run('mmdet', shapes, tmp_path / 'other', distiller(retinanet(), teacher, DIST),
                  views('PackDetInputs', strong=[])))


def results():
    return dict(img=np.full((8, 10, 3), 100, np.uint8), img_shape=(8, 10), flip=False,
                ori_shape=(8, 10), img_id=1, img_path='x', scale_factor=(1., 1.))


def test_views_share_their_geometry():
    pack = dict(type='mmdet.PackDetInputs', meta_keys=('img_shape', ))
    with pytest.raises(ValueError, match='Mirror of the view `b` may only change colours, but it '
                                         'has changed f'):
        PackViews(pack, dict(b=[Mirror()]))(results())
    with pytest.raises(ValueError, match='Mirror of the view `student`'):
        PackViews(pack, dict(b=[]), student=[Mirror()])(results())
    packed = PackViews(pack, dict(b=[Brighter(20)]), student=[Brighter(-20)])(results())
    assert packed['inputs'].unique().tolist() == [80]
    view = packed['data_samples'].mmkd_view_b
    assert (view.dtype, tuple(view.shape), view.unique().tolist()) == (
        torch.uint8, (3, 8, 10), [120])


@pytest.mark.parametrize(('arguments', 'message'), [
    (dict(views={}), '`views` is empty'), (dict(views=['weak']), '`views` must be a dict'),
    (dict(views=dict(weak='none')), '`views` must be a dict')])
def test_mistakes_are_named(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        PackViews(dict(type='mmdet.PackDetInputs'), **arguments)


def test_views_are_normalised_as_the_images_are():
    from mmdet.models import DetDataPreprocessor
    preprocessor = DetDataPreprocessor(mean=[1., 2., 3.], std=[2., 4., 8.], bgr_to_rgb=True,
                                       pad_size_divisor=32)
    packed = PackViews(dict(type='mmdet.PackDetInputs', meta_keys=('img_shape', )),
                       dict(same=[]))(dict(results(), img=np.arange(240, dtype=np.uint8).reshape(
                           8, 10, 3)))
    batch = preprocessor(dict(inputs=[packed['inputs']], data_samples=[packed['data_samples']]))
    found = view_of('same', batch['inputs'], batch['data_samples'], preprocessor)
    torch.testing.assert_close(found, batch['inputs'])
