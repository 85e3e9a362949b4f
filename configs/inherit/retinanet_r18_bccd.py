"""DIST; the student starts with the teacher's neck and head where shapes agree.

    python tools/train.py configs/inherit/retinanet_r18_bccd.py
"""
_base_ = ['../bccd/dist.py']

model = dict(inherit='neck,head')
