"""Train the members of a committee by boosting: each on the images that earlier members got wrong.

    python tools/boost.py configs/bccd/student.py --members 3 --work-dir work_dirs/committee

Member 0 sees every image equally often. For each further member, the training images are drawn in
proportion to the mean loss of the earlier members on them. The tool writes into the work dir: a
folder per member, the weights of the images for each member, and `committee.py`, a config in which
the committee teaches the student with --method, by default the recommended one. Edit this config
and run it with `tools/train.py`.
"""
import argparse
import json
import os
from typing import Any, Dict, List

import torch
from chain import Stage, first_seed, given_options, last_checkpoint, plain_config, run_chain
from command import Parser, run
from common import add_common_options, add_method, read_config
from fingerprint import data, differences, digest_of_source, told
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner
from recommend import Written, method_for
from tqdm import tqdm
from written import check_edited, write_kept

from mmkd.files.checkpoint import read_checkpoint
from mmkd.files.fit import load_exactly
from mmkd.networks.frozen import model_config
from mmkd.points.recorder import evaluating


def parse_args() -> argparse.Namespace:
    parser = Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='plain config of the members')
    parser.add_argument('--members', type=int, default=3, help='number of members; 3 by default')
    parser.add_argument('--student', help='plain config of the student; by default the members\'')
    add_method(parser, 'committee.py')
    parser.add_argument('--amp', action='store_true', help='train in automatic mixed precision')
    parser.add_argument('--auto-scale-lr', action='store_true',
                        help='scale the learning rate with the real batch size')
    parser.add_argument('--overwrite', action='store_true', help='retrain members that were '
                        'trained with other options; overwrite an edited committee.py')
    add_common_options(parser)
    args = parser.parse_args()
    if args.members < 2:
        parser.error('--members must be 2 or more')
    return args


def main() -> None:
    args = parse_args()
    config = plain_config(args, 'members')
    committee = os.path.join(args.work_dir, 'committee.py')
    how_to_run = f'tools/train.py {committee}'
    check_edited(committee, how_to_run, args.overwrite)
    student = read_config(args.student or args.config)
    method = method_for(student, config, args.method, 'the members of a committee')
    seed = first_seed(args, config) or 0
    losses: List[torch.Tensor] = []
    stages: List[Stage] = []
    for number in range(args.members):
        name = f'member{number}'
        own = [f'randomness.seed={seed + number}']
        if number:
            path = os.path.abspath(os.path.join(args.work_dir, f'{name}.json'))
            members = [last_checkpoint(os.path.join(args.work_dir, f'member{k}'))
                       for k in range(number)]
            found_by = dict({os.path.basename(os.path.dirname(one)): digest_of_source(one)
                             for one in members}, **data(config))
            if not is_found_by(path, found_by, args.overwrite):
                losses += [losses_of(config, one) for one in members[len(losses):]]
                write_weights(path, torch.stack(losses).mean(0), found_by)
            own += ['train_dataloader.sampler.type=mmkd.WeightedSampler',
                    f'train_dataloader.sampler.weights={path}',
                    # Images of one shape in one batch needs the order of mmdet's own sampler.
                    'train_dataloader.batch_sampler=None']
        stages = [Stage(name, [args.config, *(given_options(args) or ['--cfg-options']), *own])]
        run_chain(args, stages)
    write_kept(committee, committee_text(args, student, method), 'boost.py', how_to_run,
               args.overwrite)
    print(f'Wrote {committee}, in which they teach with {method.method}' +
          f': {method.reason}' * bool(method.reason))


def is_found_by(path: str, found_by: Dict[str, str], overwrite: bool) -> bool:
    """Whether the file has the weights computed by these members on these data.

    Raises:
        ValueError: If it has other weights, and ``overwrite`` is False.
    """
    if not os.path.isfile(path):
        return False
    with open(path) as file:
        found = differences(json.load(file).get('found_by') or {}, found_by)
    if found and not overwrite:
        raise ValueError(f'{path} contains the image weights of other members ({told(found)}); use '
                         'another --work-dir, or overwrite it by --overwrite')
    return not found


def losses_of(config: Config, checkpoint: str) -> torch.Tensor:
    """Loss of a model on every training image, with the training pipeline; float64 (images, )."""
    with DefaultScope.overwrite_default_scope(config.get('default_scope')):
        model = MODELS.build(model_config(config))
        loader = Runner.build_dataloader(dict(
            config.train_dataloader, batch_size=1, batch_sampler=None, drop_last=False,
            sampler=dict(type='DefaultSampler', shuffle=False)), seed=0)
    load_exactly(model, read_checkpoint(checkpoint), checkpoint)
    model.to('cuda' if torch.cuda.is_available() else 'cpu')
    found: List[Any] = []
    with torch.no_grad(), evaluating(model):
        for batch in tqdm(loader, desc=os.path.basename(os.path.dirname(checkpoint))):
            loss, _ = model.parse_losses(model(**model.data_preprocessor(batch, True), mode='loss'))
            found.append(loss.item())
    return torch.tensor(found, dtype=torch.float64)


def write_weights(path: str, losses: torch.Tensor, found_by: Dict[str, str]) -> None:
    """Write weights proportional to the losses, with mean 1, in one step."""
    if not losses.isfinite().all():
        raise SystemExit(f"the committee's loss is NaN or infinite on {(~losses.isfinite()).sum()} "
                         'images; check the training of its members')
    weights = (losses / losses.mean()).tolist()
    with open(f'{path}.part', 'w') as file:
        json.dump(dict(found_by=found_by, weights=weights), file)
    os.replace(f'{path}.part', path)


def committee_text(args: argparse.Namespace, student: Config, method: Written) -> str:
    """Text of the config in which the committee teaches the student."""
    checkpoints = [last_checkpoint(os.path.join(args.work_dir, f'member{k}'))
                   for k in range(args.members)]
    config = os.path.abspath(args.config)
    members = ''.join(f'        dict(config={config!r},\n             checkpoint={one!r}),\n'
                      for one in checkpoints)
    return method.text(os.path.abspath(args.student or args.config), config, student,
                       f"dict(type='mmkd.Committee', members=[\n{members}    ])")


if __name__ == '__main__':
    run(main)
