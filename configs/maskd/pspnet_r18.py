"""MasKD: DeepLabV3-R101-d8 teaches PSPNet-R18-d8 on Cityscapes, 40k iterations.

The recipe of the MasKD authors, whose base is that of DIST. The tokens are made by the first stage,
configs/maskd/pspnet_r18_tokens.py. The teacher is mmseg's (80.2 mIoU); the authors' had 78.07.

Published: student alone 72.55, distilled 75.34 mIoU. Not reproduced by us: it needs 8 GPUs.

    tools/dist_train.sh configs/maskd/pspnet_r18_tokens.py 8
    tools/dist_train.sh configs/maskd/pspnet_r18.py 8
"""
_base_ = ['../_base_/pairs/pspnet_r18_deeplabv3.py']

# Values of the authors: segmentation/train_maskd.py and losses/maskd.py.
tokens = 'work_dirs/pspnet_r18_tokens/prepared.pth'
model = dict(distill=[
    # The factor 0.5 stands in their loss; the student's masks never take part.
    dict(type='mmkd.MasKDLoss', on='cls', tokens=tokens, warmup=None, loss_weight=0.5),
    # 0.4 times 0.5, with the tokens of the main logits.
    dict(type='mmkd.MasKDLoss', on='aux', tokens=tokens, warmup=None, loss_weight=0.2),
])
