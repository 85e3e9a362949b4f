"""Predictions of several models on an image, side by side."""
import base64
import os
import tempfile
from html import escape
from typing import Any, List, Optional, Sequence, Tuple

import mmcv
import numpy as np
from mmengine.registry import VISUALIZERS

MOST = 480
"""Longest side of a picture, in pixels."""


class Drawer:
    """Draws labels and predictions with the visualizer of mmdet or mmseg.

    Args:
        config (Config): A config with ``visualizer``.
        metainfo (dict): Class names and palette of the data set.
    """

    def __init__(self, config: Any, metainfo: Any) -> None:
        settings = dict(config.get('visualizer') or dict(type='Visualizer'))
        settings.update(vis_backends=None, name='mmkd_pictures', save_dir=None)
        self._visualizer = VISUALIZERS.build(settings)
        self._visualizer.dataset_meta = dict(metainfo)

    def row(self, sample: Any, models: Sequence[Tuple[str, Any]], caption: str) -> str:
        """The labels and each model's prediction for one image, as HTML; '' without its file.

        Args:
            sample (DetDataSample | SegDataSample | DataSample): With labels and ``img_path``.
            models (Sequence[tuple[str, Any]]): Name and prediction of each model.
            caption (str): A line below.
        """
        path = sample.get('img_path')
        if not path or not os.path.isfile(path):
            return ''
        image = mmcv.imread(path, channel_order='rgb')
        shown = [self._figure('labels', image, sample, True)]
        shown += [self._figure(name, image, one, False) for name, one in models]
        return f'<div class="row">{"".join(shown)}</div><p class="faint">{escape(caption)}</p>'

    def _figure(self, name: str, image: np.ndarray, sample: Any, is_truth: bool) -> str:
        drawn = self._drawn(image, sample, is_truth)
        text = name
        if drawn is None:  # a classifier
            labels = sample.gt_label if is_truth else sample.pred_label
            names = self._visualizer.dataset_meta.get('classes') or ()
            text += ': ' + ', '.join(names[n] if n < len(names) else str(n)
                                     for n in labels.flatten().tolist())
        source = as_uri(image if drawn is None else drawn)
        return (f'<figure><img alt="{escape(text)}" src="{source}">'
                f'<figcaption>{escape(text)}</figcaption></figure>')

    def _drawn(self, image: np.ndarray, sample: Any, is_truth: bool) -> Optional[np.ndarray]:
        """The image with boxes or a label map; None if the model has neither."""
        if not any(name in sample for name in ('pred_instances', 'pred_sem_seg')):
            return None
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, 'drawn.png')
            self._visualizer.add_datasample(
                'drawn', image, sample, draw_gt=is_truth, draw_pred=not is_truth, out_file=path)
            return mmcv.imread(path, channel_order='rgb')


def as_uri(image: np.ndarray) -> str:
    """An image (H, W, 3), RGB, as an address that contains it; at most :data:`MOST` pixels wide.

    Example:
        >>> as_uri(np.zeros((2, 2, 3), np.uint8))[:22]
        'data:image/jpeg;base64'
    """
    import cv2
    scale = MOST / max(image.shape[:2])
    if scale < 1:
        image = mmcv.imrescale(image, scale)
    _, content = cv2.imencode('.jpg', np.ascontiguousarray(image[..., ::-1]),
                              [cv2.IMWRITE_JPEG_QUALITY, 85])
    return 'data:image/jpeg;base64,' + base64.b64encode(content.tobytes()).decode()


def scaled_labels(sample: Any) -> Any:
    """The sample with boxes of its labels in pixels of the file, for labels that were loaded before
    the resize."""
    found = sample.clone()
    if 'gt_instances' in found and 'bboxes' in found.gt_instances:
        scale = found.get('scale_factor', (1., 1.))
        boxes = found.gt_instances.bboxes
        boxes = boxes if hasattr(boxes, 'new_tensor') else boxes.tensor
        found.gt_instances.bboxes = boxes / boxes.new_tensor(tuple(scale)[:2]).repeat(2)
    return found


def rows(drawer: Drawer, samples: List[Any]) -> List[str]:
    """Rows of HTML of (sample, models, caption)."""
    return [one for one in (drawer.row(*sample) for sample in samples) if one]
