"""DKD on the RoIs that the student sampled, the background being a class.

The values of the authors for Faster R-CNN.

    python tools/compare.py configs/bccd_faster_rcnn          # trains the teacher first
    python tools/train.py configs/dkd/faster_rcnn_r18_bccd.py   # with the teacher at the path below
"""
_base_ = ['../bccd_faster_rcnn/dist.py']

model = dict(distill=[dict(type='mmkd.DKDLoss', on='cls', alpha=1.0, beta=0.25, tau=1.0)])
