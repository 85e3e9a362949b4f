"""CrossKD: RetinaNet R101 (38.9 AP, 2x) teaches RetinaNet R50 on COCO, 2x schedule.

The recipe of the authors (CrossKD, CVPR 2024), from
configs/crosskd/crosskd_r50_retinanet_r101_fpn_2x_coco.py of their repository. Published: student
alone 37.4, distilled 39.7, with PKD 39.8 AP. Not reproduced by us: it needs 8 GPUs.

    tools/dist_train.sh configs/crosskd/retinanet_r50.py 8
"""
# SGD 0.01, momentum 0.9, weight decay 1e-4, 24 epochs, 8 GPUs x 2 images, no clip: mmdet's 2x.
_base_ = ['mmdet::retinanet/retinanet_r50_fpn_2x_coco.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

# Their student's FPN has its extra convolutions `on_output`; those of the teacher, and of the
# student alone with 37.4 AP, are `on_input`.
student = _base_.model
student.neck.add_extra_convs = 'on_output'

model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=student,
    # `teacher_ckpt`: retinanet_r101_fpn_2x_coco_20200131-5560aee8.pth
    teacher=dict(config='mmdet::retinanet/retinanet_r101_fpn_2x_coco.py'),
    # `reused_teacher_head_idx` is 3: the third convolution, with its ReLU.
    distill=[
        # `loss_cls_kd`: KDQualityFocalLoss, beta 1, weight 1
        dict(type='mmkd.CrossKDLoss', on='cls', loss_weight=1.0,
             through=dict(student='bbox_head.cls_convs.2', teacher='bbox_head.cls_convs.2',
                          rescale='relu')),
        # `loss_reg_kd`: GIoULoss, weight 1
        dict(type='mmkd.CrossKDBoxLoss', on='boxes', loss_weight=1.0, name='loss_boxes_crosskd',
             through=dict(student='bbox_head.reg_convs.2', teacher='bbox_head.reg_convs.2',
                          rescale='relu')),
    ])
