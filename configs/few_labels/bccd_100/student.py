"""The student alone, RetinaNet EfficientNet-Lite0, on all 205 labelled images of BCCD.

    python tools/train.py configs/few_labels/bccd_100/student.py
"""
_base_ = ['../_base_/bccd.py']
