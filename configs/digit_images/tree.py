"""The student with a soft decision tree of 32 leaves in the place of its linear classifier.

    python tools/train.py configs/digit_images/tree.py
    python tools/draw_tree.py configs/digit_images/tree.py work_dirs/tree/epoch_12.pth --images 200
"""
_base_ = ['./student.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

model = dict(head=dict(
    type='mmkd.SoftTreeHead',
    head='LinearClsHead',  # its arguments are those of the student
    tree=dict(depth=5)))
