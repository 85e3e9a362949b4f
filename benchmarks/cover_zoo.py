"""Try mmkd on every config folder of the installed mmdet and mmseg, and write docs/zoo.md.

    python benchmarks/cover_zoo.py                                # all folders
    python benchmarks/cover_zoo.py mmdet::fcos mmseg::pspnet      # these; prints and writes nothing

One config of each folder is tried, the lightest one by its name. It is changed only in depth and
width: fewer transformer layers, narrower ones in models that only take large images, fewer queries
and proposals, no pretrained weights. The teacher is of the same family, with a deeper backbone if
the channels stay the same (ResNet-101 for ResNet-50). The student trains for one step with DIST and
KD at 'cls', on random images of the smallest size that it accepts. A folder passes if

- both losses are finite and above zero,
- each has a gradient in the student's head and backbone, and none in the teacher,
- after a step of SGD the checkpoint loads into the plain student, strictly.
"""
import argparse
import contextlib
import copy
import glob
import io
import logging
import os
import re
import sys
import traceback
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any, Dict, Iterator, List, Tuple

import numpy as np
import tools_on_path  # noqa: F401
import torch
from made_up import initialise, made_up_batch
from mmengine.config import Config, ConfigDict
from mmengine.logging import MessageHub
from mmengine.registry import MODELS, DefaultScope
from torch import nn
from tqdm import tqdm

import mmkd
from mmkd.compare.term import Term
from mmkd.compare.trial import fit_term
from mmkd.compare.vocabulary import Batch
from mmkd.core.rng import preserved_rng
from mmkd.files.zoo import config_path
from mmkd.networks.frozen import FrozenTeacher, model_config
from mmkd.points import Answers, family_of
from mmkd.points.image_sizes import sizes_of_model
from mmkd.points.probe import blank_image
from mmkd.training.probe import trials
from mmkd.training.questions import told_to

PACKAGES = ('mmdet', 'mmseg')
IMAGE_SIZES = (128, 256, 512)
LIGHT_FIRST = ('r18', 'tiny', r'[-_]t[-_]', 'nano', r'[-_]s[-_]', 'small', 'mit-b0', 'r34', 'r50',
               'base', r'[-_]b[-_]')
TRACED = ('loss_cls_dist', 'loss_cls_kd')
"""Terms whose gradients are checked."""
FEWER = dict(num_queries=20, sos_token_num=20, num_proposals=20, nms_pre=100, max_per_img=50)


@dataclass
class Outcome:
    """Result of a folder."""
    folder: str
    config: str = ''
    is_buildable: bool = False
    problem: str = ''
    head: str = ''
    family: str = ''
    teacher: str = ''
    points: List[str] = field(default_factory=list)
    other_stride: str = ''


def main() -> None:
    args = parse_args()
    folders = args.folders or [f'{package}::{name}' for package in PACKAGES
                               for name in folders_of(package)]
    with ProcessPoolExecutor(args.workers, get_context('spawn')) as pool:
        outcomes = []
        for outcome in tqdm(pool.map(try_folder, folders), total=len(folders), ncols=80):
            outcomes.append(outcome)
            if outcome.problem:
                tqdm.write(f'{outcome.folder} ({outcome.config}): {outcome.problem}')
    text = page_of(outcomes)
    if args.folders:
        print(text)
    else:
        with open(args.out, 'w') as file:
            file.write(text)
    print(summary_of(outcomes))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folders', nargs='*', help='package::folder; all by default')
    parser.add_argument('--out', default='docs/zoo.md', help='the page')
    parser.add_argument('--workers', type=int, default=2, help='processes, of one thread each')
    return parser.parse_args()


def folders_of(package: str) -> List[str]:
    """Return the names of all config folders of an installed package."""
    root = config_root(package)
    return sorted(name for name in os.listdir(root)
                  if not name.startswith('_') and glob.glob(os.path.join(root, name, '*.py')))


def config_root(package: str) -> str:
    return os.path.dirname(os.path.dirname(config_path(f'{package}::_base_/default_runtime.py')))


# --- one folder ---------------------------------------------------------------------------------


def try_folder(name: str) -> Outcome:
    """Check the lightest config of a folder; if it cannot be built, the next, up to four."""
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    warnings.simplefilter('ignore')
    package, _, folder = name.partition('::')
    paths = sorted(glob.glob(os.path.join(config_root(package), folder, '*.py')), key=weight_of)
    paths = [path for path in paths if 'type' in (read_config(path).get('model') or {})]
    outcome = Outcome(name, problem='' if paths else 'no model, only data or schedules')
    for path in paths[:4]:
        outcome = try_config(path, name)
        if outcome.is_buildable:
            break
    return outcome


def read_config(path: str) -> Config:
    """Read a config; return an empty one if it cannot be read."""
    try:
        return Config.fromfile(path, import_custom_modules=False)
    except Exception:  # a base that does not exist, or a missing package
        return Config(dict(model=dict(type='')))


def weight_of(path: str) -> Tuple[int, str]:
    """Estimated cost by the name; configs for TTA and panoptic data come last."""
    stem = os.path.basename(path)
    for rank, pattern in enumerate(LIGHT_FIRST):
        if re.search(pattern, stem):
            return rank + ('tta' in stem) * 100, stem
    return 50 + ('tta' in stem) * 100, stem


def try_config(path: str, folder: str) -> Outcome:
    """Build a student and its teacher, and train for one step."""
    outcome = Outcome(folder, os.path.basename(path))
    noise = io.StringIO()
    try:
        with contextlib.redirect_stdout(noise), contextlib.redirect_stderr(noise):
            cover(path, outcome)
    except Exception as error:
        first = f'{type(error).__name__}: {error}'.strip().splitlines()[0].split('; it knows')[0]
        first = first.split('; it also fails')[0]
        outcome.problem = re.sub(r'\S*/\.mim/configs/', '', ' '.join(first.split()))[:300]
        if os.environ.get('MMKD_TRACEBACK'):
            outcome.problem += '\n' + traceback.format_exc()
    return outcome


def cover(path: str, outcome: Outcome) -> None:
    """Check a config and store the results in ``outcome``.

    Raises:
        Exception: Any error, for a failed check an AssertionError with the name of the check.
    """
    config = Config.fromfile(path)
    student_config = shrink(model_config(config))
    teacher_config = deeper(student_config)
    scope = config.get('default_scope') or outcome.folder.split('::')[0]
    with DefaultScope.overwrite_default_scope(scope):
        plain = MODELS.build(copy.deepcopy(student_config))
        outcome.is_buildable = True
        outcome.head = head_of(plain)
        torch.manual_seed(0)
        with memory_marked():
            model = MODELS.build(dict(
                type='mmkd.Distiller', student=copy.deepcopy(student_config),
                teacher=dict(type='mmkd.RandomTeacher', checkpoint=None,
                             config=dict(model=teacher_config, default_scope=scope)),
                distill=[dict(type='mmkd.DISTLoss', on='cls'),
                         dict(type='mmkd.KDLoss', on='cls')]))
            outcome.family = family_of(model.student).family
            initialise(model.student)
            model.distillation.prepare()
        outcome.teacher = difference(student_config, teacher_config)
        batch = batch_that_fits(model)
        step(model, batch)
        try:
            plain.load_state_dict(model.state_dict(), strict=True)
        except RuntimeError:  # DDQ gets more parameter names during training
            plain.train()
            plain(**batch, mode='loss')
            plain.load_state_dict(model.state_dict(), strict=True)
        look_at_points(model, outcome)


@mmkd.MODELS.register_module(force=True)
class RandomTeacher(FrozenTeacher):
    """A teacher with random weights that are initialised before its first forward pass.

    Its outputs must be bitwise equal to those of a pass in which no module is skipped.
    """

    def prepare(self, student: Any) -> None:
        super().prepare(student)
        initialise(self.model)

    def observe(self, *args: Any) -> Dict[str, Answers]:
        with preserved_rng():  # some models draw random numbers also in eval mode
            torch.manual_seed(0)
            told = super().observe(*args)
            if args[1] is None or self.runs_whole:  # the dry run
                return told
            self.runs_whole = True
            torch.manual_seed(0)
            whole = super().observe(*args)
            self.runs_whole = False
        for key, answers in whole.items():
            for point, answer in answers.items():
                assert all(map(torch.equal, told[key][point].tensors(), answer.tensors())), (
                    f'a part of the teacher that `{point.name}` depends on was left out')
        return told


@contextlib.contextmanager
def memory_marked() -> Iterator[None]:
    """Context manager in which uninitialized memory holds NaN."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def batch_that_fits(model: Any) -> Dict[str, Any]:
    """Make a batch of the smallest image size that the student accepts."""
    model.train()
    MessageHub.get_current_instance().update_info('epoch', 0)  # TOOD reads it, as in a run
    sizes = list(dict.fromkeys([*((side, side) for side in IMAGE_SIZES),
                                *sizes_of_model(model.student)]))
    for size in sizes:
        with unpadded(model.data_preprocessor):
            batch = model.data_preprocessor(made_up_batch(
                model, *size, proposals=FEWER['num_proposals']), training=True)
        try:
            model.student(**copy.deepcopy(batch), mode='loss')
            break
        except Exception:
            if size == sizes[-1]:
                raise
    return batch


@contextlib.contextmanager
def unpadded(preprocessor: Any) -> Iterator[None]:
    """Context manager in which images are not padded to the size of training."""
    before = dict(vars(preprocessor)), dict(preprocessor._modules)
    preprocessor._modules.pop('batch_augments', None)
    preprocessor.batch_augments = None  # these pad to 1024 pixels, or resize at random
    if getattr(preprocessor, 'size', None) is not None:
        preprocessor.size, preprocessor.size_divisor = None, 32
    try:
        yield
    finally:
        preprocessor.__dict__.update(before[0])
        preprocessor._modules.update(before[1])
        if 'batch_augments' in before[1]:
            del preprocessor.__dict__['batch_augments']


def step(model: Any, batch: Dict[str, Any]) -> None:
    """Train one step, and check which parameters get gradients."""
    before = [p.clone() for p in model.teacher.model.parameters()]
    torch.manual_seed(0)
    np.random.seed(0)  # RoI samplers use this generator
    losses = model(**copy.deepcopy(batch), mode='loss')
    for name in ('loss_cls_dist', 'loss_cls_kd'):
        term = sum(losses[name])
        assert torch.isfinite(term), f'{name} is {term.item()}'
        assert term > 0, f'{name} is {term.item()}, as if the teacher were the student'
        if name not in TRACED:
            continue
        trained = {path: p for path, p in model.named_parameters() if p.requires_grad}
        found = torch.autograd.grad(term, list(trained.values()), retain_graph=True,
                                    allow_unused=True)
        touched = {path.split('.')[0] for path, gradient in zip(trained, found)
                   if gradient is not None and gradient.any()}
        features = touched & {'backbone', 'image_encoder'}
        assert features, f'{name} gives the backbone no gradient, only {sorted(touched)}'
        assert touched - features - {'neck'}, f'{name} gives the head no gradient'
    total, _ = model.parse_losses(losses)
    total.backward()
    torch.optim.SGD([p for p in model.parameters() if p.grad is not None], lr=1e-4).step()
    teacher = list(model.teacher.model.parameters())
    assert all(p.grad is None for p in teacher), 'the teacher has gradients'
    assert all(torch.equal(a, b) for a, b in zip(before, teacher)), 'the teacher has changed'


NOT_LISTED = re.compile(r'\.(\d+|all)$|^(features|centerness)$')
"""Points that the page does not list: parts and collections of other points, and two that every
model with 'cls' has."""


def look_at_points(model: Any, outcome: Outcome) -> None:
    """Check every point, and 'cls' with a teacher that gets the image in another size."""
    distillation = model.distillation
    model.teacher.runs_whole = True  # the search for idle modules would take too long
    outcome.points = [name + ('*' if found.connectors else '')
                      for name, found in trials(distillation)
                      if isinstance(found, Term) and not NOT_LISTED.search(name)]
    point = model.terms[0].student_point
    if point.asked_at or point.queries:
        outcome.other_stride = 'any'
        return
    outcome.other_stride = 'no'
    with torch.no_grad(), contextlib.suppress(Exception):
        model.eval()
        for size in IMAGE_SIZES[1:]:
            images = [blank_image(model.student, (side, side)) for side in (size, 2 * size)]
            seen = {'student': distillation.probe.predicted('student', images[0])}
            told = distillation.ask(seen, images[1], None, model.terms[:1])
            fit_term(model.terms[0], seen['student'], told_to(model.terms[0], told),
                     Batch(images[1], None), model.student, (size, size))
            outcome.other_stride = 'interpolated' if point.is_map else 'levels in common'
            break


def head_of(model: Any) -> str:
    """Return the class name of the head that predicts classes."""
    for path in ('roi_head.bbox_head', 'panoptic_head', 'bbox_head', 'mask_head', 'decode_head',
                 'rpn_head'):
        with contextlib.suppress(AttributeError):
            head = model.get_submodule(path)
            while isinstance(head, nn.ModuleList):
                head = head[-1]
            kinds = [type(head).__name__]
            if path.startswith('roi_head'):
                kinds.insert(0, type(model.roi_head).__name__)
            return ' / '.join(kinds)
    return type(model).__name__


# --- configs ------------------------------------------------------------------------------------


def walk(config: Any) -> Iterator[Dict[str, Any]]:
    """Yield every dict inside a config."""
    if isinstance(config, dict):
        yield config
    for value in config.values() if isinstance(config, dict) else config if isinstance(
            config, (list, tuple)) else ():
        yield from walk(value)


def shrink(model: ConfigDict) -> ConfigDict:
    """Return the config with smaller settings, if they keep the structure of the model."""
    model = copy.deepcopy(model)
    for part in walk(model):
        for name in ('init_cfg', 'pretrained', 'checkpoint_file'):
            if part.get(name) is not None and (name != 'init_cfg' or 'checkpoint' in str(part)):
                part[name] = None
        for name, value in FEWER.items():
            if isinstance(part.get(name), int) and part[name] > value:
                part[name] = value
        if part.get('use_torchvision'):  # mmcv's own operator is equivalent
            part['use_torchvision'] = False
        if part.get('type') in ('SyncBN', 'MMSyncBN'):  # only for several GPUs
            part['type'] = 'BN'
        if part.get('type') == 'RandomSampler' and isinstance(part.get('num'), int):
            part['num'] = 32
    if 'text_encoder' in model:  # each class is encoded with many sentences
        model['text_encoder'].update(templates=['a photo of a {}.'], num_layers=2)
    backbone = model.get('backbone') or {}
    # only as many layers as outputs
    if backbone.get('type') in ('BEiT', 'MAE', 'VisionTransformer'):
        taken = backbone.get('out_indices', -1)
        count = len(taken) if isinstance(taken, (list, tuple)) else 1
        backbone.update(num_layers=max(count, 2),
                        out_indices=tuple(range(count)) if count > 1 else -1)
    # these take only large images, so the width dominates the time
    if backbone.get('type') in ('BEiT', 'MAE'):
        width = 96
        backbone.update(embed_dims=width, num_heads=3)
        model['neck']['embed_dim'] = width
        model['decode_head'].update(in_channels=[width] * 4, channels=32)
        model['auxiliary_head'].update(in_channels=width, channels=32)
    for part in ('encoder', 'decoder'):
        if isinstance(model.get(part), dict) and model[part].get('num_layers', 0) > 2:
            model[part]['num_layers'] = 2
            if model[part].get('num_cp', 0) > 2:  # number of layers with activation checkpointing
                model[part]['num_cp'] = 2
    return model


def deeper(student: ConfigDict) -> ConfigDict:
    """Return the teacher's config: a deeper backbone if channels stay the same, else the
    student's.
    """
    teacher = copy.deepcopy(student)
    backbone = teacher.get('backbone') or {}
    depth = backbone.get('depth')
    kind = str(backbone.get('type', ''))
    if kind.startswith(('ResNe', 'TridentResNet', 'Res2Net', 'DetectoRS')) and depth == 50:
        backbone['depth'] = 101
    elif kind == 'SwinTransformer' and list(backbone.get('depths', ())) == [2, 2, 6, 2]:
        backbone['depths'] = [2, 2, 8, 2]
    return teacher


def difference(student: ConfigDict, teacher: ConfigDict) -> str:
    """Describe how the teacher differs from the student."""
    for name in ('depth', 'depths'):
        one, other = (side.get('backbone', {}).get(name) for side in (student, teacher))
        if one != other:
            return f'{name} {other} over {one}'
    return 'the same'


# --- page ---------------------------------------------------------------------------------------


def summary_of(outcomes: List[Outcome]) -> str:
    parts = []
    for package in PACKAGES:
        own = [one for one in outcomes if one.folder.startswith(f'{package}::')]
        built = [one for one in own if one.is_buildable]
        passed = [one for one in built if not one.problem]
        if own:
            parts.append(f'{package}: {len(passed)} of {len(built)} folders that can be built '
                         f'pass ({len(own)} folders)')
    return '; '.join(parts)


def page_of(outcomes: List[Outcome]) -> str:
    """Return the text of docs/zoo.md."""
    import mmdet
    import mmseg
    versions = (f'mmdet {mmdet.__version__}, mmseg {mmseg.__version__}, '
                f'torch {torch.__version__.split("+")[0]}, mmkd {mmkd.__version__}')
    lines = [
        '# The zoo', '',
        'This page lists the models that mmkd was tested with. `python benchmarks/cover_zoo.py` '
        'trains one config of every folder and writes the page; its docstring says what a folder '
        'must do to pass.', '',
        f'{summary_of(outcomes)}. With {versions}.', '',
        '- *points*: the points that can be compared with this teacher; `*` means through a '
        "connector. Not listed: 'cls.0' and the like, 'cls.all' and the like, 'features' of "
        "segmentors, 'centerness'.",
        "- *other stride*: what happens to 'cls' if the teacher's maps are twice as large. "
        "*interpolated*: the teacher's map is resized. *levels in common*: only levels of equal "
        "size are compared. *any*: the stride does not matter, because the teacher is run on the "
        "student's RoIs, or queries are paired. *no*: the pair cannot be compared.", '']
    for package in PACKAGES:
        own = [one for one in outcomes if one.folder.startswith(f'{package}::')]
        if not own:
            continue
        lines += [f'## {package}', '',
                  '| folder | config | head | family | teacher | points | other stride |',
                  '|---|---|---|---|---|---|---|']
        for one in own:
            if not one.problem:
                points = ' '.join(f'`{name}`' for name in one.points)
                lines.append(f'| {one.folder.split("::")[1]} | {one.config} | {one.head} | '
                             f'{one.family} | {one.teacher} | {points} | {one.other_stride} |')
        for title, is_buildable in (('Not covered', True), ('Cannot be built here', False)):
            left = [one for one in own if one.problem and one.is_buildable == is_buildable]
            if left:
                lines += ['', f'{title}:', '']
                lines += [f'- {one.folder.split("::")[1]} ({one.config}): {one.problem}'
                          for one in left]
        lines.append('')
    return '\n'.join(lines)


if __name__ == '__main__':
    sys.exit(main())
