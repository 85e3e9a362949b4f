"""FreeKD, first stage: frequency prompts learn through RetinaNet R101 on COCO, 2000 iterations.

Writes work_dirs/freekd_retinanet_r50_tokens/prepared.pth for
configs/freekd/retinanet_r50.py. The optimizer is MasKD's: the authors published none for this stage.

    tools/dist_train.sh configs/freekd/retinanet_r50_tokens.py 8
"""
_base_ = ['../maskd/retinanet_r50_tokens.py']

model = dict(module=dict(_delete_=True, type='mmkd.FrequencyPrompts', tokens=6))
work_dir = 'work_dirs/freekd_retinanet_r50_tokens'
