"""KD: the soft decision tree learns the teacher's class probabilities of the student's RoIs, too.

    python tools/compare.py configs/soft_tree_rcnn            # trains the teacher first
    python tools/train.py configs/soft_tree_rcnn/tree_kd.py   # with kd.py's teacher
"""
_base_ = ['./kd.py']

# As in tree.py.
model = dict(student=dict(roi_head=dict(bbox_head=dict(
    type='mmkd.SoftTreeHead', head='Shared2FCBBoxHead', tree=dict(depth=5)))))
