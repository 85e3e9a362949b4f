"""DIST on all images, with labels or without.

    python tools/train.py configs/few_labels/camvid_10/dist_all.py
"""
_base_ = ['./student.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    teacher=dict(
        config='{{ fileDirname }}/teacher.py',
        checkpoint='work_dirs/camvid_10/teacher/seed0/iter_600.pth'),
    unlabelled=dict(dataloader=dict(dataset=dict(
        _base_.train_dataloader.dataset,
        ann_file='data/few_labels/camvid/unlabelled_10.txt'))),
    distill=[
        dict(type='mmkd.DISTLoss', on='cls'),
        dict(type='mmkd.DISTLoss', on='aux', loss_weight=0.4),
    ])
