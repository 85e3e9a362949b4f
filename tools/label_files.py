"""What tools/label.py writes: records of a run that may be killed, then annotations or label maps.

An output folder has:

    provenance.json      the model, its weights and the settings
    progress.jsonl       a line for each image; removed at the end
    annotations.json     of a detector: COCO
    labels/              of a segmentor: a PNG for each image
    summary.json, sheet.png
"""
import json
import os
from collections import Counter
from typing import Any, Dict, List, Optional, Sequence

import numpy as np
from fingerprint import differences, told
from PIL import Image
from pycocotools import mask as rle

from mmkd.data.pixel_scores import IGNORED

BINS = 10
"""Bins of the histogram of scores, from 0 to 1."""


def write_whole(path: str, text: str) -> None:
    """Write a file in one step, so that none is ever incomplete."""
    os.makedirs(os.path.dirname(path) or '.', exist_ok=True)
    with open(f'{path}.part', 'w', encoding='utf-8') as file:
        file.write(text)
    os.replace(f'{path}.part', path)


class Progress:
    """The records of the images that are done, one JSON line each.

    Args:
        folder (str): The output folder.
        settings (dict): What the labels depend on.

    Raises:
        ValueError: If the folder has other files, or labels of other settings.
    """

    def __init__(self, folder: str, settings: Dict[str, Any]) -> None:
        self.folder = folder
        self.path = os.path.join(folder, 'progress.jsonl')
        provenance = os.path.join(folder, 'provenance.json')
        settings = json.loads(json.dumps(settings))
        before: Dict[str, Any] = {}
        if os.path.isfile(provenance):
            with open(provenance, encoding='utf-8') as file:
                before = json.load(file)
            changed = differences(before.get('settings') or {}, settings)
            if changed:
                raise ValueError(f'--out {folder} has labels of other settings: {told(changed)}; '
                                 'give another folder, or remove it')
        elif os.path.isdir(folder) and os.listdir(folder):
            raise ValueError(f'--out {folder} has files, but none of this tool '
                             '(provenance.json); give a new folder')
        self.is_finished = bool(before.get('finished'))
        self.unreadable = int(before.get('unreadable') or 0)
        """Number of files that a finished run could not read."""
        self.settings = settings
        self.records = [] if self.is_finished else self._read()
        self.file: Any = None

    def write_provenance(self, is_finished: bool, **more: Any) -> None:
        content = dict(tool='mmkd tools/label.py', finished=is_finished, settings=self.settings,
                       **more)
        write_whole(os.path.join(self.folder, 'provenance.json'), json.dumps(content, indent=1))

    def begin(self) -> None:
        """Write the settings, because there is a first result. A command that fails before has
        bound no folder to its settings."""
        if self.file is None:
            self.write_provenance(False)
            # Written again, because a killed run may have left an incomplete line.
            write_whole(self.path, ''.join(json.dumps(one) + '\n' for one in self.records
                                           if not one.get('unreadable')))
            self.file = open(self.path, 'a', encoding='utf-8')  # noqa: SIM115 closed by finish

    def add(self, record: Dict[str, Any]) -> None:
        """Keep the record of an image; of a file that cannot be read only for this run, because it
        may be repaired before the next one."""
        if record.get('unreadable'):
            self.records.append(record)
            return
        self.begin()
        self.records.append(record)
        self.file.write(json.dumps(record) + '\n')
        self.file.flush()

    def finish(self, **more: Any) -> None:
        """Say that all files are written."""
        self.write_provenance(True, **more)
        if self.file is not None:
            self.file.close()
        if os.path.isfile(self.path):
            os.remove(self.path)

    def _read(self) -> List[Dict[str, Any]]:
        found: List[Dict[str, Any]] = []
        if os.path.isfile(self.path):
            with open(self.path, encoding='utf-8') as file:
                for line in file:
                    try:
                        record = json.loads(line)
                        found += [record] * (not record.get('unreadable'))
                    except ValueError:  # the run was killed while it wrote this line
                        break
        return found


def histogram(scores: np.ndarray) -> List[int]:
    """Number of scores in each tenth from 0 to 1."""
    return [int(one) for one in np.histogram(scores, bins=BINS, range=(0, 1))[0]]


def record_of_boxes(truth: Any, scores: np.ndarray, kept: Sequence[int]) -> Dict[str, Any]:
    """The record of an image of a detector.

    Args:
        truth (DetDataSample): The labels, in pixels of the file.
        scores (ndarray): Of all predictions.
        kept (Sequence[int]): Labels of the classes that are wanted.
    """
    height, width = truth.ori_shape[:2]
    annotations = []
    for instances, is_ignored in ((truth.gt_instances, 0), (truth.ignored_instances, 1)):
        for number, label in enumerate(instances.labels.tolist()):
            if label not in kept:
                continue
            box = np.clip(instances.bboxes[number].tolist(), 0, [width, height] * 2)
            size = box[2:] - box[:2]
            if (size < 1).any():  # mmdet leaves these out
                continue
            one = dict(category_id=label + 1, bbox=[round(float(x), 2) for x in (*box[:2], *size)],
                       area=round(float(size.prod()), 2), iscrowd=is_ignored)
            if 'scores' in instances:
                one['score'] = round(float(instances.scores[number]), 5)
            if 'masks' in instances:
                coded = rle.encode(np.asfortranarray(instances.masks.masks[number]))
                one['segmentation'] = dict(size=coded['size'], counts=coded['counts'].decode())
                one['area'] = int(rle.area(coded))
            annotations.append(one)
    return dict(width=width, height=height, annotations=annotations, histogram=histogram(scores),
                highest=round(float(scores.max()), 5) if len(scores) else 0.,
                has_labels=any(not one['iscrowd'] for one in annotations))


def coco_of(records: Sequence[Dict[str, Any]], classes: Sequence[str],
            kept: Sequence[int]) -> Dict[str, Any]:
    """A COCO annotation file that mmdet's CocoDataset reads."""
    images, annotations = [], []
    for number, record in enumerate(records, 1):
        images.append(dict(id=number, file_name=record['name'], width=record['width'],
                           height=record['height']))
        annotations += [dict(one, id=len(annotations) + place, image_id=number)
                        for place, one in enumerate(record['annotations'], 1)]
    return dict(info=dict(description='predictions of a model, by tools/label.py of mmkd; '
                          'provenance.json says which'),
                images=images, annotations=annotations,
                categories=[dict(id=label + 1, name=classes[label]) for label in kept])


def map_name(name: str) -> str:
    """Path of a label map, given that of its image: what ends in ``_leftImg8bit`` gets the name of
    Cityscapes' train ids, anything else the suffix ``.png``."""
    stem, city = os.path.splitext(name)[0], '_leftImg8bit'
    if stem.endswith(city):
        return f'{stem[:-len(city)]}_gtFine_labelTrainIds.png'
    return f'{stem}.png'


def write_map(folder: str, name: str, labels: np.ndarray, is_reduced: bool) -> None:
    """Write a label map under the name that mmseg's data sets look for.

    Args:
        folder (str): The folder of all maps.
        name (str): Path of the image in the folder of images.
        labels (ndarray): (H, W), 255 for ignored.
        is_reduced (bool): Whether the data set has ``reduce_zero_label``, so that 0 is ignored.
    """
    path = os.path.join(folder, map_name(name))
    if is_reduced:
        labels = np.where(labels == IGNORED, 0, labels + 1)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    Image.fromarray(labels.astype(np.uint8)).save(f'{path}.part', format='PNG')
    os.replace(f'{path}.part', path)


def record_of_pixels(labels: np.ndarray, scores: np.ndarray) -> Dict[str, Any]:
    """The record of an image of a segmentor; both (H, W)."""
    values, counts = np.unique(labels, return_counts=True)
    pixels = {str(value): int(count) for value, count in zip(values, counts)}
    return dict(width=labels.shape[1], height=labels.shape[0], pixels=pixels,
                histogram=histogram(scores), highest=round(float(scores.max()), 5),
                has_labels=bool((labels != IGNORED).any()))


def summary_of(records: Sequence[Dict[str, Any]], skipped: Sequence[str],
               classes: Sequence[str], kept: Sequence[int]) -> Dict[str, Any]:
    """Counts over all images."""
    counts: Counter = Counter()
    ignored = 0
    for record in records:
        for one in record.get('annotations', ()):
            if one['iscrowd']:
                ignored += 1
            else:
                counts[one['category_id'] - 1] += 1
        for value, count in record.get('pixels', {}).items():
            if int(value) == IGNORED:
                ignored += count
            else:
                counts[int(value)] += count
    scores = np.sum([record['histogram'] for record in records], axis=0).tolist() if records else []
    return dict(
        images=len(records), unreadable=list(skipped),
        without_labels=sum(not record['has_labels'] for record in records),
        unit='pixels' if records and 'pixels' in records[0] else 'instances',
        labels={classes[label]: counts[label] for label in kept},
        ignored=ignored, predictions=int(sum(scores)),
        share=round(sum(counts.values()) / max(1, sum(scores)), 4), scores=scores)


def shown(summary: Dict[str, Any], note: Optional[str] = None) -> str:
    """The summary in lines."""
    unit = summary['unit']
    widest = max(summary['scores'] or [1]) or 1
    lines = [
        f'{summary["images"]} images, {summary["without_labels"]} of them without labels; '
        f'unreadable files: {len(summary["unreadable"])}',
        f'{unit} by class: ' + ', '.join(f'{name} {count}'
                                         for name, count in summary['labels'].items()),
        f'{100 * summary["share"]:.1f} % of {summary["predictions"]} predicted {unit} are labels, '
        f'{summary["ignored"]} are ignored', 'scores of all predictions:']
    for number, count in enumerate(summary['scores']):
        bar = '#' * round(40 * count / widest)
        lines.append(f'  {number / BINS:.1f} to {(number + 1) / BINS:.1f}  {count:>9} {bar}')
    return '\n'.join(lines + ([note] if note else []))
