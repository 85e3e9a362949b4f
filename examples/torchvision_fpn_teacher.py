"""The feature pyramid of torchvision's Faster R-CNN R50 teaches the neck of a RetinaNet.

    pip install torchvision
    python tools/make_digits.py data/digits
    python tools/train.py examples/torchvision_fpn_teacher.py

The weights are random, so the example runs without a download. For the pretrained weights of
torchvision, write ``checkpoint='FILE'``. mmkd runs only the detector's backbone, which returns the
levels of the pyramid in a dict, and compares levels of the same stride. ``points`` names the
backbone.
"""
_base_ = ['../configs/digits/student.py']  # your own config here
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    teacher=dict(
        type='mmkd.ModuleTeacher',
        build='torchvision:fasterrcnn_resnet50_fpn',
        checkpoint=None,
        points=dict(fpn='backbone')),
    distill=[
        dict(type='mmkd.MSELoss', on=dict(student='neck', teacher='fpn'), loss_weight=0.1),
    ])
