"""Images without three channels: grayscale, with depth, multispectral."""
import sys

import numpy as np
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
from mmengine.registry import TRANSFORMS
from support.tools import TOOLS

from mmkd.data.transforms import PackViews
from mmkd.networks.inputs import Renormalize, view_of
from mmkd.points.probe import channels_of
from mmkd.points.recorder import recording

sys.path.insert(0, TOOLS)

DIST = dict(type='mmkd.DISTLoss', on='cls')
MEANS = [103.53, 116.28, 123.675, 60.]
STDS = [57., 58., 59., 20.]


@TRANSFORMS.register_module()
class AddBands:
    """Adds uint16 bands that are functions of the first three, with values above 255."""

    def __init__(self, count):
        self.count = count

    def __call__(self, results):
        image = results['img'].astype(np.uint16)
        bands = [image[..., i % 3] * (i + 1) for i in range(3, self.count)]
        results['img'] = np.concatenate([image, np.stack(bands, axis=-1)], axis=-1)
        return results


def of_channels(model, count, means=None):
    """Change the model to images of ``count`` channels, with one mean per channel by default."""
    means = MEANS[:count] if means is None else means
    model['backbone']['in_channels'] = count
    model['data_preprocessor'].update(
        mean=means, std=None if means is None else STDS[:len(means)], bgr_to_rgb=False)
    if not means:
        model['data_preprocessor'].update(mean=None, std=None)
    return model


def streets_classes():
    from mmseg.datasets import CityscapesDataset
    return CityscapesDataset.METAINFO['classes']


def run(package, shapes, streets, work_dir, model, count, **changes):
    """A run whose images have ``count`` channels."""
    config = detector_config(shapes, model, str(work_dir), **changes) if package == 'mmdet' else (
        segmentor_config(streets, model, str(work_dir), **changes))
    for loader in (config.train_dataloader, config.val_dataloader):
        pipeline = loader.dataset.pipeline
        if count == 1:
            pipeline[0].color_type = 'grayscale'
        else:
            pipeline.insert(1, dict(type='AddBands', count=count))
    return config


def plain(package, **settings):
    return retinanet(**settings) if package == 'mmdet' else segmentor(**settings)


def saved(path, package, model):
    classes = dict() if package == 'mmdet' else dict(classes=streets_classes())
    return save_teacher(path, model, scope=package, **classes)


def seen_by_both(config):
    """Train; return all batches, the input of the teacher's backbone, and the losses."""
    from mmengine.runner import Runner
    runner = Runner.from_cfg(config)
    distillation, batches = runner.model.distillation, []
    losses = distillation.losses

    def watched(forward, inputs, data_samples):
        with recording(distillation.teacher.model, ['backbone']) as calls:
            found = losses(forward, inputs, data_samples)
        batches.append((inputs, calls['backbone'][-1].args[0], data_samples, found))
        return found

    distillation.losses = watched
    runner.train()
    return batches


@pytest.mark.parametrize(('package', 'count', 'means', 'other'), [
    ('mmdet', 1, [100.], [90.]),         # grayscale
    ('mmseg', 1, [100.], None),          # one side without normalisation
    ('mmseg', 4, MEANS, [50.]),          # RGB and depth; the teacher has one mean for all channels
    ('mmseg', 6, [100.], [50.]),         # multispectral
    ('mmdet', 6, [100.], []),
])
def test_pair_of_other_channels_is_trained(package, count, means, other, shapes, streets, tmp_path):
    """The teacher gets the same pixels with its own normalisation."""
    teacher = saved(tmp_path / 't.pth', package,
                    of_channels(plain(package, width=12), count, other or []))
    model = distiller(of_channels(plain(package), count, means), teacher, DIST)
    batches = seen_by_both(run(package, shapes, streets, tmp_path / 'run', model, count))
    assert len(batches) == 2
    mean, std = (torch.tensor((values[:len(means)] * count)[:count]).view(-1, 1, 1)
                 for values in (means, STDS))
    minus, by = (torch.tensor(values * count if len(values) == 1 else values).view(-1, 1, 1)
                 for values in ((other or [0.])[:1], STDS[:1] if other else [1.]))
    for inputs, told, samples, losses in batches:
        assert inputs.shape[1] == count
        assert sum(losses['loss_cls_dist']) > 0
        for one, image, sample in zip(inputs, told, samples):
            height, width = sample.img_shape[:2]
            pixels = (one * std + mean)[:, :height, :width]
            torch.testing.assert_close(image[:, :height, :width], (pixels - minus) / by,
                                       atol=1e-4, rtol=1e-4)
    if count == 6:  # values above 255 are kept
        assert pixels.max() > 300


@pytest.mark.parametrize('package', ['mmdet', 'mmseg'])
def test_one_channel_is_repeated_for_a_teacher_of_three(package, shapes, streets, tmp_path):
    """Each channel is the gray value, normalised by the teacher's mean of that channel."""
    teacher = dict(saved(tmp_path / 't.pth', package, plain(package, width=12)), channels='repeat')
    model = distiller(of_channels(plain(package), 1, [100.]), teacher, DIST)
    config = run(package, shapes, streets, tmp_path / 'run', model, 1,
                 custom_hooks=[dict(type='mmkd.TeacherEvalHook')])
    rgb_mean = torch.tensor([123.675, 116.28, 103.53]).view(-1, 1, 1)
    rgb_std = torch.tensor([58.395, 57.12, 57.375]).view(-1, 1, 1)
    for inputs, told, samples, losses in seen_by_both(config):
        assert tuple(inputs.shape[1:2] + told.shape[1:2]) == (1, 3)
        assert sum(losses['loss_cls_dist']) > 0
        for one, image, sample in zip(inputs, told, samples):
            height, width = sample.img_shape[:2]
            gray = (one * STDS[0] + 100)[:, :height, :width]
            torch.testing.assert_close(image[:, :height, :width], (gray - rgb_mean) / rgb_std,
                                       atol=1e-4, rtol=1e-4)
            assert not image[:, height:].any()


def prepared(student, teacher, *, kind=None, **more):
    """Build a Distiller whose teacher has random weights, and initialise it."""
    entry = dict(config=dict(default_scope='mmdet', model=teacher), checkpoint=None, **more)
    model = build(distiller(student, entry if kind is None else kind(entry), DIST))
    model.init_weights()
    return model


ONE, THREE, FOUR = (lambda: of_channels(retinanet(), 1, [100.]), retinanet,
                    lambda: of_channels(retinanet(), 4, [100.]))


@pytest.mark.parametrize(('student', 'teacher', 'more', 'says'), [
    (ONE, THREE, {}, 'images of the student have 1 channel, but those of the teacher 3; write '
     r"`teacher=dict\(..., channels='repeat'\)` to repeat the channel 3 times"),
    (THREE, ONE, {}, 'images of the student have 3 channels, but those of the teacher 1; use a '
     'teacher of 3 channels$'),
    (FOUR, THREE, {}, 'have 4 channels, but those of the teacher 3; use a teacher of 4 channels$'),
    (THREE, ONE, dict(channels='repeat'), "`channels='repeat'` is for a student of 1 channel .* "
     'the student have 3 channels, and those of the teacher 1; leave `channels` out of `teacher`'),
    (ONE, ONE, dict(channels='repeat'), 'is for a student of 1 channel and a teacher of several'),
    (THREE, THREE, dict(channels='twice'), "`teacher.channels` must be 'repeat' or None, but got "
     "'twice'"),
    (THREE, THREE, dict(channels=3), "`teacher.channels` must be 'repeat' or None, but got 3"),
])
def test_channels_that_differ_are_refused(student, teacher, more, says):
    with pytest.raises(ValueError, match=says) as info:
        prepared(student(), teacher(), **more)
    assert '\n' not in str(info.value)


def test_means_must_fit_the_model():
    """The message replaces torch's error in the first convolution."""
    student = of_channels(retinanet(), 1, MEANS[:3])
    with pytest.raises(ValueError, match='`mean` in the `data_preprocessor` of the student has 3 '
                       'values, but its first layer takes images of 1 channel; write one value'):
        prepared(student, retinanet())
    with pytest.raises(ValueError, match='of the teacher has 3 values'):
        prepared(retinanet(), of_channels(retinanet(), 4, MEANS[:3]))


def test_committee_members_get_their_own_channels():
    """One member takes the gray image, the other a copy in three channels."""
    def committee(entry):
        gray = dict(config=dict(default_scope='mmdet', model=ONE()), checkpoint=None)
        return dict(type='mmkd.Committee', members=[gray, entry])

    model = prepared(ONE(), THREE(), kind=committee, channels='repeat')
    networks = model.distillation.networks
    image = torch.rand(1, 1, 64, 64)
    for name, channels in (('teacher.0', 1), ('teacher.1', 3)):
        assert networks[name].renormalize(image).shape[1] == channels
    with pytest.raises(ValueError, match='images of the student have 1 channel'):
        prepared(ONE(), THREE(), kind=committee)


def test_partner_sees_the_images_of_the_student():
    def with_partner(partner, **more):
        model = build(dict(type='mmkd.Distiller', student=ONE(), companions=dict(partner=dict(
            config=dict(default_scope='mmdet', model=partner), **more)), distill=[
                dict(DIST, on=dict(student='cls', teacher='partner:cls'))]))
        model.init_weights()

    with_partner(ONE(), shared=['backbone.layer1'])  # finding the shared layers runs the partner
    with pytest.raises(ValueError, match='images of the student have 1 channel, but those of the '
                       'partner 3; use a partner of 1 channel$'):
        with_partner(THREE())


def test_cache_distinguishes_repeated_channels(shapes, tmp_path):
    """The cache distinguishes a repeated channel from images of three channels."""
    teacher = dict(save_teacher(tmp_path / 't.pth', retinanet()), type='mmkd.CachedTeacher',
                   cache=str(tmp_path / 'cache'))
    model = distiller(ONE(), dict(teacher, channels='repeat'), DIST)
    runner, _ = train(run('mmdet', shapes, None, tmp_path / 'gray', model, 1))
    assert len(runner.model.teacher.store) > 0
    with pytest.raises(ValueError, match='outputs of another teacher: channels'):
        train(detector_config(shapes, distiller(retinanet(), teacher, DIST),
                              str(tmp_path / 'colours')))


def test_channels_are_counted_after_pixel_stacking():
    """YOLOX stacks four pixels of each channel before its first convolution."""
    from mmdet.models.backbones.csp_darknet import Focus
    from mmengine.config import Config

    from mmkd.files.zoo import config_path
    config = Config.fromfile(config_path('mmdet::yolox/yolox_tiny_8xb8-300e_coco.py')).model
    model = build(config.to_dict())
    assert channels_of(model) == 3
    for count in (1, 5):
        model.backbone.stem = Focus(count, 24)
        assert channels_of(model) == count
    before = {name: id(module) for name, module in model.named_modules()}
    modes = {name: module.training for name, module in model.named_modules()}
    channels_of(model)
    assert {name: id(module) for name, module in model.named_modules()} == before
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert not any('forward' in vars(module) for module in model.modules())


def test_views_keep_channels_and_values():
    """A gray image without a channel dimension, 16-bit bands, and float bands."""
    from mmdet.models import DetDataPreprocessor
    pack = dict(type='mmdet.PackDetInputs', meta_keys=('img_shape', ))
    for image in (np.arange(80, dtype=np.uint8).reshape(8, 10),
                  np.arange(0, 64000, 200, dtype=np.uint16).reshape(8, 10, 4),
                  np.linspace(-1, 1, 480, dtype=np.float32).reshape(8, 10, 6)):
        packed = PackViews(pack, dict(same=[]))(dict(img=image, img_shape=(8, 10)))
        preprocessor = DetDataPreprocessor(mean=[7.], std=[3.], pad_size_divisor=16)
        batch = preprocessor(dict(inputs=[packed['inputs']],
                                  data_samples=[packed['data_samples']]))
        found = view_of('same', batch['inputs'], batch['data_samples'], preprocessor)
        assert found.shape[1] == (1 if image.ndim == 2 else image.shape[2])
        torch.testing.assert_close(found, batch['inputs'])


def test_equivalent_means_are_equal():
    one, other = (build(of_channels(retinanet(), 3, means)) for means in ([100.], [100.] * 3))
    for model in (one, other):
        model.data_preprocessor.std = torch.full_like(model.data_preprocessor.mean, 50.)
    image = torch.rand(1, 3, 32, 32)
    assert Renormalize(one, other)(image) is image


@pytest.mark.parametrize(('scope', 'count'), [('mmdet', 1), ('mmseg', 4)])
def test_artificial_images_have_the_channels_of_the_model(scope, count):
    from made_up import initialise, made_up_batch
    model = build(of_channels(plain(scope), count, [100.]), scope).train()
    initialise(model)
    data = made_up_batch(model, 64, 64)
    assert {tuple(image.shape) for image in data['inputs']} == {(count, 64, 64)}
    losses = model(**model.data_preprocessor(data, True), mode='loss')
    assert all(torch.isfinite(torch.as_tensor(value)).all() for name, value in losses.items()
               if isinstance(value, torch.Tensor))
