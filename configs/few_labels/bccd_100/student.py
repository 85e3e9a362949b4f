"""The student alone, RetinaNet R18-FPN, on all 205 labelled images of BCCD.

    python tools/train.py configs/few_labels/bccd_100/student.py
"""
_base_ = ['../_base_/bccd.py']
