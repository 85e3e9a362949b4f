"""The pictures of tools/compare.py: learning curves, and detections side by side."""
from statistics import mean
from typing import Any, Dict, List, Sequence, Tuple

import matplotlib
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, MODELS, DefaultScope
from PIL import Image

from mmkd.checkpoint import load_exactly, read_checkpoint

matplotlib.use('Agg')
from matplotlib import pyplot as plt
from matplotlib.patches import Rectangle

Boxes = List[Tuple[Sequence[float], str, float]]
SCORE_THRESHOLD = 0.3


def plot_curves(runs: Dict[str, List[Dict[str, Any]]], titles: Dict[str, str], path: str) -> None:
    """AP on the validation set over epochs: mean of the seeds, with the range between them."""
    figure, axes = plt.subplots(figsize=(7, 4.5))
    for name, results in runs.items():
        curves = [result['curve'] for result in results]
        if not curves[0]:
            continue
        epochs = [epoch for epoch, _ in curves[0]]
        scores = [[score for _, score in curve] for curve in curves]
        if name == 'teacher':
            axes.axhline(scores[0][-1], color='grey', linestyle='--',
                         label=f'teacher, after {epochs[-1]} epochs')
            continue
        line, = axes.plot(epochs, [mean(s) for s in zip(*scores)], marker='o', label=titles[name])
        if len(scores) > 1:
            axes.fill_between(epochs, [min(s) for s in zip(*scores)],
                              [max(s) for s in zip(*scores)], color=line.get_color(), alpha=0.2)
    axes.set(xlabel='epoch', ylabel='AP (validation)')
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def plot_sheet(models: Sequence[Tuple[str, Dict[str, Any]]], rows: int, path: str) -> None:
    """Images spread evenly over the validation set: ground truth, then each model's detections."""
    config = Config.fromfile(models[0][1]['config'])
    with DefaultScope.overwrite_default_scope(config.default_scope):
        dataset = DATASETS.build(config.val_dataloader.dataset)
        samples = [dataset[i * len(dataset) // rows] for i in range(rows)]
        columns = [('ground truth', [_true_boxes(sample) for sample in samples])]
        for title, run in models:
            model = _load(run)
            columns.append((title, [_found_boxes(model, sample) for sample in samples]))
    height, width = samples[0]['inputs'].shape[1:]
    figure, axes = plt.subplots(
        rows, len(columns), squeeze=False,
        figsize=(3.2 * len(columns), 3.2 * rows * height / width + 0.6))
    for column, (title, boxes) in enumerate(columns):
        axes[0][column].set_title(
            title if column == 0 else f'{title}\n(scores above {SCORE_THRESHOLD})')
        for row, sample in enumerate(samples):
            image = sample['inputs'].permute(1, 2, 0).numpy()[..., ::-1]
            _draw(axes[row][column], image, boxes[row], dataset.metainfo['classes'])
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    with Image.open(path) as image:  # 256 colours: a third of the size, and looks the same
        image.convert('RGB').quantize(256).save(path, optimize=True)
    plt.close(figure)


def _load(run: Dict[str, Any]) -> torch.nn.Module:
    """The shipped model alone: a distilled checkpoint fits its plain student's config exactly."""
    config = Config.fromfile(run['config'])
    model = MODELS.build(config.model.get('student', config.model)).eval()
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


def _draw(axes: Any, image: Any, boxes: Boxes, classes: Sequence[str]) -> None:
    axes.imshow(image)
    axes.axis('off')
    for (left, top, right, bottom), label, score in boxes:
        colour = plt.get_cmap('tab10')(int(label) % 10)
        axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False,
                                 edgecolor=colour, linewidth=1.5))
        text = classes[int(label)] + (f' {score:.1f}' if score < 1 else '')
        axes.text(left, top - 1, text, fontsize=6, color='white', va='bottom', clip_on=True,
                  bbox=dict(facecolor=colour, edgecolor='none', pad=0.8))
