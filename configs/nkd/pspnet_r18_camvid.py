"""NKD on the pixels of the decode head, and with weight 0.4 on those of the auxiliary head.

The values of the authors for ImageNet; they have none for segmentors.

    python tools/compare.py configs/camvid          # trains the teacher first
    python tools/train.py configs/nkd/pspnet_r18_camvid.py   # with the teacher at the path below
"""
_base_ = ['../camvid/dist.py']

model = dict(distill=[
    dict(type='mmkd.NKDLoss', on='cls', gamma=1.5),
    dict(type='mmkd.NKDLoss', on='aux', gamma=1.5, loss_weight=0.4),
])
