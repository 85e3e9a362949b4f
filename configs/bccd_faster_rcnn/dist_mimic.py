"""DIST + mimic: the student's neck also imitates the teacher's, through 1x1 convolutions.

    python tools/compare.py configs/bccd_faster_rcnn                # trains the teacher first
    python tools/train.py configs/bccd_faster_rcnn/dist_mimic.py   # with that teacher
"""
_base_ = ['./dist.py']

model = dict(distill=[
    dict(type='mmkd.DISTLoss', on='cls'),
    dict(type='mmkd.MSELoss', on='neck', connector='conv'),
])
