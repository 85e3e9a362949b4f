"""Draw the soft decision tree of a trained model.

    python tools/draw_tree.py configs/soft_tree/tree.py work_dirs/tree/iter_400.pth --out tree.png

Each node shows patches of validation images: those that come to it and most surely go to the left
and to the right. With --filter-shape, for a tree on pixels, it shows its filter. Each leaf shows
the probabilities of the classes, the share of all patches that ends there, and patches that do.
"""
import argparse
import os
from typing import Any, Dict, List, Tuple

import numpy as np
import torch
from command import Parser, run
from common import Options, check_checkpoint, read_config
from mmengine.registry import DATASETS, DefaultScope
from torch import Tensor, nn
from tqdm import tqdm
from tree_plots import Patches, plot_tree

from mmkd import SoftTree
from mmkd.core.build import build_model
from mmkd.files.checkpoint import read_checkpoint
from mmkd.files.classes import classes_of_config
from mmkd.files.fit import load_exactly
from mmkd.students.soft_tree import Routes


def parse_args() -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config of the model, distilled or not')
    parser.add_argument('checkpoint', help='its weights')
    parser.add_argument('--out', default='tree.png', help='file of the picture')
    parser.add_argument('--layer', help='path of the tree in the model, if there are several')
    parser.add_argument('--images', type=int, default=40, help='how many validation images')
    parser.add_argument('--side', type=int, default=32,
                        help='height and width of the patch around a position of a map, in pixels')
    parser.add_argument('--filter-shape', type=int, nargs=3, metavar=('C', 'H', 'W'),
                        help='show the filters as images of this shape')
    parser.add_argument('--cfg-options', nargs='+', action=Options, default={},
                        help='override settings of the config, as in tools/train.py')
    args = parser.parse_args()
    check_checkpoint(args.checkpoint, 'CHECKPOINT')
    return args


def main() -> None:
    args = parse_args()
    config = read_config(args.config)
    config.merge_from_dict(args.cfg_options)
    model = build_model(config.model, 'model', config.default_scope)
    model = getattr(model, 'student', model)
    load_exactly(model, read_checkpoint(args.checkpoint, whose='model'), args.checkpoint)
    tree = find_tree(model, args.layer)
    with DefaultScope.overwrite_default_scope(config.default_scope):
        dataset = DATASETS.build(config.val_dataloader.dataset)
        classes = [*(classes_of_config(config) or ())]
    classes += ['background'] * (tree.num_classes - len(classes))
    routes, patches = observe(model.eval(), tree, dataset, args.images, args.side)
    plot_tree(tree, classes, args.out, routes, patches,
              tuple(args.filter_shape) if args.filter_shape else None)
    print(f'{os.path.abspath(args.out)}: {2**tree.depth} leaves, {len(patches.places)} patches of '
          f'{len(patches.images)} images')


def find_tree(model: nn.Module, path: Any) -> SoftTree:
    """The tree of a model.

    Raises:
        ValueError: If there is none, or several and no path.
    """
    found = {name: one for name, one in model.named_modules() if isinstance(one, SoftTree)}
    if path is not None and path not in found:
        raise ValueError(f'--layer {path} is not a soft tree; the soft trees of the model are '
                         f'{list(found) or "none"}')
    if path is None and len(found) != 1:
        raise ValueError(f'the model has {len(found)} soft trees; ' + (
            f'choose one by --layer: {", ".join(found)}' if found else
            "build its head by type='mmkd.SoftTreeHead'"))
    return found[path] if path else next(iter(found.values()))


@torch.no_grad()
def observe(model: Any, tree: SoftTree, dataset: Any, count: int,
            side: int) -> Tuple[Routes, Patches]:
    """What the tree is given for images spread evenly over a data set."""
    seen: Dict[str, List[Tensor]] = dict(features=[], rois=[])
    handles = [tree.register_forward_pre_hook(lambda _, given: seen['features'].append(given[0]))]
    extractor = getattr(getattr(model, 'roi_head', None), 'bbox_roi_extractor', None)
    if isinstance(extractor, nn.Module):
        handles.append(extractor.register_forward_pre_hook(
            lambda _, given: seen['rois'].append(given[1])))
    count = min(count, len(dataset))
    routes, places, images = [], [], []
    for number in tqdm(range(count), ncols=80):
        sample = dataset[number * len(dataset) // count]
        for calls in seen.values():
            calls.clear()
        batch = dict(inputs=[sample['inputs']], data_samples=[sample['data_samples']])
        model.test_step(batch)
        features, = seen['features'][:1]
        routes.append(tree.routes(features))
        picture = sample['inputs'].permute(1, 2, 0).numpy()
        images.append(np.ascontiguousarray(picture[..., ::-1]))  # mmdet and mmseg read BGR
        places.append(places_of(features, seen['rois'], picture.shape[:2], side, number))
    for handle in handles:
        handle.remove()
    return Routes(*(torch.cat(one) for one in zip(*routes))), Patches(
        images, np.concatenate(places))


def places_of(features: Tensor, rois: List[Tensor], size: Tuple[int, int], side: int,
              number: int) -> np.ndarray:
    """Number of the image and the box of each row."""
    height, width = size
    if features.dim() == 4:  # positions of a map, row by row
        y, x = np.mgrid[:features.shape[2], :features.shape[3]]
        y = (y.ravel() + 0.5) * height / features.shape[2]
        x = (x.ravel() + 0.5) * width / features.shape[3]
        boxes = np.stack([x - side / 2, y - side / 2, x + side / 2, y + side / 2], 1)
    elif rois and len(rois[-1]) == len(features):
        boxes = rois[-1][:, 1:].cpu().numpy()
    else:
        boxes = np.tile([0, 0, width, height], (len(features), 1))
    boxes = boxes.round().clip(0, [width, height, width, height])
    return np.concatenate([np.full((len(boxes), 1), number), boxes], 1).astype(int)


if __name__ == '__main__':
    run(main)
