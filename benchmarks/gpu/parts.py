"""Helpers for the GPU benchmarks: a small pair, a batch, and a prepared Distiller."""
import argparse
import os
import sys
from typing import Any, Sequence

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..'))

import tools_on_path  # noqa: F401
from common import read_config
from made_up import initialise, made_up_batch
from mmengine.config import Config, ConfigDict
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import MODELS, DefaultScope
from steps import without_weights

from mmkd.networks.frozen import model_config

PAIRS = dict(
    retinanet=('mmdet::retinanet/retinanet_r18_fpn_1x_coco.py',
               'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'),
    faster_rcnn=('mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
                 'mmdet::faster_rcnn/faster-rcnn_r101_fpn_1x_coco.py'),
    pspnet=('mmseg::pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py',
            'mmseg::pspnet/pspnet_r50-d8_4xb2-40k_cityscapes-512x1024.py'))


def arguments(text: str) -> argparse.Namespace:
    """Parse --device, --out and --work-dir, and silence the loggers."""
    parser = argparse.ArgumentParser(description=text)
    parser.add_argument('--device', default='cuda')
    parser.add_argument('--out', default='work_dirs/gpu', help='folder of pictures')
    parser.add_argument('--work-dir', default='work_dirs/gpu/work', help='folder of runs')
    MMLogger.get_instance('gpu', log_level='ERROR')
    MessageHub.get_current_instance().update_info('epoch', 0)
    return parser.parse_args()


def models_of(pair: str, distill: Sequence[dict], device: str, **teacher_options: Any) -> Any:
    """Build the Distiller of a pair with random weights on the device, ready to train."""
    student, teacher = (read_config(one) for one in PAIRS[pair])
    config = Config(without_weights(Config(dict(
        default_scope=student.default_scope,
        model=ConfigDict(type='mmkd.Distiller', student=model_config(student),
                         teacher=dict(config=teacher, **teacher_options), distill=list(distill))))))
    with DefaultScope.overwrite_default_scope(config.default_scope):
        model = MODELS.build(config.model)
        initialise(model.student)
        model.to(device).train()
        if getattr(model.data_preprocessor, 'size', None):
            model.data_preprocessor.size = (256, 512)
        model.prepare()
    model.distillation.begin()
    return model


def batch_of(model: Any, height: int = 256, width: int = 512, images: int = 2) -> Any:
    """Make a batch of random images with random labels, in the format of a data loader."""
    return made_up_batch(model.student, height, width, images)
