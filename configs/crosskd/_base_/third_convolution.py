"""Where CrossKD's students leave their heads: `reused_teacher_head_idx` of the authors is 3.

It is the third convolution of a tower, with its norm, if it has one, and its ReLU.
"""
cls_tower = dict(student='bbox_head.cls_convs.2', teacher='bbox_head.cls_convs.2', rescale='relu')
reg_tower = dict(student='bbox_head.reg_convs.2', teacher='bbox_head.reg_convs.2', rescale='relu')
