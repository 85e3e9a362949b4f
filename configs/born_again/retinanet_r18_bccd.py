"""Born again: a new copy of the network learns the background from the previous generation.

    python tools/train.py configs/born_again/retinanet_r18_bccd.py --generations 3

Labels of objects stay hard. On the background, half of the target is the probability of the
previous generation. Without --generations, this config trains generation 1 and needs the checkpoint
below.

    python tools/train.py configs/born_again/retinanet_r18_bccd.py
"""
_base_ = ['../bccd/student.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    teacher=dict(
        config='{{ fileDirname }}/../bccd/student.py',
        checkpoint='work_dirs/bccd/student/seed0/epoch_12.pth'),
    distill=[
        dict(type='mmkd.KDLoss', on='cls', loss_weight=5.0, alpha=0.5, replaces='background',
             per_anchor=True)
    ])
