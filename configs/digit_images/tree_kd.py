"""KD: the soft decision tree learns the teacher's class probabilities of an image, too.

    python tools/compare.py configs/digit_images          # trains the teacher first
    python tools/train.py configs/digit_images/tree_kd.py   # with the teacher at the path below
"""
_base_ = ['./tree.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    teacher=dict(
        config='{{ fileDirname }}/teacher.py',
        checkpoint='work_dirs/digit_images/teacher/seed0/epoch_12.pth'),
    distill=[dict(type='mmkd.KDLoss', on='cls', tau=4.0)])
