"""CWD: the teacher's spatial distribution of each logit channel (anchor and class), on every level.

Temperature 1 and weight 5 are the usual values for the logits of GFL; nothing was tuned.

    python tools/compare.py configs/bccd          # trains the teacher first
    python tools/train.py configs/bccd/cwd.py    # with the teacher at the path below
"""
_base_ = ['./dist.py']

model = dict(distill=[dict(type='mmkd.CWDLoss', on='cls', tau=1.0, loss_weight=5.0)])
