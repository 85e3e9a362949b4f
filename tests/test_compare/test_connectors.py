"""Connectors between feature points: training, checkpoints, and resume."""
import copy
import shutil

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
    segmentor_config,
    train,
)
from mmengine.runner import Runner
from torch import nn

from mmkd.compare.connectors import connect
from mmkd.compare.vocabulary import Batch
from mmkd.training.beside import join_optimizer

MIMIC = dict(type='mmkd.MSELoss', on='neck')


@pytest.fixture
def wide(tmp_path):
    """A teacher whose neck has 24 channels; the student's has 16."""
    return save_teacher(tmp_path / 'wide.pth', retinanet(channels=24))


@pytest.fixture
def equal(tmp_path):
    return save_teacher(tmp_path / 'equal.pth', retinanet(width=12))


def prepared(student, teacher, *entries, scope='mmdet'):
    torch.manual_seed(3)
    model = build(distiller(student, teacher, *entries), scope)
    model.init_weights()
    return model


def connectors_of(model):
    return model.distillation.side_modules.of('connectors')


# --- which connector is used --------------------------------------------------------------------


def test_unequal_channels_get_a_convolution_per_level(wide):
    model = prepared(retinanet(), wide, MIMIC)
    layers = connectors_of(model)['loss_neck_mse']
    assert len(layers) == 5
    for layer in layers:
        assert isinstance(layer, nn.Conv2d)
        assert (layer.in_channels, layer.out_channels, layer.kernel_size) == (16, 24, (1, 1))
        assert layer.bias is not None
        assert layer.weight.requires_grad


def test_equal_channels_get_none_unless_asked_for(equal):
    assert connectors_of(prepared(retinanet(), equal, MIMIC)) == {}
    model = prepared(retinanet(), equal, dict(MIMIC, connector='conv'))
    assert [type(layer) for layer in connectors_of(model)['loss_neck_mse']] == [nn.Conv2d] * 5


def test_mimic_is_the_sum_over_levels_of_mean_squared_errors(equal):
    model = prepared(retinanet(), equal, dict(MIMIC, connector='conv', loss_weight=2.)).eval()
    seen, told = observe(model, torch.randn(2, 3, 64, 64))
    losses = model.terms[0].compare(seen, [told], model.student, Batch(None, None))['']
    match, = model.terms
    own, others = seen['neck'][0].output, told[''][match.teacher_point].levels
    layers = connectors_of(model)['loss_neck_mse']
    for loss, layer, s, t in zip(losses, layers, own, others):
        x = torch.einsum('nchw,dc->ndhw', s, layer.weight[:, :, 0, 0])
        x = x + layer.bias[None, :, None, None]
        torch.testing.assert_close(loss, 2 * ((x - t)**2).sum() / t.numel())


def test_unequal_channels_without_a_connector_are_refused(wide):
    with pytest.raises(ValueError, match=r": 16 and 24 channels; write `connector='auto'`"):
        prepared(retinanet(), wide, dict(MIMIC, connector=None))
    with pytest.raises(ValueError, match="`connector` must be 'auto', 'conv', None or dict"):
        prepared(retinanet(), wide, dict(MIMIC, connector='1x1'))


def test_levels_are_paired_by_their_stride(tmp_path):
    """The student has P3 to P7, the teacher P2 to P5: P3, P4 and P5 are paired."""
    other = retinanet()
    other['neck'].update(start_level=0, add_extra_convs=False, num_outs=4)
    other['bbox_head']['anchor_generator'].update(strides=[4, 8, 16, 32])
    teacher = save_teacher(tmp_path / 'p2.pth', other)
    model = prepared(retinanet(), teacher, MIMIC, dict(type='mmkd.DISTLoss', on='cls'))
    seen, told = observe(model, torch.randn(1, 3, 64, 64))
    for match, module in zip(model.terms, ('neck', 'bbox_head')):
        levels, others = match.levels(seen, told)
        assert [tuple(level.shape[2:]) for level in levels] == [(8, 8), (4, 4), (2, 2)]
        own, theirs = seen[module][0].output, told[''][match.teacher_point].levels
        own = own[0] if module == 'bbox_head' else own
        assert all(torch.equal(a, b) for a, b in zip(levels, own[:3]))
        assert all(torch.equal(a, b) for a, b in zip(others, theirs[1:]))
    assert "student's [0, 1, 2] with the teacher's [1, 2, 3]" in str(model.terms[0])


def test_levels_with_equal_sizes_on_a_small_image(tmp_path):
    """The student has P2 to P7, the teacher P3 to P8. On a small image two of them are 1x1."""
    student, other = retinanet(), retinanet()
    student['neck'].update(start_level=0, num_outs=6)
    student['bbox_head']['anchor_generator'].update(strides=[4, 8, 16, 32, 64, 128])
    other['neck'].update(num_outs=6)
    other['bbox_head']['anchor_generator'].update(strides=[8, 16, 32, 64, 128, 256])
    model = prepared(student, save_teacher(tmp_path / 't.pth', other), MIMIC)
    assert "student's [1, 2, 3, 4, 5] with the teacher's [0, 1, 2, 3, 4]" in str(model.terms[0])


def test_levels_of_a_single_stride_have_one_partner(tmp_path):
    """P3 to P7 have no stride in common with four maps of stride 4. P2 to P6 use the last map."""
    other = retinanet()
    other['backbone']['strides'] = (1, 1, 1, 1)
    other['backbone']['dilations'] = (1, 1, 1, 1)
    other['neck'].update(start_level=0, add_extra_convs=False, num_outs=4)
    other['bbox_head']['anchor_generator'].update(strides=[4, 4, 4, 4])
    teacher = save_teacher(tmp_path / 't.pth', other)
    for entry, remedy in ((MIMIC, 'write one level of each side by its dotted path'), (
            dict(type='mmkd.DISTLoss', on='cls'), "use a teacher with the student's strides")):
        with pytest.raises(ValueError, match=(
                'of the student has 5 levels of strides 8, 16, 32, 64, 128, .* of the teacher 4 '
                f'levels of strides 4, 4, 4, 4.*they have no stride in common; {remedy}')):
            prepared(retinanet(), teacher, entry)
    student = retinanet()
    student['neck'].update(start_level=0, add_extra_convs=False)
    student['bbox_head']['anchor_generator'].update(strides=[4, 8, 16, 32, 64])
    match, = prepared(student, teacher, MIMIC).terms
    assert "student's [0] with the teacher's [3]" in str(match)
    with pytest.raises(ValueError, match='both sides must have the same number of levels of a '
                                         'stride'):
        prepared(student, teacher, dict(type='mmkd.DISTLoss', on='cls'))


def test_backbone_of_another_depth_and_stride(tmp_path):
    """DeepLabV3-R50 at stride 8 teaches the last stage of a ResNet-18 at stride 32."""
    teacher = save_teacher(tmp_path / 't.pth', segmentor('deeplabv3', 50), (), scope='mmseg')
    student = segmentor()
    student['backbone'].update(strides=(1, 2, 2, 2), dilations=(1, 1, 1, 1))
    entry = dict(type='mmkd.MSELoss', on='backbone.layer4')
    model = prepared(student, teacher, entry, scope='mmseg')
    layer, = connectors_of(model)['loss_backbone_layer4_mse']
    assert (layer.in_channels, layer.out_channels) == (64, 256)
    (s, ), (t, ) = model.terms[0].levels(*observe(model, torch.randn(1, 3, 64, 64)))
    assert s.shape == t.shape == (1, 256, 2, 2)


def test_all_stages_of_the_backbone(equal):
    model = prepared(retinanet(), equal, dict(type='mmkd.MSELoss', on='backbone'))
    layers = connectors_of(model)['loss_backbone_mse']
    assert [(layer.in_channels, layer.out_channels) for layer in layers] == [
        (8, 12), (16, 24), (32, 48), (64, 96)]


def test_vectors_get_a_linear_layer():
    layers = connect([torch.zeros(3, 4), torch.zeros(3, 4)], [torch.zeros(3, 6), torch.zeros(3, 4)])
    assert [type(layer) for layer in layers] == [nn.Linear, nn.Identity]


def test_the_log_says_what_was_chosen(wide, monkeypatch):
    lines = []
    monkeypatch.setattr('mmkd.training.distillation.print_log',
                        lambda text, *args: lines.append(text))
    prepared(retinanet(), wide, MIMIC)
    assert lines[0].startswith(
        'loss_neck_mse: `neck` of the student (neck, 1x16x16x16, 1x16x8x8, 1x16x4x4, 1x16x2x2, '
        '1x16x1x1; stride 8, 16, 32, 64, 128) with `neck` of the teacher (neck, 1x24x16x16, ')
    assert 'MSELoss x 1; Conv2d' in lines[0]
    assert 'Conv2d 16 -> 24 on the student' in lines[0]


# --- training and checkpoints -------------------------------------------------------------------


def run(shapes, work_dir, teacher, entry=MIMIC, epochs=1, **changes):
    changes = {'train_cfg.max_epochs': epochs, 'train_dataloader.dataset.pipeline.3.prob': 0.,
               'optim_wrapper.optimizer.momentum': 0.9, **changes}
    return detector_config(shapes, distiller(retinanet(), teacher, entry), str(work_dir), **changes)


def test_connectors_train_outside_the_student(shapes, tmp_path, wide):
    runner = Runner.from_cfg(run(shapes, tmp_path / 'run', wide))
    model, before = runner.model, {}
    prepare = model.prepare

    def prepare_and_keep():
        prepare()
        if not before:
            before.update(copy.deepcopy(connectors_of(model)['loss_neck_mse'].state_dict()))

    model.prepare = prepare_and_keep
    runner.train()
    after = connectors_of(model)['loss_neck_mse'].state_dict()
    assert all(not torch.equal(value, before[name]) for name, value in after.items())
    saved = saved_at(str(tmp_path / 'run' / 'epoch_1.pth'))
    assert list(saved['state_dict']) == list(build(retinanet()).state_dict())
    for name, value in saved['mmkd']['connectors']['loss_neck_mse'].items():
        assert torch.equal(value, after[name])
    own = {id(p) for p in model.parameters()}
    assert not own & {id(p) for p in model.distillation.trained_beside}


def test_connectors_follow_the_schedule_of_the_student(shapes, tmp_path, wide):
    runner = Runner.from_cfg(run(shapes, tmp_path / 'run', wide, param_scheduler=[
        dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=4)]))
    runner.train()
    groups = runner.optim_wrapper.param_groups
    ours = {id(p) for p in runner.model.distillation.trained_beside}
    assert len(groups) == 1
    assert ours <= {id(p) for p in groups[0]['params']}
    assert groups[0]['lr'] < 0.001


def test_connectors_join_the_group_of_the_base_learning_rate(shapes, tmp_path, wide):
    paramwise = dict(norm_decay_mult=0., custom_keys={'backbone': dict(lr_mult=0.1)})
    runner = Runner.from_cfg(run(
        shapes, tmp_path / 'run', wide,
        optim_wrapper=dict(type='OptimWrapper', paramwise_cfg=paramwise,
                           optimizer=dict(type='SGD', lr=0.001, weight_decay=0.1))))
    runner.train()
    ours = {id(p) for p in runner.model.distillation.trained_beside}
    homes = [group for group in runner.optim_wrapper.param_groups
             if ours & {id(p) for p in group['params']}]
    assert len(homes) == 1
    assert (homes[0]['lr'], homes[0]['weight_decay']) == (0.001, 0.1)
    assert ours <= {id(p) for p in homes[0]['params']}


def test_connectors_follow_a_scaled_learning_rate(shapes, tmp_path, wide):
    runner, _ = train(run(shapes, tmp_path / 'run', wide,
                          auto_scale_lr=dict(enable=True, base_batch_size=16)))
    group, = runner.optim_wrapper.param_groups
    assert group['lr'] == pytest.approx(0.001 * 2 / 16)
    assert {id(p) for p in runner.model.distillation.trained_beside} <= {
        id(p) for p in group['params']}


def test_no_group_of_the_base_learning_rate_is_an_error():
    from mmengine.optim import OptimWrapper
    wrapper = OptimWrapper(torch.optim.SGD(
        [dict(params=[nn.Parameter(torch.ones(1))], lr=0.5)], lr=1.))
    with pytest.raises(ValueError, match='base learning rate 1 and weight decay 0'):
        join_optimizer([nn.Parameter(torch.ones(1))], wrapper)
    with pytest.raises(TypeError, match='OptimWrapper of MMEngine.*got dict'):
        join_optimizer([nn.Parameter(torch.ones(1))], {})


def test_resumed_run_is_the_uninterrupted_one_to_the_bit(shapes, tmp_path, wide):
    _, whole = train(run(shapes, tmp_path / 'whole', wide, epochs=3))
    train(run(shapes, tmp_path / 'parts', wide, epochs=1))
    parts, rest = train(run(shapes, tmp_path / 'parts', wide, epochs=3, resume=True))
    assert rest == whole[2:]
    end = saved_at(str(tmp_path / 'whole' / 'epoch_3.pth'))
    for name, value in parts.model.state_dict().items():
        assert torch.equal(value, end['state_dict'][name]), name
    state = parts.model.distillation.side_modules.state_dict()['connectors']['loss_neck_mse']
    for name, value in end['mmkd']['connectors']['loss_neck_mse'].items():
        assert torch.equal(value, state[name]), name


@pytest.mark.slow
def test_entries_in_another_order_keep_their_own_momentum(shapes, tmp_path, wide):
    """An optimizer stores its state by index, and both connectors have the same shapes."""
    entries = [dict(MIMIC, name='loss_one'), dict(MIMIC, name='loss_other', loss_weight=50.)]

    def go_on(name, *order, epochs):
        config = run(shapes, tmp_path / name, wide, epochs=epochs, resume=epochs > 1)
        config.model.distill = [entries[number] for number in order]
        return train(config)[0]

    def momentum(runner):
        connectors = runner.model.distillation.side_modules.of('connectors')
        state = runner.optim_wrapper.optimizer.state
        return {name: [state[p]['momentum_buffer'] for p in connectors[name].parameters()]
                for name in ('loss_one', 'loss_other')}

    go_on('first', 0, 1, epochs=1)
    shutil.copytree(tmp_path / 'first', tmp_path / 'second')
    kept, other = (momentum(go_on(name, *order, epochs=3)) for name, order in (
        ('first', (0, 1)), ('second', (1, 0))))
    for name in kept:
        torch.testing.assert_close(other[name], kept[name], rtol=1e-3, atol=1e-6)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(kept['loss_one'], kept['loss_other'], rtol=1e-3, atol=1e-6)
    # Again, from a checkpoint of the other order.
    shutil.copytree(tmp_path / 'second', tmp_path / 'third')
    last = [momentum(go_on(name, *order, epochs=4)) for name, order in (
        ('second', (1, 0)), ('third', (0, 1)))]
    for name in kept:
        torch.testing.assert_close(last[0][name], last[1][name], rtol=1e-3, atol=1e-6)


def test_resume_with_other_connectors_is_refused(shapes, tmp_path, wide, equal):
    train(run(shapes, tmp_path / 'run', wide))
    entry = dict(MIMIC, name='loss_other')
    with pytest.raises(ValueError, match='other connectors .*in the checkpoint: '
                                         '.*loss_neck_mse.*in the config: .*loss_other'):
        train(run(shapes, tmp_path / 'run', wide, entry, epochs=2, resume=True))
    train(run(shapes, tmp_path / 'plain', equal))
    with pytest.raises(ValueError, match='in the checkpoint: none, .*in the config: .*loss_neck'):
        train(run(shapes, tmp_path / 'plain', wide, epochs=2, resume=True))
    with pytest.raises(ValueError, match='in the checkpoint: .*loss_neck.*, .*in the config: none'):
        train(run(shapes, tmp_path / 'run', equal, epochs=2, resume=True))


def test_weights_to_start_from_need_no_connectors(shapes, tmp_path, wide, equal):
    train(run(shapes, tmp_path / 'plain', equal))
    path = str(tmp_path / 'plain' / 'epoch_1.pth')
    _, losses = train(run(shapes, tmp_path / 'run', wide, load_from=path))
    assert losses[0]['loss_neck_mse'] > 0


def test_testing_needs_neither_teacher_nor_connectors(shapes, tmp_path, wide):
    train(run(shapes, tmp_path / 'run', wide))
    gone = dict(config='no/such/config.py', checkpoint='no/such/file.pth')
    scores = Runner.from_cfg(run(shapes, tmp_path / 'test', gone,
                                 load_from=str(tmp_path / 'run' / 'epoch_1.pth'))).test()
    assert 'coco/bbox_mAP' in scores


def test_connectors_move_with_the_student(wide):
    model = prepared(retinanet(), wide, MIMIC)
    model.to(torch.float64)
    assert {p.dtype for p in model.distillation.trained_beside} == {torch.float64}


def test_connectors_train_in_a_loop_without_a_runner(shapes, tmp_path, wide):
    from mmengine.optim import build_optim_wrapper
    model = prepared(retinanet(), wide, MIMIC)
    wrapper = build_optim_wrapper(model, dict(optimizer=dict(type='SGD', lr=0.01)))
    loader = Runner.from_cfg(run(shapes, tmp_path / 'r', wide)).build_dataloader(
        run(shapes, tmp_path / 'r', wide).train_dataloader)
    weight = connectors_of(model)['loss_neck_mse'][0].weight
    before = weight.detach().clone()
    for data in loader:
        model.train_step(data, wrapper)
    assert not torch.equal(weight, before)
    assert len(wrapper.param_groups) == 1
    assert len({id(p) for p in wrapper.param_groups[0]['params']}) == len(
        wrapper.param_groups[0]['params'])


def test_segmentor_learns_the_teachers_features(streets, tmp_path):
    from mmseg.datasets import CityscapesDataset
    teacher = save_teacher(tmp_path / 't.pth', segmentor(depth=50),
                           CityscapesDataset.METAINFO['classes'], scope='mmseg')
    entry = dict(type='mmkd.MSELoss', on='backbone.layer4', loss_weight=0.1)
    _, losses = train(segmentor_config(streets, distiller(segmentor(), teacher, entry),
                                       str(tmp_path / 'run')))
    assert losses[0]['loss_backbone_layer4_mse'] > 0
    assert 'mmkd' in saved_at(str(tmp_path / 'run' / 'iter_2.pth'))
