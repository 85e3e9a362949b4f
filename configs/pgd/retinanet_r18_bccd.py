"""PGD on the outputs of the towers of the head, around the best predictions of each object.

The towers have two convolutions here; the first one's output is compared.

    python tools/train.py configs/pgd/retinanet_r18_bccd.py   # the teacher as in configs/bccd
"""
_base_ = ['../bccd/dist.py']

model = dict(distill=[
    dict(type='mmkd.PGDClsLoss', on='bbox_head.cls_convs.0', name='loss_pgd_cls'),
    dict(type='mmkd.PGDRegLoss', on='bbox_head.reg_convs.0', name='loss_pgd_reg'),
])
