"""The last block of timm's ViT-Tiny teaches the neck of a RetinaNet.

    pip install timm
    python tools/make_digits.py data/digits
    python tools/train.py examples/timm_vit_teacher.py

The weights are random, so that it runs without a download; write ``checkpoint='FILE'`` for those of
`timm`, a .safetensors or .pth file. mmkd takes from timm how pixels are normalised, and that blocks
return one class token, then patches of 16 pixels: a map of stride 16, which is compared with the
level of the neck that has the same stride.
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
