"""Deep mutual learning on digits: the student and an untrained ResNet-18 of the teacher's width.

    python tools/train.py configs/digit_images/mutual.py
"""
_base_ = ['./student.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    companions=dict(partner=dict(type='mmkd.Partner', config='{{ fileDirname }}/teacher.py')),
    distill=[dict(type='mmkd.KDLoss', on='cls', between=['student', 'partner'])])
