"""The last block of timm's ViT-Tiny teaches the neck of a RetinaNet.

    pip install timm
    python tools/make_digits.py data/digits
    python tools/train.py examples/timm_vit_teacher.py

The weights are random, so the example runs without a download. For the pretrained weights of
`timm`, write ``checkpoint='FILE'`` with a .safetensors or .pth file. mmkd reads the normalisation
of pixels from timm. The blocks return one class token, then one token per patch of 16 pixels. mmkd
arranges the patches as a map of stride 16 and compares it with the neck level of that stride.
"""
_base_ = ['../configs/digits/student.py']  # your own config here
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    teacher=dict(
        type='mmkd.ModuleTeacher', build='timm:vit_tiny_patch16_224', checkpoint=None),
    distill=[
        dict(type='mmkd.MSELoss', on=dict(student='neck', teacher='blocks.11'), loss_weight=0.1),
    ])
