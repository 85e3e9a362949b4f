"""KD: the teacher's class probabilities at each RoI.

    python tools/compare.py configs/bccd_faster_rcnn        # trains the teacher first
    python tools/train.py configs/bccd_faster_rcnn/kd.py   # with the teacher at the path below
"""
_base_ = ['./dist.py']

model = dict(distill=[dict(type='mmkd.KDLoss', on='cls')])
