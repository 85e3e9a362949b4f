"""KD-DETR: DAB-DETR R50 (42.3 AP) teaches DAB-DETR R18 on COCO, 50 epochs.

KD-DETR (CVPR 2024). Everything except `model` is mmdet's config of DAB-DETR R50. Published: student
alone 36.2, distilled 41.4 AP, by a teacher that is not in mmdet's model zoo. Not reproduced by us.

    tools/dist_train.sh configs/kd_detr/dab_detr_r18.py 8
"""
_base_ = ['mmdet::dab_detr/dab-detr_r50_8xb2-50e_coco.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

student = _base_.model
student.backbone.update(
    depth=18,  # the paper's smaller student
    init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet18'))
student.neck.in_channels = [512]
model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=student,
    # Our choice: the teacher of mmdet's model zoo, whose checkpoint is downloaded.
    teacher=dict(config='mmdet::dab_detr/dab-detr_r50_8xb2-50e_coco.py'),
    distill=[
        # The paper's specific distillation points: the teacher's queries.
        dict(type='mmkd.KDDETRLoss', on='cls', queries='teacher'),
        # Its general ones: random queries, drawn in each iteration.
        dict(type='mmkd.KDDETRLoss', on='cls', queries='random'),
    ])
