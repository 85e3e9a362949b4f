"""Students that are trained with a booster, and batches for them."""
import torch
from conftest import build, retinanet
from mmdet.testing import demo_mm_inputs

HINT = dict(type='mmkd.MSELoss', on=dict(student='cls', teacher='booster:cls'))


def with_booster(booster, *distill, student=None, **partner):
    scope = 'mmdet' if 'bbox_head' in booster else 'mmseg'
    return dict(type='mmkd.Distiller', student=student or retinanet(), companions=dict(
        booster=dict(config=dict(model=booster, default_scope=scope), **partner)),
        distill=list(distill or [HINT]))


def prepared(model, scope='mmdet'):
    torch.manual_seed(3)
    model = build(model, scope)
    model.init_weights()
    return model.train()


def batch(model):
    torch.manual_seed(5)
    data = demo_mm_inputs(2, (3, 64, 96), num_items=[2, 1], num_classes=3)
    return model.data_preprocessor(data, True)
