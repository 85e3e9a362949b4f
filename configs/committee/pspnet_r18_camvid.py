"""DIST from a committee of two models, trained by boosting, with averaged probabilities.

    python tools/boost.py configs/camvid/student.py --members 2 \
        --work-dir work_dirs/camvid_committee

    python tools/train.py configs/committee/pspnet_r18_camvid.py
"""
_base_ = ['../camvid/student.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

members = [
    dict(config='{{ fileDirname }}/../camvid/student.py',
         checkpoint=f'work_dirs/camvid_committee/member{number}/iter_400.pth')
    for number in range(2)
]
model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    teacher=dict(type='mmkd.Committee', members=members),
    distill=[dict(type='mmkd.DISTLoss', on='cls')])
