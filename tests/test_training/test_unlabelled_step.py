"""A second stream of images without labels: its losses, and what must not change."""
import copy
import os

import cv2
import numpy as np
import pytest
import torch
from conftest import (
    CLASSES,
    build,
    detector_config,
    distiller,
    leave_group,
    retinanet,
    save_teacher,
    saved_at,
    segmentor,
    train,
    two_stage,
)
from loops import images
from mmengine.runner import Runner
from torch import distributed, multiprocessing

from mmkd.training.unlabelled_step import UnlabelledStep

DIST = dict(type='mmkd.DISTLoss', on='cls')
NECK = dict(type='mmkd.MSELoss', on='neck')
LABELS = dict(type='mmkd.PseudoLabels', score_thr=0.)
WITHOUT_FLIP = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True),
                dict(type='Resize', scale=(96, 64)), dict(type='PackDetInputs')]


@pytest.fixture(scope='module')
def pictures(tmp_path_factory):
    """A folder with five noise images in a subfolder, and a file that is not an image."""
    folder = tmp_path_factory.mktemp('pictures')
    (folder / 'more').mkdir()
    rng = np.random.default_rng(7)
    for number in range(5):
        cv2.imwrite(str(folder / 'more' / f'{number}.png'),
                    rng.integers(0, 255, (64, 96, 3), dtype=np.uint8))
    (folder / 'notes.txt').write_text('no image')
    return str(folder)


@pytest.fixture(scope='module')
def teacher(tmp_path_factory):
    return save_teacher(tmp_path_factory.mktemp('teacher') / 'teacher.pth', retinanet(channels=24))


def config_of(shapes, folder, student, teacher, *entries, unlabelled=None, **changes):
    model = distiller(student, teacher, *entries)
    if unlabelled is not None:
        model['unlabelled'] = unlabelled
    return detector_config(shapes, model, str(folder), **{
        'train_cfg.val_interval': 100, **changes})


def log_of(folder):
    log, = folder.rglob('*.log')
    return log.read_text()


# --- values -----------------------------------------------------------------------------------


def test_terms_are_those_of_labelled_images(shapes, teacher, tmp_path):
    """Both streams have the same images. Losses on labels are not computed without labels."""
    config = config_of(shapes, tmp_path / 'run', retinanet(), teacher, NECK,
                       dict(DIST, images='labelled'),
                       dict(type='mmkd.KDLoss', on='cls', images='unlabelled'), unlabelled=shapes,
                       **{'train_dataloader.batch_size': 4,
                          'train_dataloader.dataset.pipeline': WITHOUT_FLIP})
    _, (losses, ) = train(config)
    assert set(losses) == {'loss_cls', 'loss_bbox', 'loss_neck_mse', 'loss_cls_dist',
                           'unlabelled.loss_neck_mse', 'unlabelled.loss_cls_kd'}
    assert losses['unlabelled.loss_neck_mse'] == pytest.approx(losses['loss_neck_mse'], rel=1e-4)
    assert losses['unlabelled.loss_cls_kd'] > 0
    text = log_of(tmp_path / 'run')
    assert '4 of 4 unlabelled images are among those of the training' in text
    assert '4 of 4 unlabelled images are among those of the validation' in text


def test_two_stage_student_uses_its_own_proposals(shapes, pictures, tmp_path, monkeypatch):
    """Both networks look at the RoIs that the student's RPN proposes; the teacher's RPN is idle."""
    from mmdet.models import RPNHead, SingleRoIExtractor
    proposing, looked, steps = [], [], []
    learn, propose = UnlabelledStep.losses, RPNHead.predict_by_feat
    look = SingleRoIExtractor.forward

    def learned(self, *args):
        steps.append((len(proposing), len(looked)))
        found = learn(self, *args)
        steps[-1] += len(proposing), len(looked)
        return found

    def proposed(self, *args, **kwargs):
        found = propose(self, *args, **kwargs)
        proposing.append((self.feat_channels, [one.bboxes.detach() for one in found]))
        return found

    def looked_at(self, features, rois, *args):
        looked.append((self.out_channels, rois.detach()))
        return look(self, features, rois, *args)

    monkeypatch.setattr(UnlabelledStep, 'losses', learned)
    monkeypatch.setattr(RPNHead, 'predict_by_feat', proposed)
    monkeypatch.setattr(SingleRoIExtractor, 'forward', looked_at)
    teacher = save_teacher(tmp_path / 't.pth', two_stage(channels=24))
    _, losses = train(config_of(shapes, tmp_path / 'run', two_stage(), teacher, DIST, NECK,
                                unlabelled=pictures))
    assert len(steps) == len(losses)
    for first_proposal, first_look, last_proposal, last_look in steps:
        (channels, boxes), = proposing[first_proposal:last_proposal]
        assert channels == 16  # the student's; that of the teacher is 24
        assert sorted(channels for channels, _ in looked[first_look:last_look]) == [16, 24]
        for _, rois in looked[first_look:last_look]:
            assert len(rois)
            for row in rois:
                assert (boxes[int(row[0])] - row[1:]).abs().sum(1).min() < 1e-3
    assert all(one['unlabelled.loss_cls_dist'] > 0 for one in losses)
    assert not [name for name in losses[0] if name.startswith('unlabelled.') and (
        'rpn' in name or name in ('unlabelled.loss_cls', 'unlabelled.loss_bbox'))]


def test_labels_are_what_the_teacher_predicts_for_the_image(tmp_path):
    """The teacher has another normalisation and another order of classes. Compared with
    `test_step`.
    """
    from mmkd import FrozenTeacher, PseudoLabels
    model = retinanet(channels=24)
    model['data_preprocessor'].update(mean=[10., 20., 30.], std=[40., 50., 60.], bgr_to_rgb=False)
    entry = save_teacher(tmp_path / 't.pth', model, classes=CLASSES[::-1])
    student, network = build(retinanet()), FrozenTeacher(**entry)
    network.prepare(student)
    labels = PseudoLabels(score_thr=0.01, per_class=5)
    labels.prepare(network, student, CLASSES, (64, 64))
    raw = images([0, 1])
    batch = student.data_preprocessor(copy.deepcopy(raw), True)
    found = labels.truth(network, student, batch['inputs'], batch['data_samples'])
    expected = network.model.test_step(copy.deepcopy(raw))
    assert sum(len(one.gt_instances) for one in found) > 2
    for one, other in zip(found, expected):
        got, instances = one.gt_instances, other.pred_instances
        for label in range(3):
            best = instances[(instances.labels == 2 - label) & (instances.scores >= 0.01)][:5]
            mine = got[got.labels == label]
            order = mine.scores.argsort(descending=True)
            torch.testing.assert_close(mine.scores[order], best.scores, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(mine.bboxes[order], best.bboxes, rtol=1e-3, atol=1e-2)


def test_labels_follow_the_mapping_of_the_teacher(tmp_path):
    """A class without teacher gets no boxes, and the log names it."""
    from mmkd import FrozenTeacher, PseudoLabels
    from mmkd.training.pseudo_labels import shown
    entry = save_teacher(tmp_path / 't.pth', retinanet(), classes='xyz')
    mapping = {'a': 'z', 'b': None, 'c': 'x'}
    student, network = build(retinanet()), FrozenTeacher(**entry, classes=mapping)
    network.prepare(student)
    labels = PseudoLabels(score_thr=0.01)
    labels.prepare(network, student, list('abc'), (64, 64))
    batch = student.data_preprocessor(images([0, 1]), True)
    expected = network.model.predict(batch['inputs'], copy.deepcopy(batch['data_samples']), False)
    found = labels.truth(network, student, batch['inputs'], batch['data_samples'])
    for one, other in zip(found, expected):
        numbers = other.pred_instances.labels[other.pred_instances.scores >= 0.01]
        counts = numbers.bincount(minlength=3).tolist()
        assert one.gt_instances.labels.bincount(minlength=3).tolist() == [counts[2], 0, counts[0]]
    assert sum(len(one.gt_instances) for one in found) > 2
    assert shown(labels).endswith("of the classes ['a', 'c']")


def test_label_maps_follow_the_mapping_of_the_teacher(tmp_path):
    """Probabilities of several classes are summed before the most probable class is chosen."""
    from mmseg.structures import SegDataSample

    from mmkd import FrozenTeacher, PseudoLabels
    entry = save_teacher(tmp_path / 't.pth', segmentor(classes=5), classes='vwxyz', scope='mmseg')
    student = build(segmentor(classes=3), 'mmseg').eval()
    network = FrozenTeacher(**entry, classes={'a': 'x', 'b': ['v', 'z'], 'c': None})
    network.prepare(student)
    with torch.no_grad():
        # so that every class is predicted somewhere
        network.model.decode_head.conv_seg.weight.normal_()
    labels = PseudoLabels(score_thr=0.)
    labels.prepare(network, student, list('abc'), (64, 64))
    torch.manual_seed(0)
    inputs = torch.randn(2, 3, 64, 64)
    samples = [SegDataSample(metainfo=dict(img_shape=(64, 64))) for _ in range(2)]
    found = labels.truth(network, student, inputs, samples)
    metas = [dict(ori_shape=(64, 64), img_shape=(64, 64))] * 2
    v, w, x, y, z = network.model.inference(inputs, metas).softmax(1).unbind(1)
    expected = torch.stack([x, v + z, w, y]).argmax(0)  # w and y correspond to no class
    got = torch.stack([one.gt_sem_seg.data[0] for one in found])
    assert {0, 1, 255} <= set(got.unique().tolist())
    assert torch.equal(got, torch.tensor([0, 1, 255, 255])[expected])


def test_the_loss_on_pseudo_labels_is_that_of_labels(shapes, teacher, tmp_path, monkeypatch):
    """If the teacher predicts the true boxes, both streams have the same losses."""
    from mmengine.structures import InstanceData

    from mmkd.training import pseudo_labels
    data = {}

    def true_boxes(network, student, inputs, samples):
        return [type(one)(metainfo=one.metainfo, pred_instances=InstanceData(
            **data[one.img_path.split('/')[-1]])) for one in samples] if samples[0].img_path else (
                pseudo_labels_predicted(network, student, inputs, samples))

    pseudo_labels_predicted = pseudo_labels.predicted
    from mmdet.registry import DATASETS
    config = config_of(shapes, tmp_path / 'run', retinanet(), teacher,
                       dict(LABELS, loss_weight=0.5), unlabelled=shapes,
                       **{'train_dataloader.batch_size': 4,
                          'train_dataloader.dataset.pipeline': WITHOUT_FLIP})
    for one in DATASETS.build(config.train_dataloader.dataset):
        instances = one['data_samples'].gt_instances
        data[one['data_samples'].img_path.split('/')[-1]] = dict(
            bboxes=instances.bboxes.tensor, labels=instances.labels,
            scores=torch.ones(len(instances)))
    monkeypatch.setattr(pseudo_labels, 'predicted', true_boxes)
    _, (losses, ) = train(config)
    assert set(losses) == {'loss_cls', 'loss_bbox', 'unlabelled.loss_cls', 'unlabelled.loss_bbox'}
    for name in ('loss_cls', 'loss_bbox'):
        assert losses[f'unlabelled.{name}'] == pytest.approx(losses[name] / 2, rel=1e-4)


def test_label_maps_ignore_what_is_uncertain_or_unknown(tmp_path):
    """With an option, pixels are weighted by their scores."""
    from mmseg.structures import SegDataSample

    from mmkd import FrozenTeacher, PseudoLabels
    from mmkd.training.unlabelled_step import weighed_heads, weighing
    entry = save_teacher(tmp_path / 't.pth', segmentor(classes=4), classes='abcd', scope='mmseg')
    student, network = build(segmentor(classes=3), 'mmseg').eval(), FrozenTeacher(**entry)
    network.prepare(student)
    torch.manual_seed(0)
    inputs = torch.randn(2, 3, 64, 64)
    samples = [SegDataSample(metainfo=dict(img_shape=(64, 64))) for _ in range(2)]
    metas = [dict(ori_shape=(64, 64), img_shape=(64, 64))] * 2
    probabilities = network.model.inference(inputs, metas).softmax(1)
    scores, labels = probabilities.max(1)
    least = scores.median().item()
    taker = PseudoLabels(score_thr=least, weigh=True)
    taker.prepare(network, student, list('dca'), (64, 64))
    found = taker.truth(network, student, inputs, samples)
    known = labels != 1
    of_student = torch.tensor([2, 255, 1, 0])[labels]
    got = torch.stack([one.gt_sem_seg.data[0] for one in found])
    sure = known & (scores >= least + 1e-6)
    assert torch.equal(got[sure], of_student[sure])
    assert (got[~known] == 255).all()
    assert (got[scores < least - 1e-6] == 255).all()
    head, *_ = weighed_heads(student)
    features = student.extract_feat(inputs)
    with weighing(head, found):
        loss = head.loss(features, found, None)['loss_ce']
    logits = torch.nn.functional.interpolate(head(features), (64, 64), mode='bilinear')
    by_hand = torch.nn.functional.cross_entropy(logits, got, ignore_index=255, reduction='none')
    torch.testing.assert_close(loss, (by_hand * scores).mean())
    assert head.sampler is None


def test_endings_and_broken_images_of_a_folder(shapes, teacher, tmp_path):
    """A run goes on, and the log names the file."""
    for number in range(2):
        cv2.imwrite(str(tmp_path / f'{number}.png'), np.full((64, 96, 3), 99, np.uint8))
        (tmp_path / f'{number}.png').rename(tmp_path / f'{number}.image')
    (tmp_path / 'broken.image').write_bytes(b'')
    _, losses = train(config_of(shapes, tmp_path / 'run', retinanet(), teacher, NECK,
                                unlabelled=dict(folder=str(tmp_path), suffixes=['.image'],
                                                dataloader=dict(batch_size=3))))
    assert all(one['unlabelled.loss_neck_mse'] > 0 for one in losses)
    text = log_of(tmp_path / 'run')
    assert 'Unlabelled images: 3, 3 for each process in a step' in text
    assert text.count(f'`{tmp_path}/broken.image` cannot be read as an image') == 1


# --- what must not change -----------------------------------------------------------------------


def states(folder):
    return saved_at(folder / 'epoch_1.pth')['state_dict']


@pytest.mark.slow
@pytest.mark.parametrize('norm', ['labelled', *(pytest.param(norm, marks=pytest.mark.slow)
                                                for norm in ('frozen', 'both'))])
def test_training_on_labelled_images_is_unchanged(shapes, pictures, teacher, tmp_path, norm):
    """Bit for bit, including the statistics of batch norms, if the new losses have weight 0."""
    entry = dict(DIST, images='labelled')
    train(config_of(shapes, tmp_path / 'alone', retinanet(), teacher, entry))
    alone = states(tmp_path / 'alone')
    train(config_of(shapes, tmp_path / norm, retinanet(), teacher, entry,
                    dict(LABELS, loss_weight=0.), unlabelled=dict(folder=pictures, norm=norm)))
    found = states(tmp_path / norm)
    assert list(found) == list(alone)
    changed = {name.split('.')[-1] for name, one in alone.items()
               if not torch.equal(one, found[name])}
    assert changed == ({'running_mean', 'running_var', 'num_batches_tracked'} if norm == 'both'
                       else set())


def test_a_test_needs_neither_folder_nor_teacher(shapes, teacher, tmp_path):
    config = config_of(shapes, tmp_path / 'run', retinanet(), dict(teacher, checkpoint='gone.pth'),
                       LABELS, unlabelled='gone')
    Runner.from_cfg(config).test()


# --- resume, accumulation, mixed precision --------------------------------------------------------


def iterations(shapes, folder, teacher, pictures, *entries, workers=0, **changes):
    config = config_of(
        shapes, folder, retinanet(), teacher, *entries,
        unlabelled=dict(folder=pictures, dataloader=dict(batch_size=3, num_workers=workers)),
        **{'default_hooks.checkpoint': dict(type='mmkd.CheckpointHook', by_epoch=False,
                                            interval=2),
           'log_processor': dict(by_epoch=False),
           'optim_wrapper.optimizer.momentum': 0.9,
           'optim_wrapper.accumulative_counts': 2,
           'custom_hooks': [dict(type='mmkd.ReseedHook'), dict(type='EMAHook')], **changes})
    config.train_cfg = dict(type='IterBasedTrainLoop', max_iters=6, val_interval=100)
    return config


@pytest.mark.parametrize('workers', [0, pytest.param(1, marks=pytest.mark.slow)])
def test_run_resumes_bit_for_bit(shapes, pictures, teacher, tmp_path, workers):
    """Resumed within an epoch of the unlabelled images, with gradients of two iterations
    accumulated.
    """
    entries = DIST, NECK, LABELS
    _, whole = train(iterations(shapes, tmp_path / 'whole', teacher, pictures, *entries,
                                workers=workers))
    _, rest = train(iterations(shapes, tmp_path / 'again', teacher, pictures, *entries,
                               workers=workers, resume=True,
                               load_from=str(tmp_path / 'whole' / 'iter_4.pth')))
    assert rest == whole[4:]
    one, other = (saved_at(tmp_path / name / 'iter_6.pth') for name in ('whole', 'again'))
    for kind in ('state_dict', 'ema_state_dict'):
        assert all(torch.equal(value, other[kind][name]) for name, value in one[kind].items())
    assert len({losses['unlabelled.loss_neck_mse'] for losses in whole}) == 6


def in_two_processes(rank, folder, shapes, pictures, entry):
    os.environ['LOCAL_RANK'] = str(rank)
    distributed.init_process_group('gloo', rank=rank, world_size=2,
                                   init_method=f'file://{folder}/meeting')
    found = {}
    for name, changes in dict(whole={}, again=dict(
            resume=True, load_from=f'{folder}/whole/iter_4.pth')).items():
        config = iterations(shapes, f'{folder}/{name}', entry, pictures, DIST, NECK, LABELS,
                            **changes)
        config.merge_from_dict(dict(launcher='pytorch', model_wrapper_cfg=dict(
            type='MMDistributedDataParallel', device_ids=None)))
        runner = Runner.from_cfg(config)
        runner.train()
        model = runner.model.module
        weights = [one.detach().clone() for one in (
            *model.parameters(), *model.distillation.trained_beside)]
        samples = model.distillation.unlabelled.batch(5)['data_samples']
        found[name] = weights, [one.img_path for one in samples]
    torch.save(found, f'{folder}/{rank}.pth')
    del runner, model
    leave_group()


@pytest.mark.slow
def test_two_processes_use_different_images_and_resume(shapes, pictures, teacher, tmp_path):
    """Bit for bit, with a connector."""
    multiprocessing.spawn(in_two_processes, (str(tmp_path), shapes, pictures, teacher), nprocs=2)
    parts = [torch.load(tmp_path / f'{rank}.pth') for rank in range(2)]
    assert parts[0]['whole'][1] != parts[1]['whole'][1]
    weights = [part[name][0] for part in parts for name in ('whole', 'again')]
    assert len(weights[0]) > 50
    for others in weights[1:]:
        assert all(torch.equal(one, other) for one, other in zip(weights[0], others))


def in_a_loop(teacher, pictures, *entries):
    """Return a Distiller for a loop without a Runner."""
    loader = dict(batch_size=2, dataset=dict(
        type='mmkd.ImageFolder', folder=pictures, pipeline=[
            dict(type='LoadImageFromFile'), dict(type='mmdet.PackDetInputs')]))
    model = dict(distiller(retinanet(), teacher, *entries), classes=CLASSES,
                 unlabelled=dict(dataloader=loader))
    model = build(model)
    model.init_weights()
    return model.train()


@pytest.mark.slow
def test_loop_without_a_runner_and_bfloat16(pictures, teacher):
    model = in_a_loop(teacher, pictures, DIST, LABELS)
    batch = model.data_preprocessor(images([0, 1]), True)
    found = []
    for _ in range(2):
        with torch.autocast('cpu', dtype=torch.bfloat16):
            losses = model(**batch, mode='loss')
        total, _ = model.parse_losses(losses)
        total.backward()
        assert total.isfinite()
        found.append(losses['unlabelled.loss_cls_dist'][0].item())
    assert found[0] != found[1]
    grad = model.bbox_head.retina_cls.weight.grad
    assert grad.isfinite().all()
    assert grad.any()


# --- wrong input --------------------------------------------------------------------------------


def made(*entries, unlabelled=None, **settings):
    model = distiller(retinanet(), dict(config=dict(default_scope='mmdet', model=retinanet()),
                                        checkpoint=None), *entries)
    return build(dict(model, **({} if unlabelled is None else dict(unlabelled=unlabelled)),
                      **settings))


@pytest.mark.parametrize(('entries', 'unlabelled', 'message'), [
    ([dict(DIST, images='unlabelled')], None,
     r"`unlabelled.loss_cls_dist` has images='unlabelled', but the model has none; write "),
    ([DIST, LABELS], None, 'PseudoLabels labels unlabelled images, but the model has none'),
    ([dict(DIST, images='some')], 'x', "`images` must be one of 'all', .*'unlabelled', but got"),
    ([dict(DIST, images='labelled')], 'x', "no entry of `distill` uses them; write images='all'"),
    ([dict(type='mmkd.BCKDLoss', on='cls')], 'x',
     r"`loss_cls_bckd` needs labels \(`labels`\).*write images='labelled'.*PseudoLabels"),
    ([dict(type='mmkd.KDLoss', on='cls', alpha=.5, replaces='background')], 'x',
     "needs labels .*replaces='background'"),
    ([DIST, LABELS, LABELS], 'x', '2 entries of mmkd.PseudoLabels'),
    ([DIST, dict(LABELS, teacher='other')], 'x', "`other` labels the images, but there is no such "
     "network; write `teacher=` one of 'teacher'"),
    ([DIST, dict(LABELS, score_thr=1.5)], 'x', '`score_thr` must be from 0 to 1, but got 1.5'),
    ([DIST, dict(LABELS, per_class=0)], 'x', '`per_class` must be 1 or more, but got 0'),
    ([DIST, dict(LABELS, images='all')], 'x', "labels unlabelled images, but has images='all'"),
    ([DIST, dict(DIST, images='unlabelled')], 'x', 'is the name of an entry, but also the name of '
                                                   '`loss_cls_dist` on unlabelled images; write '
                                                   "images='labelled'"),
    ([DIST], dict(folder='x', shuffle=True),
     'keys folder, suffixes, dataloader, norm, but got `shuffle`'),
    ([DIST], dict(folder='x', suffixes=3), '`unlabelled.suffixes` must be a list of endings'),
    ([DIST], dict(dataloader=dict(dataset={}), suffixes='.png'),
     'are endings of the images of a `folder`, but there is a `dataloader`; leave `suffixes` out'),
    ([DIST], dict(dataloader=dict(batch_size=2)), 'either a `folder` of images or a `dataloader`'),
    ([DIST], dict(folder='x', norm='own'), "`unlabelled.norm` must be one of 'labelled', 'both'"),
    ([DIST], [1], r'must be a folder of images or a dict with a `dataloader`, but got \[1\]')])
def test_misfits_are_refused_when_built(entries, unlabelled, message):
    with pytest.raises((ValueError, TypeError), match=message):
        made(*entries, unlabelled=unlabelled)


@pytest.mark.slow
def test_pseudo_labels_allow_losses_that_need_labels(shapes, pictures, teacher, tmp_path):
    _, losses = train(config_of(shapes, tmp_path / 'run', retinanet(), teacher,
                                dict(type='mmkd.BCKDLoss', on='cls'), LABELS,
                                unlabelled=pictures))
    assert all(one['unlabelled.loss_cls_bckd'] > 0 for one in losses)


@pytest.mark.parametrize('unlabelled', ['{}/empty', dict(dataloader=dict(dataset=dict(
    type='CocoDataset', ann_file='{}/none.json', data_prefix=dict(img='{}'))))])
def test_no_images_are_refused_before_the_first_batch(shapes, teacher, tmp_path, unlabelled):
    import json
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'none.json').write_text(json.dumps(dict(images=[], annotations=[], categories=[])))
    text = json.dumps(unlabelled).replace('{}', str(tmp_path), 2) if isinstance(
        unlabelled, str) else json.dumps(unlabelled).replace('"{}', f'"{tmp_path}')
    with pytest.raises((ValueError, FileNotFoundError), match='has no images'):
        train(config_of(shapes, tmp_path / 'run', retinanet(), teacher, DIST,
                        unlabelled=json.loads(text)))


def test_labels_of_a_data_set_are_removed(shapes, teacher, tmp_path):
    """Images without boxes, which training would filter, are included."""
    import json
    with open(f'{shapes}/instances.json') as file:
        content = json.load(file)
    content['annotations'] = [one for one in content['annotations'] if one['image_id'] < 2]
    (tmp_path / 'some.json').write_text(json.dumps(content))
    dataset = dict(type='CocoDataset', ann_file=str(tmp_path / 'some.json'),
                   data_prefix=dict(img=shapes), filter_cfg=dict(filter_empty_gt=True))
    config = config_of(shapes, tmp_path / 'run', retinanet(), teacher, DIST,
                       unlabelled=dict(dataloader=dict(batch_size=4, dataset=dataset)))
    runner, _ = train(config)
    stream = runner.model.distillation.unlabelled
    assert len(stream.dataset) == 4
    assert not any(len(one.gt_instances) for one in stream.batch(7)['data_samples'])


@pytest.mark.parametrize(('student', 'other', 'scope', 'message'), [
    (retinanet(), segmentor(classes=3), 'mmseg', 'learns from objects, but .* predicts label maps'),
    (two_stage('cascade-mask-rcnn'), retinanet(), 'mmdet', 'learns from masks .* predicts none')])
def test_a_teacher_of_other_labels_is_refused(shapes, pictures, tmp_path, student, other, scope,
                                              message):
    entry = save_teacher(tmp_path / 't.pth', other, scope=scope)
    with pytest.raises(ValueError, match=message):
        train(config_of(shapes, tmp_path / 'run', student, entry, LABELS, unlabelled=pictures))


@pytest.mark.parametrize('student_first', [True, False])
def test_the_kind_of_labels_comes_before_the_classes(tmp_path, student_first):
    """Classes of another kind of model do not match either, but no mapping would help."""
    from mmkd import FrozenTeacher, PseudoLabels
    models = [(retinanet(), 'mmdet', list('abc')), (segmentor(classes=5), 'mmseg', list('vwxyz'))]
    (student, scope, classes), (other, other_scope, names) = models[::1 if student_first else -1]
    built = build(student, scope)
    network = FrozenTeacher(**save_teacher(tmp_path / 't.pth', other, names, scope=other_scope))
    network.prepare(built)
    with pytest.raises(ValueError, match=r'learns from (objects|label maps), but `teacher`, .*, '
                       r'predicts (objects|label maps); give a teacher that predicts'):
        PseudoLabels().prepare(network, built, classes, (64, 64))


def test_labels_in_another_order_than_their_names_are_refused(shapes, pictures, teacher, tmp_path):
    """Also without a term. mmdet numbers labels in the order of the file, not of `metainfo`."""
    with pytest.raises(ValueError, match='order of'):
        train(config_of(shapes, tmp_path / 'run', retinanet(), teacher, LABELS, unlabelled=pictures,
                        **{'train_dataloader.dataset.metainfo': dict(classes=CLASSES[::-1])}))


def test_teacher_without_detections_warns_once(pictures, teacher, monkeypatch):
    from mmkd.training import pseudo_labels
    said = []
    monkeypatch.setattr(pseudo_labels, 'warn', said.append)
    monkeypatch.setattr(pseudo_labels, 'PATIENCE', 20)
    model = in_a_loop(teacher, pictures, dict(LABELS, score_thr=0.99))
    labels, network = model.distillation.pseudo_labels, model.distillation.networks['teacher']
    batch = model.data_preprocessor(images([0, 1]), True)
    highest = max(one.pred_instances.scores.max().item()
                  for one in network.model.predict(batch['inputs'], batch['data_samples']))
    for step in range(15):
        assert len(said) == (step > 9)
        found = labels.truth(network, model.student, batch['inputs'], batch['data_samples'])
        assert not any(len(one.gt_instances) for one in found)
    assert said[0] == (
        'mmkd.PseudoLabels: no prediction of `teacher` has become a label in 20 images in a row; '
        f'in all images so far the highest score is {highest:.3g}, the threshold 0.99; lower '
        '`score_thr`, or look whether the model knows this kind of images')


def test_the_threshold_of_the_teachers_own_config_is_named(tmp_path, monkeypatch):
    """It leaves no score that could be reported, and comes before a lower `score_thr`."""
    from mmkd import FrozenTeacher, PseudoLabels
    from mmkd.training import pseudo_labels
    said = []
    monkeypatch.setattr(pseudo_labels, 'warn', said.append)
    monkeypatch.setattr(pseudo_labels, 'PATIENCE', 20)
    model = retinanet()
    model['test_cfg'] = dict(model['test_cfg'], score_thr=0.9)
    student = build(retinanet())
    network = FrozenTeacher(**save_teacher(tmp_path / 't.pth', model))
    network.prepare(student)
    labels = PseudoLabels(score_thr=0.5, ignore_thr=0.4)
    labels.prepare(network, student, CLASSES, (64, 64))
    assert said == [
        'mmkd.PseudoLabels: scores from 0.4 are asked for, but `teacher` predicts none below '
        '`model.test_cfg.score_thr=0.9` of its config; lower that one, too']
    batch = student.data_preprocessor(images([0, 1]), True)
    for _ in range(10):
        labels.truth(network, student, batch['inputs'], batch['data_samples'])
    assert said[1:] == [
        'mmkd.PseudoLabels: no prediction of `teacher` has become a label in 20 images in a row; '
        'in all images so far the model predicts nothing above the threshold of its own config, '
        '`model.test_cfg.score_thr=0.9`; look whether it knows this kind of images, or lower that '
        'one']
