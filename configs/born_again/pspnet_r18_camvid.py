"""Born again: the same network, initialised anew, learns from labels and from its former life.

    python tools/train.py configs/born_again/pspnet_r18_camvid.py --generations 3

Half of each pixel's target is the former generation's probability, half the label. Run by itself,
this config is generation 1, and wants the checkpoint below.

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
