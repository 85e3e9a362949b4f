"""The feature pyramid of torchvision's Faster R-CNN R50 teaches the neck of a RetinaNet.

    pip install torchvision
    python tools/make_digits.py data/digits
    python tools/train.py examples/torchvision_fpn_teacher.py

The weights are random, so that it runs without a download; write ``checkpoint='FILE'`` for those of
torchvision. Of its detectors mmkd runs the backbone alone, which returns the levels of the pyramid
in a dict; levels of equal stride are compared. ``points`` gives the backbone a name of one's own.
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
