"""FreeKD, first stage: frequency prompts learn through RetinaNet R101 on COCO, 2000 iterations.

Writes prepared.pth into work_dirs/freekd_retinanet_r50_tokens, which configs/freekd/retinanet_r50.py
takes. The optimizer is that of MasKD: the authors published none for this stage.

    tools/dist_train.sh configs/freekd/retinanet_r50_tokens.py 8
"""
_base_ = ['../maskd/retinanet_r50_tokens.py']

model = dict(module=dict(_delete_=True, type='mmkd.FrequencyPrompts', tokens=6))
work_dir = 'work_dirs/freekd_retinanet_r50_tokens'
