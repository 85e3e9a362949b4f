"""DIST with a warm-up and a cosine decay; while the factor is 0, the teacher does not run.

    python tools/train.py configs/schedule/pspnet_r18_camvid.py
"""
_base_ = ['../camvid/dist.py']

model = dict(hooks=[
    dict(type='mmkd.DistillScheduleHook', schedules={
        'loss_*_dist': [
            dict(type='warmup', end=50, by_epoch=False),
            dict(type='cosine', start_factor=1.0, end_factor=0.0, begin=200, by_epoch=False),
        ]})
])
