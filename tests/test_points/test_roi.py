"""Two-stage detectors: the teacher predicts only at the student's RoIs."""
import numpy as np
import pytest
import torch
from conftest import (
    build,
    detector_config,
    distiller,
    observe,
    retinanet,
    save_teacher,
    saved_at,
    segmentor,
    step,
    train,
    two_stage,
)
from mmengine.config import Config
from mmengine.structures import InstanceData

from mmkd import DISTLoss, KDLoss
from mmkd.files.zoo import config_path
from mmkd.points.recorder import recording

DIST = dict(type='mmkd.DISTLoss', on='cls')


@pytest.fixture(scope='module')
def teachers(tmp_path_factory):
    folder = tmp_path_factory.mktemp('teachers')
    models = dict(standard=two_stage(width=12), cascade=two_stage('cascade-rcnn', width=12),
                  mask=two_stage('cascade-mask-rcnn', width=12))
    return {name: save_teacher(folder / f'{name}.pth', model) for name, model in models.items()}


def batch(boxes=((8., 8., 60., 56.), (30., 40., 90., 100.))):
    from mmdet.structures import DetDataSample
    torch.manual_seed(0)
    samples = []
    for _ in range(2):
        sample = DetDataSample(metainfo=dict(
            img_shape=(128, 128), pad_shape=(128, 128), batch_input_shape=(128, 128),
            ori_shape=(128, 128), scale_factor=(1., 1.)))
        sample.gt_instances = InstanceData(
            bboxes=torch.tensor(boxes).reshape(-1, 4),
            labels=torch.arange(len(boxes)))
        sample.ignored_instances = InstanceData(
            bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
        samples.append(sample)
    return torch.randn(2, 3, 128, 128), samples


def prepared(student, teacher, *entries):
    torch.manual_seed(3)
    model = build(distiller(student, teacher, *(entries or [DIST])))
    model.init_weights()
    return model


def by_hand(network, inputs, rois, stage=None):
    """The teacher's logits at the student's RoIs, from mmdet's own method."""
    with torch.no_grad():
        features = network.extract_feat(inputs)
        where = () if stage is None else (stage, )
        return network.roi_head._bbox_forward(*where, features, rois)['cls_score']


@pytest.mark.parametrize(('kind', 'stage'), [
    ('standard', None), ('cascade', None), ('cascade', 0), ('cascade', 2), ('cascade', 'mean'),
    ('mask', None)])
def test_teacher_predicts_at_the_students_rois(teachers, kind, stage):
    entry = dict(DIST) if stage is None else dict(DIST, stage=stage)
    model = prepared(two_stage(), teachers[kind], entry)
    inputs, samples = batch()
    losses, seen, told = step(model, inputs, samples)
    rois = seen['roi_head.bbox_roi_extractor'][-1].args[1]
    assert len(rois) == 2 * 16
    network = model.teacher.model
    if stage == 'mean':
        expected = sum(by_hand(network, inputs, rois, i) for i in range(3)) / 3
    else:
        expected = by_hand(network, inputs, rois, None if kind == 'standard' else stage or 0)
    (student, ), (teacher, ) = model.terms[0].levels(seen, told)
    assert torch.equal(student, seen['roi_head.bbox_head'][-1].output[0])
    torch.testing.assert_close(teacher, expected)
    assert student.shape == teacher.shape == (32, 4)
    loss, = losses['loss_cls_dist']
    torch.testing.assert_close(loss, DISTLoss()(student, expected))
    loss.backward()
    assert model.backbone.conv1.weight.grad.abs().sum() > 0
    assert model.roi_head.bbox_head.fc_cls.weight.grad.abs().sum() > 0


@pytest.mark.parametrize('stage', [None, 1, 'mean'])
def test_cascade_to_cascade_goes_stage_by_stage(teachers, stage):
    model = prepared(two_stage('cascade-rcnn'), teachers['cascade'],
                     dict(DIST, stage=stage), dict(type='mmkd.KDLoss', on='cls'))
    inputs, samples = batch()
    losses, seen, told = step(model, inputs, samples)
    network = model.teacher.model
    _, teacher = model.terms[0].levels(seen, told)
    _, plain = model.terms[1].levels(seen, told)
    assert len(losses['loss_cls_dist']) == len(losses['loss_cls_kd']) == 3
    for i in range(3):
        rois = seen[f'roi_head.bbox_roi_extractor.{i}'][-1].args[1]
        stages = [by_hand(network, inputs, rois, k) for k in range(3)]
        expected = {None: stages[i], 1: stages[1], 'mean': sum(stages) / 3}[stage]
        torch.testing.assert_close(teacher[i], expected)
        torch.testing.assert_close(plain[i], stages[i])  # the other entry does not affect it
        logits = seen[f'roi_head.bbox_head.{i}'][-1].output[0]
        torch.testing.assert_close(losses['loss_cls_kd'][i], KDLoss()(logits, stages[i]))


@pytest.mark.parametrize('stage', [None, 2])
def test_cascade_student_of_a_teacher_with_one_stage(teachers, stage):
    model = prepared(two_stage('cascade-rcnn'), teachers['standard'], dict(DIST, stage=stage))
    inputs, samples = batch()
    _, seen, told = step(model, inputs, samples)
    student, teacher = model.terms[0].levels(seen, told)
    rois = seen[f'roi_head.bbox_roi_extractor.{stage or 0}'][-1].args[1]
    torch.testing.assert_close(teacher, [by_hand(model.teacher.model, inputs, rois)])
    assert torch.equal(student[0], seen[f'roi_head.bbox_head.{stage or 0}'][-1].output[0])


def test_sync_is_refused_for_a_cascade_student(teachers):
    with pytest.raises(ValueError, match='`sync=True`, but `cls` of the student is a cascade'):
        prepared(two_stage('cascade-rcnn'), teachers['standard'], dict(DIST, sync=True))


def test_module_paths_of_the_authors(teachers):
    named = prepared(two_stage(), teachers['cascade'])
    dotted = prepared(two_stage(), teachers['cascade'], dict(DIST, on=dict(
        student='roi_head.bbox_head.fc_cls', teacher='roi_head.bbox_head.0.fc_cls')))
    inputs, samples = batch()
    torch.manual_seed(0)
    losses = step(named, inputs, samples)[0]
    torch.manual_seed(0)
    others = step(dotted, inputs, samples)[0]
    assert losses['loss_cls_dist'] == others['loss_roi_head_bbox_head_fc_cls_dist']


def test_teacher_runs_neither_rpn_nor_masks_nor_other_stages(teachers):
    model = prepared(two_stage(), teachers['mask'])
    network = model.teacher.model
    never = ['rpn_head', 'roi_head.bbox_head.1', 'roi_head.bbox_head.2', 'roi_head.mask_head.0',
             'roi_head.bbox_head.0.loss_cls']
    with recording(network, [*never, 'roi_head.bbox_head.0']) as calls:
        step(model, *batch())
    assert {path: len(calls[path]) for path in never} == dict.fromkeys(never, 0)
    assert len(calls['roi_head.bbox_head.0']) == 1


def test_rpn_objectness_is_a_point_of_its_own(teachers):
    model = prepared(two_stage(), teachers['cascade'], dict(DIST, on='rpn_cls'))
    inputs, samples = batch()
    losses, seen, told = step(model, inputs, samples)
    network = model.teacher.model
    with torch.no_grad():
        expected = network.rpn_head(network.extract_feat(inputs))[0]
    student, teacher = model.terms[0].levels(seen, told)
    assert len(student) == len(losses['loss_rpn_cls_dist']) == 5
    for got, level, loss, own in zip(teacher, expected, losses['loss_rpn_cls_dist'], student):
        torch.testing.assert_close(got, level)
        torch.testing.assert_close(loss, DISTLoss(use_sigmoid=True)(own, level))


@pytest.mark.parametrize('student', ['faster-rcnn', 'cascade-rcnn'])
@pytest.mark.parametrize('proposals', [True, False])
def test_images_without_objects_and_without_proposals(teachers, student, proposals):
    student = two_stage(student)
    if not proposals:
        student['train_cfg']['rpn_proposal'].update(min_bbox_size=10**6)
    entries = [DIST]
    if student['type'] == 'CascadeRCNN':  # not reached without proposals
        entries.append(dict(DIST, on='roi_head.bbox_head.2.fc_cls'))
    model = prepared(student, teachers['cascade'], *entries)
    losses, seen, _ = step(model, *batch(boxes=()))
    rois = seen[next(iter(model.terms[0].student_point.asked_at))][-1].args[1]
    assert (len(rois) > 0) is proposals
    total, log = model.parse_losses(losses)
    assert torch.isfinite(total)
    assert log['loss_cls_dist'] > 0 or not proposals
    total.backward()


@pytest.mark.parametrize(('student', 'teacher'), [
    ('faster-rcnn', 'mask'),
    *(pytest.param('cascade-rcnn', teacher, marks=pytest.mark.slow)
      for teacher in ('cascade', 'standard'))])
def test_trains_and_leaves_the_plain_students_checkpoint(
        shapes, tmp_path, teachers, student, teacher):
    plain = two_stage(student)
    _, losses = train(detector_config(
        shapes, distiller(plain, teachers[teacher], DIST, dict(DIST, on='rpn_cls')),
        str(tmp_path / 'run')))
    assert all(step['loss_cls_dist'] > 0 and step['loss_rpn_cls_dist'] > 0 for step in losses)
    saved = saved_at(str(tmp_path / 'run' / 'epoch_1.pth'))
    assert 'mmkd' not in saved
    build(plain).load_state_dict(saved['state_dict'], strict=True)


def test_with_weight_zero_the_run_is_the_plain_run_to_the_bit(shapes, tmp_path, teachers):
    plain, _ = train(detector_config(shapes, two_stage(), str(tmp_path / 'plain')))
    other, _ = train(detector_config(
        shapes, distiller(two_stage(), teachers['mask'], dict(DIST, loss_weight=0.)),
        str(tmp_path / 'zero')))
    weights = other.model.state_dict()
    assert all(torch.equal(value, weights[name])
               for name, value in plain.model.state_dict().items())


def test_ohem_compares_what_the_loss_sees_not_the_candidates(teachers):
    student = two_stage()
    student['train_cfg']['rcnn']['sampler'].update(type='OHEMSampler')
    model = prepared(student, teachers['standard'])
    _, seen, told = step(model, *batch())
    assert len(seen['roi_head.bbox_head']) > 1
    (own, ), _ = model.terms[0].levels(seen, told)
    assert own.shape[0] == 32
    assert own.requires_grad


def test_classes_are_remapped_and_background_stays_last(tmp_path, monkeypatch):
    teacher = save_teacher(tmp_path / 'teacher.pth', two_stage('cascade-rcnn', classes=4),
                           classes=('cross', 'extra', 'disc', 'square'))
    monkeypatch.setattr('mmkd.training.probe.classes_of_run',
                        lambda: ['disc', 'square', 'cross'])
    model = prepared(two_stage(), teacher)
    inputs, samples = batch()
    _, seen, told = step(model, inputs, samples)
    rois = seen['roi_head.bbox_roi_extractor'][-1].args[1]
    expected = by_hand(model.teacher.model, inputs, rois, 0)[:, [2, 3, 0, 4]]
    torch.testing.assert_close(model.terms[0].levels(seen, told)[1], [expected])


@pytest.mark.parametrize(('student', 'teacher', 'entry', 'message'), [
    ('two', 'cascade', dict(stage=3), "stages 0 to 2, and 'mean'"),
    ('two', 'cascade', dict(stage='last'), "stages 0 to 2, and 'mean'"),
    ('two', 'cascade', dict(stage=1.0), "`stage` must be the number of a stage.*got 1.0"),
    ('two', 'cascade', dict(stage=True), "`stage` must be the number of a stage.*got True"),
    ('two', 'standard', dict(stage=0), 'has no stages; leave `stage` out'),
    ('cascade', 'standard', dict(stage='mean'), "`stage='mean'` averages the stages of the "
                                                "teacher"),
    ('two', 'cascade', dict(region='valid'), "region='valid'.*two-stage.*leave `region` out"),
    ('two', 'cascade', dict(connector='conv'), 'is a prediction, which has no connector'),
    ('two', 'dense', {}, 'student predicts for RoIs, `cls` of the teacher for a grid'),
    ('dense', 'standard', {}, r'`cls` of the student predicts for a grid, .* for RoIs'),
])
def test_mistakes_are_named(tmp_path, teachers, student, teacher, entry, message):
    student = dict(two=two_stage, cascade=lambda: two_stage('cascade-rcnn'), dense=retinanet)[
        student]()
    teacher = teachers.get(teacher) or save_teacher(tmp_path / 'dense.pth', retinanet())
    with pytest.raises((TypeError, ValueError), match=message):
        prepared(student, teacher, dict(DIST, **entry))


def test_cascades_of_other_lengths_ask_for_a_stage(tmp_path, teachers):
    short = two_stage('cascade-rcnn')
    short['roi_head'].update(num_stages=2, stage_loss_weights=[1, 0.5])
    short['roi_head']['bbox_head'].pop()
    short['train_cfg']['rcnn'].pop()
    with pytest.raises(ValueError, match='2 stages in the student and 3 in the teacher'):
        prepared(short, teachers['cascade'])
    model = prepared(short, teachers['cascade'], dict(DIST, stage='mean'))
    assert len(step(model, *batch())[0]['loss_cls_dist']) == 2


@pytest.mark.parametrize('loss', [
    dict(type='SeesawLoss', num_classes=3),
    dict(type='CrossEntropyCustomLoss', num_classes=3),
    dict(type='CrossEntropyCustomLoss', num_classes=3, use_sigmoid=True)])
def test_logits_of_a_loss_with_an_activation_of_its_own(tmp_path, loss):
    """With mmkd's activation, they equal the activation of the loss."""
    def custom(width):
        model = two_stage(width=width)
        model['roi_head']['bbox_head'].update(loss_cls=loss)
        return model

    model = prepared(custom(8), save_teacher(tmp_path / 't.pth', custom(12)))
    losses, seen, told = step(model, *batch())
    (own, ), _ = model.terms[0].levels(seen, told)
    head = model.roi_head.bbox_head
    expected = head.loss_cls.get_activation(seen['roi_head.bbox_head'][-1].output[0])
    if loss.get('use_sigmoid'):
        torch.testing.assert_close(own.sigmoid(), expected[:, :3])
    else:
        torch.testing.assert_close(own.softmax(1), expected)
    assert torch.isfinite(losses['loss_cls_dist'][0])
    losses['loss_cls_dist'][0].backward()
    assert head.fc_cls.weight.grad.abs().sum() > 0


def test_sigmoid_loss_of_a_box_head_is_not_its_activation(tmp_path, teachers):
    """In tests mmdet applies softmax, whatever the loss."""
    from mmengine.structures import InstanceData
    student = two_stage()
    student['roi_head']['bbox_head']['loss_cls'] = dict(type='CrossEntropyLoss', use_sigmoid=True)
    model = prepared(student, teachers['standard'], dict(type='mmkd.KDLoss', on='cls'))
    assert model.terms[0].loss.use_sigmoid is False
    head, scores = model.roi_head.bbox_head, torch.tensor([[1., 0.5, -1., 2.]])
    found = head._predict_by_feat_single(torch.tensor([[0., 0., 0., 9., 9.]]), scores, None,
                                         dict(img_shape=(9, 9)))
    assert isinstance(found, InstanceData)
    torch.testing.assert_close(found.scores, scores.softmax(1))


def test_blank_image_needs_no_samples(teachers):
    """The dry run uses artificial RoIs, because the student has not sampled any."""
    model = prepared(two_stage(), teachers['cascade'])
    seen, told = observe(model, torch.randn(1, 3, 64, 96))
    student, teacher = model.terms[0].levels(seen, told)
    assert student[0].shape == teacher[0].shape == (2, 4)


def test_segmentor_has_no_rois(teachers):
    with pytest.raises(ValueError, match='predicts for a grid, `cls` of the teacher for RoIs'):
        build(distiller(segmentor(), teachers['standard']), 'mmseg').prepare()


def test_rois_of_mask_heads_are_not_mixed_in(teachers):
    """Mask heads of a cascade run the box extractor again, only on the positive RoIs."""
    student = two_stage('cascade-mask-rcnn', mask_roi_extractor=None)
    for stage in student['train_cfg']['rcnn']:
        stage['mask_size'] = 14
    model = prepared(student, teachers['cascade'])
    inputs, samples = batch()
    from mmdet.structures.mask import BitmapMasks
    for sample in samples:
        sample.gt_instances.masks = BitmapMasks(
            torch.ones(2, 128, 128, dtype=torch.uint8).numpy(), 128, 128)
    _, seen, told = step(model, inputs, samples)
    _, teacher = model.terms[0].levels(seen, told)
    for i in range(3):
        boxes, *masks = seen[f'roi_head.bbox_roi_extractor.{i}']
        assert len(masks) == 1
        assert len(masks[0].args[1]) < len(boxes.args[1]) == 32
        torch.testing.assert_close(
            teacher[i], by_hand(model.teacher.model, inputs, boxes.args[1], i))


def htc(kind='HybridTaskCascade'):
    """HTC with its semantic branch, or SCNet, which also has a global branch."""
    model = two_stage('cascade-rcnn' if kind != 'SCNet' else 'cascade-mask-rcnn')
    model['type'] = kind
    semantic = dict(num_ins=5, fusion_level=1, num_convs=1, in_channels=16, conv_out_channels=16,
                    num_classes=3)
    model['roi_head'].update(
        type=f'{kind}RoIHead',
        semantic_roi_extractor=dict(
            type='SingleRoIExtractor', roi_layer=dict(type='RoIAlign', output_size=7),
            out_channels=16, featmap_strides=[8]),
        semantic_head=dict(type='FusedSemanticHead', **semantic))
    if kind == 'SCNet':
        model['roi_head']['glbctx_head'] = dict(
            type='GlobalContextHead', num_convs=1, in_channels=16, conv_out_channels=16,
            num_classes=3)
        for head in model['roi_head']['bbox_head']:
            head.update(type='SCNetBBoxHead', num_shared_fcs=2)
    return model


@pytest.mark.parametrize('kind', ['HybridTaskCascade', 'SCNet'])
def test_box_heads_with_global_features_get_them(tmp_path, kind):
    model = prepared(two_stage(), save_teacher(tmp_path / 't.pth', htc(kind)), dict(DIST, stage=1))
    inputs, samples = batch()
    _, seen, told = step(model, inputs, samples)
    head = model.teacher.model.roi_head
    with torch.no_grad():
        features = model.teacher.model.extract_feat(inputs)
        context = dict(semantic_feat=head.semantic_head(features)[1])
        if kind == 'SCNet':
            context['glbctx_feat'] = head.glbctx_head(features)[1]
        rois = seen['roi_head.bbox_roi_extractor'][-1].args[1]
        expected = head._bbox_forward(1, features, rois, **context)['cls_score']
        blind = head._bbox_forward(1, features, rois, semantic_feat=context['semantic_feat'] * 0,
                                   **{k: v * 0 for k, v in context.items() if k != 'semantic_feat'})
    (told, ) = model.terms[0].levels(seen, told)[1]
    torch.testing.assert_close(told, expected)
    assert not torch.allclose(told, blind['cls_score'])


def test_queries_are_not_taken_for_rois(teachers):
    sparse = Config.fromfile(config_path(
        'mmdet::sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco.py')).model.to_dict()
    sparse['backbone']['init_cfg'] = None
    with pytest.raises(ValueError, match='of the student predicts for queries, `cls` of the teacher'
                       ' for RoIs.*Points of this pair that can be compared: `neck` through a '
                       'connector'):
        prepared(sparse, teachers['cascade'])


def test_distiller_of_a_cascade_can_be_pickled(teachers):
    import pickle
    model = prepared(two_stage('cascade-rcnn'), teachers['cascade'], dict(DIST, stage='mean'))
    assert pickle.loads(pickle.dumps(model.terms[0].teacher_point)).name == 'cls'
    assert pickle.loads(pickle.dumps(model.terms[0].student_point)).name == 'cls'


def test_sabl_box_head(teachers):
    """SABL's box head is not a subclass of mmdet's other box heads."""
    student = two_stage()
    sabl = Config.fromfile(config_path('mmdet::sabl/sabl-faster-rcnn_r50_fpn_1x_coco.py'))
    student['roi_head']['bbox_head'] = dict(
        sabl.model.roi_head.bbox_head.to_dict(), num_classes=3, cls_in_channels=16,
        reg_in_channels=16, cls_out_channels=16, reg_offset_out_channels=16,
        reg_cls_out_channels=16)
    model = prepared(student, teachers['cascade'])
    assert step(model, *batch())[0]['loss_cls_dist'][0] > 0


def with_masks(samples, size=128):
    from mmdet.structures.mask import BitmapMasks
    for sample in samples:
        count = len(sample.gt_instances.bboxes)
        masks = np.zeros((count, size, size), dtype=np.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, sample.gt_instances.bboxes.int().tolist()):
            mask[y1:y2, x1:x2] = 1
        sample.gt_instances.masks = BitmapMasks(masks, size, size)
    return samples


@pytest.mark.parametrize('stage', [None, 1])
def test_masks_are_compared_at_the_positive_rois(teachers, tmp_path, stage):
    from mmdet.structures.bbox import bbox2roi
    model = prepared(two_stage('mask-rcnn'), teachers['mask'],
                     dict(type='mmkd.KDLoss', on='mask', stage=stage), DIST)
    inputs, samples = batch()
    samplings = []
    sample = model.roi_head.bbox_sampler.sample
    model.roi_head.bbox_sampler.sample = lambda *args, **kwargs: samplings.append(
        sample(*args, **kwargs)) or samplings[-1]
    losses, seen, told = step(model, inputs, with_masks(samples))
    rois = bbox2roi([one.pos_priors for one in samplings])
    network = model.teacher.model
    with torch.no_grad():
        expected = network.roi_head._mask_forward(
            stage or 0, network.extract_feat(inputs), rois)['mask_preds']
    (student, ), (teacher, ) = model.terms[0].levels(seen, told)
    assert student.shape == (len(rois), 3, 28, 28)
    torch.testing.assert_close(teacher, expected)
    torch.testing.assert_close(losses['loss_mask_kd'][0],
                               KDLoss(use_sigmoid=True)(student, expected))
    losses['loss_mask_kd'][0].backward()
    assert model.roi_head.mask_head.conv_logits.weight.grad.abs().sum() > 0
    assert model.backbone.conv1.weight.grad.abs().sum() > 0
    assert model.roi_head.bbox_head.fc_cls.weight.grad is None


def test_mask_loss_without_objects(teachers):
    model = prepared(two_stage('mask-rcnn'), teachers['mask'], dict(type='mmkd.KDLoss', on='mask'))
    inputs, samples = batch(boxes=())
    losses, *_ = step(model, inputs, with_masks(samples))
    assert sum(losses['loss_mask_kd']) == 0
    sum(losses['loss_mask_kd']).backward()


def test_masks_of_htc_go_stage_by_stage(tmp_path):
    htc = two_stage('cascade-mask-rcnn')
    plain = htc['roi_head']
    plain['type'] = 'HybridTaskCascadeRoIHead'
    plain['interleaved'] = plain['mask_info_flow'] = True
    plain['mask_head'] = [dict(plain['mask_head'], type='HTCMaskHead', with_conv_res=number > 0)
                          for number in range(3)]
    teacher = save_teacher(tmp_path / 't.pth', htc)
    model = prepared(htc, teacher, dict(type='mmkd.KDLoss', on='mask'))
    inputs, samples = batch()
    _, seen, told = step(model, inputs, with_masks(samples))
    network = model.teacher.model
    students, told = model.terms[0].levels(seen, told)
    assert len(told) == 3
    for stage in range(3):
        rois = seen[f'roi_head.mask_roi_extractor.{stage}'][-1].args[1]
        with torch.no_grad():
            torch.testing.assert_close(told[stage], network.roi_head._mask_forward(
                stage, network.extract_feat(inputs), rois)['mask_preds'])
            torch.testing.assert_close(
                students[stage].detach(), model.roi_head._mask_forward(
                    stage, model.extract_feat(inputs), rois)['mask_preds'], atol=0.2, rtol=1)


def test_boxes_with_the_same_coding_are_compared(teachers, tmp_path):
    model = prepared(two_stage(), teachers['standard'], dict(type='mmkd.MSELoss', on='reg'))
    inputs, samples = batch()
    losses, seen, _ = step(model, inputs, samples)
    rois = seen['roi_head.bbox_roi_extractor'][-1].args[1]
    network = model.teacher.model
    with torch.no_grad():
        expected = network.roi_head._bbox_forward(
            network.extract_feat(inputs), rois)['bbox_pred']
    own = seen['roi_head.bbox_head'][-1].output[1]
    torch.testing.assert_close(losses['loss_reg_mse'][0], (own - expected).square().mean())
    assert own.shape == (32, 12)

    # A cascade predicts one box for all classes.
    with pytest.raises(ValueError, match='`reg` of the student predicts .*one for each class, '
                       '`reg` of the teacher .*one for all classes; only boxes of the '
                       'same coding.*Points of this pair that can be compared: `cls`'):
        prepared(two_stage(), teachers['cascade'], dict(type='mmkd.MSELoss', on='reg'))


def test_boxes_of_each_class_follow_the_students_order(tmp_path):
    config = two_stage()
    teacher = save_teacher(tmp_path / 't.pth', config, classes=('cross', 'disc', 'square'))
    torch.manual_seed(3)
    model = build(distiller(config, teacher, dict(type='mmkd.MSELoss', on='reg')))
    model.distillation.stated_classes = ['disc', 'square', 'cross']
    model.init_weights()
    inputs, samples = batch()
    losses, seen, _ = step(model, inputs, samples)
    rois = seen['roi_head.bbox_roi_extractor'][-1].args[1]
    network = model.teacher.model
    with torch.no_grad():
        theirs = network.roi_head._bbox_forward(
            network.extract_feat(inputs), rois)['bbox_pred']
    expected = torch.cat([theirs[:, 4 * k:4 * k + 4] for k in (1, 2, 0)], dim=1)
    own = seen['roi_head.bbox_head'][-1].output[1]
    torch.testing.assert_close(losses['loss_reg_mse'][0], (own - expected).square().mean())


@pytest.mark.slow
def test_trident_branches_use_one_teacher_image():
    config = Config.fromfile(config_path('mmdet::tridentnet/tridentnet_r50-caffe_1x_coco.py')).model
    config.backbone.init_cfg = config.roi_head.shared_head.init_cfg = None
    config.train_cfg.rcnn.sampler.num = 8
    config = config.to_dict()
    model = prepared(config, dict(config=dict(model=config, default_scope='mmdet'),
                                  checkpoint=None))
    network = model.teacher.model
    for module in [*model.modules(), *network.modules()]:
        if type(module).__name__ == 'TridentConv':  # mmdet does not initialise it
            torch.nn.init.normal_(module.weight, std=0.02)
    inputs, samples = batch()
    _, seen, told = step(model, inputs, samples)
    rois = seen['roi_head.bbox_roi_extractor'][-1].args[1]
    assert rois[:, 0].max() == 5  # 2 images, 3 branches
    _, (teacher, ) = model.terms[0].levels(seen, told)
    one = torch.cat([rois[:, :1] % 2, rois[:, 1:]], dim=1)
    torch.testing.assert_close(teacher, by_hand(network, inputs, one))


def test_boxes_of_every_stage_must_be_of_one_coding(teachers, tmp_path):
    config = two_stage('cascade-rcnn')
    mse = dict(type='mmkd.MSELoss', on='reg')
    prepared(config, teachers['cascade'], mse)  # the codings agree stage by stage
    with pytest.raises(ValueError, match='only boxes of the same coding can be compared'):
        prepared(config, teachers['cascade'], dict(mse, stage=0))
    with pytest.raises(ValueError, match='different codings, which cannot be averaged'):
        prepared(config, teachers['cascade'], dict(mse, stage='mean'))
    other = two_stage('cascade-rcnn')
    other['roi_head']['bbox_head'][1]['bbox_coder']['target_stds'] = [1., 1., 1., 1.]
    with pytest.raises(ValueError, match='only boxes of the same coding can be compared'):
        prepared(config, save_teacher(tmp_path / 't.pth', other), mse)


def test_loss_on_maps_is_refused_at_rois(teachers):
    with pytest.raises(ValueError, match=r'`loss_cls_cwd`: CWDLoss compares maps .*, but got '
                       r'\(.*, 4\); use .*Points of this pair that can be compared: .*`neck`'):
        prepared(two_stage(), teachers['standard'], dict(type='mmkd.CWDLoss', on='cls'))
