"""Turn a checkpoint of a distillation run into a file to be shipped.

    python tools/publish_student.py CONFIG.py work_dirs/retinanet_r50/epoch_24.pth

CONFIG is the distillation config or the plain student's. What only training needs is left out:
optimizer, schedules, log history, connectors, partners, the config's text with its paths. What says
where the weights come from stays: classes, epochs, versions, and names and hashes of the teacher.
The file is read back, and the model must predict from it what it predicts from the checkpoint, to
the bit; else there is no file. Its name ends in the first 8 digits of its SHA-256.
"""
import argparse
import json
import os
from typing import Any, Dict, Iterator

import torch
from command import Parser
from common import add_common_options, read_config
from made_up import made_up_batch
from mmengine.registry import MODELS, DefaultScope

import mmkd
from mmkd.checkpoint import hash_of_file, load_exactly, read_checkpoint
from mmkd.teachers.frozen import model_config

KEPT = ('epoch', 'iter', 'seed', 'mmengine_version', 'dataset_meta', 'mmkd')
"""What of a checkpoint's `meta` is shipped."""


def main() -> None:
    parser = Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='distillation config, or the plain student\'s')
    parser.add_argument('checkpoint', help='checkpoint of the run')
    parser.add_argument('--out', help='folder; by default that of the checkpoint')
    parser.add_argument('--name', help='of the file, before the hash; by default the config\'s')
    parser.add_argument('--format', choices=['pth', 'safetensors'], default='pth')
    parser.add_argument('--half', action='store_true', help='weights in float16; predictions then '
                        'are only compared with themselves')
    parser.add_argument('--size', type=int, nargs=2, default=[256, 256], metavar=('H', 'W'),
                        help='of the images that are predicted; 256 256 by default')
    add_common_options(parser)
    args = parser.parse_args()
    config = read_config(args.config)
    if args.cfg_options:
        config.merge_from_dict(args.cfg_options)

    checkpoint = read_checkpoint(args.checkpoint, config.get('trust_checkpoint', False))
    with DefaultScope.overwrite_default_scope(config.get('default_scope')):
        models = [MODELS.build(model_config(config)).eval() for _ in range(2)]
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
        load_exactly(models[1], read_checkpoint(part), part)
        prove(models, args)
        path = os.path.join(out, f'{name}-{hash_of_file(part)[:8]}.{args.format}')
        os.replace(part, path)
    finally:
        if os.path.exists(part):
            os.remove(part)
    before, after = (os.path.getsize(one) / 2**20 for one in (args.checkpoint, path))
    print(f'{path}: {after:.1f} MiB, of {before:.1f}; ' + (
        'it predicts what the weights rounded to float16 predict, to the bit' if args.half else
        'both predict the same, to the bit'))


def write(path: str, weights: Dict[str, torch.Tensor], meta: Dict[str, Any]) -> None:
    """A checkpoint of weights, and of words about them."""
    weights = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()}
    if path.endswith('.pth'):
        torch.save(dict(meta=meta, state_dict=weights), path)
        return
    try:
        from safetensors.torch import save_file
    except ImportError as error:
        raise SystemExit('safetensors is not installed; run `pip install safetensors`') from error
    save_file(weights, path, dict(format='pt', meta=json.dumps(meta, default=list)))


def prove(models: Any, args: argparse.Namespace) -> None:
    """Compare what two models predict.

    Raises:
        SystemExit: If anything differs.
    """
    data = made_up_batch(models[0], *args.size, 2)
    found = []
    for model in models:
        batch = model.data_preprocessor(data, False)
        with torch.no_grad():
            raw = model(**batch, mode='tensor')
            predicted = model(**batch, mode='predict')
        found.append(list(tensors_in([raw, predicted])))
    same = len(found[0]) == len(found[1]) and all(
        torch.equal(a, b) for a, b in zip(*found))
    if not same or not found[0]:
        raise SystemExit('the published weights do not predict what the checkpoint predicts; '
                         'nothing was written')


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
    print(f'mmkd {mmkd.__version__}')
    main()
