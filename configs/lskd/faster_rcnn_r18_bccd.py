"""LSKD: KD of logits that are standardised over the classes of each RoI.

Temperature and weight of the authors for CIFAR-100; they have none for detectors.

    python tools/compare.py configs/bccd_faster_rcnn          # trains the teacher first
    python tools/train.py configs/lskd/faster_rcnn_r18_bccd.py   # with the teacher at the path below
"""
_base_ = ['../bccd_faster_rcnn/dist.py']

model = dict(distill=[
    dict(type='mmkd.KDLoss', on='cls', tau=2.0, standardize=True, loss_weight=9.0,
         name='loss_cls_lskd'),
])
