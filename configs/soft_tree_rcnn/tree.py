"""The student with a soft decision tree of 32 leaves in the place of its linear classifier.

    python tools/train.py configs/soft_tree_rcnn/tree.py
    python tools/draw_tree.py configs/soft_tree_rcnn/tree.py work_dirs/tree/epoch_12.pth
"""
_base_ = ['./student.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

model = dict(roi_head=dict(bbox_head=dict(
    type='mmkd.SoftTreeHead',
    head='Shared2FCBBoxHead',  # its arguments are those of the student
    tree=dict(depth=5))))
