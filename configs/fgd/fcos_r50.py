"""FGD: FCOS R101 (40.8 AP, 2x, multi-scale) teaches FCOS R50 on COCO, 2x schedule, multi-scale.

The recipe of the FGD authors (configs/distillers/fgd/fgd_fcos_r101_distill_fcos_r50_2x_coco.py).
Published: student alone 38.5, distilled 42.7 AP; the 38.5 are of another student, see the base.
Not reproduced by us: it needs 8 GPUs.

    tools/dist_train.sh configs/fgd/fcos_r50.py 8
"""
_base_ = ['../_base_/pairs/fcos_r50_r101_fgd.py', './_base_/one_stage.py']

model = dict(
    # The teacher's images are normalized with other means; mmkd normalizes them anew.
    student=dict(data_preprocessor=dict(mean=[103.530, 116.280, 123.675])),
    inherit='neck,head',  # init_student = True: all but the backbone
    distill=[dict(_base_.fgd_of_points, tau=0.8)])  # temp=0.8
