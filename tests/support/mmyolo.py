"""Small mmyolo detectors and their batches.

mmyolo 0.6 refuses mmcv 2.1 by its number (docs/neighbours.md), so it is absent from `make test` and
`make test-neighbours`.
"""
import importlib

import pytest
import torch
from mmengine.config import Config

from mmkd.files.zoo import config_path


def needs_mmyolo():
    """Skip the test, if mmyolo cannot be imported on this stack."""
    try:
        importlib.import_module('mmyolo.models')
    except Exception as error:
        pytest.skip(f'mmyolo cannot be imported: {type(error).__name__}')


def of_mmyolo(path, width, classes=3):
    """The model of a config of mmyolo, with another width and number of classes."""
    model = Config.fromfile(config_path(f'mmyolo::{path}')).model
    _changed(model, width, classes)
    model.data_preprocessor.batch_augments = None
    return model.to_dict()


def _changed(part, width, classes):
    if isinstance(part, dict):
        for name, value in (('widen_factor', width), ('num_classes', classes)):
            if name in part:
                part[name] = value
        if part.get('type') in ('SyncBN', 'MMSyncBN'):
            part['type'] = 'BN'
        part.pop('init_cfg', None)
    for value in part.values() if isinstance(part, dict) else part if isinstance(
            part, (list, tuple)) else ():
        _changed(value, width, classes)


def rows(count=2, size=64):
    """Labels of a batch as mmyolo collates them: image, class, and x1, y1, x2, y2."""
    return torch.tensor([[image, (image + number) % 3, 8. + number, 12., 40., size - 8. - number]
                         for image in range(count) for number in range(2)])


def batch_of_rows(count=2, size=64):
    """A batch as the data preprocessors of mmyolo return it in training."""
    images = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))
    return dict(inputs=images, data_samples=dict(
        bboxes_labels=rows(count, size), img_metas=[dict(batch_input_shape=(size, size))] * count))
