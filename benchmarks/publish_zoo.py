"""Publish a checkpoint of every model family of the installed mmdet and mmseg.

    python benchmarks/publish_zoo.py                              # one config of every folder
    python benchmarks/publish_zoo.py mmdet::dino mmseg::pointrend

For each folder, the tool takes the same reduced config as benchmarks/cover_zoo.py, with random
weights, publishes its checkpoint with tools/publish_student.py, and checks that the predictions are
equal. Exits with 1 if this fails for a model that can be built.
"""
import argparse
import contextlib
import copy
import glob
import io
import logging
import os
import tempfile
import warnings
from multiprocessing import get_context
from typing import NamedTuple

import tools_on_path  # noqa: F401
import torch
from command import Parser, run
from cover_zoo import (
    FEWER,
    PACKAGES,
    config_root,
    folders_of,
    read_config,
    shrink,
    walk,
    weight_of,
)
from made_up import initialise
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from publish_student import publish
from tqdm import tqdm

from mmkd.networks.frozen import model_config

SIZE = 128, 128
"""Image size that is tried first, because it is fast. Then the sizes of the config are tried."""


class Outcome(NamedTuple):
    """Result of a folder."""
    folder: str
    config: str
    can_be_built: bool
    said: str
    """The outputs that were compared, or the reason why not."""
    is_published: bool


def quiet() -> None:
    """Initialize a worker process: one thread, no output."""
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    warnings.simplefilter('ignore')


def publish_one(name: str) -> Outcome:
    """Publish the lightest of four configs of a folder that can be built."""
    package, _, folder = name.partition('::')
    outcome = Outcome(name, '', False, 'no model, only data or schedules', False)
    paths = sorted(glob.glob(os.path.join(config_root(package), folder, '*.py')), key=weight_of)
    for path in [one for one in paths if 'type' in (read_config(one).get('model') or {})][:4]:
        file, can_be_built = os.path.basename(path), False
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(
                    io.StringIO()), tempfile.TemporaryDirectory() as out:
                config = Config.fromfile(path)
                config.model = shrink(model_config(config))
                # DETR returns at most as many boxes as it has queries
                for part in walk(config.model):
                    if part.get('max_per_img', 0) > FEWER['num_queries']:
                        part['max_per_img'] = FEWER['num_queries']
                config.pop('data_preprocessor', None)
                config.default_scope = config.get('default_scope') or package
                with DefaultScope.overwrite_default_scope(config.default_scope):
                    torch.manual_seed(0)
                    model = MODELS.build(copy.deepcopy(config.model))
                    initialise(model)
                can_be_built = True
                checkpoint = os.path.join(out, 'epoch_1.pth')
                torch.save(dict(meta=dict(epoch=1), state_dict=model.state_dict()), checkpoint)
                del model
                options = argparse.Namespace(
                    checkpoint=checkpoint, config=path, out=None, name=None, format='pth',
                    half=False, size=SIZE)
                try:
                    _, compared = publish(config, options)
                except ValueError:
                    options.size = None
                    _, compared = publish(config, options)
            return Outcome(name, file, True, compared, True)
        except Exception as error:
            first = f'{type(error).__name__}: {error}'.splitlines()[0][:300]
            # Some operators of mmcv exist only for GPUs.
            can_be_built = can_be_built and 'for device cpu not found' not in str(error)
            outcome = Outcome(name, file, can_be_built, first, False)
        if can_be_built:
            break
    return outcome


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folders', nargs='*', help='package::folder; all by default')
    parser.add_argument('--workers', type=int, default=1, help='processes, of one thread each')
    args = parser.parse_args()
    folders = args.folders or [f'{package}::{name}' for package in PACKAGES
                               for name in folders_of(package)]
    found = []
    with get_context('spawn').Pool(args.workers, quiet, maxtasksperchild=8) as pool:
        for one in tqdm(pool.imap(publish_one, folders), total=len(folders), ncols=80):
            tqdm.write(f'{one.folder} ({one.config}): ' + (
                'published: ' if one.is_published else 'REFUSED: ' if one.can_be_built else
                'cannot be built: ') + one.said)
            found.append(one)
    built = [one for one in found if one.can_be_built]
    refused = [one.folder for one in built if not one.is_published]
    print(f'{len(built) - len(refused)} of {len(built)} that can be built are published' +
          (f'; not {", ".join(refused)}' if refused else ''))
    raise SystemExit(bool(refused))


if __name__ == '__main__':
    run(main)
