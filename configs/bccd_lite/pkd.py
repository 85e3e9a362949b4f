"""PKD on the first four levels of the neck, after a 1x1 convolution.

    python tools/compare.py configs/bccd_lite            # trains the teacher first
    python tools/train.py configs/bccd_lite/pkd.py      # with the teacher at the path below
"""
_base_ = ['./dist.py']

model = dict(distill=[
    dict(type='mmkd.PKDLoss', on='neck', levels=[0, 1, 2, 3], connector='conv', loss_weight=10.)])
