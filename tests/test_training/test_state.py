"""State outside the student: how it joins an optimizer, and what a checkpoint contains."""
from types import SimpleNamespace

import pytest
import torch
from conftest import build, distiller, retinanet
from mmengine.optim import OptimWrapper
from torch import nn

from mmkd.training.beside import join_as_model, join_optimizer

HINT = dict(type='mmkd.MSELoss', on='neck')
TEACHER = dict(config=dict(default_scope='mmdet', model=retinanet(channels=24)), checkpoint=None)


def prepared(*entries, **more):
    model = build(dict(distiller(retinanet(), TEACHER, *entries), **more))
    model.init_weights()
    return model


def test_state_is_not_changed_by_training():
    """A checkpoint that is written later, or kept in memory, does not change."""
    mean = dict(mean=dict(type='mmkd.MeanTeacher', momentum=0.5, warmup=1))
    model = prepared(HINT, dict(type='mmkd.KDLoss', on=dict(student='cls', teacher='mean:cls')),
                     companions=mean)
    state = model.distillation.side_modules.state_dict()
    parts = [state['connectors']['loss_neck_mse'], state['networks']['mean']]
    before = [{name: value.clone() for name, value in part.items()} for part in parts]
    with torch.no_grad():
        for parameter in model.distillation.trained_beside:
            parameter.add_(1)
        for value in model.distillation.networks['mean'].model.state_dict().values():
            value.add_(1)
    for part, kept in zip(parts, before):
        assert part
        for name, value in part.items():
            assert torch.equal(value, kept[name]), name


def test_only_connectors_that_differ_are_shown():
    """Nine of ten tensors fit, and the message names the tenth."""
    model = prepared(HINT)
    state = model.distillation.side_modules.state_dict()
    weights = state['connectors']['loss_neck_mse']
    weights['2.weight'] = weights['2.weight'][:8]
    with pytest.raises(ValueError, match='has other connectors') as info:
        model.distillation.side_modules.load_state_dict(state)
    assert "only in the checkpoint: {'loss_neck_mse.2.weight': (8, 16, 1, 1)}" in str(info.value)
    assert "only in the config: {'loss_neck_mse.2.weight': (24, 16, 1, 1)}" in str(info.value)


@pytest.mark.parametrize('order', [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_connectors_join_the_group_of_base_rate_and_decay(order):
    """For any order of the groups, and after a schedule has changed their rates."""
    groups = [dict(params=[nn.Parameter(torch.ones(1))], lr=0.05, initial_lr=0.1),
              dict(params=[nn.Parameter(torch.ones(1))], lr=0.05, initial_lr=0.1, weight_decay=0.),
              dict(params=[nn.Parameter(torch.ones(1))], lr=0.1, initial_lr=0.2)]
    optimizer = torch.optim.SGD([groups[i] for i in order], lr=0.1, weight_decay=0.01)
    own = [nn.Parameter(torch.ones(2))]
    for _ in range(2):  # the second call adds nothing
        join_optimizer(own, OptimWrapper(optimizer))
    held = [sum(one is own[0] for one in group['params']) for group in optimizer.param_groups]
    assert held == [int(i == 0) for i in order]


@pytest.mark.parametrize(('world_size', 'rate'), [(1, 0.0125), (4, 0.05)])
def test_partners_follow_a_scaled_learning_rate(world_size, rate):
    """MMEngine scales the learning rates before partners join the optimizer."""
    student, partner = nn.Linear(2, 3), nn.Linear(2, 3)
    wrapper = OptimWrapper(torch.optim.SGD(student.parameters(), lr=0.1))
    wrapper.optimizer.param_groups[0]['lr'] = rate
    runner = SimpleNamespace(
        cfg=dict(optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1))),
        optim_wrapper=wrapper, param_schedulers=[], world_size=world_size,
        auto_scale_lr=dict(enable=True, base_batch_size=16),
        train_dataloader=SimpleNamespace(batch_size=2))
    for _ in range(2):
        join_as_model(partner, list(partner.parameters()), runner)
    group, = wrapper.optimizer.param_groups
    assert group['lr'] == rate
    assert [id(one) for one in group['params']] == [
        id(one) for model in (student, partner) for one in model.parameters()]
