"""How much of a difference between two models is due to the choice of validation images?

The validation images are drawn again with replacement, as many as there are, and the score of both
models is computed on each such set. The spread of the difference says how much it would vary with
another validation set of the same kind and size (Efron and Tibshirani, An Introduction to the
Bootstrap, chapters 6 and 13).
"""
import contextlib
import copy
import io
from typing import Any, Callable, Dict, List, NamedTuple, Sequence, Tuple, Union

import numpy as np
import torch
from compare_table import pairs_of
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner
from tqdm import tqdm

from mmkd.files.checkpoint import read_checkpoint
from mmkd.files.fit import load_exactly
from mmkd.networks.frozen import model_config

NO_OBJECT = -1
"""What pycocotools writes for a class without objects."""
ROUNDED = 0.06
"""mmdet rounds AP to three digits: 0.05 per cent."""


def silence() -> 'contextlib.redirect_stdout[io.StringIO]':
    """Hide what pycocotools prints in each call."""
    return contextlib.redirect_stdout(io.StringIO())


class Areas:
    """The pixels of each image by class, as mmseg's IoUMetric counts them.

    Args:
        counts (list[tuple]): Of each image the intersection, and the union, by class.
        images (list[str]): Names of the images, in the same order.

    Example:
        >>> areas = Areas([([4.], [8.]), ([6.], [6.])], ['a', 'b'])
        >>> areas.score([0, 1]), areas.score([0, 0])
        (71.42857142857143, 50.0)
    """
    figure = 'mIoU'

    def __init__(self, counts: Sequence[Tuple[Any, ...]], images: Sequence[str]) -> None:
        self.images = list(images)
        self.intersection = np.array([np.asarray(one[0], dtype=float) for one in counts])
        self.union = np.array([np.asarray(one[1], dtype=float) for one in counts])

    def score(self, images: Sequence[int]) -> float:
        """mIoU in per cent over these images; classes that none of them has are left out."""
        union = self.union[list(images)].sum(0)
        share = self.intersection[list(images)].sum(0) / np.where(union > 0, union, np.nan)
        return float(100 * np.nanmean(share))


class Detections:
    """The matches of each image, as mmdet's CocoMetric counts them.

    Args:
        truth (COCO): Of pycocotools, with the objects.
        found (list[dict]): Detections as COCO's results.
        images (list[int]): Ids of the images.
        categories (list[int]): Ids of the classes.
        kind (str): 'bbox' or 'segm'. Defaults to 'bbox'.
    """
    figure = 'AP'

    def __init__(self, truth: Any, found: List[Dict[str, Any]], images: Sequence[int],
                 categories: Sequence[int], kind: str = 'bbox') -> None:
        from pycocotools.cocoeval import COCOeval
        self.images = list(images)
        self.evaluation = evaluation = COCOeval(truth, truth.loadRes(found), kind)
        parameters = evaluation.params
        parameters.imgIds, parameters.catIds = list(images), list(categories)
        parameters.maxDets = [100]
        parameters.areaRng, parameters.areaRngLbl = parameters.areaRng[:1], ['all']
        with silence():
            evaluation.evaluate()
        # COCOeval sorts the ids, here those of the classes alone.
        order = {image: number for number, image in enumerate(np.unique(list(images)).tolist())}
        by_class = np.array(evaluation.evalImgs, dtype=object).reshape(-1, len(images))
        self.matches = by_class[:, [order[image] for image in images]]
        evaluation._paramsEval = copy.deepcopy(parameters)

    def score(self, images: Sequence[int]) -> float:
        """AP in per cent over these images; classes without objects in them are left out."""
        evaluation = self.evaluation
        # Numbers in place of ids: an image that was drawn twice counts as two images.
        evaluation._paramsEval.imgIds = evaluation.params.imgIds = list(range(len(images)))
        evaluation.evalImgs = list(self.matches[:, list(images)].reshape(-1))
        with silence():
            evaluation.accumulate(evaluation.params)
        precision = evaluation.eval['precision']
        return float(100 * np.mean(precision[precision > NO_OBJECT]))


Counts = Union[Areas, Detections]


def counts_of(run: Dict[str, Any], device: str = 'cpu') -> Counts:
    """Run the model of a run on the validation images of its config.

    Args:
        run (dict): ``config`` and ``checkpoint``, paths.
        device (str): Defaults to 'cpu'.
    """
    config = Config.fromfile(run['config'])
    check_evaluator(config, run['config'])
    with DefaultScope.overwrite_default_scope(config.default_scope):
        model = MODELS.build(model_config(config)).eval()
        load_exactly(model, read_checkpoint(run['checkpoint']), run['checkpoint'])
        loader = Runner.build_dataloader(config.val_dataloader)
        evaluator = Evaluator(config.val_evaluator)
    evaluator.dataset_meta = loader.dataset.metainfo
    model.to(device)
    names: List[str] = []
    with torch.no_grad():
        for batch in loader:
            samples = model.val_step(batch)
            names += [str(sample.get('img_path')) for sample in samples]
            evaluator.process(data_samples=samples, data_batch=batch)
    for metric in evaluator.metrics:
        if type(metric).__name__ == 'IoUMetric':
            return Areas([tuple(areas) for areas in metric.results], names)
        if type(metric).__name__ == 'CocoMetric' and metric._coco_api is not None:
            return detections_of(metric)
    raise AssertionError('check_evaluator() lets no other metric pass')


def check_evaluator(config: Config, path: str) -> None:
    """Check that images can be drawn again for the validation of a config.

    Raises:
        SystemExit: If it has neither COCO's metric with a file, nor mmseg's IoUMetric.
    """
    metrics = config.get('val_evaluator') or []
    metrics = metrics if isinstance(metrics, (list, tuple)) else [metrics]
    kinds = {str(one['type']).rpartition('.')[2]: one for one in metrics}
    if 'IoUMetric' not in kinds and not kinds.get('CocoMetric', {}).get('ann_file'):
        raise SystemExit(f'--bootstrap: {path} is evaluated by {", ".join(kinds) or "nothing"}; '
                         "images can be drawn again for mmdet's CocoMetric with an `ann_file` and "
                         "for mmseg's IoUMetric; leave --bootstrap out")


def detections_of(metric: Any) -> Detections:
    """The matches of a CocoMetric that has processed all images."""
    truth = metric._coco_api
    categories = truth.get_cat_ids(cat_names=metric.dataset_meta['classes'])
    found, images = [], []
    for _, one in metric.results:
        images.append(one['img_id'])
        found += [dict(image_id=one['img_id'], category_id=categories[int(label)],
                       bbox=metric.xyxy2xywh(box), score=float(score))
                  for box, score, label in zip(one['bboxes'], one['scores'], one['labels'])]
    if not found:
        raise SystemExit('--bootstrap: a model without a single detection has no score')
    return Detections(truth, found, images, categories)


class Drawn(NamedTuple):
    """The scores of a model on the sets of drawn images."""
    images: List[str]
    """Names of the images, from which the sets were drawn."""
    scores: np.ndarray
    """(draws,) in per cent."""


def drawn(counts: Counts, draws: int, progress: Callable[[], Any] = lambda: None) -> Drawn:
    """Score a model on as many images as there are, drawn with replacement.

    The sets are the same for all models with the same number of images.

    Args:
        counts (Areas | Detections): Of the model.
        draws (int): Number of sets.
        progress (Callable): Called after each set.
    """
    generator, scores = np.random.default_rng(0), []
    for _ in range(draws):
        scores.append(counts.score(generator.integers(len(counts.images), size=len(counts.images))))
        progress()
    return Drawn(counts.images, np.array(scores))


def intervals_of(runs: Dict[str, List[Dict[str, Any]]], draws: int, device: str = 'cpu'
                 ) -> Dict[str, Tuple[float, float]]:
    """The interval of the gain of each method over the student alone, by comparable runs.

    Args:
        runs (dict[str, list[dict]]): Results of tools/compare.py by name; 'student' is the student
            alone.
        draws (int): Number of draws of the images.
        device (str): Defaults to 'cpu'.

    Raises:
        SystemExit: If a model does not have the score of its run, or the images differ.
    """
    pairs = {name: pairs_of(results, runs.get('student', [])) for name, results in runs.items()
             if name not in ('teacher', 'student')}
    pairs = {name: found for name, found in pairs.items() if found}
    models = {run['checkpoint']: run for found in pairs.values() for both in found for run in both}
    with tqdm(desc='bootstrap', total=len(models) * draws, disable=None) as bar:
        by_model = {name: drawn(same_score(counts_of(run, device), run), draws, bar.update)
                    for name, run in models.items()}
    return {name: interval(*([by_model[run['checkpoint']] for run in group]
                             for group in zip(*found))) for name, found in pairs.items()}


def same_score(counts: Counts, run: Dict[str, Any]) -> Counts:
    """The same counts, if they give the score that a run has reported."""
    score, told = counts.score(range(len(counts.images))), run[counts.figure]
    if abs(score - told) > ROUNDED:
        raise SystemExit(
            f'--bootstrap: {run["checkpoint"]} has {counts.figure} {score:.2f} on the validation '
            f'images, but the last validation of its run said {told:.2f}; choose a val_interval '
            'that divides the schedule, and train again')
    return counts


def interval(better: Sequence[Drawn], alone: Sequence[Drawn]) -> Tuple[float, float]:
    """The 95 % interval of the difference between the mean scores of two groups of models.

    Both groups see the same images in each draw. The models are fixed: the interval has no part
    from the seeds of their trainings.

    Args:
        better (list[Drawn]): Models of one group, such as the seeds of a method.
        alone (list[Drawn]): Models of the other group.

    Raises:
        SystemExit: If the models were not evaluated on the same images.

    Example:
        >>> names = [str(number) for number in range(8)]
        >>> alone = drawn(Areas([([2.], [4.])] * 8, names), 10)
        >>> interval([drawn(Areas([([3.], [4.])] * 8, names), 10)], [alone])
        (25.0, 25.0)
    """
    if any(one.images != better[0].images for one in (*better, *alone)):
        raise SystemExit('--bootstrap: the models were not evaluated on the same images in the '
                         'same order; compare models of one validation set')
    gains = (np.mean([one.scores for one in better], axis=0) -
             np.mean([one.scores for one in alone], axis=0))
    low, high = np.percentile(gains, [2.5, 97.5])
    return float(low), float(high)
