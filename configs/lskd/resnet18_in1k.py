"""LSKD: ResNet-34 teaches ResNet-18 on ImageNet by KD of standardised logits, batches of 512.

The recipe of the LSKD authors: configs/imagenet/r34_r18/kd.yaml of their code, with
`--logit-stand --base-temp 2 --kd-weight 9`.

Published: no figure in their README. Not run by us: it needs ImageNet.

    tools/dist_train.sh configs/lskd/resnet18_in1k.py 8
"""
_base_ = ['../_base_/pairs/resnet18_r34_in1k_512.py']

# CE_WEIGHT 1.0
model = dict(distill=[
    dict(type='mmkd.KDLoss', on='cls', tau=2.0, standardize=True, loss_weight=9.0,
         name='loss_cls_lskd')])
