"""Box imitation: smooth L1 between the box offsets of all anchors, on every level.

    python tools/compare.py configs/bccd          # trains the teacher first
    python tools/train.py configs/box/retinanet_r18_bccd.py   # with the teacher at the path below
"""
_base_ = ['../bccd/dist.py']

model = dict(distill=[dict(type='mmkd.BoxImitationLoss', on='reg')])
