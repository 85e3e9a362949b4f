"""PGD's entries; the comments have the names of the authors' configs (work_configs/pgd_*.py).

`identity_pos` is 0: the first convolution of each tower, with its norm and its ReLU.
"""
cls_term = dict(
    type='mmkd.PGDClsLoss',
    on='bbox_head.cls_convs.0',
    name='loss_pgd_cls',
    xi=0.8,  # cls_assigner: alpha
    topk=30,  # cls_assigner: topk
    tau=0.8,  # temperature
    alpha=0.04,  # alpha
    beta=0.02,  # beta = alpha * 0.5
    delta=0.0008,  # delta
    level_weights=(1., 1.25, 1.5, 1.75, 2.))  # loss_weight of the levels
reg_term = dict(
    type='mmkd.PGDRegLoss',
    on='bbox_head.reg_convs.0',
    name='loss_pgd_reg',
    xi=0.6,  # reg_assigner: alpha
    topk=30,
    tau=0.8,
    gamma=0.064,  # gamma = alpha * 1.6
    delta=0.0008)
