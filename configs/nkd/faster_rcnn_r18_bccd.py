"""NKD on the RoIs that the student sampled, the background being a class.

The values of the authors for ImageNet; they have none for detectors.

    python tools/compare.py configs/bccd_faster_rcnn          # trains the teacher first
    python tools/train.py configs/nkd/faster_rcnn_r18_bccd.py   # with the teacher at the path below
"""
_base_ = ['../bccd_faster_rcnn/dist.py']

model = dict(distill=[dict(type='mmkd.NKDLoss', on='cls', gamma=1.5)])
