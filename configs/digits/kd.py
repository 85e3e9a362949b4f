"""KD: the teacher's class probabilities at each position, on every level.

    make demo                                      # trains the teacher first
    python tools/train.py configs/digits/kd.py     # with the teacher at the path below
"""
_base_ = ['./dist.py']

model = dict(distill=[dict(type='mmkd.KDLoss', on='cls')])
