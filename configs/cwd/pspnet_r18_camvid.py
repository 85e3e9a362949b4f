"""CWD: the teacher's spatial distribution of each class, on the decode head.

Temperature and weight are the authors' for the logits of segmentors.

    python tools/compare.py configs/camvid          # trains the teacher first
    python tools/train.py configs/cwd/pspnet_r18_camvid.py   # with the teacher at the path below
"""
_base_ = ['../camvid/dist.py']

model = dict(distill=[dict(type='mmkd.CWDLoss', on='cls', tau=4.0, loss_weight=3.0)])
