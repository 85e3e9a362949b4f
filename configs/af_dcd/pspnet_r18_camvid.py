"""Af-DCD on CamVid: masked features generate the teacher's, and each finds its own.

    python tools/compare.py configs/camvid                    # trains the teacher first
    python tools/train.py configs/af_dcd/pspnet_r18_camvid.py
"""
_base_ = ['../camvid/dist.py']

model = dict(
    teacher=dict(config='{{ fileDirname }}/../camvid/teacher.py'),
    distill=[
        # The authors' weights for CamVid, and no pooling: crops of 160x160 have maps of 20x20.
        dict(type='mmkd.AfDCDLoss', on='backbone', levels=[-1], lambda_fd=8e-6, lambda_ctr=0.01,
             pool=1),
        dict(type='mmkd.KDLoss', on='cls'),
    ])
