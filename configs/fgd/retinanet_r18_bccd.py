"""FGD on all levels of the neck, with the authors' values for one-stage detectors.

Gradients are clipped at 5, as in all of configs/bccd; `--method fgd` writes the authors' 35.

    python tools/train.py configs/fgd/retinanet_r18_bccd.py
"""
_base_ = ['../bccd/dist.py']

model = dict(inherit='neck,head', distill=[dict(type='mmkd.FGDLoss', on='neck')])
