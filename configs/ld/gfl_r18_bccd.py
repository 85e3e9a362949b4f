"""LD on BCCD: distributions of distances of GFL R50 for GFL R18, 12 epochs.

LD needs a head with bins, so the models of configs/bccd cannot be used.

    python tools/train.py configs/ld/_base_/gfl_r50_bccd.py --work-dir work_dirs/gfl_r50_bccd
    python tools/train.py configs/ld/gfl_r18_bccd.py
"""
_base_ = ['./_base_/gfl_r18_bccd.py']
custom_imports = dict(imports=['mmkd'], allow_failed_imports=False)

model = dict(
    _delete_=True,
    type='mmkd.Distiller',
    student=_base_.model,
    teacher=dict(
        config='{{ fileDirname }}/_base_/gfl_r50_bccd.py',
        checkpoint='work_dirs/gfl_r50_bccd/epoch_24.pth'),
    # The authors train 2 or 3 images in a batch, not 8, and LD is a sum over their positives.
    distill=[dict(type='mmkd.LDLoss', on='reg', main=0.0625, valuable=0.0625)])
