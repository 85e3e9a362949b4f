"""Label images by a trained model: its predictions become annotations for a student.

    python tools/label.py TEACHER.py TEACHER.pth IMAGES --out labels --score-thr 0.5

IMAGES is a folder, a .txt file with a path in each line, or a config, whose training images are
labelled. A detector of mmdet writes labels/annotations.json, which CocoDataset reads, with a score
in each annotation; a segmentor of mmseg writes a PNG of train ids for each image into
labels/labels/, 255 where no class reaches its threshold. Beside them are provenance.json,
summary.json and the pictures sheet.png. A killed run continues when it is started again.
"""
import argparse
import json
import os
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import torch
from command import Parser, run
from common import Options, check_checkpoint, read_config
from fingerprint import digest, digest_of_config
from label_checks import ask_for, check_kind, note_own_threshold, of_all, thresholds_in
from label_files import (
    Progress,
    coco_of,
    record_of_boxes,
    record_of_pixels,
    shown,
    summary_of,
    write_map,
    write_whole,
)
from label_images import Images, find_images, pipeline_of, warn_of_overlap
from label_sheet import plot_labels
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.registry import DefaultScope
from torch.utils.data import DataLoader
from tqdm import tqdm

from mmkd.core.build import build_model
from mmkd.data.pixel_scores import IGNORED, scoring_of
from mmkd.data.pseudo_labels import Selection, no_label, truth_of
from mmkd.files.checkpoint import load_hashed
from mmkd.files.classes import classes_of_checkpoint, classes_of_config
from mmkd.files.fit import load_exactly
from mmkd.files.labels import zero_labels_of_config
from mmkd.networks.frozen import model_config
from mmkd.networks.predicting import own_threshold
from mmkd.networks.prompts import for_teaching
from mmkd.points import TextDetector
from mmkd.points.prompt import add_prompt

MOST_WITHOUT = 200
"""Consecutive images without labels after which the tool warns."""
SHEET = 12
"""Images of the contact sheet."""
KEPT = 'the labels so far are kept, run it again to go on'


def parse_args() -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config of the model: a path, or package::path')
    parser.add_argument('checkpoint', help='its weights')
    parser.add_argument('images', help='a folder, a .txt file of paths, or a config')
    parser.add_argument('--out', required=True, help='folder of the labels')
    parser.add_argument('--score-thr', nargs='+', default=['0.5'], metavar='THR',
                        help='the least score: a number, or CLASS=NUMBER for each class; 0.5 by '
                        'default')
    parser.add_argument('--ignore-thr', type=float, help='instances from this score to the '
                        'threshold are ignored in training (iscrowd), not background')
    parser.add_argument('--per-class', type=int, help='the most instances of a class in an image')
    parser.add_argument('--min-size', type=float, default=1., help='the least width and height of '
                        'a box in pixels')
    parser.add_argument('--classes', nargs='+', metavar='CLASS', help='write only these classes; '
                        'for a model with a text prompt, any class names')
    parser.add_argument('--prompts', nargs='+', metavar='TEXT', help='for a model with a text '
                        'prompt (Grounding DINO, GLIP): a text for each class, or CLASS=TEXT')
    parser.add_argument('--against', metavar='CONFIG', help='warn of images that are in a data set '
                        'of this config, too')
    parser.add_argument('--batch-size', type=int, default=8)
    parser.add_argument('--num-workers', type=int, default=2)
    parser.add_argument('--device', help='cuda if there is one, by default')
    parser.add_argument('--cfg-options', nargs='+', action=Options, default={},
                        help='override settings of the config, as in tools/train.py')
    args = parser.parse_args()
    if args.batch_size < 1 or args.num_workers < 0:
        parser.error('--batch-size is 1 or more, and --num-workers 0 or more')
    return args


def main() -> None:
    args = parse_args()
    selection = Selection(thresholds_in(args.score_thr), args.per_class, args.ignore_thr,
                          args.min_size)
    check_checkpoint(args.checkpoint, 'the checkpoint')
    config = read_config(args.config)
    config.merge_from_dict(dict(args.cfg_options))
    root, names = find_images(args.images)
    with DefaultScope.overwrite_default_scope(config.get('default_scope')):
        loaded = load_hashed(args.checkpoint, whose='model')
        classes = classes_of_checkpoint(loaded.checkpoint) or classes_of_config(config)
        model = build_model(for_teaching(model_config(config)), 'model',
                            config.get('default_scope'))
        check_kind(model, selection, names)
        is_asked = TextDetector.fits(model)
        if is_asked:
            classes, args.classes = args.classes or classes, None
        if not classes:
            raise SystemExit(
                f'neither {args.checkpoint} nor {args.config} names the classes of the model; ' + (
                    'write --classes with the names to ask for, such as --classes car "traffic '
                    'light"' if is_asked else 'write them into `metainfo` of its train_dataloader'))
        selection = of_all(selection, classes, args.classes)
        kept = [label for label, name in enumerate(classes)
                if args.classes is None or name in args.classes]
        prompts = ask_for(model, classes, args.prompts)
        load_exactly(model, loaded.checkpoint, args.checkpoint)
        progress = Progress(args.out, dict(
            selection.settings(), config=args.config, config_hash=digest_of_config(config)[:16],
            checkpoint=loaded.name, checkpoint_hash=loaded.digest, classes=classes,
            written=[classes[label] for label in kept], root=root, **prompts,
            images=f'{len(names)}, {digest(chr(10).join(names))}'))
        if progress.is_finished:
            print(f'{args.out} is finished: {len(names)} images were labelled with these settings' +
                  (f'; {progress.unreadable} of them could not be read (summary.json): to label '
                   'them, write the files again, and give a new --out' if progress.unreadable
                   else ''))
            return
        own = own_threshold(model, 'model.student' if 'student' in config.model else 'model')
        note_own_threshold(own, selection)
        if args.against:
            warn_of_overlap(args.against, root, names)
        is_reduced = any(one.is_reduced for one in zero_labels_of_config(config))
        label(args, model, config, root, names, classes, kept, selection, progress, is_reduced,
              own)
        finish(args, root, names, classes, kept, progress, is_reduced, own)


# --- prediction -----------------------------------------------------------------------------------


def label(args: argparse.Namespace, model: Any, config: Config, root: str, names: Sequence[str],
          classes: Sequence[str], kept: Sequence[int], selection: Selection, progress: Progress,
          is_reduced: bool, own: Optional[Tuple[str, float]]) -> None:
    """Predict all images that have no record yet, and keep a record of each."""
    device = args.device or get_device()
    model = model.to(device).eval()
    scoring = scoring_of(model)
    done = {record['name'] for record in progress.records}
    images = Images(root, [name for name in names if name not in done],
                    pipeline_of(config))
    loader = DataLoader(images, args.batch_size, num_workers=args.num_workers, collate_fn=list)
    in_a_row, highest, is_said = 0, 0., False
    with torch.no_grad(), tqdm(total=len(names), initial=len(done), unit='image', ncols=100,
                               desc='labelling') as bar:
        for batch in loader:
            for name, record, labels in records_of(batch, model, classes, kept, selection, scoring):
                if labels is not None:
                    progress.begin()  # so that no other files are in the folder before
                    write_map(os.path.join(args.out, 'labels'), name, labels, is_reduced)
                progress.add(dict(record, name=name))
                in_a_row = 0 if record.get('has_labels') else in_a_row + 1
                highest = max(record.get('highest', 0.), highest if in_a_row else 0.)
                if in_a_row == MOST_WITHOUT and not is_said:
                    is_said = True
                    why = no_label(highest, selection.score_thr, own, '--score-thr')
                    bar.write(f'WARNING: no prediction has become a label in {MOST_WITHOUT} images '
                              f'in a row; {why}')
                bar.update()


def records_of(batch: Sequence[Any], model: Any, classes: Sequence[str], kept: Sequence[int],
               selection: Selection, scoring: str) -> Iterator[
                   Tuple[str, Dict[str, Any], Optional[np.ndarray]]]:
    """Names, records and label maps of a batch. Images of different sizes are predicted apart:
    mmseg stacks none."""
    groups: Dict[Any, List[Any]] = {}
    in_parts = (getattr(model, 'test_cfg', None) or {}).get('chunked_size', -1) > 0
    for name, image in batch:
        if image is None:
            yield name, dict(unreadable=True), None
        else:
            inputs = image['inputs']  # a list with test-time augmentation
            is_alone = in_parts or not isinstance(inputs, torch.Tensor)
            shape = name if is_alone else tuple(inputs.shape)
            groups.setdefault(shape, []).append((name, image))
    for group in groups.values():
        collated = pseudo_collate([image for _, image in group])
        for one in collated['data_samples']:  # a list with test-time augmentation
            add_prompt(model, one if isinstance(one, (list, tuple)) else [one])
        found = model.test_step(collated)
        for (name, _), prediction in zip(group, found):
            truth = truth_of(prediction, selection, classes, scoring)
            if 'gt_instances' in truth:
                scores = prediction.pred_instances.scores.cpu().numpy()
                yield name, record_of_boxes(truth, scores, kept), None
                continue
            labels = truth.gt_sem_seg.data[0]
            labels[~torch.isin(labels, labels.new_tensor(kept))] = IGNORED
            labels = labels.cpu().numpy()
            scores = truth.gt_sem_seg_scores.data[0].cpu().numpy()
            yield name, record_of_pixels(labels, scores), labels


def finish(args: argparse.Namespace, root: str, names: Sequence[str], classes: Sequence[str],
           kept: Sequence[int], progress: Progress, is_reduced: bool,
           own: Optional[Tuple[str, float]]) -> None:
    """Write annotations, summary and sheet."""
    place = {name: number for number, name in enumerate(names)}
    records = sorted(progress.records, key=lambda record: place[record['name']])
    skipped = [record['name'] for record in records if record.get('unreadable')]
    records = [record for record in records if not record.get('unreadable')]
    for name in skipped[:5]:
        print(f'WARNING: {os.path.join(root, name)} cannot be read as an image; it is left out')
    if not records:
        raise SystemExit(f'none of the {len(names)} images in {root} can be read; write the files '
                         'again, or give other images, and run the command again')
    if 'annotations' in records[0]:
        write_whole(os.path.join(args.out, 'annotations.json'),
                    json.dumps(coco_of(records, classes, kept)))
    summary = summary_of(records, skipped, classes, kept)
    write_whole(os.path.join(args.out, 'summary.json'), json.dumps(summary, indent=1))
    step = max(1, len(records) // SHEET)
    plot_labels(root, os.path.join(args.out, 'labels'), records[::step][:SHEET], classes,
                is_reduced, os.path.join(args.out, 'sheet.png'))
    progress.finish(reduce_zero_label=is_reduced, unreadable=len(skipped))
    highest = max(record['highest'] for record in records)
    note = None if summary['without_labels'] < len(records) else (
        'WARNING: no image has labels; ' +
        no_label(highest, progress.settings['score_thr'], own, '--score-thr'))
    print(shown(summary, note))
    print(f'Labels, summary.json and sheet.png are in {args.out}')


if __name__ == '__main__':
    run(main, KEPT)
