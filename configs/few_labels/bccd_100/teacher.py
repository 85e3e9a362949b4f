"""The teacher, RetinaNet EfficientNet-Lite2, on the labelled images of the student.

    python tools/train.py configs/few_labels/bccd_100/teacher.py
"""
_base_ = ['../_base_/bccd_teacher.py']
