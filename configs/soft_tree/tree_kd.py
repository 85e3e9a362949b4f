"""KD: the soft decision tree learns the teacher's class probabilities of the student's pixels, too.

    python tools/compare.py configs/soft_tree       # trains the teacher first
    python tools/train.py configs/soft_tree/tree_kd.py   # with kd.py's teacher
"""
_base_ = ['./kd.py']

# As in tree.py.
model = dict(student=dict(decode_head=dict(
    type='mmkd.SoftTreeHead', head='FCNHead', tree=dict(depth=5))))
