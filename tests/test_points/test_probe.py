"""Backbones of a fixed image size: the dry run, training, and errors for other sizes."""
import copy

import pytest
import torch
from conftest import (
    build,
    detector_config,
    distiller,
    retinanet,
    save_teacher,
    segmentor,
    segmentor_config,
    train,
)
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from mmkd.files.zoo import config_path
from mmkd.inspection import inspect_pair
from mmkd.points.image_sizes import TrainedAt, size_after, sizes_of_model, trained_at
from mmkd.points.probe import DoesNotRun, first_look

DIST = dict(type='mmkd.DISTLoss', on='cls')


def transformer(size, kind='mae', width=24):
    """Return mmseg's MAE or BEiT with UPerNet, narrow, for images of a fixed size."""
    model = Config.fromfile(config_path(f'mmseg::_base_/models/upernet_{kind}.py')).model
    norm = dict(type='BN')
    model.backbone.update(img_size=size, embed_dims=width, num_heads=3, num_layers=4,
                          out_indices=(0, 1, 2, 3))
    model.neck.update(embed_dim=width, norm_cfg=norm)
    model.decode_head.update(in_channels=[width] * 4, channels=8, num_classes=19, norm_cfg=norm)
    model.auxiliary_head.update(in_channels=width, channels=8, num_classes=19, norm_cfg=norm)
    model.data_preprocessor.size_divisor = 1
    return model.to_dict()


def classes():
    from mmseg.datasets import CityscapesDataset
    return CityscapesDataset.METAINFO['classes']


def saved(path, model):
    return save_teacher(path, model, classes(), scope='mmseg')


def run(streets, model, work_dir, height, width):
    """A run that crops its images to a fixed size."""
    config = segmentor_config(streets, model, str(work_dir), val_dataloader=None, val_cfg=None,
                              val_evaluator=None)
    pipeline = config.train_dataloader.dataset.pipeline
    pipeline[2] = dict(type='RandomCrop', crop_size=(height, width))
    pipeline.insert(2, dict(type='Resize', scale=(2 * width, 2 * height)))
    return config


@pytest.mark.parametrize(('kind', 'size'), [('mae', 160), ('beit', (96, 160))])
def test_student_of_one_size_is_trained(kind, size, streets, tmp_path):
    """None of the usual sizes 128, 320 and 512 fits the student. The teacher takes any size."""
    height, width = (size, size) if isinstance(size, int) else size
    teacher = saved(tmp_path / 't.pth', segmentor())
    model = distiller(transformer(size, kind), teacher, DIST, dict(DIST, on='aux'))
    runner, losses = train(run(streets, model, tmp_path / 'run', height, width))
    assert len(losses) == 2
    assert all(step['loss_cls_dist'] > 0 and step['loss_aux_dist'] > 0 for step in losses)
    # The dry run used this size; UPerNet's output has a quarter of it.
    assert runner.model.terms[0].fitting.shapes[0] == [(1, 19, height // 4, width // 4)]


def test_teacher_of_one_size_teaches_at_it(streets, tmp_path):
    teacher = saved(tmp_path / 't.pth', transformer(160))
    student = segmentor()
    student['data_preprocessor']['size'] = (160, 160)
    _, losses = train(run(streets, distiller(student, teacher, DIST), tmp_path / 'run', 160, 160))
    assert all(step['loss_cls_dist'] > 0 for step in losses)


@pytest.mark.parametrize('size', [160, 128])
def test_teacher_of_another_size_is_refused_before_training(size, streets, tmp_path):
    """For a size that is among the usual ones, and for another."""
    teacher = saved(tmp_path / 't.pth', transformer(size))
    runner = Runner.from_cfg(run(streets, distiller(segmentor(), teacher, DIST),
                                 tmp_path / 'run', 64, 64))
    with pytest.raises(ValueError, match=f'the teacher runs on images of {size}x{size}, but fails '
                                         'on the training images of 64x64: RuntimeError: .*; train '
                                         f'at {size}x{size}, or use a teacher that supports images '
                                         'of 64x64') as (
                           info):
        runner.train()
    assert '\n' not in str(info.value)
    assert runner.iter == 0


def test_two_different_fixed_sizes_are_refused():
    student, teacher = (Config(dict(default_scope='mmseg', model=transformer(size)))
                        for size in (160, (96, 192)))
    found = inspect_pair(student, teacher)
    assert all(one.term is None for one in found)
    assert found[0].problem.startswith(
        'the teacher needs images of 96x192, but the student needs images of 160x160, on which '
        'the teacher fails: ')
    assert found[0].problem.endswith('train at 96x192, or use a teacher that supports images of '
                                     '160x160')


def test_sizes_that_differ_are_named_in_the_first_batch(streets, tmp_path):
    """Crops of small images are smaller, so the config does not determine the size."""
    teacher = saved(tmp_path / 't.pth', transformer(160))
    student = segmentor()
    student['data_preprocessor'].update(size=None, size_divisor=32)
    config = run(streets, distiller(student, teacher, DIST), tmp_path / 'run', 64, 64)
    config.train_dataloader.dataset.pipeline[2] = dict(type='RandomResize', scale=(160, 128),
                                                       ratio_range=(1., 1.5), keep_ratio=True)
    with pytest.raises(ValueError, match='the teacher runs on images of 160x160, but fails on '
                                         'those of the batch, 64x64: .*; train at 160x160'):
        train(config)


def by_hand(model, size):
    """Run one step without a Runner."""
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample
    sample = SegDataSample(metainfo=dict(img_shape=size, ori_shape=size, pad_shape=size))
    sample.gt_sem_seg = PixelData(data=torch.zeros(1, *size, dtype=torch.long))
    image = torch.zeros(3, *size, dtype=torch.uint8)
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.01))
    return model.train().train_step(dict(inputs=[image] * 2, data_samples=[
        sample, copy.deepcopy(sample)]), optimizer)


def test_first_batch_gives_the_size_without_a_config():
    """The model has no attribute with its size."""
    teacher = dict(config=dict(default_scope='mmseg', model=segmentor()), checkpoint=None)
    model = build(distiller(transformer(160), teacher, DIST), 'mmseg')
    del model.student.backbone.img_size
    with pytest.raises(ValueError, match='the student does not run on a blank image of 512x512 '
                       'pixels: .*; it also fails at the other sizes 128x128, 320x320'):
        model.prepare()
    assert by_hand(model, (160, 160))['loss_cls_dist'] >= 0

    teacher['config']['model'] = transformer(160)
    model = build(distiller(segmentor(), teacher, DIST), 'mmseg')
    with pytest.raises(ValueError, match='the teacher runs on images of 160x160, but fails on the '
                                         'training images of 64x64'):
        by_hand(model, (64, 64))


def test_dry_run_uses_the_size_of_the_config():
    """Only the pipeline determines the size."""
    pair = Config(dict(default_scope='mmseg', model=transformer(160), train_dataloader=dict(
        dataset=dict(type='CityscapesDataset', pipeline=[
            dict(type='Resize', scale=(160, 160)), dict(type='PackSegInputs')]))))
    found = {one.point: one.verdict for one in inspect_pair(pair, pair)}
    assert found == {'cls': 'as it is', 'aux': 'as it is', 'features': 'as it is',
                     'neck': 'as it is', 'backbone': 'as it is'}


def test_partner_of_one_size_shares_parts():
    partner = dict(config=dict(default_scope='mmseg', model=transformer(160)),
                   shared=['backbone.layers.1'])
    model = build(dict(type='mmkd.Distiller', student=transformer(160), companions=dict(
        partner=partner), distill=[dict(DIST, on=dict(student='cls', teacher='partner:cls'))]),
        'mmseg')
    model.init_weights()
    shared = model.distillation.partners['partner'].shared_modules
    assert model.student.backbone.layers[0] in shared  # finding the shared layers runs the partner


# --- sizes in models and configs ----------------------------------------------------------------


@pytest.mark.parametrize('package', ['mmdet', 'mmseg'])
@pytest.mark.parametrize('steps', [
    [dict(type='Resize', scale=(90, 70))],
    [dict(type='Resize', scale=(90, 70)), dict(type='RandomCrop', crop_size=(50, 40))],
    [dict(type='Resize', scale=(90, 70)), dict(type='RandomCrop', crop_size=(50, 80))],
    [dict(type='Resize', scale=(90, 70)), dict(type='Pad', size=(110, 100))],
    [dict(type='Resize', scale=(60, 40), keep_ratio=True), dict(type='Pad', size=(80, 50))],
    [dict(type='Resize', scale=(90, 70)), dict(type='RandomFlip', prob=1.)],
])
def test_size_after_a_pipeline_is_what_it_gives(package, steps, streets, shapes, tmp_path):
    """Packages differ in the order of width and height. Compared with the loaded images."""
    config = segmentor_config(streets, {}, str(tmp_path)) if package == 'mmseg' else (
        detector_config(shapes, {}, str(tmp_path)))
    dataset = config.train_dataloader.dataset
    dataset.pipeline = [*dataset.pipeline[:2], *steps, dataset.pipeline[-1]]
    size, is_exact = size_after(dataset.pipeline, package)
    with DefaultScope.overwrite_default_scope(package):
        built = Runner.build_dataloader(config.train_dataloader, seed=0).dataset
    found = {tuple(built[number]['inputs'].shape[1:]) for number in range(4)}
    assert found == {size}
    assert is_exact


@pytest.mark.parametrize('steps', [
    [], [dict(type='RandomResize', scale=(90, 70))], [dict(type='Resize', scale_factor=0.5)],
    [dict(type='Resize', scale=(90, 70)), dict(type='MyOwnTransform')],
    [dict(type='Resize', scale=(90, 70), keep_ratio=True)],
    [dict(type='RandomCrop', crop_size=(50, 40))],
    [dict(type='Resize', scale=(90, 70)), dict(type='Pad', size_divisor=32)],
    [dict(type='Resize', scale=(90, 70)), dict(type='Pad', size=(80, 80))],
    [dict(type='Resize', scale=(90, 70)),
     dict(type='RandomCrop', crop_size=(0.5, 0.5), crop_type='relative')],
])
def test_sizes_that_a_pipeline_does_not_settle(steps):
    assert not size_after(steps)[1]


def test_training_size_of_a_config():
    from mmdet.models import BatchFixedSizePad

    def said(steps, model=None, **wrapper):
        model = model or build(retinanet())
        inner = dict(type='CocoDataset', pipeline=steps)
        return trained_at(model, Config(dict(default_scope='mmdet', train_dataloader=dict(
            dataset=dict(wrapper, dataset=inner) if wrapper else inner))))

    resize = [dict(type='Resize', scale=(90, 70)), dict(type='PackDetInputs')]
    assert said(resize) == TrainedAt((96, 96), ((96, 96), ))  # padded to multiples of 32
    assert said(resize, type='RepeatDataset', times=2).exact == (96, 96)
    assert said([dict(type='mmkd.Replay', transforms=resize)]).exact == (96, 96)
    mixed = said([], None, type='MultiImageMixDataset', pipeline=resize)
    assert mixed.exact == (96, 96)
    assert said([dict(resize[0], keep_ratio=True)]) == TrainedAt(None, ((96, 96), ))
    padded = build(retinanet())
    padded.data_preprocessor.batch_augments = torch.nn.ModuleList([BatchFixedSizePad((64, 128))])
    assert said(resize, padded).exact == (64, 128)
    concatenated = Config(dict(train_dataloader=dict(dataset=dict(
        type='ConcatDataset', datasets=[dict(pipeline=resize), dict(pipeline=[
            dict(type='Resize', scale=(40, 40))])]))))
    assert trained_at(build(retinanet()), concatenated) == TrainedAt(None, ((96, 96), (64, 64)))
    assert trained_at(build(retinanet()), Config()) == TrainedAt()


@pytest.mark.parametrize(('written', 'means'), [
    (160, (160, 160)), ((96, 160), (96, 160)), ([96], (96, 96)), (None, None), ('160', None)])
def test_size_of_a_model(written, means):
    model = build(segmentor(), 'mmseg')
    model.backbone.img_size = written
    assert sizes_of_model(model) == [means] * bool(means)
    model.test_cfg = dict(mode='slide', crop_size=(32, 48))
    assert sizes_of_model(model)[-1] == (32, 48)


def test_usual_sizes_are_tried_first():
    """The sizes of model and config are tried only if the usual ones fail."""
    def tried(fits, ambiguous=(), exact=None):
        sizes = []

        def look(size):
            sizes.append(size)
            if size not in fits:
                raise DoesNotRun('teacher', size, RuntimeError('no'))
            return size

        found, size, picky = first_look(look, lambda size: size in ambiguous,
                                  dict(student=[], teacher=[(640, 640)]), TrainedAt(exact))
        assert size == found
        return sizes, found, picky

    small, middle, large, own = (128, 128), (320, 320), (512, 512), (640, 640)
    assert tried([small, middle]) == ([small], small, {})
    assert tried([small, middle, large], [small]) == ([small, middle], middle, {})
    assert tried([small], [small]) == ([small, middle, large], small, dict(teacher=small))
    assert tried([own]) == ([small, middle, large, own], own, dict(teacher=own))
    assert tried([middle, own], exact=own) == ([small, middle, own], own, dict(teacher=own))
    assert tried([(8, 8)], exact=(8, 8))[1] == (8, 8)
    assert tried([small, own], exact=own) == ([small], small, {})
