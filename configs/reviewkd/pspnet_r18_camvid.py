"""ReviewKD: the stages of the backbone, each fused with the deeper ones of the student.

    python tools/train.py configs/reviewkd/pspnet_r18_camvid.py   # the teacher as in configs/camvid
"""
_base_ = ['../camvid/dist.py']

model = dict(distill=[dict(type='mmkd.ReviewKDLoss', on='backbone')])
