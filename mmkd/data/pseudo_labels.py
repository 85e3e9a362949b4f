"""Which predictions of a teacher are labels for a student?"""
import math
from typing import Any, Dict, Optional, Sequence, Tuple, Union

import numpy as np
import torch
from mmengine.structures import InstanceData, PixelData
from torch import Tensor

from ..core.names import joined, shown_names
from .overlap import image_paths, overlap
from .pixel_scores import IGNORED, Groups, pixel_scores

__all__ = ['Selection', 'image_paths', 'no_label', 'overlap', 'removed', 'truth_of']


class Selection:
    """Rules by which predictions become labels.

    Published thresholds for detectors: 0.9 in STAC (`A Simple Semi-Supervised Learning Framework
    for Object Detection <https://arxiv.org/abs/2005.04757>`_) and `Soft Teacher
    <https://arxiv.org/abs/2106.09018>`_, 0.7 in `Unbiased Teacher
    <https://arxiv.org/abs/2102.09480>`_, for scores by softmax; focal losses give lower scores. For
    pixels, class-balanced self-training (`CBST <https://arxiv.org/abs/1810.07911>`_) has a
    threshold for each class.

    Args:
        score_thr (float | dict[str, float]): The least score of a label, from 0 to 1: one for all
            classes, or one for each class by name. For pixels, the probability of the class.
            Defaults to 0.5.
        per_class (int, optional): The most instances of each class in an image; those of the
            highest scores are kept. Defaults to None, all.
        ignore_thr (float, optional): Instances with a score from ``ignore_thr`` to below the
            threshold are neither label nor background: they become ``ignored_instances``. mmdet's
            assigners leave out their place if they have an ``ignore_iof_thr``. Pixels below the
            threshold are always ignored. Defaults to None, they are background.
        min_size (float): The least width and height of a box, in pixels of its image. Defaults
            to 1.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If a threshold is not between 0 and 1, or another argument is out of range.

    Example:
        >>> Selection(dict(car=.5, bus=.7)).thresholds(['bus', 'car'])
        tensor([0.7000, 0.5000])
    """

    def __init__(self, score_thr: Union[float, Dict[str, float]] = 0.5,
                 per_class: Optional[int] = None, ignore_thr: Optional[float] = None,
                 min_size: float = 1.) -> None:
        by_name = score_thr if isinstance(score_thr, dict) else {'': score_thr}
        if not by_name:
            raise ValueError('`score_thr` is an empty dict; write a threshold for each class, or '
                             'one number for all')
        for name, value in by_name.items():
            _check_share(f'score_thr[{name!r}]' if name else 'score_thr', value)
        if per_class is not None and (isinstance(per_class, bool) or
                                      not isinstance(per_class, int)):
            raise TypeError(f'`per_class` must be a whole number or None, but got {per_class!r}; '
                            'write for instance 10, or leave it out to keep all instances')
        if per_class is not None and per_class < 1:
            raise ValueError(f'`per_class` must be 1 or more, but got {per_class}; leave it out to '
                             'keep all instances')
        if ignore_thr is not None:
            _check_share('ignore_thr', ignore_thr)
            if ignore_thr >= min(by_name.values()):
                raise ValueError(f'`ignore_thr` must be below `score_thr`, but got {ignore_thr} '
                                 f'and {score_thr}; lower it, or leave it out')
        if isinstance(min_size, bool) or not isinstance(min_size, (int, float)):
            raise TypeError(f'`min_size` must be a number of pixels, but got {min_size!r}; write '
                            'for instance 8')
        if not 0 <= min_size < math.inf:
            raise ValueError(f'`min_size` must be 0 or more pixels, but got {min_size}; write for '
                             'instance 8, or 0 to keep boxes of any size')
        self.score_thr = score_thr
        self.per_class = per_class
        self.ignore_thr = ignore_thr
        self.min_size = min_size

    @property
    def least(self) -> float:
        """The least score that matters: of a label, or of an ignored instance."""
        by_name = self.score_thr if isinstance(self.score_thr, dict) else {'': self.score_thr}
        return min([*by_name.values(), *([] if self.ignore_thr is None else [self.ignore_thr])])

    def thresholds(self, classes: Sequence[str]) -> Tensor:
        """The threshold of each class.

        Args:
            classes (Sequence[str]): Names, in the order of the labels.

        Returns:
            Tensor: float32 (C, ).

        Raises:
            ValueError: If ``score_thr`` is a dict that lacks a class or has an unknown one.
        """
        if not isinstance(self.score_thr, dict):
            return torch.full((len(classes), ), float(self.score_thr))
        unknown = [name for name in self.score_thr if name not in classes]
        missing = [name for name in classes if name not in self.score_thr]
        if unknown or missing:
            raise ValueError(
                '`score_thr` must have a threshold for each class, but ' + ' and '.join(
                    ([f'has {joined(unknown)}, which is not one of {shown_names(classes)}']
                     if unknown else []) + ([f'lacks {joined(missing)}'] if missing else [])) +
                '; write one for each class by its name, or one number for all')
        return torch.tensor([float(self.score_thr[name]) for name in classes])

    def chosen(self, found: Any, classes: Sequence[str]) -> 'tuple[Tensor, Tensor]':
        """Which instances are labels, and which are ignored.

        Args:
            found (InstanceData): ``bboxes`` (K, 4), ``labels`` and ``scores`` (K, ).
            classes (Sequence[str]): Names, in the order of the labels.

        Returns:
            tuple[Tensor, Tensor]: Numbers of the labels, highest score first, and of the ignored.

        Raises:
            ValueError: If a label is not the number of a class.
        """
        labels, scores, boxes = found.labels, found.scores, found.bboxes
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(classes):
            raise ValueError(f'the prediction has the label {int(labels.max())}, but there are '
                             f'{len(classes)} classes, {shown_names(classes)}; give the classes '
                             'of the model, in the order of its outputs')
        usable = boxes.isfinite().all(1) & (
            (boxes[:, 2:] - boxes[:, :2]) >= self.min_size).all(1)
        least = self.thresholds(classes).to(scores)[labels]
        order = scores.argsort(descending=True, stable=True)
        is_label = (usable & (scores >= least))[order]
        if self.per_class is not None:
            one_hot = torch.nn.functional.one_hot(labels[order], len(classes))
            rank = (one_hot * is_label[:, None]).cumsum(0).gather(1, labels[order, None])[:, 0]
            is_label &= rank <= self.per_class
        ignored = order.new_zeros(0)
        if self.ignore_thr is not None:
            ignored = order[(usable & (scores < least) & (scores >= self.ignore_thr))[order]]
        return order[is_label], ignored

    def settings(self) -> Dict[str, Any]:
        """The arguments, as JSON can hold them."""
        return dict(score_thr=self.score_thr, per_class=self.per_class,
                    ignore_thr=self.ignore_thr, min_size=self.min_size)


def truth_of(prediction: Any, selection: Selection, classes: Sequence[str],
             scoring: str = 'softmax', groups: Optional[Groups] = None) -> Any:
    """Make labels of the predictions for one image.

    Args:
        prediction (DetDataSample | SegDataSample): What a model's ``predict`` returns:
            ``pred_instances`` with ``bboxes`` (K, 4), ``labels`` and ``scores`` (K, ), and
            ``masks`` (K, H, W) if it has them; or ``seg_logits`` with data (C, H, W), and
            ``pred_sem_seg`` if there is one output. May be changed in place.
        selection (Selection): The rules.
        classes (Sequence[str]): Names, in the order of the labels.
        scoring (str): See :func:`pixel_scores`. Defaults to 'softmax'.
        groups (Sequence[tuple[int]], optional): For pixels, see :func:`pixel_scores`; labels of
            instances are those of ``classes`` already. Defaults to None.

    Returns:
        DetDataSample | SegDataSample: Of the type and with the ``metainfo`` of the prediction.
        Detection: ``gt_instances`` with ``bboxes``, ``labels``, ``scores`` and, where predicted,
        ``masks`` (mmdet's BitmapMasks), highest score first, and ``ignored_instances`` without
        scores. Segmentation: ``gt_sem_seg``, int64 (1, H, W), 255 where no class reaches its
        threshold, and ``gt_sem_seg_scores``, float32 (1, H, W), the probabilities of the classes.

    Raises:
        ValueError: If the prediction has neither, or a label is not the number of a class.
    """
    truth = type(prediction)(metainfo=prediction.metainfo)
    if 'pred_instances' in prediction:
        found = prediction.pred_instances
        labels, ignored = selection.chosen(found, classes)
        truth.gt_instances = _instances(found, labels)
        truth.gt_instances.scores = found.scores[labels]
        truth.ignored_instances = _instances(found, ignored)
        return truth
    if 'seg_logits' not in prediction:
        raise ValueError('labels are made of `pred_instances` of a detector or `seg_logits` of a '
                         f'segmentor, but the prediction has {sorted(prediction.keys())}; use a '
                         'model that predicts one of them')
    if selection.per_class is not None or selection.ignore_thr is not None:
        raise ValueError('`per_class` and `ignore_thr` are for instances, but the prediction is '
                         'one label for each pixel; leave them out')
    outputs = prediction.seg_logits.data
    count = max(len(outputs), 2) if groups is None else len(groups)
    if count > len(classes):
        raise ValueError(f'the prediction has {count} classes, but there are '
                         f'{len(classes)}, {shown_names(classes)}; give the classes of '
                         'the model, in the order of its outputs')
    chosen = prediction.pred_sem_seg.data if 'pred_sem_seg' in prediction else None
    scores, labels = pixel_scores(outputs, scoring, groups, chosen)
    least = selection.thresholds(classes).to(scores)
    is_label = (labels != IGNORED) & (
        scores >= least[labels.clamp(max=len(least) - 1)])  # False for NaN
    truth.gt_sem_seg = PixelData(data=labels.masked_fill(~is_label, IGNORED)[None])
    truth.gt_sem_seg_scores = PixelData(data=scores[None])
    return truth


def removed(least: float, own: Optional[Tuple[str, float]], model: str) -> Optional[str]:
    """What to say if a model's own threshold removes scores that are asked for, or None.

    Args:
        least (float): The least score that is asked for, :attr:`Selection.least`.
        own (tuple[str, float], optional): See :func:`no_label`.
        model (str): Name of the model, for the message.

    Example:
        >>> removed(0.01, ('score_thr', 0.05), 'it')
        'scores from 0.01 are asked for, but it predicts none below `score_thr=0.05` of its config'
        >>> removed(0.1, ('score_thr', 0.05), 'it') is None
        True
    """
    if own is None or least >= own[1]:
        return None
    return (f'scores from {least} are asked for, but {model} predicts none below '
            f'`{own[0]}={own[1]}` of its config')


def no_label(highest: float, threshold: Any, own: Optional[Tuple[str, float]],
             option: str = '`score_thr`') -> str:
    """Why no prediction is a label, and what to do.

    Args:
        highest (float): The highest score of all predictions, 0 if there are none.
        threshold (float | dict[str, float]): The least score of a label.
        own (tuple[str, float], optional): The threshold of the model itself, see
            :func:`mmkd.networks.predicting.own_threshold`. Defaults to None, it has none.
        option (str): Name of the option with the threshold. Defaults to '`score_thr`'.

    Example:
        >>> no_label(0.31, 0.5, None)[:63]
        'the highest score is 0.31, the threshold 0.5; lower `score_thr`'
    """
    if highest > 0:
        return (f'the highest score is {highest:.3g}, the threshold {threshold}; lower {option}, '
                'or look whether the model knows this kind of images')
    if own is None:
        return ('the model predicts nothing with a score above 0; look whether it knows this kind '
                'of images')
    key, least = own
    return (f'the model predicts nothing above the threshold of its own config, `{key}={least}`; '
            'look whether it knows this kind of images, or lower that one')


def _instances(found: Any, numbers: Tensor) -> InstanceData:
    chosen = InstanceData(bboxes=found.bboxes[numbers], labels=found.labels[numbers])
    if 'masks' in found:
        from mmdet.structures.mask import BitmapMasks
        masks = found.masks
        masks = masks.cpu().numpy() if isinstance(masks, Tensor) else np.asarray(masks)
        height, width = masks.shape[1:]
        chosen.masks = BitmapMasks(masks[numbers.cpu().numpy()].astype(np.uint8), height, width)
    return chosen


def _check_share(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        by_class = ', or a dict with one for each class' if name == 'score_thr' else ''
        raise TypeError(f'`{name}` must be a number from 0 to 1, but got {value!r:.200}; write for '
                        f'instance 0.5{by_class}')
    if not 0 <= value <= 1:
        share = value / 100 if 2 <= value <= 100 else 0.5  # a percentage, or a mistake
        raise ValueError(f'`{name}` must be from 0 to 1, but got {value}; write for instance '
                         f'{share:g}')
