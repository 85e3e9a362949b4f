"""LSKD on CIFAR-100: ResNet-50 teaches ResNet-18 by KD of standardised logits.

The recipe of the LSKD authors (configs/cifar100/kd/resnet32x4_resnet8x4.yaml of their code, with
`--logit-stand --base-temp 2 --kd-weight 9`), except for the pair of networks. Published for
ResNet-32x4 (79.42) and ResNet-8x4: KD 73.33, LSKD 76.62. Not run by us.

    python tools/train.py configs/lskd/resnet18_cifar100.py
"""
_base_ = ['../_base_/pairs/resnet18_r50_cifar100.py']

# CE_WEIGHT 0.1, the default of their engine/cfg.py: alpha leaves 0.1 of the student's own loss, and
# 0.9 * 10 is the weight 9 of KD.
model = dict(distill=[
    dict(type='mmkd.KDLoss', on='cls', tau=2.0, standardize=True, alpha=0.9, loss_weight=10.0,
         name='loss_cls_lskd')])
