"""The picture of a soft decision tree."""
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

import cv2
import matplotlib
import numpy as np
from PIL import Image
from torch import Tensor

from mmkd import SoftTree
from mmkd.students.soft_tree import Routes

matplotlib.use('Agg')
from matplotlib import pyplot as plt

EACH = 4
"""Patches of a node on each side, and of a leaf; a square number."""
LARGEST = 64
"""Height and width of a patch in the picture, in pixels."""


class Patches(NamedTuple):
    """Where the rows that a tree classified are in images."""
    images: List[np.ndarray]
    """Each (H, W, 3), RGB."""
    places: np.ndarray
    """Whole numbers (M, 5): number of the image, x1, y1, x2, y2."""


def plot_tree(tree: SoftTree, classes: Sequence[str], path: str, routes: Optional[Routes] = None,
              patches: Optional[Patches] = None,
              filter_shape: Optional[Tuple[int, ...]] = None) -> None:
    """Draw the nodes from the root to the leaves.

    A node shows its filter, or the patches that come to it and most surely go to the left and to
    the right. A leaf shows its distribution. Lines are as wide as the share of rows that takes
    them.

    Args:
        tree (SoftTree): The tree.
        classes (Sequence[str]): Names of its classes.
        path (str): File of the picture.
        routes (Routes, optional): Probabilities of rows. Defaults to None, lines of equal width.
        patches (Patches, optional): The same rows in images. Defaults to None.
        filter_shape (tuple[int], optional): (C, H, W) of the filters, to show them as images.
            Defaults to None.
    """
    leaves, depth = 2**tree.depth, tree.depth
    width = max(8., 0.9 * leaves)
    figure = plt.figure(figsize=(width, 2. * (depth + 1) + 1.))
    canvas = figure.add_axes((0, 0, 1, 1))
    canvas.set(xlim=(0, leaves), ylim=(-1.2, depth + 0.6))
    canvas.axis('off')
    inner = 2**depth - 1
    shares = None if routes is None else [*routes.nodes.mean(0).tolist(),
                                          *routes.leaves.mean(0).tolist()]

    def centre(number: int) -> Tuple[float, float]:
        level = (number + 1).bit_length() - 1
        place = number + 1 - 2**level
        return (place + 0.5) * leaves / 2**level, depth - level

    for number in range(inner):
        for child in (2 * number + 1, 2 * number + 2):
            share = 0.3 if shares is None else shares[child]
            canvas.plot(*zip(centre(number), centre(child)), color='0.6', zorder=0,
                        linewidth=0.5 + 12 * share)
    extent = canvas.get_xlim()[1], canvas.get_ylim()[1] - canvas.get_ylim()[0]

    def box(x: float, y: float, wide: float, high: float) -> Any:
        """Axes around a point, in the coordinates of the canvas."""
        return figure.add_axes(((x - wide / 2) / extent[0], (y + 1.2 - high / 2) / extent[1],
                                wide / extent[0], high / extent[1]))

    for number in range(inner):
        x, y = centre(number)
        if filter_shape is not None:
            show(box(x, y, 1.6, 0.7), as_picture(tree.filters[number], filter_shape))
        elif routes is not None and patches is not None:
            come, right = routes.nodes[:, number], routes.right[:, number]
            for side, weight in ((-0.45, come * (1 - right)), (0.45, come * right)):
                axes = box(x + side, y, 0.84, 0.42)
                show(axes, mosaic(patches, weight))
                axes.set_title('left' if side < 0 else 'right', fontsize=8, pad=2)
    for leaf, distribution in enumerate(tree.distributions.tolist()):
        x, _ = centre(inner + leaf)
        best = int(np.argmax(distribution))
        share = '' if shares is None else f'\n{100 * shares[inner + leaf]:.1f} %'
        bars = box(x, -0.15, 0.82, 0.35)
        bars.bar(range(len(classes)), distribution,
                 color=[f'C{k % 10}' for k in range(len(classes))])
        bars.set(ylim=(0, 1), xticks=[], yticks=[])
        bars.set_title(f'{classes[best]}: {distribution[best]:.2f}{share}', fontsize=7, pad=2)
        if routes is not None and patches is not None:
            show(box(x, -0.6, 0.82, 0.42), mosaic(patches, routes.leaves[:, leaf]))
    if len(classes) <= 20:
        handles = [plt.Rectangle((0, 0), 1, 1, color=f'C{k % 10}') for k in range(len(classes))]
        canvas.legend(handles, classes, ncol=len(classes), loc='lower center', fontsize=8,
                      frameon=False)
    figure.savefig(path, dpi=80)
    plt.close(figure)
    with Image.open(path) as image:  # 256 colours: a third of the size, and looks the same
        image.convert('RGB').quantize(256).save(path, optimize=True)


def show(axes: Any, picture: np.ndarray) -> None:
    axes.imshow(picture, interpolation='nearest')
    axes.set(xticks=[], yticks=[])


def as_picture(weights: Tensor, shape: Tuple[int, ...]) -> np.ndarray:
    """A filter as an image: red where a bright pixel leads to the right, blue to the left."""
    values = weights.detach().cpu().reshape(shape).mean(0).numpy()
    scale = np.abs(values).max() or 1.
    return plt.get_cmap('bwr')(0.5 + values / scale / 2)[..., :3]


def mosaic(patches: Patches, weight: Tensor) -> np.ndarray:
    """The patches of most weight, of different images, in a square."""
    chosen: List[int] = []
    seen = set()
    for row in weight.argsort(descending=True)[:50 * EACH].tolist():
        image = patches.places[row, 0]
        if image not in seen:
            seen.add(image)
            chosen.append(row)
        if len(chosen) == EACH:
            break
    side = int(EACH**0.5)
    tiles = [tile(patches, row) for row in chosen]
    tiles += [np.full((LARGEST, LARGEST, 3), 255, np.uint8)] * (EACH - len(tiles))
    return np.concatenate([np.concatenate(tiles[k * side:(k + 1) * side], 1)
                           for k in range(side)], 0)


def tile(patches: Patches, row: int) -> np.ndarray:
    """One patch, (LARGEST, LARGEST, 3)."""
    number, x1, y1, x2, y2 = patches.places[row].tolist()
    image = patches.images[number]
    height, width = image.shape[:2]
    x1, y1 = max(min(x1, width - 1), 0), max(min(y1, height - 1), 0)
    patch = image[y1:max(y2, y1 + 1), x1:max(x2, x1 + 1)]
    return cv2.resize(patch, (LARGEST, LARGEST), interpolation=cv2.INTER_AREA)
