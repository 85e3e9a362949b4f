"""On which images are the runs of a comparison trained and validated?"""
import json
import os
from typing import Any, Iterator

from mmengine.config import Config

from mmkd.core.names import joined

PARTS = ('train_dataloader', 'val_dataloader', 'val_evaluator', 'test_dataloader', 'test_evaluator')
"""What --holdout changes."""
ZERO = ' (tools/sweep.py: --holdout 0)'


def replace_prefix(value: Any, old: str, new: str) -> Any:
    """Replace a leading path in every string of a nested config."""
    if isinstance(value, dict):
        return {k: replace_prefix(v, old, new) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(replace_prefix(v, old, new) for v in value)
    if isinstance(value, str) and value.startswith(old):
        return os.path.join(new, value[len(old):])
    return value


def with_data_root(config: Config, root: str) -> Config:
    """A config with another folder of the data.

    Raises:
        ValueError: If the config has no ``data_root`` at its top level.
    """
    if not isinstance(config.get('data_root'), str):
        raise ValueError(f'--data-root {root} replaces `data_root` of the config, but '
                         f'{config.filename or "the config"} has none; set the paths of its data '
                         'sets by --cfg-options')
    return Config(replace_prefix(config.to_dict(), config.data_root, root))


def hold_out(config: Config, every: int, folder: str) -> None:
    """Validate on every N-th training image, and leave it out of training.

    Args:
        config (Config): The config; it is changed.
        every (int): N.
        folder (str): Folder for the annotation files.

    Raises:
        ValueError: If a part of the config is missing, the training set has no annotation file in
            COCO's format, a data set has ``indices``, or N leaves no image in one of both parts.
    """
    missing = [name for name in PARTS if not config.get(name)]
    if missing:
        raise ValueError(f'--holdout needs {joined([f"`{name}`" for name in missing])} of the '
                         f'config, which has none; add it, or leave --holdout out{ZERO}')
    data = config.train_dataloader.dataset
    if not str(data.get('ann_file')).endswith('.json'):
        raise ValueError('--holdout needs a data set with a COCO annotation file, but got '
                         f'{data.type}; use --holdout 0 or leave it out, to validate on the '
                         'validation set')
    validated = {name: config[name].dataset for name in ('val_dataloader', 'test_dataloader')}
    for name, one in validated.items():
        if 'ann_file' not in one:
            raise ValueError(f'--holdout replaces `ann_file` of the data set of `{name}`, but '
                             f'{one.get("type")} has none; use a plain data set there, or leave '
                             f'--holdout out{ZERO}')
    for name, one in dict(validated, train_dataloader=data).items():
        if one.get('indices') is not None:
            raise ValueError(f'the data set of `{name}` has `indices`, which count the images of '
                             'its own annotation file, and --holdout writes another one; remove '
                             f'`indices`, or leave --holdout out{ZERO}')
    with open(os.path.join(data.get('data_root') or '', data.ann_file)) as file:
        content = json.load(file)
    images = sorted(content['images'], key=lambda image: image['id'])
    held = {image['id'] for image in images[every - 1::every]}
    if not 0 < len(held) < len(images):
        raise ValueError(f'--holdout {every} leaves no image of {len(images)} in one of both '
                         'parts; use a number from 2 to the number of training images')
    paths = {}
    for split, is_chosen in (('train', lambda i: i not in held), ('val', lambda i: i in held)):
        part = dict(content, images=[i for i in images if is_chosen(i['id'])],
                    annotations=[a for a in content['annotations'] if is_chosen(a['image_id'])])
        paths[split] = os.path.abspath(os.path.join(folder, f'holdout_{split}.json'))
        os.makedirs(folder, exist_ok=True)
        with open(f'{paths[split]}.part', 'w') as file:
            json.dump(part, file)
        os.replace(f'{paths[split]}.part', paths[split])  # another process may read it
    for one in validated.values():
        for key in ('data_root', 'data_prefix'):  # the images are those of the training set
            one.pop(key, None)
            if key in data:
                one[key] = data[key]
        one.ann_file = paths['val']
    for name in ('val_evaluator', 'test_evaluator'):
        for metric in metrics_of(config[name]):
            if metric.get('ann_file') is not None:  # the others take labels of the data set
                metric.ann_file = paths['val']
    data.ann_file = paths['train']


def metrics_of(evaluator: Any) -> Iterator[Any]:
    """The metrics of an evaluator: one, a list, or those in ``metrics``."""
    if isinstance(evaluator, (list, tuple)):
        for one in evaluator:
            yield from metrics_of(one)
    elif 'metrics' in evaluator:
        yield from metrics_of(evaluator['metrics'])
    else:
        yield evaluator
