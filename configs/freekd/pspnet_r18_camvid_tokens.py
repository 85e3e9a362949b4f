"""FreeKD, first stage: frequency prompts learn through PSPNet R50 on CamVid, 100 iterations.

Writes work_dirs/freekd_pspnet_r18_camvid_tokens/prepared.pth for
configs/freekd/pspnet_r18_camvid.py. The optimizer is MasKD's: the authors published none for this stage.

    python tools/train.py configs/freekd/pspnet_r18_camvid_tokens.py
"""
_base_ = ['../maskd/pspnet_r18_camvid_tokens.py']

model = dict(module=dict(_delete_=True, type='mmkd.FrequencyPrompts', tokens=6))
work_dir = 'work_dirs/freekd_pspnet_r18_camvid_tokens'
