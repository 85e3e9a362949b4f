"""DIST; the student starts with the first channels of the teacher's heads, which are twice as wide.

    python tools/train.py configs/inherit/pspnet_r18_camvid.py
"""
_base_ = ['../camvid/dist.py']

model = dict(inherit=dict(parts='head', width=True))
