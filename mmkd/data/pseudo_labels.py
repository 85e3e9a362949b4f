"""How does a prediction become ground truth?"""
import hashlib
import os
from typing import Any, Dict, List, Optional, Sequence, Union

import numpy as np
import torch


class Selection:
    """Which predictions become labels.

    Args:
        score_thr (float | dict[str, float]): Least score; by class name, with '' for the others.
            Defaults to 0.5.
        per_class (int, optional): Number of objects per image and class, those of the highest
            scores. Defaults to None, all.
    """

    def __init__(self, score_thr: Union[float, Dict[str, float]] = 0.5,
                 per_class: Optional[int] = None) -> None:
        self.score_thr, self.per_class = score_thr, per_class

    def thresholds(self, classes: Sequence[str], count: int) -> List[float]:
        """The least score of each class."""
        if isinstance(self.score_thr, dict):
            rest = self.score_thr.get('', 0.5)
            return [self.score_thr.get(name, rest) for name in classes]
        return [self.score_thr] * count


def truth_of(prediction: Any, selection: Selection, classes: Sequence[str]) -> Any:
    """The ground truth that a prediction gives.

    Args:
        prediction (DetDataSample | SegDataSample): In the frame of the network's input, with the
            student's classes.
        selection (Selection): Which predictions are taken.
        classes (Sequence[str]): Names of the classes.
    """
    from mmengine.structures import InstanceData, PixelData
    truth = type(prediction)(metainfo=prediction.metainfo)
    if 'pred_instances' in prediction:
        found = prediction.pred_instances
        least = found.scores.new_tensor(selection.thresholds(
            classes, max(len(classes), int(found.labels.max()) + 1 if len(found.labels) else 1)))
        found = found[found.scores >= least[found.labels]]
        found = found[(found.bboxes[:, 2:] > found.bboxes[:, :2]).all(1)]  # with an area
        if selection.per_class is not None:
            order = found.scores.argsort(descending=True)
            found = found[order]
            earlier = (found.labels[:, None] == found.labels).tril(-1).sum(1)
            found = found[earlier < selection.per_class]
        truth.gt_instances = InstanceData(bboxes=found.bboxes, labels=found.labels,
                                          scores=found.scores)
        if 'masks' in found:
            from mmdet.structures.mask import BitmapMasks
            masks = np.asarray(torch.as_tensor(found.masks).cpu(), np.uint8)
            height, width = prediction.img_shape[:2]
            truth.gt_instances.masks = BitmapMasks(masks.reshape(-1, height, width), height, width)
        truth.ignored_instances = InstanceData(
            bboxes=found.bboxes[:0], labels=found.labels[:0])
        return truth
    logits = prediction.seg_logits.data.float()
    scores, labels = logits.softmax(0).max(0, keepdim=True)
    least = scores.new_tensor(selection.thresholds(classes, len(logits)))
    truth.gt_sem_seg = PixelData(data=labels.masked_fill(scores < least[labels], 255))
    return truth


def overlap(first: Any, second: Any) -> List[str]:
    """Files of the second data set that are in the first, by SHA-256."""
    def paths(dataset: Any) -> List[str]:
        return [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]

    def digest(path: str) -> str:
        with open(path, 'rb') as file:
            return hashlib.sha256(file.read()).hexdigest()

    sizes = {os.path.getsize(path) for path in paths(first)}
    known = {digest(path) for path in paths(first)}
    return [path for path in paths(second)
            if os.path.getsize(path) in sizes and digest(path) in known]
