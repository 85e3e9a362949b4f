"""CWD: PSPNet-R101-d8 teaches PSPNet-R18-d8 on Cityscapes, 40k iterations of 8 crops 512x512.

The recipe of the CWD authors (SemSeg-distill of TorchDistiller, `exp_cwd.sh channel kl 3 4 False
False False`): logits alone, without KD and adversarial part. --random-scale and --random-mirror,
which are off in their script, are on as for SKD, whose code it is. The teacher is mmseg's (79.8
mIoU).

Published: student alone 69.10 (SKD), distilled 74.6 to 75.0 mIoU (README). Not reproduced by us.

    python tools/train.py configs/cwd/pspnet_r18.py     # the authors: one GPU
"""
_base_ = ['../_base_/pairs/pspnet_r18_r101.py']

# --temperature 4, --lambda-cwd 3, --norm-type channel, --divergence kl
model = dict(distill=[dict(type='mmkd.CWDLoss', on='cls', tau=4.0, loss_weight=3.0)])
