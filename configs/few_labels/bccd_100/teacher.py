"""The teacher, RetinaNet R50-FPN, on the labelled images of the student.

    python tools/train.py configs/few_labels/bccd_100/teacher.py
"""
_base_ = ['../_base_/bccd_teacher.py']
