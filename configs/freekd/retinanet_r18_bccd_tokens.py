"""FreeKD, first stage: frequency prompts learn through RetinaNet R50 on BCCD, 200 iterations.

Writes work_dirs/freekd_retinanet_r18_bccd_tokens/prepared.pth for
configs/freekd/retinanet_r18_bccd.py. The optimizer is MasKD's: the authors published none for this stage.

    python tools/train.py configs/freekd/retinanet_r18_bccd_tokens.py
"""
_base_ = ['../maskd/retinanet_r18_bccd_tokens.py']

model = dict(module=dict(_delete_=True, type='mmkd.FrequencyPrompts', tokens=6))
work_dir = 'work_dirs/freekd_retinanet_r18_bccd_tokens'
