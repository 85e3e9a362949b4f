"""KD: the teacher's class probabilities of an image, softened by a temperature of 4.

    python tools/compare.py configs/digit_images     # trains the teacher first
    python tools/train.py configs/digit_images/kd.py   # with the teacher at the path below
"""
_base_ = ['./dist.py']

model = dict(distill=[dict(type='mmkd.KDLoss', on='cls', tau=4.0)])
