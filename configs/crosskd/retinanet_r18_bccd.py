"""CrossKD on BCCD: RetinaNet R18's head features go on through the head of R50, 12 epochs.

The towers have two convolutions here; the first one's output goes on.

    python tools/train.py configs/crosskd/retinanet_r18_bccd.py   # the teacher as in configs/bccd
"""
_base_ = ['../bccd/dist.py']

model = dict(distill=[
    dict(type='mmkd.CrossKDLoss', on='cls',
         through=dict(student='bbox_head.cls_convs.0', teacher='bbox_head.cls_convs.0',
                      rescale='relu')),
    dict(type='mmkd.CrossKDBoxLoss', on='boxes', name='loss_boxes_crosskd',
         through=dict(student='bbox_head.reg_convs.0', teacher='bbox_head.reg_convs.0',
                      rescale='relu')),
])
