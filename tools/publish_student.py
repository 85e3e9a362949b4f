"""Turn a checkpoint of a distillation run into a file for publication.

    python tools/publish_student.py CONFIG.py work_dirs/retinanet_r50/epoch_24.pth

CONFIG is the distillation config or the config of the plain student. The file leaves out what only
training needs: optimizer, schedules, log history, connectors, partners, and the text of the config
with its paths. It keeps the origin of the weights: classes, epochs, versions, and names and hashes
of the teacher. The tool reads the file back and compares the model's predictions with those from
the checkpoint. If they are not bitwise equal, no file is written. The name of the file ends in the
first 8 digits of its SHA-256. --card writes a README.md beside it, with the YAML header that model
hubs read.
"""
import argparse
import contextlib
import copy
import itertools
import json
import os
from typing import Any, Dict, Iterator, List, Sequence, Tuple

import torch
from command import Parser, run
from common import add_common_options, check_checkpoint, read_config
from made_up import made_up_batch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from model_card import TO_FILL, card_of, parse_scores

import mmkd
from mmkd.core.build import build_model
from mmkd.files.archive import hash_of_file
from mmkd.files.checkpoint import read_checkpoint
from mmkd.files.fit import load_exactly
from mmkd.files.sources import local_path
from mmkd.files.whole import wrong_with
from mmkd.networks.frozen import model_config

KEPT = ('epoch', 'iter', 'seed', 'mmengine_version', 'dataset_meta', 'mmkd')
"""Keys of a checkpoint's `meta` that are published."""
GIVEN = 'gt_', 'proposals', 'ignored_instances'
"""Prefixes of the fields of a sample that are not predictions."""


def parse_args() -> argparse.Namespace:
    parser = Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='distillation config, or the plain student\'s')
    parser.add_argument('checkpoint', help='checkpoint of the run')
    parser.add_argument('--out', help='folder; by default that of the checkpoint')
    parser.add_argument('--name', help='of the file, before the hash; by default the config\'s')
    parser.add_argument('--format', choices=['pth', 'safetensors'], default='pth')
    parser.add_argument('--half', action='store_true', help='weights in float16; predictions are '
                                                            'then compared with those of the '
                                                            'rounded weights')
    parser.add_argument('--size', type=int, nargs=2, metavar=('H', 'W'), help='of the image that '
                        'is predicted; by default what the config says (crop_size, '
                        'data_preprocessor.size, img_size), else 256 256, else the scale of the '
                        'test pipeline')
    parser.add_argument('--card', action='store_true', help='write README.md into the folder, a '
                        'model card: method, teacher, data, scores, and fields to fill in')
    parser.add_argument('--score', action='append', default=[], metavar='NAME=NUMBER',
                        help='a score for the card, as tools/test.py prints it; may be repeated')
    add_common_options(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    print(f'mmkd {mmkd.__version__}')
    check_checkpoint(args.checkpoint, 'the checkpoint')
    args.checkpoint = local_path(args.checkpoint, wrong_with)
    config = read_config(args.config)
    if args.cfg_options:
        config.merge_from_dict(args.cfg_options)
    scores = parse_scores(args.score)
    card = os.path.join(args.out or os.path.dirname(os.path.abspath(args.checkpoint)), 'README.md')
    if scores and not args.card:
        raise ValueError('--score is for the model card; add --card')
    if args.card and os.path.exists(card):
        raise ValueError(f'`{card}` exists, and may have been edited; move it, or choose another '
                         'folder by --out')
    path, compared = publish(config, args)
    before, after = (os.path.getsize(one) / 2**20 for one in (args.checkpoint, path))
    print(f'{path}: {after:.1f} MiB, of {before:.1f}; ' + (
        'its predictions are bitwise equal to those of the weights rounded to '
        'float16' if args.half else
        'the predictions of both are bitwise equal') + f' ({compared})')
    if args.card:
        with open(card, 'w', encoding='utf-8') as file:
            meta = read_checkpoint(path, whose='student')['meta']
            file.write(card_of(path, config, meta, scores))
        print(f'{card}: complete the fields that say "{TO_FILL}"')


def publish(config: Config, args: argparse.Namespace) -> Tuple[str, str]:
    """Write the file, and compare its predictions.

    Args:
        config (Config): Config of the distillation or of the plain student.
        args (Namespace): Result of :func:`parse_args`.

    Returns:
        tuple[str, str]: Path of the file, and what was compared.

    Raises:
        ValueError: If the checkpoint does not fit the config, or the comparison fails; no file is
            written then.
    """
    checkpoint = read_checkpoint(args.checkpoint, config.get('trust_checkpoint', False), 'student')
    # Each from a copy: some models (Deformable DETR) write into the config they are built from.
    models = [build_model(model_config(config), 'student', config.get('default_scope')).eval()
              for _ in range(2)]
    load_exactly(models[0], checkpoint, args.checkpoint)
    weights = {name: tensor.half() if args.half and tensor.is_floating_point() else tensor
               for name, tensor in models[0].state_dict().items()}
    if args.half:
        load_exactly(models[0], dict(state_dict=weights), args.checkpoint)

    out = args.out or os.path.dirname(os.path.abspath(args.checkpoint))
    os.makedirs(out, exist_ok=True)
    name = args.name or os.path.splitext(os.path.basename(args.config))[0]
    part = os.path.join(out, f'{name}.part.{args.format}')
    meta = {key: checkpoint['meta'][key] for key in KEPT if key in checkpoint['meta']}
    try:
        write(part, weights, meta)
        load_exactly(models[1], read_checkpoint(part, whose='student'), part)
        with DefaultScope.overwrite_default_scope(config.get('default_scope')):
            compared = prove(models, [tuple(args.size)] if args.size else sizes_of(config))
        path = os.path.join(out, f'{name}-{hash_of_file(part)[:8]}.{args.format}')
        os.replace(part, path)
    finally:
        if os.path.exists(part):
            os.remove(part)
    return path, compared


def sizes_of(config: Config) -> List[Tuple[int, int]]:
    """Likely heights and widths of the model's input images, the most likely first."""
    model = model_config(config)
    backbones = [part for part in (model.get('backbone'), model.get('image_encoder'))
                 if isinstance(part, dict)]
    told = [(model.get('data_preprocessor') or {}).get('size'), config.get('crop_size'),
            *(part.get('img_size') or part.get('pretrain_img_size') for part in backbones),
            256]
    loader = config.get('test_dataloader') or config.get('val_dataloader') or {}
    told += [step[key][::-1] if isinstance(step[key], (list, tuple)) else step[key]
             for step in steps_of(loader.get('dataset')) for key in ('scale', 'img_scale')
             if isinstance(step, dict) and step.get(key)]  # width and height, in a pipeline
    sizes = [(one, one) if isinstance(one, int) else tuple(one) for one in told if one]
    return list(dict.fromkeys(one for one in sizes if len(one) == 2 and all(
        isinstance(side, int) and side > 0 for side in one)))


def steps_of(dataset: Any) -> List[Any]:
    """The pipeline of a data set, or of the first one inside its wrappers."""
    while isinstance(dataset, dict) and not dataset.get('pipeline'):
        dataset = dataset.get('dataset') or next(iter(dataset.get('datasets') or ()), None)
    return list(dataset['pipeline']) if isinstance(dataset, dict) else []


def write(path: str, weights: Dict[str, torch.Tensor], meta: Dict[str, Any]) -> None:
    """Write weights and meta data to a file."""
    weights = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()}
    if path.endswith('.pth'):
        torch.save(dict(meta=meta, state_dict=weights), path)
        return
    try:
        from safetensors.torch import save_file
    except ImportError as error:
        raise SystemExit('safetensors is not installed; run `pip install safetensors`') from error
    save_file(weights, path, dict(format='pt', meta=json.dumps(meta, default=list)))


def prove(models: Sequence[Any], sizes: Sequence[Tuple[int, int]]) -> str:
    """Compare the outputs of two models on an image of the first size that they accept.

    A random image may have few predictions, so features are compared in addition, and raw outputs
    if `mode='tensor'` returns any.

    Returns:
        str: What was compared.

    Raises:
        ValueError: If anything differs, or the model takes none of the sizes.
    """
    before, data, device, size = first_said(models[0], sizes)
    found = [before, said_of(models[1].to(device), data, 'predictions' in before)]
    for name, before in found[0].items():
        after = found[1].get(name, [])
        if len(before) != len(after) or not all(map(same, before, after)):
            raise ValueError('the predictions of the published weights differ from those of the '
                             f'checkpoint, in {name}; nothing was written')
    numbers = sum(tensor.numel() for tensors in found[0].values() for tensor in tensors)
    if not numbers:
        raise ValueError('the model predicts nothing for a random image, so the weights could not '
                         'be verified; nothing was written')
    return f'{" and ".join(found[0])} of an image of {size[0]}x{size[1]}, {numbers} numbers'


def first_said(model: Any, sizes: Sequence[Tuple[int, int]]) -> Tuple[
        Dict[str, List[torch.Tensor]], Dict[str, Any], str, Tuple[int, int]]:
    """What a model says of a random image of the first size that it takes.

    Where it predicts nothing of any (mmdet 3.3 cannot predict with an SSD), its raw outputs do.

    Returns:
        tuple: What it says, the batch, the device and the size.

    Raises:
        ValueError: If it takes none of the sizes.
    """
    problems = []
    devices = ['cpu', *(['cuda'] if torch.cuda.is_available() else [])]  # for GPU-only operators
    for predicts in (True, False):
        for device, size in itertools.product(devices, sizes):
            try:
                data = made_up_batch(model.to(device), *size, 1)
                said = said_of(model, data, predicts)
                if predicts or said.get('raw outputs'):
                    return said, data, device, size
            except Exception as error:  # whatever a model says to a size that it does not take
                if predicts:
                    problems.append(f'{size[0]}x{size[1]}: {type(error).__name__}: {error}')
    raise ValueError('the model predicts nothing for a random image, at none of the sizes ' +
                     '; '.join(f'{one:.150}' for one in problems) + '. Write --size H W')


def said_of(model: Any, data: Dict[str, Any],
            predicts: bool = True) -> Dict[str, List[torch.Tensor]]:
    """Tensors that a model computes of a batch, by what they are."""
    found = {}
    batch = model.data_preprocessor(copy.deepcopy(data), False)
    with torch.no_grad():
        for name, ask in (
                ('features', lambda batch: model.extract_feat(batch['inputs'])),
                ('raw outputs', lambda batch: model(**batch, mode='tensor'))):
            torch.manual_seed(0)  # some draw random numbers also in eval mode
            with contextlib.suppress(Exception):  # not every model is meant for it
                found[name] = list(tensors_in(ask(copy.deepcopy(batch))))
        torch.manual_seed(0)
        if predicts:
            found['predictions'] = list(tensors_in([
                {key: value for key, value in sample.all_items() if not key.startswith(GIVEN)}
                for sample in model(**batch, mode='predict')]))
    return found


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors are bitwise equal; NaN equals NaN."""
    if one.shape != other.shape or not one.is_floating_point():
        return torch.equal(one, other)
    known = ~one.isnan()
    return torch.equal(known, ~other.isnan()) and torch.equal(one[known], other[known])


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """All tensors of nested outputs and predictions."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        yield from tensors_in(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from tensors_in(one)
    elif hasattr(value, 'all_values'):  # data samples, instances, maps of MMEngine
        yield from tensors_in(list(value.all_values()))


if __name__ == '__main__':
    run(main)
