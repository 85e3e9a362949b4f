"""PSPNet on a dilated ResNet-18: mmseg's model with the head widths of DIST's authors."""
_base_ = ['mmseg::_base_/models/pspnet_r50-d8.py', './cityscapes_40k.py']

# The authors upsample the logits with align_corners=True; mmseg uses False.
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    pretrained='open-mmlab://resnet18_v1c',
    backbone=dict(depth=18),
    decode_head=dict(in_channels=512, channels=128, align_corners=True),
    auxiliary_head=dict(in_channels=256, channels=64, align_corners=True))
