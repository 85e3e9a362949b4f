"""DIST from a committee of two models, trained by boosting, with averaged probabilities.

    python tools/boost.py configs/bccd/student.py --members 2 --work-dir work_dirs/bccd_committee

    python tools/train.py configs/committee/retinanet_r18_bccd.py
"""
_base_ = ['../bccd/student.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

members = [
    dict(config='{{ fileDirname }}/../bccd/student.py',
         checkpoint=f'work_dirs/bccd_committee/member{number}/epoch_12.pth')
    for number in range(2)
]
model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    teacher=dict(type='mmkd.Committee', members=members),
    distill=[dict(type='mmkd.DISTLoss', on='cls')])
