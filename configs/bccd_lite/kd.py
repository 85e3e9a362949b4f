"""KD on the class logits of every level.

    python tools/compare.py configs/bccd_lite            # trains the teacher first
    python tools/train.py configs/bccd_lite/kd.py      # with the teacher at the path below
"""
_base_ = ['./dist.py']

model = dict(distill=[dict(type='mmkd.KDLoss', on='cls', loss_weight=5.0)])
