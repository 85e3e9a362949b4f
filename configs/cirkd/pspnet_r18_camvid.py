"""CIRKD on CamVid: relations of pixels to other images, and to pixels and regions of past ones.

    python tools/compare.py configs/camvid                   # trains the teacher first
    python tools/train.py configs/cirkd/pspnet_r18_camvid.py
"""
_base_ = ['../camvid/dist.py']

model = dict(
    teacher=dict(config='{{ fileDirname }}/../camvid/teacher.py'),
    distill=[
        # 400 iterations of 8 images: shorter queues are full in time, and fit on a laptop.
        dict(type='mmkd.CIRKDLoss', on='decode_head.bottleneck', pixels=2000, regions=200),
        dict(type='mmkd.KDLoss', on='cls'),
    ])
