"""ReviewKD: Faster R-CNN R101 (41.8 AP, 3x) teaches Faster R-CNN R50 on COCO, 180k iterations.

The recipe of the ReviewKD authors' detectron2 code (Detection/configs/ReviewKD-R50-R101.yaml).
Their teacher, of detectron2's zoo, has 42.0 AP.

Published: student alone 37.93, distilled 40.36 AP (from memory). Not reproduced by us: it needs 4
GPUs.

    tools/dist_train.sh configs/reviewkd/faster_rcnn_r50.py 4
"""
_base_ = ['../_base_/pairs/faster_rcnn_r50_r101_180k.py']

# P2 to P6; mid_channel 256; HCL at full size, 4, 2 and 1; REVIEWKD_LOSS_WEIGHT 1.0
model = dict(distill=[
    dict(type='mmkd.ReviewKDLoss', on='neck', mid_channels=256, context=(None, 4, 2, 1),
         loss_weight=1.0)])
