"""DETRDistill: Deformable DETR R101 (44.8 AP) teaches Deformable DETR R50 on COCO, 50 epochs.

The recipe of the authors' repository (deformdetr_r101_2x_distill_r50_LayerbyLayer_CL_teachergroup),
without the contrastive loss, which the paper does not have. Everything except `model` is mmdet's
config of Deformable DETR R50, which is theirs, too: AdamW with lr 2e-4, a tenth of it for backbone
and sampling, weight decay 1e-4, gradients clipped at 0.1, 50 epochs with a step at 40, batch 32.

Published: student alone 44.1, distilled 46.6 AP. Not reproduced by us: it needs 16 GPUs.

    tools/dist_train.sh configs/detrdistill/deformable_detr_r50.py 16
"""
_base_ = ['mmdet::deformable_detr/deformable-detr_r50_16xb2-50e_coco.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    teacher=dict(
        config='{{ fileDirname }}/teacher.py',
        checkpoint='work_dirs/teacher/epoch_50.pth'),
    distill=[
        # is_layer_by_layer_distill=True: each layer of the student learns from that of the teacher.
        # Weights of loss_cls_distill 1, loss_bbox_distill 5, loss_iou_distill 2.
        dict(type='mmkd.DETRDistillLoss', on='cls.all', also=['reg.all']),
        # The four maps of the neck, with the teacher's 100 best predictions of each layer.
        dict(type='mmkd.DETRDistillFeatureLoss', on='neck'),
        # use_teacher_group=True. Their code assigns the student's predictions, the paper the
        # teacher's: `assigned_by='student'` would be the code.
        dict(type='mmkd.DETRDistillGroupLoss', on='cls.all', also=['reg.all'], queries='teacher'),
    ])
