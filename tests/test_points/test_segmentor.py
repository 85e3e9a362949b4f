"""Segmentors: decode head and auxiliary heads, other sizes, ignored pixels."""
import copy

import pytest
import torch
from conftest import (
    build,
    distiller,
    observe,
    retinanet,
    save_teacher,
    saved_at,
    segmentor,
    segmentor_config,
    train,
)
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch.nn.functional import interpolate

from mmkd import DISTLoss, IFVDLoss, KDLoss
from mmkd.compare.regions import weights_of
from mmkd.compare.vocabulary import PROVIDERS, Batch, Context
from mmkd.files.zoo import config_path
from mmkd.points import Segmentor, find_point

DIST = dict(type='mmkd.DISTLoss', on='cls')
AUX = dict(type='mmkd.DISTLoss', on='aux', loss_weight=0.4)


def cityscapes():
    from mmseg.datasets import CityscapesDataset
    return CityscapesDataset.METAINFO['classes']


@pytest.fixture(scope='module')
def teacher(tmp_path_factory):
    return save_teacher(tmp_path_factory.mktemp('t') / 'deeplab.pth', segmentor('deeplabv3', 50),
                        cityscapes(), scope='mmseg')


def prepared(student, teacher, *entries):
    torch.manual_seed(3)
    model = build(distiller(student, teacher, *entries), 'mmseg')
    model.init_weights()
    return model


def batch(size=64):
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample
    torch.manual_seed(0)
    samples = []
    for _ in range(2):
        sample = SegDataSample(metainfo=dict(img_shape=(size, size), ori_shape=(size, size)))
        sample.gt_sem_seg = PixelData(data=torch.randint(0, 19, (1, size, size)))
        samples.append(sample)
    return torch.randn(2, 3, size, size), samples


@pytest.mark.parametrize('kind', ['pspnet', 'deeplabv3'])
def test_total_is_dist_of_main_and_four_tenths_of_dist_of_aux(teacher, kind):
    model = prepared(segmentor(kind), teacher, DIST, AUX).eval()
    inputs, samples = batch()
    losses = model(inputs, samples, mode='loss')
    student, network = model.student, model.teacher.model
    own, told = student.extract_feat(inputs), network.extract_feat(inputs)
    main = DISTLoss()(student.decode_head(own), network.decode_head(told))
    aux = DISTLoss()(student.auxiliary_head(own), network.auxiliary_head(told))
    total = sum(sum(value) for name, value in losses.items() if name.endswith('_dist'))
    torch.testing.assert_close(total, main + 0.4 * aux)
    assert {'decode.loss_ce', 'aux.loss_ce', 'loss_cls_dist', 'loss_aux_dist'} <= set(losses)


def test_features_are_what_the_classifier_is_given(teacher):
    model = prepared(segmentor(), teacher, dict(type='mmkd.IFVDLoss', on='features')).eval()
    assert find_point(model.student, 'features').paths == ('decode_head.conv_seg', )
    inputs, samples = batch()
    samples[0].gt_sem_seg.data[:, :20] = 255
    losses = model(inputs, samples, mode='loss')
    labels = torch.cat([one.gt_sem_seg.data for one in samples])
    own, told = (network.decode_head._forward_feature(network.extract_feat(inputs))
                 for network in (model.student, model.teacher.model))
    expected = IFVDLoss()(own, told, label_map=labels.masked_fill(labels == 255, -1),
                          num_classes=19)
    torch.testing.assert_close(sum(losses['loss_features_ifvd']), expected)
    assert expected > 0


def test_number_of_classes_is_known_at_every_point(monkeypatch):
    for make, scope, count in ((segmentor, 'mmseg', 19), (retinanet, 'mmdet', 3)):
        model = build(make(), scope)
        for name in ('cls', 'backbone'):
            context = Context(Batch(torch.zeros(1, 3, 8, 8), None), model,
                              find_point(model, name), {}, [], [])
            assert PROVIDERS['num_classes'](context) == count
    monkeypatch.setattr('mmkd.compare.provided.points_of', lambda *args: {})
    with pytest.raises(ValueError, match="`num_classes` is required, but the student has no point "
                       "'cls'"):
        PROVIDERS['num_classes'](context)


def test_softmax_over_all_pixels_by_default(teacher):
    model = prepared(segmentor(), teacher, dict(type='mmkd.KDLoss', on='cls')).eval()
    inputs, samples = batch()
    loss, = model(inputs, samples, mode='loss')['loss_cls_kd']
    s = model.student.decode_head(model.student.extract_feat(inputs)).double()
    network = model.teacher.model
    t = network.decode_head(network.extract_feat(inputs)).double()
    p, q = t.softmax(1), s.softmax(1)
    torch.testing.assert_close(loss.double(), (p * (p / q).log()).sum(1).mean(),
                               rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize('align_corners', [False, True])
def test_teacher_of_another_stride_is_interpolated(tmp_path, align_corners):
    coarse = segmentor(align_corners=not align_corners)
    coarse['backbone'].update(strides=(1, 2, 2, 2), dilations=(1, 1, 1, 1))
    teacher = save_teacher(tmp_path / 't.pth', coarse, cityscapes(), scope='mmseg')
    model = prepared(segmentor(align_corners=align_corners), teacher, DIST)
    inputs, _ = batch()
    (student, ), (got, ) = model.terms[0].levels(*observe(model.eval(), inputs))
    network = model.teacher.model
    raw = network.decode_head(network.extract_feat(inputs))
    assert raw.shape[2:] == (2, 2)
    assert student.shape[2:] == got.shape[2:] == (8, 8)
    torch.testing.assert_close(got, interpolate(raw, size=(8, 8), mode='bilinear',
                                                align_corners=align_corners))


def test_mask_leaves_ignored_pixels_out(teacher):
    masked = dict(DIST, region='valid', name='loss_masked')
    model = prepared(segmentor(), teacher, DIST, masked).eval()
    inputs, samples = batch()
    whole = model(inputs, samples, mode='loss')
    torch.testing.assert_close(whole['loss_masked'], whole['loss_cls_dist'])
    for sample in samples:
        sample.gt_sem_seg.data[:, :32] = 255
    losses = model(inputs, samples, mode='loss')
    assert losses['loss_cls_dist'] == whole['loss_cls_dist']
    network = model.teacher.model
    s = model.student.decode_head(model.student.extract_feat(inputs))[:, :, 4:]
    t = network.decode_head(network.extract_feat(inputs))[:, :, 4:]
    torch.testing.assert_close(losses['loss_masked'][0], DISTLoss()(s, t))
    for sample in samples:
        sample.gt_sem_seg.data[:] = 255
    assert model(inputs, samples, mode='loss')['loss_masked'][0] == 0
    with pytest.raises(ValueError, match="`region` must be 'valid' or .*but got `vald`"):
        prepared(segmentor(), teacher, dict(DIST, region='vald'))


def test_channel_softmax_ignores_masked_pixels(teacher):
    entry = dict(type='mmkd.CWDLoss', on='cls', region='valid')
    model = prepared(segmentor(), teacher, entry).eval()
    inputs, samples = batch()
    for sample in samples:
        sample.gt_sem_seg.data[:, :32] = 255
    network = model.teacher.model
    losses = model(inputs, samples, mode='loss')
    s, t = (side.decode_head(side.extract_feat(inputs))[:, :, 4:].flatten(2) / 4
            for side in (model.student, network))
    p = t.softmax(2)
    expected = 16 * (p * (p / s.softmax(2)).log()).sum(2).mean()
    torch.testing.assert_close(losses['loss_cls_cwd'][0], expected)


def test_mask_looks_at_the_ignore_index_of_the_student(teacher):
    model = prepared(segmentor(ignore_index=7), teacher, dict(DIST, region='valid'))
    _, samples = batch()
    samples[0].gt_sem_seg.data[:] = 7
    samples[1].gt_sem_seg.data[:] = 255
    term, = model.terms
    level = torch.zeros(2, 19, 8, 8)
    weight, = weights_of(term.region, Context(Batch(torch.zeros(2, 3, 64, 64), samples),
                                              model.student, term.student_point, {}, [level],
                                              [level]))
    assert weight.sum((1, 2)).tolist() == [0, 64]


def two_aux(model):
    first = copy.deepcopy(model['auxiliary_head'])
    first.update(in_index=1, in_channels=first['in_channels'] // 2)
    model['auxiliary_head'] = [first, model['auxiliary_head']]
    return model


def test_auxiliary_heads_by_index(tmp_path):
    teacher = save_teacher(tmp_path / 't.pth', two_aux(segmentor(depth=50)), cityscapes(),
                           scope='mmseg')
    model = prepared(two_aux(segmentor()), teacher, dict(AUX, on='aux.0'), dict(AUX, on='aux.1'),
                     dict(AUX, on=dict(student='aux.1', teacher='aux.0'), name='loss_cross'))
    inputs, samples = batch()
    losses = model.eval()(inputs, samples, mode='loss')
    network = model.teacher.model
    own = model.student.extract_feat(inputs)
    told = network.extract_feat(inputs)
    logits = [[head(x) for head in one.auxiliary_head]
              for one, x in ((model.student, own), (network, told))]
    for name, i, k in (('loss_aux_0_dist', 0, 0), ('loss_aux_1_dist', 1, 1), ('loss_cross', 1, 0)):
        loss, = losses[name]
        torch.testing.assert_close(loss, 0.4 * DISTLoss()(logits[0][i], logits[1][k]))


def ocrnet(width=8):
    model = segmentor(width=width)
    main = dict(model['decode_head'], type='OCRHead', channels=16, ocr_channels=8)
    main.pop('pool_scales')
    model.update(type='CascadeEncoderDecoder', num_stages=2,
                 decode_head=[model.pop('auxiliary_head'), main])
    return model


def test_cascade_of_decode_heads(tmp_path):
    teacher = save_teacher(tmp_path / 't.pth', ocrnet(12), cityscapes(), scope='mmseg')
    model = prepared(ocrnet(), teacher, DIST, dict(DIST, on='cls.0', loss_weight=0.4)).eval()
    inputs, samples = batch()
    losses = model(inputs, samples, mode='loss')
    pairs = []
    for one in (model.student, model.teacher.model):
        features = one.extract_feat(inputs)
        first = one.decode_head[0](features)
        pairs.append((first, one.decode_head[1](features, first)))
    torch.testing.assert_close(losses['loss_cls_dist'][0], DISTLoss()(pairs[0][1], pairs[1][1]))
    torch.testing.assert_close(losses['loss_cls_0_dist'][0],
                               0.4 * DISTLoss()(pairs[0][0], pairs[1][0]))


def test_teacher_runs_only_the_heads_that_are_asked(teacher):
    from mmkd.points.recorder import recording
    for entry, runs in ((DIST, [1, 0]), (AUX, [0, 1]),
                        (dict(type='mmkd.MSELoss', on='backbone'), [0, 0])):
        model = prepared(segmentor(), teacher, entry)
        with recording(model.teacher.model, ['decode_head', 'auxiliary_head']) as calls:
            model(*batch(), mode='loss')
        assert [len(one) for one in calls.values()] == runs


def test_trains_and_leaves_the_plain_students_checkpoint(streets, tmp_path, teacher):
    plain = segmentor()
    config = segmentor_config(streets, distiller(plain, teacher, DIST, AUX), str(tmp_path / 'run'))
    runner, losses = train(config)
    assert all(step['loss_cls_dist'] > 0 and step['loss_aux_dist'] > 0 for step in losses)
    saved = saved_at(str(tmp_path / 'run' / 'iter_2.pth'))
    network = build(plain, 'mmseg')
    assert list(saved['state_dict']) == list(network.state_dict())
    network.load_state_dict(saved['state_dict'], strict=True)
    assert isinstance(runner.message_hub.get_scalar('val/mIoU').current(), float)


def test_with_weight_zero_the_run_is_the_plain_run(streets, tmp_path, teacher):
    """Dropout draws random numbers in every step, and the teacher must not.

    On some processors the weights may differ in the last bits, because the order of sums depends on
    memory addresses. Other dropout masks would change them by 1e-4 and more.
    """
    plain, _ = train(segmentor_config(streets, segmentor(), str(tmp_path / 'plain')))
    other, _ = train(segmentor_config(
        streets, distiller(segmentor(), teacher, dict(DIST, loss_weight=0.)),
        str(tmp_path / 'zero')))
    weights = other.model.state_dict()
    for name, value in plain.model.state_dict().items():
        torch.testing.assert_close(value, weights[name], rtol=1e-6, atol=1e-8, msg=name)


def test_binary_head_with_one_column():
    model = build(segmentor(classes=2, out_channels=1, threshold=0.5, loss_decode=dict(
        type='CrossEntropyLoss', use_sigmoid=True)), 'mmseg')
    point = find_point(model, 'cls')
    assert (point.use_sigmoid, point.num_classes, point.num_named) == (True, 1, 2)


CE = dict(type='CrossEntropyLoss', loss_weight=1.)
LOSSES = {
    'cross entropy': CE,
    'and Dice': [CE, dict(type='DiceLoss', loss_name='loss_dice', loss_weight=3.)],
    'and Dice of softmax': [CE, dict(type='DiceLoss', use_sigmoid=False, loss_name='loss_dice')],
    'focal': dict(type='FocalLoss', use_sigmoid=True),
    'sigmoid': dict(type='CrossEntropyLoss', use_sigmoid=True),
}


@pytest.mark.parametrize('loss', LOSSES.values(), ids=LOSSES.keys())
def test_head_activates_as_mmseg_predicts_whatever_its_losses(loss):
    """With several outputs the largest is predicted, as for softmax. One output has a threshold."""
    for outputs, use_sigmoid in ((2, False), (1, True)):
        model = build(segmentor(classes=2, out_channels=outputs, loss_decode=loss), 'mmseg')
        assert find_point(model, 'cls').use_sigmoid is use_sigmoid
        logits = torch.tensor([[0.2, 0.9, -1.], [0.1, 1.4, -0.2]])[:outputs].view(1, outputs, 1, 3)
        found = model.postprocess_result(logits)[0].pred_sem_seg.data.flatten()
        predicted = (logits[0, 0, 0].sigmoid() > model.decode_head.threshold if outputs == 1 else
                     logits.softmax(1).argmax(1).flatten())
        assert found.tolist() == predicted.tolist()


def test_dice_loss_does_not_change_the_activation(tmp_path):
    """The losses of `mmseg::unet/unet-s5-d16_fcn_4xb4-ce-1.0-dice-3.0-40k_hrf-256x256.py`."""
    teacher = save_teacher(tmp_path / 't.pth', segmentor(classes=4), 'abcd', scope='mmseg')
    student = segmentor(classes=4, loss_decode=LOSSES['and Dice'])
    model = prepared(student, teacher, dict(type='mmkd.KDLoss', on='cls')).eval()
    inputs, samples = batch()
    for sample in samples:
        sample.gt_sem_seg.data %= 4
    loss, = model(inputs, samples, mode='loss')['loss_cls_kd']
    own, told = (side.decode_head(side.extract_feat(inputs)).double()
                 for side in (model.student, model.teacher.model))
    p, q = told.softmax(1), own.softmax(1)
    torch.testing.assert_close(loss.double(), (p * (p / q).log()).sum(1).mean(),
                               rtol=1e-3, atol=1e-8)


@pytest.mark.parametrize('use_sigmoid', [True, False])
def test_use_sigmoid_applies_to_both_sides(tmp_path, use_sigmoid):
    teacher = save_teacher(tmp_path / 't.pth', segmentor(classes=4), 'abcd', scope='mmseg')
    student = segmentor(classes=4, loss_decode=LOSSES['sigmoid'])
    model = prepared(student, teacher, dict(type='mmkd.KDLoss', on='cls',
                                            use_sigmoid=use_sigmoid)).eval()
    sides = model.terms[0].levels(*observe(model, batch()[0]))
    assert model.terms[0].loss.use_sigmoid is use_sigmoid
    expected = KDLoss(use_sigmoid=use_sigmoid)(*sides)
    torch.testing.assert_close(model.terms[0].loss(*sides), expected)


def test_a_head_that_predicts_metres_has_no_classes():
    from mmseg.models.decode_heads import VPDDepthHead

    from mmkd.points.families.segmentor import _predicts_a_map
    with DefaultScope.overwrite_default_scope('mmseg'):
        head = VPDDepthHead(in_channels=[16, 16, 16, 16], embed_dim=4, feature_dim=16,
                            num_deconv_filters=(16, 16, 16))
    assert not _predicts_a_map(head)


def knet():
    """mmseg's K-Net with three stages on a narrow ResNet."""
    model = segmentor()
    stage = Config.fromfile(config_path(
        'mmseg::knet/knet-s3_r50-d8_fcn_8xb2-adamw-80k_ade20k-512x512.py'
    )).model.decode_head.kernel_update_head[0].to_dict()
    stage.update(num_classes=19, num_heads=2, feedforward_channels=8, in_channels=16,
                 out_channels=16)
    stage['kernel_updator_cfg'].update(in_channels=16, feat_channels=16, out_channels=16)
    first = dict(model['decode_head'], type='FCNHead', num_convs=1, kernel_size=3)
    first.pop('pool_scales')
    model['decode_head'] = dict(type='IterativeDecodeHead', num_stages=3,
                                kernel_update_head=[stage] * 3, kernel_generate_head=first)
    return model


def test_knet_returns_the_logits_of_its_last_stage():
    """K-Net has no threshold, unlike other heads: mmseg predicts the most probable class."""
    teacher = dict(config=dict(default_scope='mmseg', model=knet()), checkpoint=None)
    model = prepared(knet(), teacher, DIST)
    assert model.terms[0].loss.use_sigmoid is False
    inputs, samples = batch()
    levels, told = model.terms[0].levels(*observe(model, inputs))
    network = model.teacher.model
    torch.testing.assert_close(told, [network.decode_head(network.extract_feat(inputs))])
    assert levels[0].shape == told[0].shape
    model.train()
    losses = model(inputs, samples, mode='loss')
    losses['loss_cls_dist'][0].backward()
    assert model.decode_head.kernel_update_head[2].fc_mask.weight.grad.abs().sum() > 0
    assert all(name in losses for name in ('decode.loss_ce.s0', 'loss_cls_dist'))


@pytest.mark.parametrize(('labels', 'columns', 'expected'), [
    ([0, 1, 1], [1, 0], [1, 0, 0]), ([0, 1, 1], [0, 1], [0, 1, 1]), ([0, 1, 1], [1], [255, 0, 0])])
def test_prediction_of_one_output_in_the_students_classes(labels, columns, expected):
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample
    sample = SegDataSample()
    sample.seg_logits = PixelData(data=torch.rand(1, 1, 3))
    sample.pred_sem_seg = PixelData(data=torch.tensor([[labels]]).float())
    found = Segmentor.relabel(sample, columns).pred_sem_seg.data
    assert found.flatten().tolist() == expected


def test_classes_in_another_order_are_remapped(tmp_path, monkeypatch):
    names = ('sky', 'road', 'car', 'tree')
    teacher = save_teacher(tmp_path / 't.pth', segmentor(classes=4), names, scope='mmseg')
    monkeypatch.setattr('mmkd.training.probe.classes_of_run', lambda: ['road', 'sky', 'car'])
    model = prepared(segmentor(classes=3), teacher, DIST).eval()
    inputs, _ = batch()
    _, (got, ) = model.terms[0].levels(*observe(model, inputs))
    network = model.teacher.model
    raw = network.decode_head(network.extract_feat(inputs))
    torch.testing.assert_close(got, raw[:, [1, 0, 2]])


def test_class_layer_by_its_path(teacher):
    model = prepared(segmentor(), teacher, DIST, dict(DIST, on='decode_head.conv_seg')).eval()
    losses = model(*batch(), mode='loss')
    assert losses['loss_cls_dist'] == losses['loss_decode_head_conv_seg_dist']
    assert find_point(model.student, 'decode_head.conv_seg').num_classes == 19
    assert find_point(model.student, 'decode_head.bottleneck').num_classes is None


def test_losses_are_those_of_the_head_in_training_mode(teacher):
    """mmseg's heads call their own forward. The compared logits are those of the task's loss."""
    model = prepared(segmentor(dropout_ratio=0.), teacher, dict(type='mmkd.KDLoss', on='cls'))
    inputs, samples = batch()
    seen = []
    forward = model.student.decode_head.forward
    model.student.decode_head.forward = lambda x: seen.append(forward(x)) or seen[-1]
    loss, = model(inputs, samples, mode='loss')['loss_cls_kd']
    network = model.teacher.model
    told = network.decode_head(network.extract_feat(inputs))
    assert len(seen) == 1
    torch.testing.assert_close(loss, KDLoss()(seen[0], told))


def test_preprocessor_next_to_the_model_is_used_for_the_student(streets, tmp_path, teacher):
    """In mmseg's configs it is next to the model, and MMEngine's Runner passes it to the model."""
    plain = segmentor()
    shared = plain.pop('data_preprocessor')
    teacher = dict(teacher, config=dict(teacher['config'], data_preprocessor=dict(
        type='SegDataPreProcessor', mean=[0.] * 3, std=[1.] * 3)))
    config = segmentor_config(streets, distiller(plain, teacher, DIST), str(tmp_path / 'run'))
    config.data_preprocessor = shared
    runner, _ = train(config)
    # The teacher's model has its own, which takes precedence over the one next to it.
    for model in (runner.model.student, runner.model.teacher.model):
        mean = model.data_preprocessor.mean.flatten().tolist()
        assert mean == pytest.approx(shared['mean'])


def pidnet():
    model = segmentor()
    norm = dict(type='BN')
    model.pop('auxiliary_head')
    model.update(
        backbone=dict(type='PIDNet', in_channels=3, channels=8, ppm_channels=8, num_stem_blocks=1,
                      num_branch_blocks=1, align_corners=False, norm_cfg=norm),
        decode_head=dict(
            type='PIDHead', in_channels=32, channels=16, num_classes=19, norm_cfg=norm,
            align_corners=True, loss_decode=[
                dict(type='CrossEntropyLoss', loss_weight=0.4),
                dict(type='OhemCrossEntropy', thres=0.9, min_kept=100, loss_weight=1.0),
                dict(type='BoundaryLoss', loss_weight=20.0),
                dict(type='OhemCrossEntropy', thres=0.9, min_kept=100, loss_weight=1.0)]))
    return model


def test_prediction_among_several_outputs_is_compared(teacher):
    """In training PIDNet returns p, i and d; in tests it returns i."""
    from mmengine.structures import PixelData
    model = prepared(pidnet(), teacher, dict(type='mmkd.KDLoss', on='cls'))
    inputs, samples = batch()
    for sample in samples:
        sample.gt_edge_map = PixelData(data=torch.zeros(1, 64, 64, dtype=torch.long))
    kept = []
    forward = model.student.decode_head.forward
    model.student.decode_head.forward = lambda x: kept.append(forward(x)) or kept[-1]
    loss, = model(inputs, samples, mode='loss')['loss_cls_kd']
    network = model.teacher.model
    told = network.decode_head(network.extract_feat(inputs))
    torch.testing.assert_close(loss, KDLoss()(kept[0][1], told))


def test_head_with_outputs_unknown_to_mmkd_is_refused(teacher):
    from mmseg.models.decode_heads import FCNHead
    from mmseg.registry import MODELS

    @MODELS.register_module(force=True)
    class TwoOutputs(FCNHead):
        def forward(self, inputs):
            output = super().forward(inputs)
            return (output, output) if self.training else output

        def loss_by_feat(self, seg_logits, batch_data_samples):
            return super().loss_by_feat(seg_logits[0], batch_data_samples)

    student = segmentor()
    student['decode_head'] = dict(student['auxiliary_head'], type='TwoOutputs')
    model = prepared(student, teacher, DIST)
    with pytest.raises(TypeError, match='TwoOutputs returns 2 outputs in training'):
        model(*batch(), mode='loss')


def test_point_head_is_skipped(tmp_path, teacher):
    model = segmentor()
    model.update(type='CascadeEncoderDecoder', num_stages=2, decode_head=[
        model.pop('auxiliary_head'),
        dict(type='PointHead', in_channels=[32], in_index=[2], channels=8, num_classes=19,
             num_fcs=1, coarse_pred_each_layer=True, align_corners=False)])
    network = build(model, 'mmseg')
    assert find_point(network, 'cls').paths == ('decode_head.0', )
    with pytest.raises(ValueError, match='no point `cls.1`'):
        find_point(network, 'cls.1')


def test_class_layer_of_a_head_that_a_cascade_runs_twice(tmp_path):
    teacher = save_teacher(tmp_path / 't.pth', ocrnet(12), cityscapes(), scope='mmseg')
    model = prepared(ocrnet(), teacher, dict(DIST, on='decode_head.0.conv_seg'))
    assert len(model(*batch(), mode='loss')['loss_decode_head_0_conv_seg_dist']) == 1


def test_tokens_are_refused(tmp_path):
    def segformer(width):
        model = segmentor()
        model.pop('auxiliary_head')
        model.update(
            backbone=dict(type='MixVisionTransformer', embed_dims=width, num_layers=[1, 1, 1, 1],
                          num_heads=[1, 1, 1, 1]),
            decode_head=dict(type='SegformerHead', in_channels=[width] * 4, in_index=[0, 1, 2, 3],
                             channels=16, num_classes=19, align_corners=False))
        return model

    teacher = save_teacher(tmp_path / 't.pth', segformer(16), cityscapes(), scope='mmseg')
    prepared(segformer(8), teacher, DIST, dict(type='mmkd.MSELoss', on='backbone'))
    with pytest.raises(ValueError, match='the channel dimension .*tokens .*is not known'):
        prepared(segformer(8), teacher, dict(type='mmkd.MSELoss', on='backbone.layers.0.1.0'))
