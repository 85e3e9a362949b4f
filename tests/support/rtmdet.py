"""A small RTMDet."""
from mmengine.config import Config

from mmkd.files.zoo import config_path


def rtmdet() -> dict:
    """mmdet's RTMDet, narrow enough for a test, for three classes."""
    import mmdet.models  # noqa: F401
    config = Config.fromfile(config_path('mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py'))
    config.merge_from_dict(dict(model=dict(
        data_preprocessor=dict(batch_augments=None),
        backbone=dict(widen_factor=0.125, init_cfg=None),
        neck=dict(in_channels=[32, 64, 128], out_channels=16),
        bbox_head=dict(num_classes=3, in_channels=16, feat_channels=16))))
    return config.model.to_dict()
