"""MGD on the features before the classifier, and CWD on the logits.

The authors compare the last level of the backbone. There, the generator of a ResNet-50 teacher has
75 million weights, and 1.2 million here.

    python tools/train.py configs/mgd/pspnet_r18_camvid.py
"""
_base_ = ['../camvid/dist.py']

model = dict(distill=[
    dict(type='mmkd.MGDLoss', on='decode_head.bottleneck', masked=0.75),
    dict(type='mmkd.CWDLoss', on='cls', tau=4.0, loss_weight=3.0),
])
