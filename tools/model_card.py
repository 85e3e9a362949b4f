"""Which README.md goes with a published student? Its YAML header is what model hubs read."""
import os
from typing import Any, Dict, List, Sequence, Set

import yaml
from mmengine.config import Config

from mmkd.networks.frozen import model_config

TO_FILL = 'TO FILL IN'
"""Placeholder for answers that only the author of the model knows."""
TASKS = dict(mmdet='object-detection', mmseg='image-segmentation',
             mmpretrain='image-classification')
"""Task of a model hub, by default scope of the config."""


def parse_scores(texts: Sequence[str]) -> Dict[str, float]:
    """Scores from the command line.

    Args:
        texts (Sequence[str]): Each NAME=NUMBER, such as 'coco/bbox_mAP=0.412'.

    Raises:
        ValueError: If one is not of this form.
    """
    scores = {}
    for text in texts:
        name, _, number = text.rpartition('=')
        try:
            scores[name] = float(number)
        except ValueError:
            name = ''
        if not name:
            raise ValueError(f'--score: `{text}` is not NAME=NUMBER; write a score as '
                             'tools/test.py prints it, such as coco/bbox_mAP=0.412')
    return scores


def card_of(file: str, config: Config, meta: Dict[str, Any], scores: Dict[str, float]) -> str:
    """Text of the README.md of a published file.

    Args:
        file (str): Path of the file.
        config (Config): Config of the distillation or of the plain student.
        meta (dict): `meta` of the file.
        scores (dict[str, float]): Scores by name.
    """
    about = meta.get('mmkd') or {}
    head: Dict[str, Any] = dict(
        license=TO_FILL, library_name='mmengine',
        pipeline_tag=TASKS.get(config.get('default_scope', ''), TO_FILL),
        tags=['knowledge-distillation', 'mmkd', str(config.get('default_scope', ''))],
        datasets=[TO_FILL], distillation_losses=_losses(about),
        teachers=[str(entry['checkpoint']) for entry in _networks(about).values()
                  if entry.get('checkpoint')])
    name = os.path.splitext(os.path.basename(file))[0]
    if scores:
        head['model-index'] = [dict(name=name, results=[dict(
            task=dict(type=head['pipeline_tag']),
            dataset=dict(name=TO_FILL, type=TO_FILL),
            metrics=[dict(type=key, value=value) for key, value in scores.items()])])]
    student = model_config(config)
    own = sorted(types_of_mmkd(student))
    lines = ['---', yaml.safe_dump(head, sort_keys=False, allow_unicode=True).rstrip(), '---', '',
             f'# {name}', '', f'{student.get("type", "A model")} of {config.get("default_scope")}, '
             'trained by knowledge distillation with mmkd. The file is an ordinary checkpoint'
             + (f' of a model with {" and ".join(f"`{one}`" for one in own)}: install mmkd to '
                'build it.' if own else ': mmkd is not needed to use it.'), '']
    lines += ['## Teacher', '', *_teachers(about), '', '## Method', '', *_methods(about), '',
              '## Data', '', *_data(config, meta), '', '## Scores', '', *_scores(scores), '',
              '## Licence', '', f'{TO_FILL}: the licence of the weights. It may depend on those of '
              'the data, of the teacher, and of pre-trained weights.']
    return '\n'.join(lines) + '\n'


def types_of_mmkd(model: Any) -> Set[str]:
    """Names of the modules of mmkd that the config of a model has.

    Example:
        >>> types_of_mmkd(dict(type='RetinaNet', backbone=dict(type='mmkd.EfficientNetLite')))
        {'mmkd.EfficientNetLite'}
    """
    if isinstance(model, dict):
        kind = model.get('type')
        name = f'{kind.__module__}.{kind.__name__}' if isinstance(kind, type) else str(kind)
        inner = [types_of_mmkd(value) for value in model.values()]
        return set().union(*inner, [name] if name.startswith('mmkd.') else [])
    if isinstance(model, (list, tuple)):
        return set().union(*map(types_of_mmkd, model))
    return set()


def _networks(about: Dict[str, Any]) -> Dict[str, Dict[str, Any]]:
    """Teachers and partners with what the checkpoint states of them."""
    return {name: entry if isinstance(entry, dict) else {}
            for name, entry in (about.get('networks') or {}).items()}


def _losses(about: Dict[str, Any]) -> List[str]:
    return [str(entry['loss']) for entry in about.get('distill') or []
            if isinstance(entry, dict) and 'loss' in entry]


def _teachers(about: Dict[str, Any]) -> List[str]:
    lines = {name: ', '.join(f'{key} `{value}`' for key, value in entry.items()
                             if isinstance(value, (str, int, float)))
             for name, entry in _networks(about).items()}
    return [f'- `{name}`' + f': {text}' * bool(text) for name, text in lines.items()] or [
        f'{TO_FILL}: the checkpoint does not state it.']


def _methods(about: Dict[str, Any]) -> List[str]:
    return ['- ' + ', '.join(f'{key} `{value}`' for key, value in entry.items())
            for entry in about.get('distill') or [] if isinstance(entry, dict)] or [
                f'{TO_FILL}: the checkpoint does not state it.']


def _data(config: Config, meta: Dict[str, Any]) -> List[str]:
    data = (config.get('train_dataloader') or {}).get('dataset') or {}
    while isinstance(data, dict) and isinstance(data.get('dataset'), dict):
        data = data['dataset']
    classes = (meta.get('dataset_meta') or {}).get('classes') or ()
    return [f'- Training set: {TO_FILL} (`{data.get("type", "unknown")}`)',
            f'- {len(classes)} classes: {", ".join(map(str, classes)) or TO_FILL}',
            f'- {meta["epoch"]} epochs, {meta.get("iter")} iterations' if 'epoch' in meta else
            f'- Length of the training: {TO_FILL}']


def _scores(scores: Dict[str, float]) -> List[str]:
    return ['| metric | value |', '|---|---|', *(
        f'| {name} | {value:g} |' for name, value in scores.items())] if scores else [
            f'{TO_FILL}: run `python -m mmkd test CONFIG FILE`, and give its numbers by '
            '`--score NAME=NUMBER`.']
