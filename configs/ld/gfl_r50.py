"""LD: GFL R101 (44.9 AP, 2x, multi-scale) teaches GFL R50 on COCO, 1x schedule.

The recipe of the authors (Localization Distillation for Dense Object Detection, CVPR 2022), from
configs/ld/ld_r50_gflv1_r101_fpn_coco_1x.py of their repository, without its imitation of features.
Published: student alone 40.1; main region 41.1; main region, valuable region and classes of
positives, as here, 42.1 AP. Not reproduced by us: it needs 8 GPUs.

    tools/dist_train.sh configs/ld/gfl_r50.py 8
"""
# 12 epochs, momentum 0.9, weight decay 1e-4, no clip. The learning rate is that of their README for
# 8 GPUs x 2 images, 0.01; the config itself has 0.0025, for 2 GPUs x 2. LD is a sum over the
# positives of a GPU, so the images of a GPU matter: they warn of more than 3.
# `teacher_ckpt`: gfl_r101_fpn_mstrain_2x_coco_20200629_200126-dd12f847.pth
_base_ = ['../_base_/pairs/gfl_r50_r101.py']

model = dict(distill=[
    dict(type='mmkd.LDLoss', on='reg',
         main=0.25, tau=10.,  # `loss_ld`
         valuable=0.25,       # `loss_ld_vlr`
         kd=10., kd_tau=2.),  # `loss_kd`
])
