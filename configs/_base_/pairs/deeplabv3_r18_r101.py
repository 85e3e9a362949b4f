"""DeepLabV3-R101-d8 teaches DeepLabV3-R18-d8 on Cityscapes, 40k iterations of 16 crops 512x1024."""
_base_ = ['../deeplabv3_r18.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    # The published checkpoint is downloaded before the first batch.
    teacher=dict(config='mmseg::deeplabv3/deeplabv3_r101-d8_4xb2-80k_cityscapes-512x1024.py'))
