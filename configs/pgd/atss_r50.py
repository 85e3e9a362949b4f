"""PGD: ATSS R101 (45.5 AP, 3x, multi-scale) teaches ATSS R50 on COCO, 1x schedule.

The recipe of the PGD authors (work_configs/pgd_atss_r101_r50_1x.py of their repository).

Published: student alone 39.6, distilled 44.2 AP. Not reproduced by us: it needs 8 GPUs.

    tools/dist_train.sh configs/pgd/atss_r101.py 8     # the teacher
    tools/dist_train.sh configs/pgd/atss_r50.py 8
"""
_base_ = ['./_base_/atss_r50.py', './_base_/coco_1x.py', './_base_/pgd.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    teacher=dict(
        config='{{ fileDirname }}/atss_r101.py',
        checkpoint='work_dirs/atss_r101/epoch_36.pth'),
    inherit='neck,head',  # init_student = True: all but the backbone
    distill=[
        # alpha = 0.08, twice that of the other detectors, and topk=9
        dict(_base_.cls_term, topk=9, alpha=0.08, beta=0.04),
        dict(_base_.reg_term, topk=9, gamma=0.128),
    ])
