"""Cross-fitting: train teachers that each leave out one part of the images, which they then teach.

    python tools/folds.py configs/bccd/teacher.py --folds 3 \\
        --student configs/bccd/student.py --work-dir work_dirs/bccd_folds
    python tools/train.py work_dirs/bccd_folds/cross_fit.py

The training set is split into folds. Teacher k is trained without fold k. The tool writes into the
work dir: the annotation files, a config and a folder for each teacher, `folds.json` with the split
and the SHA-256 of the weights, and `cross_fit.py`, a config in which mmkd.CrossFit teaches the
student with --method, by default the recommended one. Run the same command again to continue:
finished teachers are kept.
"""
import argparse
import json
import os
import random
import re
from typing import Any, Dict, List, Tuple

from chain import Stage, check_record, last_checkpoint, plain_config, run_chain, write_record
from command import Parser, run
from common import add_common_options, add_method, read_config
from label_files import write_whole
from mmengine.config import Config
from mmengine.registry import DefaultScope
from recommend import Written, method_for
from written import check_edited, write_kept

from mmkd.core.missing import looked_for
from mmkd.files.archive import hash_of_file
from mmkd.files.folds import NAME, Folds, write_folds

Images = Dict[str, Tuple[int, int]]
"""Fold and bytes of each image, by path in the folder of the images."""


def parse_args() -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='plain config of the teachers')
    parser.add_argument('--folds', type=int, default=3, metavar='K',
                        help='number of parts and of teachers; 3 by default')
    parser.add_argument('--student', help='plain config of the student; by default the teachers\'')
    add_method(parser, 'cross_fit.py')
    parser.add_argument('--seed', type=int, default=0, help='of the split; 0 by default')
    parser.add_argument('--group-by', metavar='REGEX', help='images with the same match of this '
                        'expression in their path stay in one fold, for instance the frames of a '
                        'video; by default each image is alone')
    parser.add_argument('--split-only', action='store_true',
                        help='write the split and the configs, and train nothing')
    parser.add_argument('--amp', action='store_true', help='train in automatic mixed precision')
    parser.add_argument('--auto-scale-lr', action='store_true',
                        help='scale the learning rate with the real batch size')
    parser.add_argument('--overwrite', action='store_true', help='retrain teachers that were '
                        'trained with other options; overwrite another split, and an edited '
                        'cross_fit.py')
    add_common_options(parser)
    args = parser.parse_args()
    if args.folds < 2:
        parser.error('--folds must be 2 or more')
    try:
        re.compile(args.group_by or '')
    except re.error as error:
        parser.error(f'--group-by {args.group_by!r} is no regular expression: {error}')
    return args


def main() -> None:
    args = parse_args()
    config = plain_config(args, 'teachers')
    written = os.path.join(args.work_dir, 'cross_fit.py')
    how_to_run = f'tools/train.py {written}'
    check_edited(written, how_to_run, args.overwrite)

    sizes = sizes_of(config, args.config)
    folds = split(sorted(sizes), args.folds, args.seed, args.group_by)
    images = {name: (folds[name], sizes[name]) for name in sorted(sizes)}
    check_split(args, images)
    student = read_config(args.student or args.config)
    method = method_for(student, config, args.method, 'the teachers of a cross-fitting')
    stages = []
    for number in range(args.folds):
        path = os.path.join(args.work_dir, f'fold{number}.py')
        own = without_fold(config, images, number, args.work_dir)
        stages.append(Stage(f'fold{number}', [path], {path: own}))
    tell(images, args.folds)
    if args.split_only:
        if not os.path.isfile(os.path.join(args.work_dir, NAME)):  # it may have its teachers
            write_folds(args.work_dir, images, [], seed=args.seed)
        for stage in stages:
            if not args.overwrite:
                check_record(args, stage, stages)
            write_record(args, stage, stages)
            for path, own in stage.files.items():
                write_kept(path, own.pretty_text, 'folds.py', f'tools/train.py {path}',
                           args.overwrite)
        print(f'Wrote {os.path.join(args.work_dir, NAME)} and a config for each teacher')
        return
    run_chain(args, stages)
    teachers = []
    for stage in stages:
        checkpoint = last_checkpoint(os.path.join(args.work_dir, stage.name))
        teachers.append(dict(config=f'{stage.name}.py', sha256=hash_of_file(checkpoint),
                             checkpoint=os.path.relpath(checkpoint, args.work_dir)))
    write_folds(args.work_dir, images, teachers, seed=args.seed)
    write_kept(written, cross_fit_text(args, student, method), 'folds.py', how_to_run,
               args.overwrite)
    print(f'Wrote {written}, in which they teach with {method.method}' +
          f': {method.reason}' * bool(method.reason))


# --- the split ------------------------------------------------------------------------------------


def training_set(config: Config) -> Any:
    """The innermost data set of the training data in a config.

    Raises:
        SystemExit: If there are several.
    """
    entry = (config.get('train_dataloader') or {}).get('dataset') or {}
    while 'dataset' in entry and 'type' in entry:
        entry = entry['dataset']
    if 'datasets' in entry:
        raise SystemExit(f'the training set is a {entry.get("type")} of several data sets, which '
                         'cannot be split; join their annotation files into one')
    return entry


def sizes_of(config: Config, source: str) -> Dict[str, int]:
    """Bytes of the training images, by path in their folder."""
    entry = training_set(config)
    root = entry.get('data_root') or ''
    prefix = entry.get('data_prefix') or {}
    if str(entry.get('ann_file')).endswith('.json'):
        folder = os.path.join(root, prefix.get('img') or '')
        content = coco_of(entry)
        names = [one['file_name'] for one in content['images']]
    elif config.get('default_scope') == 'mmseg' and 'type' in entry:
        folder, names, _ = maps_of(entry)
    else:
        raise SystemExit(f'the training set of {source}, {entry.get("type", "none")}, has no '
                         "annotation file in COCO's format, and is not a data set of mmseg; use a "
                         'config with one of these')
    missing = [name for name in names if not os.path.isfile(os.path.join(folder, name))]
    if missing or not names:
        raise SystemExit(f'{folder} has no image {missing[0]} '
                         f'{looked_for(os.path.join(folder, missing[0]))}'
                         if missing else f'{folder} has no training images' +
                         '; check data_root and data_prefix of the config')
    return {name: os.path.getsize(os.path.join(folder, name)) for name in names}


def coco_of(entry: Any) -> Dict[str, Any]:
    """The content of an annotation file in COCO's format."""
    path = os.path.join(entry.get('data_root') or '', entry['ann_file'])
    if not os.path.isfile(path):
        raise SystemExit(f'no annotation file at {path} {looked_for(path)}; check '
                         'data_root and ann_file of the config')
    with open(path, encoding='utf-8') as file:
        content: Dict[str, Any] = json.load(file)
    return content


def maps_of(entry: Any) -> Tuple[str, List[str], str]:
    """Folder of the images of a data set of mmseg, their paths in it, and their suffix."""
    from label_images import dataset_of
    with DefaultScope.overwrite_default_scope('mmseg'):
        dataset = dataset_of(Config(dict(train_dataloader=dict(dataset=entry))), 'train')
    folder = dataset.data_prefix['img_path']
    return folder, [os.path.relpath(dataset.get_data_info(number)['img_path'], folder)
                    for number in range(len(dataset))], dataset.img_suffix


def split(names: List[str], count: int, seed: int, group_by: 'str | None' = None
          ) -> Dict[str, int]:
    """Folds of images; groups stay together, and each goes to the smallest fold.

    Raises:
        SystemExit: If there are fewer groups than folds.
    """
    groups: Dict[str, List[str]] = {}
    for name in names:
        found = re.search(group_by, name) if group_by else None
        if group_by and found is None:
            raise SystemExit(f'--group-by {group_by!r} does not match {name}; write an expression '
                             'that matches the path of every image')
        groups.setdefault(found.group(0) if found else name, []).append(name)
    if len(groups) < count:
        raise SystemExit(f'{len(names)} training images in {len(groups)} groups cannot be split '
                         f'into {count} folds; write a smaller --folds')
    order = sorted(groups)
    random.Random(seed).shuffle(order)
    sizes, folds = [0] * count, {}
    for key in sorted(order, key=lambda key: -len(groups[key])):  # of equal ones, in random order
        fold = sizes.index(min(sizes))
        sizes[fold] += len(groups[key])
        folds.update(dict.fromkeys(groups[key], fold))
    return folds


def check_split(args: argparse.Namespace, images: Images) -> None:
    """Refuse a work dir with another split.

    Raises:
        ValueError: If it has one, and ``--overwrite`` is not given.
    """
    if args.overwrite or not os.path.isfile(os.path.join(args.work_dir, NAME)):
        return
    if Folds.read(args.work_dir).images != images:
        raise ValueError(f'{os.path.join(args.work_dir, NAME)} has another split (other images, '
                         '--folds, --seed or --group-by); use another --work-dir, or overwrite it '
                         'by --overwrite')


def without_fold(config: Config, images: Images, number: int, work_dir: str) -> Config:
    """The config of the teacher that is trained without a fold; writes its annotations."""
    own = Config(config.to_dict())
    entry = training_set(own)
    kept = {name for name, (fold, _) in images.items() if fold != number}
    folder = os.path.abspath(os.path.join(work_dir, 'annotations'))
    if str(entry.get('ann_file')).endswith('.json'):
        content = coco_of(entry)
        ids = {one['id'] for one in content['images'] if one['file_name'] in kept}
        text = json.dumps(dict(
            content, images=[one for one in content['images'] if one['id'] in ids],
            annotations=[one for one in content['annotations'] if one['image_id'] in ids]))
        path = os.path.join(folder, f'without_fold{number}.json')
    else:
        suffix = maps_of(entry)[2]
        text = ''.join(f'{name[:-len(suffix)]}\n' for name in sorted(kept))
        path = os.path.join(folder, f'without_fold{number}.txt')
    write_whole(path, text)
    entry.ann_file = path
    return own


def tell(images: Images, count: int) -> None:
    sizes = [sum(fold == number for fold, _ in images.values()) for number in range(count)]
    print(f'{len(images)} training images in {count} folds of {", ".join(map(str, sizes))}; each '
          'teacher is trained without one')


def cross_fit_text(args: argparse.Namespace, student: Config, method: Written) -> str:
    """Text of the config in which the teachers teach the student."""
    return method.text(
        os.path.abspath(args.student or args.config), args.config, student,
        f"dict(type='mmkd.CrossFit', folder={os.path.abspath(args.work_dir)!r})")


if __name__ == '__main__':
    run(main, 'run the same command again: finished teachers are kept')
