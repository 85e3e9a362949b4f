"""DIST with a warm-up that stops after two thirds of training; then the teacher does not run.

    python tools/train.py configs/schedule/retinanet_r18_bccd.py
"""
_base_ = ['../bccd/dist.py']

model = dict(hooks=[
    dict(type='mmkd.DistillScheduleHook', schedules=dict(
        loss_cls_dist=[dict(type='warmup', end=50, by_epoch=False), dict(type='stop', at=8)]))
])
