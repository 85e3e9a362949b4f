"""The pictures of tools/compare.py: learning curves, and predictions side by side."""
from statistics import mean
from typing import Any, Dict, List, Sequence, Tuple

import matplotlib
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, MODELS, DefaultScope
from PIL import Image

from mmkd.files.checkpoint import read_checkpoint
from mmkd.files.fit import load_exactly
from mmkd.networks.frozen import model_config

matplotlib.use('Agg')
from matplotlib import pyplot as plt
from matplotlib.patches import Patch, Rectangle

Boxes = List[Tuple[Sequence[float], str, float]]
SCORE_THRESHOLD = 0.3
MAIN = 'AP', 'mIoU', 'top-1', 'mAP'
"""The figures of curves, by the first that a run has."""
IGNORED = 255
"""The label of pixels that mmseg's metrics leave out."""


def plot_curves(runs: Dict[str, List[Dict[str, Any]]], titles: Dict[str, str], path: str) -> None:
    """Plot AP or accuracy over epochs or mIoU over iterations: mean and range over the seeds."""
    figure_name = next((name for name in MAIN for results in runs.values() for result in results
                        if name in result), 'score')
    step = 'iteration' if figure_name == 'mIoU' else 'epoch'
    figure, axes = plt.subplots(figsize=(7, 4.5))
    for name, results in runs.items():
        curves = [result['curve'] for result in results]
        if not curves[0]:
            continue
        epochs = [epoch for epoch, _ in curves[0]]
        scores = [[score for _, score in curve] for curve in curves]
        if name == 'teacher':
            axes.axhline(scores[0][-1], color='grey', linestyle='--',
                         label=f'teacher, after {epochs[-1]} {step}s')
            continue
        line, = axes.plot(epochs, [mean(s) for s in zip(*scores)], marker='o', label=titles[name])
        if len(scores) > 1:
            axes.fill_between(epochs, [min(s) for s in zip(*scores)],
                              [max(s) for s in zip(*scores)], color=line.get_color(), alpha=0.2)
    axes.set(xlabel=step, ylabel=f'{figure_name} (validation)')
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def plot_sheet(models: Sequence[Tuple[str, Dict[str, Any]]], rows: int, path: str) -> None:
    """Images spread evenly over the validation set: ground truth, then each model's predictions."""
    config = Config.fromfile(models[0][1]['config'])
    with DefaultScope.overwrite_default_scope(config.default_scope):
        dataset = DATASETS.build(config.val_dataloader.dataset)
        samples = [dataset[i * len(dataset) // rows] for i in range(rows)]
        is_segmentor = 'gt_sem_seg' in samples[0]['data_samples']
        is_classifier = 'gt_label' in samples[0]['data_samples']
        truth, found, draw = (
            (_true_labels, _found_labels, _draw_labels) if is_segmentor else
            (_true_classes, _found_classes, _draw_classes) if is_classifier else
            (_true_boxes, _found_boxes, _draw_boxes))
        columns: List[Tuple[str, List[Any]]] = [
            ('ground truth', [truth(sample) for sample in samples])]
        for title, run in models:
            model = _load(run)
            columns.append((title, [found(model, sample) for sample in samples]))
    height, width = samples[0]['inputs'].shape[1:]
    legend = 0.8 if is_segmentor else 0.
    figure, axes = plt.subplots(
        rows, len(columns), squeeze=False,
        figsize=(3.2 * len(columns), 3.2 * rows * height / width + 0.6 + legend))
    for column, (title, predictions) in enumerate(columns):
        above = '' if column == 0 or is_segmentor or is_classifier else (
            f'\n(scores above {SCORE_THRESHOLD})')
        axes[0][column].set_title(title + above)
        for row, sample in enumerate(samples):
            image = sample['inputs'].permute(1, 2, 0).numpy()[..., ::-1]
            axes[row][column].axis('off')
            draw(axes[row][column], image, predictions[row], dataset.metainfo)
    bottom = 0.
    if is_segmentor:
        bottom = _draw_legend(figure, columns[0][1], dataset.metainfo)
    figure.tight_layout(rect=(0, bottom, 1, 1))
    figure.savefig(path, dpi=100)
    with Image.open(path) as image:  # 256 colours take a third of the size
        image.convert('RGB').quantize(256).save(path, optimize=True)
    plt.close(figure)


def _load(run: Dict[str, Any]) -> torch.nn.Module:
    """Load the plain student; the checkpoint of a distilled one fits it."""
    config = Config.fromfile(run['config'])
    model = MODELS.build(model_config(config)).eval()
    load_exactly(model, read_checkpoint(run['checkpoint']), run['checkpoint'])
    return model


def _true_boxes(sample: dict) -> Boxes:
    truth = sample['data_samples'].gt_instances
    boxes = truth.bboxes.tensor if hasattr(truth.bboxes, 'tensor') else truth.bboxes
    boxes = boxes * _scale(sample, boxes)
    return [(box, label, 1.) for box, label in zip(boxes.tolist(), truth.labels.tolist())]


def _found_boxes(model: torch.nn.Module, sample: dict) -> Boxes:
    with torch.no_grad():
        found = model.test_step(pseudo_collate([sample]))[0].pred_instances
    found = found[found.scores > SCORE_THRESHOLD]
    boxes = found.bboxes * _scale(sample, found.bboxes)
    return list(zip(boxes.tolist(), found.labels.tolist(), found.scores.tolist()))


def _scale(sample: dict, like: torch.Tensor) -> torch.Tensor:
    """From the file's pixels to the picture's, which are those of the network's input.

    mmdet's detections are in the file's pixels, and so are the true boxes of its test pipelines,
    which load annotations after the resize.
    """
    return like.new_tensor(sample['data_samples'].get('scale_factor', (1., 1.))).repeat(2)


def _draw_boxes(axes: Any, image: Any, boxes: Boxes, metainfo: Dict[str, Any]) -> None:
    axes.imshow(image)
    for (left, top, right, bottom), label, score in boxes:
        colour = plt.get_cmap('tab10')(int(label) % 10)
        axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False,
                                 edgecolor=colour, linewidth=1.5))
        text = metainfo['classes'][int(label)] + (f' {score:.1f}' if score < 1 else '')
        axes.text(left, top - 1, text, fontsize=6, color='white', va='bottom', clip_on=True,
                  bbox=dict(facecolor=colour, edgecolor='none', pad=0.8))


def _true_classes(sample: dict) -> List[Tuple[int, float]]:
    return [(label, 1.) for label in sample['data_samples'].gt_label.tolist()]


def _found_classes(model: torch.nn.Module, sample: dict) -> List[Tuple[int, float]]:
    with torch.no_grad():
        found = model.test_step(pseudo_collate([sample]))[0]
    return [(label, float(found.pred_score[label])) for label in found.pred_label.tolist()]


def _draw_classes(axes: Any, image: Any, found: List[Tuple[int, float]],
                  metainfo: Dict[str, Any]) -> None:
    axes.imshow(image)
    axes.text(0.02, 0.02, '\n'.join(
        metainfo['classes'][label] + (f' {score:.2f}' if score < 1 else '')
        for label, score in found), transform=axes.transAxes, fontsize=9, color='white',
        va='bottom', bbox=dict(facecolor='black', edgecolor='none', pad=1.5, alpha=0.7))


def _true_labels(sample: dict) -> np.ndarray:
    return sample['data_samples'].gt_sem_seg.data[0].numpy()


def _found_labels(model: torch.nn.Module, sample: dict) -> np.ndarray:
    with torch.no_grad():
        found = model.test_step(pseudo_collate([sample]))[0].pred_sem_seg.data[0].numpy()
    # Pixels without a label do not count in mmseg's metrics, so they are not shown.
    truth = _true_labels(sample)
    return np.where(truth == IGNORED, IGNORED, found)


def _draw_labels(axes: Any, image: Any, labels: np.ndarray, metainfo: Dict[str, Any]) -> None:
    colours = np.zeros((256, 3), dtype=np.uint8)
    colours[:len(metainfo['palette'])] = metainfo['palette']
    size = labels.shape[1], labels.shape[0]  # labels have the size of the file
    shown = np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize(size))
    axes.imshow((0.3 * shown + 0.7 * colours[labels]).astype(np.uint8))


def _draw_legend(figure: Any, labels: Sequence[np.ndarray], metainfo: Dict[str, Any]) -> float:
    """Colours of the classes that occur; returns the height they take, as a share of the whole."""
    occurring = sorted({int(one) for image in labels for one in np.unique(image)} - {IGNORED})
    figure.legend(
        handles=[Patch(color=np.array(metainfo['palette'][i]) / 255, label=metainfo['classes'][i])
                 for i in occurring],
        loc='lower center', ncols=6, frameon=False)
    return 0.8 / figure.get_figheight()
