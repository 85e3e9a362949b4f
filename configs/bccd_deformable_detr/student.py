"""The student alone: a small Deformable DETR R18 on BCCD, 12 epochs from scratch.

So short a schedule shows that it runs, and what it costs. A detector of the DETR family needs
pre-trained weights, or many more epochs, before it finds the cells.

    python tools/train.py configs/bccd_deformable_detr/student.py
"""
_base_ = ['../bccd/_base_/bccd.py']

layer = dict(ffn_cfg=dict(embed_dims=128, feedforward_channels=256, ffn_drop=0.1))
attention = dict(embed_dims=128, batch_first=True)
model = dict(
    type='DeformableDETR',
    num_queries=100,
    num_feature_levels=3,
    with_box_refine=False,
    as_two_stage=False,  # the queries are learned, so that they can be shared
    data_preprocessor=dict(
        type='DetDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True, pad_size_divisor=1),
    backbone=dict(
        # Without pre-trained weights, every stage and its batch norm must be trained.
        type='ResNet', depth=18, num_stages=4, out_indices=(1, 2, 3), frozen_stages=-1,
        norm_cfg=dict(type='BN', requires_grad=True), norm_eval=False, style='pytorch'),
    neck=dict(
        type='ChannelMapper', in_channels=[128, 256, 512], kernel_size=1, out_channels=128,
        act_cfg=None, norm_cfg=dict(type='GN', num_groups=32), num_outs=3),
    encoder=dict(
        num_layers=2, layer_cfg=dict(layer, self_attn_cfg=dict(attention, num_levels=3))),
    decoder=dict(
        num_layers=3,
        return_intermediate=True,
        post_norm_cfg=None,
        layer_cfg=dict(
            layer,
            self_attn_cfg=dict(attention, num_heads=8, dropout=0.1),
            cross_attn_cfg=dict(attention, num_levels=3))),
    positional_encoding=dict(num_feats=64, normalize=True, offset=-0.5),
    bbox_head=dict(
        type='DeformableDETRHead',
        num_classes=3,
        embed_dims=128,
        sync_cls_avg_factor=True,
        loss_cls=dict(
            type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=2.0),
        loss_bbox=dict(type='L1Loss', loss_weight=5.0),
        loss_iou=dict(type='GIoULoss', loss_weight=2.0)),
    train_cfg=dict(assigner=dict(
        type='HungarianAssigner',
        match_costs=[
            dict(type='FocalLossCost', weight=2.0),
            dict(type='BBoxL1Cost', weight=5.0, box_format='xywh'),
            dict(type='IoUCost', iou_mode='giou', weight=2.0)])),
    test_cfg=dict(max_per_img=100))
optim_wrapper = dict(clip_grad=dict(max_norm=0.1, norm_type=2))  # Deformable DETR's
