"""DIST: correlation between and within classes with the teacher, on the logits of an image.

The weight is the authors' for ImageNet and CIFAR-100.

    python tools/compare.py configs/digit_images       # trains the teacher first
    python tools/train.py configs/digit_images/dist.py   # with the teacher at the path below
"""
_base_ = ['./student.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    teacher=dict(
        config='{{ fileDirname }}/teacher.py',
        checkpoint='work_dirs/digit_images/teacher/seed0/epoch_12.pth'),
    distill=[dict(type='mmkd.DISTLoss', on='cls', loss_weight=2.0)])
