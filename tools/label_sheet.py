"""The contact sheet of tools/label.py: some images with the labels that were written."""
from typing import Any, Dict, Sequence

import matplotlib
import numpy as np
from label_files import map_name
from PIL import Image

from mmkd.data.pixel_scores import IGNORED

matplotlib.use('Agg')
import os

from matplotlib import pyplot as plt
from matplotlib.patches import Patch, Rectangle
from pycocotools import mask as rle

COLUMNS = 4


def plot_labels(root: str, folder: str, records: Sequence[Dict[str, Any]], classes: Sequence[str],
                is_reduced: bool, path: str) -> None:
    """Draw the labels of some images.

    Args:
        root (str): Folder of the images.
        folder (str): Folder of the label maps.
        records (Sequence[dict]): Of the images, as tools/label.py keeps them.
        classes (Sequence[str]): Names of the labels.
        is_reduced (bool): Whether 0 is ignored in the label maps.
        path (str): The picture.
    """
    rows = -(-len(records) // COLUMNS)
    figure, axes = plt.subplots(rows, COLUMNS, squeeze=False, figsize=(3.2 * COLUMNS,
                                                                       2.7 * rows + 0.6))
    occurring = set()
    for place in axes.flat:
        place.axis('off')
    for place, record in zip(axes.flat, records):
        with Image.open(os.path.join(root, record['name'])) as image:
            pixels = np.asarray(image.convert('RGB'))
        if 'annotations' in record:
            place.imshow(pixels)
            for one in record['annotations']:
                occurring.add(one['category_id'] - 1)
                draw(place, one)
        else:
            with Image.open(os.path.join(folder, map_name(record['name']))) as image:
                labels = np.asarray(image).astype(int)
            if is_reduced:
                labels = np.where(labels == 0, IGNORED, labels - 1)
            is_label = labels != IGNORED
            occurring |= set(np.unique(labels[is_label]).tolist())
            table = np.array([colour_of(label)[:3] for label in range(IGNORED)] + [(0, 0, 0)])
            colours = 255 * table[labels]
            grey = np.asarray(Image.fromarray(pixels).resize(labels.shape[::-1]))
            place.imshow((0.4 * grey + 0.6 * colours).astype(np.uint8))
        place.set_title(os.path.basename(record['name']), fontsize=6)
    if occurring:
        figure.legend(handles=[Patch(color=colour_of(label), label=classes[label])
                               for label in sorted(occurring)][:24],
                      loc='lower center', ncols=8, frameon=False, fontsize=8)
    figure.tight_layout(rect=(0, 0.6 / figure.get_figheight(), 1, 1))
    figure.savefig(path, dpi=100)
    plt.close(figure)


def draw(axes: Any, annotation: Dict[str, Any]) -> None:
    """Draw a box with its score; dashed if it is ignored."""
    left, top, width, height = annotation['bbox']
    colour = colour_of(annotation['category_id'] - 1)
    axes.add_patch(Rectangle((left, top), width, height, fill=False, edgecolor=colour,
                             linestyle='--' if annotation['iscrowd'] else '-', linewidth=1.3))
    if 'score' in annotation:
        axes.text(left, top - 1, f'{annotation["score"]:.2f}', fontsize=5, color='white',
                  va='bottom', clip_on=True, bbox=dict(facecolor=colour, edgecolor='none', pad=0.5))
    if 'segmentation' in annotation:
        shape = rle.decode(annotation['segmentation'])
        axes.imshow(np.dstack([np.broadcast_to(colour[:3], (*shape.shape, 3)), 0.5 * shape]))


def colour_of(label: int) -> Any:
    """Colour of a class: ten dark ones, which show on any image, ten light ones, then again."""
    return plt.get_cmap('tab20')(label % 10 * 2 + label // 10 % 2)
