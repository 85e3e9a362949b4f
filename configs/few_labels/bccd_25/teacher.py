"""The teacher, RetinaNet EfficientNet-Lite2, on the labelled images of the student.

    python tools/train.py configs/few_labels/bccd_25/teacher.py
"""
_base_ = ['../_base_/bccd_teacher.py']

train_dataloader = dict(dataset=dict(
    data_root='',
    ann_file='data/few_labels/bccd/labelled_25.json',
    data_prefix=dict(img='data/bccd/train/')))
