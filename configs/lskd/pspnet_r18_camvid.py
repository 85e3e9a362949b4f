"""LSKD: KD of logits that are standardised over the classes of each pixel.

Temperature and weight of the authors for CIFAR-100; they have none for segmentors.

    python tools/compare.py configs/camvid          # trains the teacher first
    python tools/train.py configs/lskd/pspnet_r18_camvid.py   # with the teacher at the path below
"""
_base_ = ['../camvid/dist.py']

model = dict(distill=[
    dict(type='mmkd.KDLoss', on='cls', tau=2.0, standardize=True, loss_weight=9.0,
         name='loss_cls_lskd'),
    dict(type='mmkd.KDLoss', on='aux', tau=2.0, standardize=True, loss_weight=3.6,
         name='loss_aux_lskd'),
])
