"""The student alone, RetinaNet EfficientNet-Lite0, on 20 labelled images of BCCD (10 %).

    python tools/train.py configs/few_labels/bccd_10/student.py
"""
_base_ = ['../_base_/bccd.py']

train_dataloader = dict(dataset=dict(
    data_root='',
    ann_file='data/few_labels/bccd/labelled_10.json',
    data_prefix=dict(img='data/bccd/train/')))
