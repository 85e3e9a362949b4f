"""ResNet-34 (73.62 top-1) teaches ResNet-18 on ImageNet, 100 epochs, 8 GPUs x 32 images.

Everything except `model` is mmpretrain's config of ResNet-18: SGD 0.1, momentum 0.9, weight decay
1e-4, x0.1 after 30, 60 and 90 epochs.
"""
_base_ = ['mmpretrain::resnet/resnet18_8xb32_in1k.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    # The published checkpoint is downloaded before the first batch.
    teacher=dict(config='mmpretrain::resnet/resnet34_8xb32_in1k.py'))
