"""Cross-fitting: each image is taught by the teacher that was trained without it."""
import json
import os
import re
from types import SimpleNamespace

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
from loops import images, streets_of
from mmengine.dataset import Compose
from support.extensions import train_kill_resume
from support.queries import detector as detr

from mmkd.files.archive import hash_of_file
from mmkd.files.folds import write_folds
from mmkd.networks import FrozenTeacher, Question
from mmkd.networks.splitting import Part, by_image, places_of
from mmkd.points import Answer, points_of
from mmkd.training.folds import transforms_in

KD = dict(type='mmkd.KDLoss', on='cls')


def folder_of(folder, model, images, count=2, scope='mmdet', with_teachers=True):
    """Write teachers with random weights and `folds.json`; image i has fold i modulo ``count``."""
    teachers = []
    for number in range(count):
        entry = save_teacher(folder / f'fold{number}.pth', model, seed=number, scope=scope,
                             **({} if scope == 'mmdet' else dict(classes=list('abcd'))))
        (folder / f'fold{number}.py').write_text(
            f'default_scope = {scope!r}\nmodel = {entry["config"]["model"]!r}\n')
        teachers.append(dict(config=f'fold{number}.py', checkpoint=f'fold{number}.pth',
                             sha256=hash_of_file(str(folder / f'fold{number}.pth'))))
    write_folds(str(folder), {
        os.path.basename(path): (number % count, os.path.getsize(path) if os.path.isfile(path) else
                                 0)
        for number, path in enumerate(images)}, teachers if with_teachers else [])
    return dict(type='mmkd.CrossFit', folder=str(folder))


def named(batch, paths):
    for sample, path in zip(batch['data_samples'], paths):
        sample.set_metainfo(dict(img_path=path))
    return batch


PAIRS = dict(
    dense=(retinanet, lambda: retinanet(width=12), images, 'mmdet', 'cls'),
    boxes=(retinanet, lambda: retinanet(width=12), images, 'mmdet', 'boxes'),
    rois=(two_stage, lambda: two_stage(width=12), images, 'mmdet', 'cls'),
    segmentor=(lambda: segmentor(classes=4), lambda: segmentor(width=12, classes=4), streets_of,
               'mmseg', 'cls'),
)


@pytest.mark.parametrize('pair', PAIRS)
def test_images_are_taught_by_the_teacher_without_them(pair, tmp_path):
    """A batch with images of both folds, in either order."""
    make, of_teacher, batch_of, scope, point = PAIRS[pair]
    entry = folder_of(tmp_path, of_teacher(), ['a.png', 'b.png'], scope=scope)
    loss = dict(type='mmkd.MSELoss', on=point)
    torch.manual_seed(0)
    student = build(make(), scope)
    student.init_weights()
    for order in ([0, 1], [1, 0]):
        model = build(distiller(make(), entry, loss), scope)
        model.student.load_state_dict(student.state_dict())
        model.distillation.prepare()
        model.distillation.begin()
        model.eval()
        fitted = model.distillation.networks['teacher']
        batch = named(batch_of(order), [f'data/{"ab"[n]}.png' for n in order])
        data = model.data_preprocessor(batch, True)
        point_of = points_of(fitted.model, 'teacher')[point]
        at = None
        if point_of.asked_at:
            boxes = torch.tensor([[4., 4., 30., 30.], [10., 2., 50., 40.], [0., 0., 60., 60.]])
            at = torch.cat([torch.tensor([[1.], [0.], [1.]]), boxes], 1)
        question = {'': Question((point_of, ), at)}
        found = fitted.observe(data['inputs'], data['data_samples'], question)[''][point_of]
        for row, number in enumerate(order):
            alone = FrozenTeacher(f'{tmp_path}/fold{number}.py', f'{tmp_path}/fold{number}.pth')
            alone.prepare(model.student)
            expected = alone.observe(data['inputs'], data['data_samples'],
                                     question)[''][point_of]
            other = fitted.teachers[1 - number].observe(
                data['inputs'], data['data_samples'], question)[''][point_of]
            differs = []
            for one, its, wrong in zip(found.levels, expected.levels, other.levels):
                rows = [row] if at is None else (at[:, 0] == row).nonzero()[:, 0].tolist()
                assert rows
                torch.testing.assert_close(one[rows], its[rows], rtol=1e-4, atol=1e-5)
                differs.append(not torch.allclose(one[rows], wrong[rows], rtol=1e-4, atol=1e-5))
            assert any(differs)  # on a coarse level the bias may dominate the logits


def prepared(entry, student=retinanet, point='cls', **changes):
    model = build(distiller(student(), dict(entry, **changes), dict(type='mmkd.MSELoss', on=point)))
    model.init_weights()
    model.distillation.prepare()
    model.distillation.begin()
    return model, model.distillation.networks['teacher']


class Sample(dict):
    """A sample that has only a path."""


def paths(*names):
    return [Sample(img_path=f'/other/{name}') for name in names]


def test_a_teacher_runs_only_on_its_images(tmp_path, monkeypatch):
    _, fitted = prepared(folder_of(tmp_path, retinanet(), ['a', 'b', 'c', 'd'], count=3))
    sizes = {}
    for number, one in enumerate(fitted.teachers):
        one.model.register_forward_hook(lambda *args: None)
        extract = one.model.extract_feat
        monkeypatch.setattr(one.model, 'extract_feat', lambda inputs, number=number, run=extract: (
            sizes.setdefault(number, []).append(len(inputs)), run(inputs))[1])
    point = points_of(fitted.model, 'teacher')['cls']
    for one in fitted.teachers:  # skip the search for idle modules
        one.runs_whole = True
    sizes.clear()
    fitted.observe(torch.zeros(3, 3, 64, 64), paths('d', 'b', 'a'), {'': Question((point, ))})
    assert sizes == {0: [2], 1: [1]}  # d and a have fold 0, b has fold 1, none has fold 2


def test_unseen_images_have_one_teacher_by_name_or_the_mean(tmp_path):
    entry = folder_of(tmp_path, retinanet(), ['a', 'b'])
    _, fitted = prepared(entry)
    point = points_of(fitted.model, 'teacher')['cls']
    inputs = torch.randn(4, 3, 64, 64)
    chosen = [[part.teacher for part in fitted.parts_of(paths(name))] for name in 'uvwxyz']
    assert {len(one) for one in chosen} == {1}
    assert len({one[0] for one in chosen}) == 2
    assert chosen == [[part.teacher for part in fitted.parts_of(paths(name))] for name in 'uvwxyz']
    fitted.unseen = 'mean'
    found = fitted.observe(inputs, paths('a', 'u', 'b', 'v'), {'': Question((point, ))})
    each = [one.observe(inputs, None, {'': Question((point, ))})[''][point].levels
            for one in fitted.teachers]
    for level, one, other in zip(found[''][point].levels, *each):
        expected = torch.stack([one[0], (one[1] + other[1]) / 2, other[2], (one[3] + other[3]) / 2])
        torch.testing.assert_close(level, expected, rtol=1e-4, atol=1e-5)


def test_a_mean_of_queries_is_refused():
    with pytest.raises(ValueError, match='no common order'):
        by_image([Answer([torch.zeros(1, 2)], [queries_of()])], [Part(0, [0], [0.5])], 1,
                 SimpleNamespace(name='cls', is_prediction=True, queries=list))


def test_a_mean_of_features_is_refused():
    with pytest.raises(ValueError, match='`neck` is a feature, .* no common order'):
        by_image([Answer([torch.zeros(1, 2)])], [Part(0, [0], [0.5])], 1,
                 SimpleNamespace(name='neck', is_prediction=False))


def queries_of():
    from mmkd.points.queries import Queries
    return Queries(torch.zeros(1, 3, 5), torch.zeros(1, 4, 5), True)


def test_queries_are_put_together_by_image(tmp_path):
    entry = folder_of(tmp_path, detr('detr'), ['a', 'b'])
    _, fitted = prepared(entry, student=lambda: detr('detr'), point='cls')
    point = points_of(fitted.model, 'teacher')['cls']
    inputs = torch.randn(2, 3, 64, 64)
    found = fitted.observe(inputs, samples('b', 'a'), {'': Question((point, ))})
    for row, number in ((0, 1), (1, 0)):
        its = fitted.teachers[number].observe(
            inputs[row:row + 1], samples('ba'[row]), {'': Question((point, ))})[''][point]
        one = found[''][point]
        torch.testing.assert_close(one.queries[-1].where[row], its.queries[-1].where[0])
        torch.testing.assert_close(one.levels[-1][row], its.levels[-1][0])


def samples(*names):
    from mmdet.structures import DetDataSample
    return [DetDataSample(metainfo=dict(img_path=f'/other/{name}', img_shape=(64, 64),
                                        batch_input_shape=(64, 64), ori_shape=(64, 64)))
            for name in names]


# --- errors ---------------------------------------------------------------------------------------


def test_teachers_in_another_order_are_refused(tmp_path):
    """The order of the teachers is verified by the SHA-256 of the weights."""
    entry = folder_of(tmp_path, retinanet(), ['a', 'b'])
    swapped = [dict(config=f'{tmp_path}/fold{n}.py', checkpoint=f'{tmp_path}/fold{n}.pth')
               for n in (1, 0)]
    with pytest.raises(ValueError, match=r'was trained without fold 1, so it has seen the images '
                                         r'of fold 0; write `teachers` in the order of the folds'):
        prepared(entry, teachers=swapped)
    with pytest.raises(ValueError, match='has 1, but .* has 2 folds; write one teacher for each'):
        prepared(entry, teachers=swapped[:1])


def test_other_weights_are_refused(tmp_path):
    entry = folder_of(tmp_path, retinanet(), ['a', 'b'])
    save_teacher(tmp_path / 'fold1.pth', retinanet(), seed=7)
    with pytest.raises(ValueError, match=r'teacher 1 of mmkd.CrossFit, .*fold1.pth, is not the one '
                                         r'that .*folds.json was written for'):
        prepared(entry)


def test_other_architectures_are_refused(tmp_path):
    entry = folder_of(tmp_path, retinanet(), ['a', 'b'], with_teachers=False)
    save_teacher(tmp_path / 'wide.pth', retinanet(width=12))
    teachers = [dict(config=f'{tmp_path}/fold0.py', checkpoint=f'{tmp_path}/fold0.pth'),
                dict(config=dict(default_scope='mmdet', model=retinanet(width=12)),
                     checkpoint=f'{tmp_path}/wide.pth')]
    with pytest.raises(ValueError, match='teachers 0 and 1 of mmkd.CrossFit have different '
                                         'architectures'):
        prepared(entry, teachers=teachers)


@pytest.mark.parametrize(('content', 'says'), [
    (None, 'no folds.json in'),
    ('{', 'cannot be read as folds of a training set: JSONDecodeError'),
    (json.dumps(dict(version=2)), "its version is 2, but 1 was expected"),
    (json.dumps(dict(version=1, folds=2, teachers=[], images=dict(a=[0, 1]))),
     'its images have the folds [0], but 0 to 1 were expected'),
    (json.dumps(dict(version=1, folds=1, teachers=[], images=dict(a=[0, 1]))),
     'names no teachers, because they were not trained to the end; run tools/folds.py again'),
    (json.dumps(dict(version=1, folds=1, images=dict(a=[0, 1]),
                     teachers=[dict(config='a.py')])), "KeyError: 'checkpoint'"),
])
def test_a_damaged_file_is_refused(tmp_path, content, says):
    if content is not None:
        (tmp_path / 'folds.json').write_text(content)
    with pytest.raises((ValueError, FileNotFoundError), match=re.escape(says)):
        prepared(dict(type='mmkd.CrossFit', folder=str(tmp_path)))


@pytest.mark.parametrize(('changes', 'says'), [
    (dict(folder=3), 'must be the path of a folder with folds.json, but got 3'),
    (dict(teachers='a.pth'), 'must be a list of dict(config=..., checkpoint=...)'),
    (dict(unseen='all'), "`unseen` must be one of 'one', 'mean', but got 'all'"),
    (dict(precison='bf16'), 'has no argument `precison`'),
])
def test_wrong_arguments_are_refused_before_a_file_is_read(changes, says):
    with pytest.raises((TypeError, ValueError), match=re.escape(says)):
        build(distiller(retinanet(), {'type': 'mmkd.CrossFit', 'folder': 'f', **changes}, KD))


def test_samples_without_a_path_are_refused(tmp_path):
    _, fitted = prepared(folder_of(tmp_path, retinanet(), ['a', 'b']))
    for samples in (None, [Sample()]):
        with pytest.raises(ValueError, match='add it to `meta_keys` of the last transform'):
            fitted.observe(torch.zeros(1, 3, 64, 64), samples, {})


def test_queries_at_other_places_than_rois_are_refused():
    with pytest.raises(ValueError, match=r'the places of the student are \(7, 4\)'):
        places_of(torch.zeros(7, 4), [0], 2)


def test_through_and_queries_are_refused(tmp_path):
    entry = dict(type='mmkd.CrossFit', folder='f')
    for more in (dict(through=dict(student='bbox_head', teacher='bbox_head')),
                 dict(queries='teacher')):
        with pytest.raises(ValueError, match='needs a frozen teacher'):
            build(distiller(retinanet(), entry, dict(KD, **more)))


def test_transforms_are_found_inside_of_others():
    class Mosaic:
        pass

    class Choice:
        transforms = [[Mosaic()], []]

    class Data:
        pipeline = Compose([])
        dataset = None

    Data.pipeline.transforms = [Choice()]
    outer = type('Wrapper', (), dict(datasets=[Data()]))()
    assert any(isinstance(one, Mosaic) for one in transforms_in(outer))


# --- in runs --------------------------------------------------------------------------------------


def files(shapes):
    return [f'{shapes}/{number}.png' for number in range(4)]


def run_config(shapes, entry, work_dir, *entries, **changes):
    return detector_config(shapes, distiller(retinanet(), entry, *entries or (KD, )), str(work_dir),
                           **{'train_cfg.max_epochs': 2, 'train_cfg.val_interval': 9, **changes})


def test_images_without_a_fold_are_refused_by_name(shapes, tmp_path):
    entry = folder_of(tmp_path, retinanet(width=12), files(shapes)[:2])
    with pytest.raises(ValueError, match=r'folds.json is of other images: 2 of 4 training images, '
                                         r'such as .*2.png, .*3.png, have no fold; train the '
                                         r'teachers on this training set by tools/folds.py'):
        train(run_config(shapes, entry, tmp_path / 'run'))


def test_other_images_of_the_same_names_are_refused(shapes, tmp_path):
    entry = folder_of(tmp_path, retinanet(width=12), files(shapes))
    path = tmp_path / 'folds.json'
    content = json.loads(path.read_text())
    content['images']['1.png'][1] += 1
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r'1.png has \d+ bytes, but the image of this name had'):
        train(run_config(shapes, entry, tmp_path / 'run'))


def test_transforms_that_combine_images_are_refused(shapes, tmp_path):
    entry = folder_of(tmp_path, retinanet(width=12), files(shapes))
    config = run_config(shapes, entry, tmp_path / 'run')
    inner = config.train_dataloader.dataset
    last = inner.pipeline.pop()
    config.train_dataloader.dataset = dict(
        type='MultiImageMixDataset', dataset=inner,
        pipeline=[dict(type='Mosaic', img_scale=(96, 64)), last])
    with pytest.raises(ValueError, match='Mosaic of the training pipeline joins several images'):
        train(config)


@pytest.mark.slow
@pytest.mark.parametrize('settings', [{}, dict(fuse=True, channels_last=True)])
def test_training_is_resumed_to_the_bit(shapes, tmp_path, settings):
    entry = dict(folder_of(tmp_path, retinanet(width=12), files(shapes)), **settings)

    def make(work_dir, **changes):
        return run_config(shapes, entry, work_dir, **{
            'train_dataloader.dataset.pipeline.3.prob': 0., **changes})

    whole, end = train_kill_resume(make, retinanet(), tmp_path)
    record = end['meta']['mmkd']['networks']['teacher']
    assert len(record['checkpoint_hashes']) == 2
    assert all(one['loss_cls_kd'] > 0 for one in whole)


def test_answers_are_cached_for_each_fold(shapes, tmp_path):
    entry = dict(folder_of(tmp_path, retinanet(width=12), files(shapes)),
                 cache=str(tmp_path / 'cache'), stored_as='float32')
    runner, _ = train(run_config(shapes, entry, tmp_path / 'run', **{
        'train_dataloader.dataset.pipeline.3.prob': 0., 'train_cfg.max_epochs': 3}))
    teachers = runner.model.distillation.networks['teacher'].teachers
    assert [len(one.store) for one in teachers] == [2, 2]
