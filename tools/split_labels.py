"""Split a training set: labels for a share of the images, the rest without labels.

    python tools/split_labels.py configs/bccd/student.py --out splits --shares 10 25

For a detector it writes splits/labelled_10.json and splits/unlabelled_10.json (COCO, the latter
without annotations), for a segmentor the lists splits/labelled_10.txt and splits/unlabelled_10.txt,
which mmseg reads as `ann_file`. The images of a smaller share are among those of a larger one. The
same seed gives the same split.
"""
import argparse
import json
import os
import random
from typing import Any, Dict, List, Sequence

from command import Parser, run
from common import Options, read_config
from label_files import write_whole
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmkd.core.missing import looked_for
from mmkd.core.names import joined


def parse_args() -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config whose training set is split')
    parser.add_argument('--out', required=True, help='folder of the lists')
    parser.add_argument('--shares', type=percentage, nargs='+', default=[10, 25], metavar='PERCENT',
                        help='images that keep their labels, in per cent; 10 and 25 by default')
    parser.add_argument('--seed', type=int, default=0, help='of the random order; 0 by default')
    parser.add_argument('--cfg-options', nargs='+', action=Options, default={},
                        help='override settings of the config, as in tools/train.py')
    return parser.parse_args()


def percentage(text: str) -> float:
    """Read a value of `--shares`; one below 1 needs a sign, as it may be meant as a fraction.

    Raises:
        argparse.ArgumentTypeError: If it is no number between 0 and 100.
    """
    try:
        share = float(text.removesuffix('%'))
    except ValueError:
        share = 0
    if 0 < share < 1 and not text.endswith('%'):
        raise argparse.ArgumentTypeError(
            f'{text!r} may be a fraction or a percentage; write {100 * share:g} for that fraction '
            f'of the images, or {text}% for less than one image in a hundred')
    if not 0 < share < 100:
        raise argparse.ArgumentTypeError(
            f'{text!r} is not a percentage greater than 0 and less than 100; write for instance '
            '10 for a tenth of the images')
    return share


def main() -> None:
    args = parse_args()
    config = read_config(args.config)
    config.merge_from_dict(dict(args.cfg_options))
    entry = (config.get('train_dataloader') or {}).get('dataset') or {}
    while 'dataset' in entry and 'type' in entry:
        entry = entry['dataset']
    ann_file = os.path.join(entry.get('data_root') or '', entry.get('ann_file') or '')
    if ann_file.endswith('.json'):
        split_coco(args, ann_file)
    elif config.get('default_scope') == 'mmseg' and 'type' in entry:
        split_maps(args, config, entry)
    else:
        raise SystemExit(f'the training set of {args.config}, {entry.get("type", "none")}, has no '
                         "annotation file in COCO's format, and is not a data set of mmseg; use a "
                         'config with one of these')


def split_coco(args: argparse.Namespace, path: str) -> None:
    """Write annotation files. Categories, and so the numbers of the classes, stay as they are."""
    if not os.path.isfile(path):
        raise SystemExit(f'no annotation file at {path} {looked_for(path)}; check '
                         'data_root and ann_file of the config')
    with open(path, encoding='utf-8') as file:
        content = json.load(file)
    if not content['images']:
        raise SystemExit(f'{path} lists no images; check ann_file of the config')
    names = {category['id']: category['name'] for category in content['categories']}
    for share, chosen in shares_of(sorted(image['id'] for image in content['images']), args):
        ids = set(chosen)
        labelled = dict(
            content, images=[one for one in content['images'] if one['id'] in ids],
            annotations=[one for one in content['annotations'] if one['image_id'] in ids])
        rest = dict(content, annotations=[],
                    images=[one for one in content['images'] if one['id'] not in ids])
        for kind, part in (('labelled', labelled), ('unlabelled', rest)):
            write_whole(os.path.join(args.out, f'{kind}_{share:g}.json'), json.dumps(part))
        counts = dict.fromkeys(names.values(), 0)
        for one in labelled['annotations']:
            counts[names[one['category_id']]] += 1
        tell(args, share, len(ids), len(rest['images']), counts)


def split_maps(args: argparse.Namespace, config: Config, entry: Dict[str, Any]) -> None:
    """Write lists of images without suffix, as mmseg's data sets read them."""
    from label_images import dataset_of
    with DefaultScope.overwrite_default_scope('mmseg'):
        dataset = dataset_of(Config(dict(train_dataloader=dict(dataset=entry))), 'train')
    folder, suffix = dataset.data_prefix['img_path'], dataset.img_suffix
    names = [os.path.relpath(dataset.get_data_info(number)['img_path'], folder)[:-len(suffix)]
             for number in range(len(dataset))]
    if not names:
        raise SystemExit(f'{folder} contains no image with the suffix {suffix}; check data_root '
                         'and data_prefix of the config')
    for share, chosen in shares_of(sorted(names), args):
        rest = sorted(set(names) - set(chosen))
        for kind, part in (('labelled', sorted(chosen)), ('unlabelled', rest)):
            write_whole(os.path.join(args.out, f'{kind}_{share:g}.txt'),
                        ''.join(f'{name}\n' for name in part))
        tell(args, share, len(chosen), len(rest), {})


def shares_of(images: Sequence[Any], args: argparse.Namespace) -> List[Any]:
    """Shares and their images: the first ones of one random order.

    Raises:
        SystemExit: If a share has no image, or all images, before anything is written.
    """
    order = list(images)
    random.Random(args.seed).shuffle(order)
    counts = {share: round(len(order) * share / 100) for share in sorted(set(args.shares))}
    for share, count in counts.items():
        if not 0 < count < len(order):
            left = 'with labels' if not count else 'without labels'
            raise SystemExit(
                f'--shares {share:g}: {share:g} % of the {len(order)} images of {args.config} are '
                f'{count} images, so no image {left} is left; write a percentage from '
                f'{min(50, 100 / max(len(order), 1)):.2g} to '
                f'{max(50, 100 - 100 / max(len(order), 1)):.4g}')
    return [(share, order[:count]) for share, count in counts.items()]


def tell(args: argparse.Namespace, share: float, count: int, rest: int,
         counts: Dict[str, int]) -> None:
    print(f'{share:g} %: {count} images with labels, {rest} without, in {args.out}' +
          (f'; {joined(f"{name} {number}" for name, number in counts.items())}' if counts else ''))
    missing = [name for name, number in counts.items() if not number]
    if missing:
        print(f'WARNING: this share has no label of {joined(missing)}, which a model then cannot '
              'learn; use another --seed or a larger share')


if __name__ == '__main__':
    run(main)
