"""CWD: DeepLabV3-R101-d8 teaches PSPNet-R18-d8 on Cityscapes, 40k iterations.

As configs/dist/pspnet_r18.py, with the CWD authors' temperature and weight for class logits. CIRKD
trained CWD with this schedule, but with a term of features beside that of logits.

Published: student alone 72.55, distilled 74.36 mIoU (CIRKD's run, from memory). Not reproduced by
us: it needs 8 GPUs.

    tools/dist_train.sh configs/cwd/pspnet_r18.py 8
"""
_base_ = ['../dist/pspnet_r18.py']

# tau 4, weight 3: the authors' values for the logits of segmentors
model = dict(distill=[dict(type='mmkd.CWDLoss', on='cls', tau=4.0, loss_weight=3.0)])
