"""Af-DCD on CamVid: masked features generate the teacher's, and each finds its own.

    python tools/compare.py configs/camvid                    # trains the teacher first
    python tools/train.py configs/af_dcd/pspnet_r18_camvid.py
"""
_base_ = ['../camvid/dist.py']

model = dict(
    teacher=dict(config='{{ fileDirname }}/../camvid/teacher.py'),
    distill=[
        # The authors compare the last level of the backbone, whose generator has 75 million
        # parameters; a laptop takes the features before the classifier, with 1.2 million. The
        # weights and the pooling are the authors' for CamVid.
        dict(type='mmkd.AfDCDLoss', on='decode_head.bottleneck', lambda_fd=8e-6, lambda_ctr=0.01,
             pool=1),
        dict(type='mmkd.KDLoss', on='cls'),
    ])
