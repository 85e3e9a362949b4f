"""What do student and teacher score on the validation set, and where do they disagree?"""
import copy
import math
import time
from functools import partial
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator

from ..compare.classes import match_classes
from ..core.rng import preserved_rng
from ..networks import FrozenTeacher
from ..points import family_of
from ..points.recorder import evaluating
from .agreement import Agreement
from .images import LEAST, Part, labels_are_scaled, loader_of

METRICS = 'coco/bbox_mAP', 'coco/segm_mAP', 'mIoU', 'accuracy/top1', 'multi-label/mAP'
"""The metric that decides: the first one that the validation has, else its first one."""
PER_CLASS = '_precision'
"""Ending of the names of mmdet's AP by class."""


class Scored(NamedTuple):
    """Scores and predictions of both networks."""
    scores: Dict[str, Dict[str, float]]
    by_class: Dict[str, Dict[str, Optional[float]]]
    agreement: Agreement
    images: int
    """Number of images that were evaluated."""
    metainfo: Dict[str, Any]
    examples: List[Dict[str, Any]]
    """Predictions for the images with the most disagreement: ``student`` and ``teacher``."""


def scores_of(config: Config, student: Any, teacher: FrozenTeacher, classes: List[str], most: int,
              ends: float = math.inf, examples: int = 4) -> Scored:
    """Evaluate both networks by the metrics of the config, on the same images.

    Args:
        config (Config): The student's config, with ``val_dataloader`` and ``val_evaluator``.
        student (nn.Module): The student.
        teacher (FrozenTeacher): The teacher, prepared.
        classes (list[str]): Names of the student's classes; [] if they are not known.
        most (int): Number of images.
        ends (float): Time by :func:`time.monotonic` at which it stops. Defaults to no limit.
        examples (int): Number of images whose predictions are kept. Defaults to 4.
    """
    loader = loader_of(config, config.val_dataloader.dataset, most)
    classes = classes or list(loader.dataset.metainfo.get('classes') or ())
    columns = None
    if classes and teacher.classes:
        columns = match_classes(classes, teacher.classes, teacher.mapping)
    assert teacher.model is not None
    relabel = partial(family_of(teacher.model).relabel, columns=columns)
    sides: Dict[str, Callable] = dict(
        student=student.val_step,
        teacher=lambda batch: [relabel(one) for one in teacher.model.val_step(  # type: ignore
            teacher.renormalize.as_loaded(batch))])
    evaluators = {name: evaluator_of(config, loader) for name in sides}

    def process(name: str, samples: List[Any], batch: Any) -> None:
        evaluators[name].process(data_samples=samples, data_batch=batch)

    with evaluating(student):
        agreement, shown = compared(sides, loader, labels_are_scaled(config), len(classes),
                                    examples, ends, process)
    count = len(agreement.images) or shown.images
    scores, by_class = {}, {name: {} for name in classes}  # type: ignore[var-annotated]
    for name, evaluator in evaluators.items():
        restrict(evaluator, loader.dataset, count)
        values = evaluator.evaluate(count)
        scores[name] = {key: float(value) for key, value in values.items()
                        if not key.endswith(PER_CLASS)}
        of_classes = agreement.iou(name) if agreement.is_of_pixels else [next((
            100 * value for key, value in values.items()
            if key.rpartition('/')[2] == f'{one}{PER_CLASS}' and not math.isnan(value)), None)
            for one in classes]
        for one, score in zip(classes, of_classes):
            by_class[one][name] = score
    return Scored(scores, {name: one for name, one in by_class.items()
                           if any(value is not None for value in one.values())},
                  agreement, count, dict(loader.dataset.metainfo), shown.examples)


class Shown(NamedTuple):
    """What a comparison leaves."""
    images: int
    """Number of images."""
    examples: List[Dict[str, Any]]
    """Predictions of both networks for the images on which they differ most."""


def compared(sides: Dict[str, Callable], loader: Any, is_scaled: bool, classes: int, examples: int,
             ends: float = math.inf, process: Optional[Callable] = None
             ) -> Tuple[Agreement, Shown]:
    """Run two networks on the same images, and count what each of them finds.

    Args:
        sides (dict[str, Callable]): 'student' and 'teacher': predictions for a batch, with the
            labels.
        loader (DataLoader): Images with labels.
        is_scaled (bool): See :func:`mmkd.worth.images.labels_are_scaled`.
        classes (int): Number of classes.
        examples (int): Number of images whose predictions are kept.
        ends (float): Time by :func:`time.monotonic` at which it stops. Defaults to no limit.
        process (Callable, optional): Called with the name, the predictions and the batch.
    """
    agreement = Agreement(classes)
    kept: List[Dict[str, Any]] = []
    with preserved_rng(), torch.no_grad():
        for batch in loader:
            found = {name: step(copy.deepcopy(batch)) for name, step in sides.items()}
            for name, samples in found.items() if process else ():
                process(name, samples, batch)  # type: ignore[misc]
            for one, other in zip(found['student'], found['teacher']):
                scale = one.get('scale_factor', (1., 1.)) if is_scaled else (1., 1.)
                agreement.add(one, other, tuple(scale)[:2])  # type: ignore[arg-type]
                kept.append(dict(student=one.cpu(), teacher=other.cpu()))
                chosen = agreement.most_different(examples)
                for number, pair in enumerate(kept):  # label maps are large
                    if number not in chosen:
                        pair.clear()
            if len(kept) >= LEAST and time.monotonic() > ends:
                break
    return agreement, Shown(len(kept), [kept[n] for n in agreement.most_different(examples)])


def evaluator_of(config: Config, loader: Any) -> Any:
    """The evaluator of the validation, for the images of a loader, by class where it can."""
    found = copy.deepcopy(config.val_evaluator)
    metrics = [dict(one) for one in (found if isinstance(found, (list, tuple)) else [found])]
    for one in metrics:
        kind = str(one['type']).rpartition('.')[2]
        if kind == 'CocoMetric':
            one['classwise'] = True
        one.pop('output_dir', None)
    evaluator = Evaluator(metrics)
    evaluator.dataset_meta = loader.dataset.metainfo
    return evaluator


def restrict(evaluator: Any, part: Part, count: int) -> None:
    """Restrict COCO's metric to the first images of a part of a data set.

    Otherwise images that were not evaluated would count as images without detections.
    """
    if count < len(part.dataset):  # type: ignore[arg-type]
        for one in evaluator.metrics:
            if hasattr(one, 'img_ids'):
                one.img_ids = [
                    part.dataset.get_data_info(number)['img_id']  # type: ignore[attr-defined]
                    for number in part.indices[:count]]


def deciding(names: Sequence[str]) -> str:
    """The metric that decides, of these; '' if there is none."""
    return next((name for name in METRICS if name in names), names[0] if names else '')
