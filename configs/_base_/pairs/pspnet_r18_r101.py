"""PSPNet-R101-d8 teaches PSPNet-R18-d8 on Cityscapes, 40k iterations of 8 crops 512x512."""
_base_ = ['../pspnet_r18_40k.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    # The published checkpoint is downloaded before the first batch.
    teacher=dict(config='mmseg::pspnet/pspnet_r101-d8_4xb2-80k_cityscapes-512x1024.py'))
