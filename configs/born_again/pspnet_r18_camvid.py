"""Born again: a new copy of the network learns from labels and from the previous generation.

    python tools/train.py configs/born_again/pspnet_r18_camvid.py --generations 3

Half of each pixel's target is the probability of the previous generation, half is the label.
Without --generations, this config trains generation 1 and needs the checkpoint below.

    python tools/train.py configs/born_again/pspnet_r18_camvid.py
"""
_base_ = ['../camvid/student.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    teacher=dict(
        config='{{ fileDirname }}/../camvid/student.py',
        checkpoint='work_dirs/camvid/student/seed0/iter_400.pth'),
    distill=[dict(type='mmkd.KDLoss', on='cls', alpha=0.5)])
