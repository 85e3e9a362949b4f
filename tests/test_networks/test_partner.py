"""Partners: the student's hints do not change them, and all their parameters are trained."""
import copy
import os

import pytest
import torch
from conftest import build, detector_config, retinanet, saved_at, train
from mmengine.model import convert_sync_batchnorm
from mmengine.runner import Runner
from support.partners import HINT, batch, prepared, with_booster

from mmkd.points.recorder import recording


def gradients(model, losses):
    total, _ = model.parse_losses(losses)
    total.backward()
    booster = model.distillation.partners['booster']
    return {name: p.grad.clone() for name, p in booster.model.named_parameters()
            if p.grad is not None}


def test_hint_does_not_train_the_booster():
    """The gradients of the booster are the same for any weight of the hint."""
    for shared in ([], ['backbone.conv1', 'backbone.layer1.1']):
        found = []
        for weight in (1e-30, 5.):
            model = prepared(with_booster(retinanet(depth=34), dict(HINT, loss_weight=weight),
                                          shared=shared))
            losses = model(**batch(model), mode='loss')
            assert losses['loss_cls_mse_from_booster'][0] > 0 or weight < 1e-20
            found.append(gradients(model, losses))
        assert found[0].keys() == found[1].keys()
        assert len(found[0]) > 50
        below = ('backbone.conv1', 'backbone.bn1', 'backbone.layer1.0', 'backbone.layer1.1')
        for name, gradient in found[0].items():
            is_shared = bool(shared) and name.startswith(below)
            if not is_shared:
                assert torch.equal(gradient, found[1][name]), name
        # Shared layers get the gradient of the hint through the student.
        name = 'backbone.conv1.weight'
        assert torch.equal(found[0][name], found[1][name]) is not bool(shared)


def test_partners_are_trained_as_the_config_trains_a_model(shapes, tmp_path):
    """paramwise_cfg and the learning rate schedule apply to partners."""
    config = detector_config(shapes, with_booster(retinanet(width=12)), str(tmp_path / 'run'), **{
        'optim_wrapper.paramwise_cfg': dict(norm_decay_mult=0., custom_keys=dict(
            layer2=dict(lr_mult=0.1))),
        'optim_wrapper.optimizer.weight_decay': 0.01,
        'param_scheduler': [dict(type='LinearLR', start_factor=0.5, begin=0, end=2,
                                 by_epoch=False)]})
    runner = Runner.from_cfg(config)
    before = {}
    prepare = runner.model.prepare

    def prepare_and_keep():
        prepare()
        before.update(copy.deepcopy(
            runner.model.distillation.partners['booster'].model.state_dict()))

    runner.model.prepare = prepare_and_keep
    runner.train()
    booster = runner.model.distillation.partners['booster'].model
    groups = runner.optim_wrapper.optimizer.param_groups
    assert len({(group['initial_lr'], group['weight_decay']) for group in groups}) == 3
    own, changed = dict(runner.model.named_parameters()), []
    for name, parameter in booster.named_parameters():
        found = [group for group in groups if any(one is parameter for one in group['params'])]
        assert len(found) == 1, name
        mine = next(group for group in groups if any(
            one is own[name] for one in group['params']))
        for setting in ('initial_lr', 'lr', 'weight_decay', 'momentum'):
            assert found[0][setting] == mine[setting], (name, setting)
        changed.append(not torch.equal(parameter, before[name]))
    assert sum(changed) > len(changed) / 2  # residual branches start at zero and change later


@pytest.mark.slow
def test_partners_are_scored_and_leave_plain_checkpoints(shapes, tmp_path):
    model = dict(type='mmkd.Distiller', student=retinanet(), companions=dict(
        other=dict(config=dict(model=retinanet(depth=34)))), distill=[
            dict(type='mmkd.KDLoss', on='cls', between=['student', 'other'])])
    runner, losses = train(detector_config(shapes, model, str(tmp_path / 'run'), **{
        'default_hooks.checkpoint.save_best': 'other/coco/bbox_mAP'}))
    assert {'loss_cls_kd_from_other', 'loss_other_cls_kd_from_student'} <= losses[0].keys()
    path = tmp_path / 'run' / 'other.pth'
    plain = saved_at(path)
    build(retinanet(depth=34)).load_state_dict(plain['state_dict'], strict=True)
    assert plain['meta']['dataset_meta']['classes'] == ('disc', 'square', 'cross')
    scores = Runner.from_cfg(detector_config(
        shapes, retinanet(depth=34), str(tmp_path / 'test'), load_from=str(path))).test()
    logged = runner.message_hub.get_scalar('val/other/coco/bbox_mAP').current()
    assert logged == pytest.approx(scores['coco/bbox_mAP'])
    assert [name for name in os.listdir(tmp_path / 'run') if name.startswith('best_other')]


@pytest.mark.parametrize(('changes', 'message'), [
    (dict(shared='backbone'), '`shared` must be a list'),
    (dict(shared=['backbone'], view='weak'), '`shared` modules are computed once'),
    (dict(shared=['backbone.layer9']), r'`backbone.layer9`, but the partner .* no such module'),
    (dict(shared=['backbone.layer1']), '`backbone.layer1`, which is a ResLayer with 36 tensors'),
    (dict(checkpoint='no/such.pth'), 'no/such.pth'),
    (dict(loss_weight='1'), '`loss_weight` must be a number'),
    (dict(separate_norm='no'), '`separate_norm` must be True or False'),
    (dict(separate_norm=True), '`separate_norm=True` needs `shared` modules'),
    (dict(view=3), '`view` must be the name of a view'),
])
def test_mistakes_are_named(changes, message):
    with pytest.raises((TypeError, ValueError, FileNotFoundError), match=message):
        prepared(with_booster(retinanet(depth=34), **changes))


@pytest.mark.parametrize(('model', 'message'), [
    (dict(companions=dict(student=dict(config=dict(model={})))), "the name of a companion must be "
                                                                 ".* but got 'student'"),
    (dict(companions=[1]), '`companions` must be a dict'),
    (dict(companions=dict(glossy=dict(config=dict(model={})))), "without 'loss'"),
    (dict(distill=[dict(HINT, on=dict(student='booster:cls', teacher='booster:cls'))]),
     'with itself, which gives no gradient'),
    (dict(companions={name: dict(config=dict(model={})) for name in ('booster', 'idle')}),
     '`idle` is not used'),
    (dict(distill=[dict(HINT, alpha=0.5, name='loss_a'), dict(HINT, alpha=0.5, name='loss_b')]),
     "two entries of `distill` have an `alpha` at `cls`"),
    (dict(distill=[dict(HINT, on='cls', between=['student', 'booster', 'booster'])]),
     'networks, each once'),
    (dict(distill=[dict(HINT, on=dict(student='cls', teacher='boster:cls'))]),
     'a point of `boster` as teacher, but there is no such network; there are `student`, `boo'),
    (dict(distill=[dict(HINT, on='cls')]), '`teacher` as teacher, .* add a `teacher`'),
    (dict(distill=[dict(HINT, on='cls', between=['student'])]), '`between` must be a list of two '
                                                                'or more networks'),
    (dict(distill=[dict(HINT, between=['student', 'booster'])]), '`between` must have one point'),
])
def test_mistakes_in_the_names_are_named(model, message):
    with pytest.raises((TypeError, ValueError), match=message):
        build({**with_booster(retinanet()), **model})


def test_a_hook_trains_no_partner():
    from mmkd import DistillHook
    partner = dict(type='mmkd.Partner', config=dict(default_scope='mmdet', model=retinanet()))
    hook = DistillHook(teacher=partner, distill=[dict(type='mmkd.KDLoss', on='cls')])
    runner = type('Runner', (), dict(model=build(retinanet()), hooks=[]))()
    with pytest.raises(ValueError, match='is a mmkd.Partner, but a hook cannot train or save it'):
        hook.before_train(runner)


def test_last_stage_of_a_cascade_teaches_the_others():
    """The student's last stage predicts at the RoIs of each stage, without gradient."""
    from conftest import two_stage
    entry = dict(type='mmkd.KDLoss', on=dict(student='cls', teacher='student:cls'), stage=2)
    model = prepared(dict(type='mmkd.Distiller', student=two_stage('cascade-rcnn'),
                          distill=[entry]))
    data = batch(model)
    with recording(model.student, [f'roi_head.bbox_head.{i}' for i in range(3)]) as calls:
        losses = model(**data, mode='loss')
    values = losses['loss_cls_kd_from_student']
    sizes = [value.item() for value in values]
    assert min(sizes[:2]) > 0
    # The last stage compared with itself has a loss of 0.
    assert sizes[2:] == pytest.approx([0.], abs=1e-6)
    assert len(calls['roi_head.bbox_head.2']) == 4
    gradient, = torch.autograd.grad(values[0], model.roi_head.bbox_head[2].fc_cls.weight,
                                    allow_unused=True)
    assert gradient is None


def test_partner_of_a_synchronised_student_is_synchronised():
    model = build(with_booster(retinanet(depth=34), shared=['backbone.layer1.1']))
    convert_sync_batchnorm(model, 'torch')
    model.distillation.prepare()
    kinds = {type(one).__name__
             for one in model.distillation.partners['booster'].model.modules()}
    assert 'SyncBatchNorm' in kinds
    assert 'BatchNorm2d' not in kinds


def test_a_shared_head_keeps_the_partners_labels_whole():
    hint = dict(HINT, type='mmkd.KDLoss')
    losses = []
    for alpha in (0., 0.5):
        model = prepared(with_booster(retinanet(depth=34), dict(hint, alpha=alpha),
                                      shared=['bbox_head']))
        losses.append(model(**batch(model), mode='loss'))
    assert sum(losses[0]['booster.loss_cls']) == sum(losses[1]['booster.loss_cls'])
    torch.testing.assert_close(sum(losses[1]['loss_cls']), 0.5 * sum(losses[0]['loss_cls']))


def test_step_keeps_no_tensors():
    model = prepared(with_booster(retinanet()))
    data = batch(model)
    model(**data, mode='loss')
    live = [model.distillation.itself, model.distillation.partners['booster']]
    assert [(one.seen, one._features) for one in live] == [(None, None)] * 2
    model.terms[0].loss.forward = None
    with pytest.raises(TypeError):
        model(**data, mode='loss')
    assert [(one.seen, one._features) for one in live] == [(None, None)] * 2
    assert 'extract_feat' not in model.student.__dict__


def test_copy_of_the_student_trains_separately():
    model = prepared(with_booster(retinanet()))
    data = batch(model)
    copied = copy.deepcopy(model)
    assert copied.distillation.partners['booster'] is model.distillation.partners['booster']
    losses = copied(**copy.deepcopy(data), mode='loss')
    losses['loss_cls_mse_from_booster'][0].backward()
    assert copied.bbox_head.retina_cls.weight.grad is not None
    assert model.bbox_head.retina_cls.weight.grad is None
