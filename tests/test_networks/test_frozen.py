"""FrozenTeacher: its normalisation, its classes, and errors about its config and checkpoint."""
import copy
import hashlib
import os

import pytest
import torch
from conftest import (
    CLASSES,
    build,
    detector_config,
    distiller,
    observe,
    retinanet,
    save_teacher,
    saved_at,
    train,
)
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, MODELS, DefaultScope
from mmengine.runner import Runner
from support.queries import detector

import mmkd
from mmkd import FrozenTeacher
from mmkd.files.checkpoint import load_hashed
from mmkd.networks import frozen


def prepared(teacher, student=None, *distill):
    model = build(distiller(student or retinanet(), teacher, *distill))
    model.prepare()
    return model


def classes_of(entry):
    teacher = FrozenTeacher(**entry)
    teacher.prepare(build(retinanet()))
    return teacher.classes


def stops(shapes, tmp_path, model, **changes):
    """A training run that must raise an error before its first batch."""
    runner = Runner.from_cfg(detector_config(shapes, model, str(tmp_path / 'run'), **changes))
    runner.model.__dict__['train_step'] = lambda *args, **kwargs: pytest.fail('a batch was trained')
    runner.train()


def test_random_weights_are_no_uninitialized_memory(tmp_path):
    """Deformable DETR has a parameter that only `init_weights` fills. No file is looked for."""
    model = detector('deformable')
    missing = str(tmp_path / 'missing.pth')
    model['backbone']['init_cfg'] = dict(type='Pretrained', checkpoint=missing)
    found = []
    for _ in range(2):
        teacher = FrozenTeacher(Config(dict(model=model, default_scope='mmdet')), checkpoint=None)
        torch.manual_seed(0)
        teacher.prepare(build(retinanet()))
        found.append((teacher.model.state_dict(), torch.rand(1)))
        assert all(one.isfinite().all() for one in teacher.model.parameters())
    embedding = teacher.model.level_embed
    assert embedding.std() == pytest.approx(0.02, rel=0.2)
    (one, drawn), (other, again) = found
    assert drawn == again
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not torch.are_deterministic_algorithms_enabled()


def test_config_may_be_a_path_a_dict_or_a_config(tmp_path):
    teacher = save_teacher(tmp_path / 'teacher.pth', retinanet())
    path = str(tmp_path / 'teacher.py')
    Config(teacher['config']).dump(path)
    for config in (path, teacher['config'], Config(teacher['config'])):
        found = prepared(dict(config=config, checkpoint=teacher['checkpoint'])).teacher
        assert type(found.model).__name__ == 'RetinaNet'
    with pytest.raises(TypeError, match='`teacher.config` must be a path or a config, but got int'):
        FrozenTeacher(7)


def test_a_distillation_config_gives_its_student(tmp_path):
    teacher = save_teacher(tmp_path / 'teacher.pth', retinanet())
    chained = dict(default_scope='mmdet', model=distiller(retinanet(), dict(config='gone.py')))
    found = prepared(dict(config=chained, checkpoint=teacher['checkpoint'])).teacher
    assert type(found.model).__name__ == 'RetinaNet'


def test_config_without_checkpoint_needs_checkpoint_none():
    config = dict(default_scope='mmdet', model=retinanet())
    with pytest.raises(ValueError, match=r'no published checkpoint; write `checkpoint=`.*None'):
        prepared(dict(config=config))
    assert prepared(dict(config=config, checkpoint=None)).teacher.model is not None


@pytest.mark.slow
def test_missing_files_are_found_before_the_first_batch(shapes, tmp_path):
    teacher = save_teacher(tmp_path / 'teacher.pth', retinanet())
    for entry, message in (
        (dict(teacher, checkpoint=str(tmp_path / 'gone.pth')), 'no teacher checkpoint at'),
        (dict(teacher, config='configs/gone.py'), 'no config `configs/gone.py`'),
        (dict(config='mmdet::retinanet/retinanet_r5_fpn_1x_coco.py'),
         'closest in its folder: retinanet_r50_fpn_1x_coco.py'),
        (dict(config='mmdte::retinanet/x.py'), 'package `mmdte`'),
    ):
        with pytest.raises(FileNotFoundError, match=message):
            stops(shapes, tmp_path, distiller(retinanet(), entry))


@pytest.mark.parametrize(('model', 'message'), [
    (retinanet(depth=50), 'missing in the file'),
    (retinanet(width=16), r'with other shapes \(backbone.*in the file.*in the model'),
    (retinanet(depth=10 + 8, channels=24), 'with other shapes'),
])
def test_checkpoint_of_another_architecture(shapes, tmp_path, model, message):
    teacher = save_teacher(tmp_path / 'teacher.pth', retinanet())
    entry = dict(teacher, config=dict(default_scope='mmdet', model=model))
    with pytest.raises(ValueError, match=f'does not fit its config.*{message}'):
        stops(shapes, tmp_path, distiller(retinanet(), entry))


def test_checkpoint_with_more_than_the_model_knows(tmp_path):
    teacher = save_teacher(tmp_path / 'teacher.pth', retinanet())
    checkpoint = saved_at(teacher['checkpoint'])
    checkpoint['state_dict']['extra.weight'] = torch.zeros(1)
    torch.save(checkpoint, teacher['checkpoint'])
    with pytest.raises(ValueError, match=r'1 unknown to the model \(extra.weight\)'):
        prepared(teacher)


def test_other_classes_are_refused_by_name(shapes, tmp_path):
    teacher = save_teacher(tmp_path / 'teacher.pth', retinanet(), classes=('disc', 'square', 'cat'))
    with pytest.raises(ValueError, match=r"lacks 1 .* classes: cross; .*'cat'"):
        stops(shapes, tmp_path, distiller(retinanet(), teacher))


def test_names_that_replace_those_of_the_checkpoint_are_warned_of(tmp_path, monkeypatch):
    names, said = ['disc', 'square', 'cross'], []
    monkeypatch.setattr(frozen, 'warn', said.append)
    teacher = save_teacher(tmp_path / 'teacher.pth', retinanet(), classes=names)
    for classes, is_warned in ((names, False), (names[::-1], True)):
        model = prepared(dict(teacher, classes=classes))
        assert list(model.teacher.classes) == classes
        assert len(said) == is_warned
    assert "['cross', 'square', 'disc'], but its checkpoint or config names them ['disc', " in (
        said[0])


def test_unknown_names_need_an_equal_number_of_classes(tmp_path):
    teacher = save_teacher(tmp_path / 'teacher.pth', retinanet(classes=5), classes=())
    with pytest.raises(ValueError, match='has columns for 3 classes, .* has columns for 5'):
        prepared(teacher)


def test_classes_in_another_order_are_remapped(shapes, tmp_path, monkeypatch):
    """Teacher columns: cross, extra, disc, square. Student columns: disc, square, cross."""
    names = ('cross', 'extra', 'disc', 'square')
    teacher = save_teacher(tmp_path / 'teacher.pth', retinanet(classes=4), classes=names)
    monkeypatch.setattr('mmkd.training.probe.classes_of_run', lambda: list(CLASSES))
    model = prepared(teacher)
    network, image = model.teacher.model, torch.randn(2, 3, 64, 64)
    _, levels = model.terms[0].levels(*observe(model, image))
    raw = network.bbox_head(network.extract_feat(image))[0]
    for level, whole in zip(levels, raw):
        for anchor in range(9):
            for column, name in enumerate(CLASSES):
                torch.testing.assert_close(level[:, anchor * 3 + column],
                                           whole[:, anchor * 4 + names.index(name)])


def test_names_in_another_order_than_the_labels_are_refused(shapes, tmp_path):
    """mmdet numbers labels in the order of the annotation file, not of `metainfo`."""
    swapped = ('cross', 'disc', 'square')
    teacher = save_teacher(tmp_path / 't.pth', retinanet())  # disc, square, cross, as in the file
    config = detector_config(shapes, distiller(retinanet(), teacher), str(tmp_path / 'run'),
                             classes=swapped)
    with pytest.raises(ValueError, match=r"\['cross', 'disc', 'square'\] by its `metainfo`.*"
                       r"\['disc', 'square', 'cross'\]: label 0 .*; write `metainfo` in the order"):
        train(config)
    # Equal names on both sides do not help, because the order of the teacher's columns is unknown.
    same = save_teacher(tmp_path / 's.pth', retinanet(), classes=swapped)
    with pytest.raises(ValueError, match="label 0 is 'disc', not 'cross'"):
        train(detector_config(shapes, distiller(retinanet(), same), str(tmp_path / 'same'),
                              classes=swapped))


def test_class_names_can_come_from_the_config(tmp_path):
    teacher = save_teacher(tmp_path / 'teacher.pth', retinanet(), classes=())
    teacher['config']['train_dataloader'] = dict(dataset=dict(
        type='RepeatDataset', times=2,
        dataset=dict(type='CocoDataset', metainfo=dict(classes=('a', 'b', 'c')))))
    assert classes_of(teacher) == ['a', 'b', 'c']
    teacher['config']['train_dataloader'] = dict(dataset=dict(type='VOCDataset'))
    assert classes_of(teacher)[:2] == ['aeroplane', 'bicycle']


def test_teacher_gets_its_own_normalisation(shapes, tmp_path):
    """The teacher takes BGR with std 1, the student RGB. Logits are those of the teacher alone."""
    caffe = dict(type='DetDataPreprocessor', mean=[103.53, 116.28, 123.675], std=[1., 1., 1.],
                 bgr_to_rgb=False, pad_size_divisor=32)
    other = retinanet()
    other['data_preprocessor'] = caffe
    model = prepared(save_teacher(tmp_path / 'teacher.pth', other))
    images = [torch.randint(0, 256, (3, 50, 96), dtype=torch.uint8),  # padded below
              torch.randint(0, 256, (3, 64, 40), dtype=torch.uint8)]  # padded to the right
    from mmdet.structures import DetDataSample
    samples = [DetDataSample(metainfo=dict(img_shape=tuple(i.shape[1:]))) for i in images]
    batch = dict(inputs=images, data_samples=samples)
    students = model.data_preprocessor(copy.deepcopy(batch))
    _, told = observe(model, students['inputs'], students['data_samples'])

    alone = model.teacher.model
    inputs = alone.data_preprocessor(copy.deepcopy(batch))['inputs']
    expected = alone.bbox_head(alone.extract_feat(inputs))[0]
    assert not torch.allclose(inputs, students['inputs'])
    for got, level in zip(told[''][model.terms[0].teacher_point].levels, expected):
        torch.testing.assert_close(got, level, rtol=1e-3, atol=1e-4)


def test_checkpoint_that_runs_code_is_refused_by_a_training_run(shapes, tmp_path):
    class Payload:

        def __reduce__(self):
            return os.mkdir, (str(tmp_path / 'ran'), )

    teacher = save_teacher(tmp_path / 'teacher.pth', retinanet())
    checkpoint = saved_at(teacher['checkpoint'])
    torch.save(dict(checkpoint, extra=Payload()), teacher['checkpoint'])
    with pytest.raises(ValueError, match=r'run code.*`trust_checkpoint=True`'):
        stops(shapes, tmp_path, distiller(retinanet(), teacher))
    assert not (tmp_path / 'ran').exists()
    assert prepared(dict(teacher, trust_checkpoint=True)).teacher.model is not None
    assert (tmp_path / 'ran').exists()


@pytest.mark.parametrize(('text', 'message'), [
    ('model = dict(', 'the teacher config `.*` cannot be read: .*teacher.py, line 1: SyntaxError'),
    ('import no_such_package', 'teacher.py` cannot be read|must contain a `model`'),
    ('a = 1', r"teacher.py` must contain a `model`, but its keys are \['a'\]"),
])
def test_config_files_that_cannot_be_read_are_named(tmp_path, text, message):
    (tmp_path / 'teacher.py').write_text(text)
    with pytest.raises(ValueError, match=message):
        prepared(dict(config=str(tmp_path / 'teacher.py'), checkpoint=None))


def test_model_in_place_of_a_config_gets_a_hint():
    with pytest.raises(ValueError, match=r'may be the model itself, write dict\(model='):
        prepared(dict(config=retinanet(), checkpoint=None))


def test_config_without_a_scope_is_read_in_the_students():
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(distiller(
            retinanet(), dict(config=dict(model=retinanet()), checkpoint=None)))
        model.prepare()
    assert type(model.teacher.model).__name__ == 'RetinaNet'


@pytest.mark.parametrize(('entry', 'message'), [
    (dict(checkpoint=7), '`teacher.checkpoint` must be a path, an address or None, but got 7'),
    (dict(trust_checkpoint='yes'), "must be True or False, but got 'yes'"),
])
def test_types_of_arguments(entry, message):
    with pytest.raises(TypeError, match=message):
        FrozenTeacher('x.py', **entry)


def test_broken_weights_are_refused(tmp_path):
    teacher = save_teacher(tmp_path / 'teacher.pth', retinanet())
    checkpoint = saved_at(teacher['checkpoint'])
    checkpoint['state_dict']['bbox_head.retina_cls.bias'][3] = float('nan')
    torch.save(checkpoint, teacher['checkpoint'])
    with pytest.raises(ValueError, match='infinite or NaN values in bbox_head.retina_cls.bias'):
        prepared(teacher)


def test_inconsistent_teacher_settings_are_refused_early():
    broken = retinanet()
    broken['neck']['in_channels'] = [8, 16, 32, 65]
    with pytest.raises(ValueError, match='the teacher does not run on a blank image of 512x512'):
        prepared(dict(config=dict(default_scope='mmdet', model=broken), checkpoint=None))


def test_names_and_columns_of_the_teacher_must_agree(tmp_path, monkeypatch):
    names = (*CLASSES, 'ring')
    teacher = save_teacher(tmp_path / 'teacher.pth', retinanet(), classes=names)
    monkeypatch.setattr('mmkd.training.probe.classes_of_run', lambda: list(CLASSES))
    with pytest.raises(ValueError, match='columns for 3 classes, but .* names 4'):
        prepared(teacher)


def test_remapping_keeps_the_background_column_last(tmp_path, monkeypatch):
    names = ('cross', 'disc', 'square')
    softmax = retinanet(loss_cls=dict(_delete_=True, type='CrossEntropyLoss', use_sigmoid=False))
    teacher = save_teacher(tmp_path / 'teacher.pth', softmax, classes=names)
    monkeypatch.setattr('mmkd.training.probe.classes_of_run', lambda: list(CLASSES))
    model = prepared(teacher, softmax)
    image = torch.randn(1, 3, 64, 64)
    _, levels = model.terms[0].levels(*observe(model, image))
    network = model.teacher.model
    raw = network.bbox_head(network.extract_feat(image))[0][0].unflatten(1, (9, 4))
    torch.testing.assert_close(levels[0], raw[0][:, [1, 2, 0, 3]])


def test_logits_that_cannot_be_remapped_are_refused(tmp_path, monkeypatch):
    teacher = save_teacher(tmp_path / 'teacher.pth', retinanet(), classes=CLASSES[::-1])
    monkeypatch.setattr('mmkd.training.probe.classes_of_run', lambda: list(CLASSES))
    entry = dict(type='mmkd.KDLoss', on='bbox_head.cls_convs.0.conv', use_sigmoid=True)
    with pytest.raises(ValueError, match=r"another order.*compare 'cls'"):
        prepared(teacher, None, entry)


def test_preprocessor_that_cannot_be_read_is_an_error(tmp_path):
    @MODELS.register_module(name='Odd', force=True)
    class Odd(torch.nn.Module):
        pass

    teacher = save_teacher(tmp_path / 'teacher.pth', retinanet())
    teacher['config']['model'] = dict(teacher['config']['model'],
                                      data_preprocessor=dict(type='Odd'))
    with pytest.raises(ValueError, match='how Odd normalises images is not known'):
        prepared(teacher)


def test_softmax_student_and_sigmoid_teacher_are_refused(tmp_path):
    softmax = retinanet(loss_cls=dict(_delete_=True, type='CrossEntropyLoss', use_sigmoid=False))
    teacher = save_teacher(tmp_path / 'teacher.pth', retinanet())
    with pytest.raises(ValueError, match='activated by softmax.*by sigmoid'):
        prepared(teacher, softmax)


def test_softmax_head_is_compared_anchor_by_anchor(tmp_path):
    softmax = retinanet(loss_cls=dict(_delete_=True, type='CrossEntropyLoss', use_sigmoid=False))
    model = prepared(save_teacher(tmp_path / 'teacher.pth', softmax), softmax)
    image = torch.randn(2, 3, 64, 64)
    seen, told = observe(model, image)
    student, teacher = model.terms[0].levels(seen, told)
    assert student[0].shape == teacher[0].shape == (2 * 9, 4, 8, 8)
    raw = seen['bbox_head'][0].output[0][0]
    assert torch.equal(student[0][1 * 9 + 2], raw[1, 2 * 4:3 * 4])


def test_other_anchors_are_refused_with_the_shapes(tmp_path):
    dense = retinanet(anchor_generator=dict(scales_per_octave=1))
    teacher = save_teacher(tmp_path / 'teacher.pth', dense)
    with pytest.raises(ValueError, match='is 1x27x16x16 at level 0, .* 1x9x16x16: 9 and 3 anch'):
        prepared(teacher)


def test_checkpoint_address_comes_from_the_model_index(monkeypatch):
    asked = []

    def downloaded(url, check):
        asked.append(url)
        return '/no/such/file.pth'

    monkeypatch.setattr('mmkd.files.sources.downloaded', downloaded)
    teacher = FrozenTeacher('mmdet::retinanet/retinanet_x101-64x4d_fpn_1x_coco.py')
    with pytest.raises(FileNotFoundError, match='no teacher checkpoint at `/no/such/file.pth`'):
        teacher.prepare(torch.nn.Identity())
    assert asked[0].endswith('retinanet_x101_64x4d_fpn_1x_coco_20200130-366f5af1.pth')


# --- source of the weights ------------------------------------------------------------------------

def digest_of(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def removed(path):
    path.unlink()


def replaced(path):
    path.with_suffix('.new').write_bytes(b'something else')
    path.with_suffix('.new').replace(path)


def half_written(path):
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize('change', [removed, replaced, half_written])
@pytest.mark.parametrize('kind', ['mmkd.FrozenTeacher', 'mmkd.CachedTeacher'])
def test_recorded_hash_is_that_of_the_loaded_file(shapes, tmp_path, change, kind):
    """Files may change before the first checkpoint is saved."""
    entry = save_teacher(tmp_path / 'teacher.pth', retinanet(width=12))
    config = tmp_path / 'teacher.py'
    Config(entry['config']).dump(str(config))
    entry.update(type=kind, config=str(config))
    if kind == 'mmkd.CachedTeacher':
        entry['cache'] = str(tmp_path / 'cache')
    partner = save_teacher(tmp_path / 'partner.pth', retinanet(), seed=3)
    model = distiller(retinanet(), entry, dict(type='mmkd.KDLoss', on='cls'), dict(
        type='mmkd.KDLoss', name='loss_p', on=dict(student='cls', teacher='partner:cls')))
    model['companions'] = dict(partner=partner)
    expected = digest_of(tmp_path / 'teacher.pth'), digest_of(tmp_path / 'partner.pth')

    @HOOKS.register_module(name='Spoil', force=True)
    class Spoil(Hook):

        def before_run(self, runner):  # the teacher is built after this
            build = runner.model.init_weights

            def init_weights():
                build()
                for path in (tmp_path / 'teacher.pth', config, tmp_path / 'partner.pth'):
                    change(path)

            runner.model.__dict__['init_weights'] = init_weights

    train(detector_config(shapes, model, str(tmp_path / 'run'), custom_hooks=[dict(type='Spoil')]))
    networks = saved_at(tmp_path / 'run' / 'epoch_1.pth')['meta']['mmkd']['networks']
    assert networks['teacher']['checkpoint'] == 'teacher.pth'
    assert networks['teacher']['config'] == 'teacher.py'
    assert len(networks['teacher']['config_hash']) == 64
    assert (networks['teacher']['checkpoint_hash'],
            networks['partner']['checkpoint_hash']) == expected


def test_hash_and_weights_are_of_one_file(tmp_path, monkeypatch):
    """The file is replaced between hashing and loading, or changed during loading."""
    save_teacher(tmp_path / 'teacher.pth', retinanet())
    save_teacher(tmp_path / 'other.pth', retinanet(), seed=5)
    path, weights = tmp_path / 'teacher.pth', saved_at(tmp_path / 'teacher.pth')['state_dict']
    digest, load = digest_of(path), torch.load

    def replaced_before(*args, **kwargs):
        (tmp_path / 'other.pth').replace(path)
        return load(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr('torch.load', replaced_before)
        loaded = load_hashed(str(path))
    assert loaded.digest == digest != digest_of(path)
    for name, tensor in loaded.checkpoint['state_dict'].items():
        assert torch.equal(tensor, weights[name])

    def appended_to(*args, **kwargs):
        with open(path, 'ab') as file:
            file.write(b'more')
        return load(*args, **kwargs)

    monkeypatch.setattr('torch.load', appended_to)
    with pytest.raises(ValueError, match='was modified while it was read; wait until it is'):
        load_hashed(str(path))


def test_safetensors_that_are_replaced_meanwhile_are_noticed(tmp_path, monkeypatch):
    from safetensors.torch import save_file
    path = tmp_path / 'teacher.safetensors'
    for name in ('teacher', 'other'):
        save_file(build(retinanet()).state_dict(), tmp_path / f'{name}.safetensors')
    assert load_hashed(str(path)).digest == digest_of(path)
    hashed = mmkd.files.reading.hash_of

    def replaced_after(file):
        digest = hashed(file)
        (tmp_path / 'other.safetensors').replace(path)
        return digest

    monkeypatch.setattr('mmkd.files.reading.hash_of', replaced_after)
    with pytest.raises(ValueError, match='was replaced while it was read; run the command again'):
        load_hashed(str(path))
