"""DKD on the pixels of the decode head, and with weight 0.4 on those of the auxiliary head.

The values of the authors for Faster R-CNN; they have none for segmentors.

    python tools/compare.py configs/camvid          # trains the teacher first
    python tools/train.py configs/dkd/pspnet_r18_camvid.py   # with the teacher at the path below
"""
_base_ = ['../camvid/dist.py']

model = dict(distill=[
    dict(type='mmkd.DKDLoss', on='cls', alpha=1.0, beta=0.25, tau=1.0),
    dict(type='mmkd.DKDLoss', on='aux', alpha=1.0, beta=0.25, tau=1.0, loss_weight=0.4),
])
