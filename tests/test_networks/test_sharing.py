"""Layers that partner and student share run once, and all losses stay the same."""
import copy

import pytest
import torch
from conftest import build, retinanet, segmentor
from support.partners import batch, prepared, with_booster


def count_convolutions(layer, name, counts):
    """Forward hooks would also be called when a stored output is returned."""
    convolve = layer._conv_forward

    def counted(*args):
        counts[name] = counts.get(name, 0) + 1
        return convolve(*args)

    layer._conv_forward = counted


def test_shared_layers_run_once_per_batch():
    model = prepared(with_booster(retinanet(depth=34), shared=['backbone.layer1.1']))
    booster = model.distillation.partners['booster'].model
    assert booster.backbone.conv1 is model.backbone.conv1
    assert booster.backbone.bn1 is model.backbone.bn1
    assert booster.backbone.layer1[1] is model.backbone.layer1[1]
    assert booster.backbone.layer1[2] is not model.backbone.layer1[1]
    assert booster.backbone.layer2 is not model.backbone.layer2
    counts = {}
    for name in ('conv1', 'layer1.0.conv1', 'layer2.0.conv1'):
        count_convolutions(model.backbone.get_submodule(name), name, counts)
    seen = model.backbone.bn1.num_batches_tracked.item()
    model(**batch(model), mode='loss')
    assert counts == {'conv1': 1, 'layer1.0.conv1': 1, 'layer2.0.conv1': 1}
    assert model.backbone.bn1.num_batches_tracked.item() == seen + 1


def test_shared_layers_change_nothing_that_is_computed():
    """The booster's losses equal those of a separate network with the same weights."""
    model = prepared(with_booster(retinanet(depth=34), shared=['backbone.layer1.1']))
    alone = copy.deepcopy(model.distillation.partners['booster'].model)
    data = batch(model)
    losses = model(**copy.deepcopy(data), mode='loss')
    for name, expected in alone(**data, mode='loss').items():
        torch.testing.assert_close(torch.stack(losses[f'booster.{name}']), torch.stack(expected))


def test_with_own_norms_only_convolutions_are_shared():
    model = prepared(with_booster(retinanet(depth=34), separate_norm=True,
                                  shared=['backbone.conv1', 'backbone.layer1.0']))
    booster = model.distillation.partners['booster']
    assert booster.model.backbone.conv1 is model.backbone.conv1
    assert booster.model.backbone.layer1[0].conv2 is model.backbone.layer1[0].conv2
    assert booster.model.backbone.layer1[0].bn1 is not model.backbone.layer1[0].bn1
    counts = {}
    count_convolutions(model.backbone.conv1, 'conv1', counts)
    count_convolutions(model.backbone.layer1[0].conv1, 'layer1', counts)
    model(**batch(model), mode='loss')
    # with separate norms, the inputs of the later layers differ
    assert counts == {'conv1': 1, 'layer1': 2}
    own = {id(p) for p in booster.own_parameters()}
    assert id(model.backbone.conv1.weight) not in own
    assert id(booster.model.backbone.layer1[0].bn1.weight) in own


def test_branch_shares_the_backbone_outside_the_student():
    branch = segmentor()
    branch.update(auxiliary_head=None, decode_head=dict(
        type='FCNHead', in_channels=16, in_index=1, channels=8, num_convs=1, num_classes=19,
        norm_cfg=dict(type='BN'), align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss')))
    entry = dict(type='mmkd.KDLoss', on=dict(student='booster:cls', teacher='student:cls'))
    model = prepared(with_booster(branch, entry, student=segmentor(), shared=['backbone'],
                                  loss_weight=0.7), 'mmseg')
    assert model.distillation.partners['booster'].model.backbone is model.backbone
    assert list(model.state_dict()) == list(build(segmentor(), 'mmseg').state_dict())
    assert not model.distillation.partners['booster'].is_kept
    state = model.distillation.side_modules.state_dict()['networks']['booster']
    assert state
    assert not any(name.startswith('backbone') for name in state)


def test_what_a_partner_freezes_is_its_own():
    frozen = retinanet(depth=34)
    frozen['backbone']['frozen_stages'] = 1
    model = prepared(with_booster(frozen, shared=['backbone.layer1.1']))
    assert all(p.requires_grad for p in model.parameters())


def test_output_changed_in_place_is_not_shared():
    model = prepared(with_booster(retinanet(depth=34), shared=['backbone.conv1', 'backbone.bn1']))
    with pytest.raises(ValueError, match='output of a shared BatchNorm2d in place'):
        model(**batch(model), mode='loss')
    model = prepared(with_booster(retinanet(depth=34), shared=['backbone.relu']))
    assert model(**batch(model), mode='loss')
