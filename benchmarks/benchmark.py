"""Measure the time and memory of distillation steps and losses in one run.

    python benchmarks/benchmark.py --student mmdet::retinanet/retinanet_r18_fpn_1x_coco.py \
        --teacher mmdet::retinanet/retinanet_r50_fpn_1x_coco.py --fast --losses
    python benchmarks/benchmark.py configs/ps_kd/retinanet_r18_bccd.py \
        configs/byot/retinanet_r18_bccd.py

The first form builds the distillations of a pair of plain configs, by --methods; the second takes
distillation configs of the same student. Images, annotations and weights are random, because they
do not change the amount of work. The parts (the step of the plain student, the complete forward of
the teacher, the step of each distillation) are run in turn, so that other load on the machine
affects all of them equally. The results are medians over the rounds, and ratios. Memory is measured
in a separate process per part. Output: `benchmark.json` and `benchmark.md` in the work dir.
"""
import argparse
import atexit
import copy
import cProfile
import gc
import json
import os
import pstats
import shutil
import subprocess
import sys
import tempfile
import time
from difflib import get_close_matches
from functools import partial
from itertools import count
from statistics import median
from typing import Any, Callable, Dict, List, Optional

import tools_on_path  # noqa: F401
import torch
from command import Parser, last_words, run
from common import NONE, Options, check_checkpoint, read_config
from first_stages import random_first_stages
from loss_calls import (
    LOSSES,
    has_two_forms,
    is_of_logits,
    loss_of,
    names_of_losses,
    nothing_at,
    prepared,
)
from made_up import initialise, made_up_batch
from mmengine.config import Config, ConfigDict
from mmengine.logging import MessageHub, MMLogger
from mmengine.model import BaseModel
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from peer import LOSSES as MMRAZOR_LOSSES
from peer import import_mmrazor, mmrazor_model
from tqdm import tqdm

import mmkd
from mmkd.core.fields import VIEW
from mmkd.inspection import entries_of, inspect_pair
from mmkd.losses import METHODS, DistillLoss
from mmkd.networks.frozen import model_config
from mmkd.training.beside import join_optimizer

STRAIGHTFORWARD, COMPILED, OURS = 'straightforward', 'torch.compile', 'mmkd'
TRAFFIC = 'read and write'
GIVE_BACK = dict(MALLOC_MMAP_THRESHOLD_='65536')
"""Setting of glibc. Freed memory is returned to the system, so that the measured peak does not
include memory that the allocator keeps for later."""
PACKAGE = os.path.dirname(mmkd.__file__)
FAST = dict(fuse=True, channels_last=True, precision='bf16')
STUDENT, TEACHER, MMRAZOR = 'student alone', 'teacher, whole forward', 'MMRazor'
WITHOUT = 'teacher observed'
"""Name of the part with the same entries and a loss that computes nothing."""


def parse_args() -> argparse.Namespace:
    parser = Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('configs', nargs='*', help='distillation configs of one student')
    parser.add_argument('--student', help='plain config, with --teacher')
    parser.add_argument('--teacher', help='plain config of the teacher')
    parser.add_argument('--teacher-checkpoint', help='trained weights of the teacher; random by '
                        'default, which does for times')
    parser.add_argument('--methods', nargs='+', default=['dist'],
                        help='with --student and --teacher: '
                        f'{", ".join(sorted(METHODS))}, or several '
                        "joined by '+'; dist by default")
    parser.add_argument('--fast', nargs='*', action=Options, metavar='SETTING=VALUE',
                        help='measure each also with faster settings of a frozen teacher; by '
                        'default ' + ' '.join(f'{key}={value}' for key, value in FAST.items()))
    parser.add_argument('--cached', action='store_true', help='and with its answers from a cache '
                        'on disk, which the rounds that do not count fill')
    parser.add_argument('--whole', action='store_true', help='and with a teacher that leaves out '
                        'nothing')
    parser.add_argument('--terms', action='store_true', help='and with losses that compute '
                        'nothing, so that the difference is what the losses take')
    parser.add_argument('--mmrazor', metavar='MODULE', help='and the same methods by MMRazor 1.0, '
                        'which compares what this module puts out, for instance '
                        'bbox_head.retina_cls; with --student and --teacher')
    parser.add_argument('--size', type=int, nargs=2, default=[512, 512], metavar=('H', 'W'),
                        help='of the images; 512 512 by default')
    parser.add_argument('--batch-size', type=int, default=2)
    parser.add_argument('--rounds', type=int, default=7, help='how often each part is timed')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--amp', choices=['bfloat16', 'float16'],
                        help='train in automatic mixed precision')
    parser.add_argument('--no-memory', action='store_true', help='times only')
    parser.add_argument('--no-times', action='store_true', help='memory of the steps only')
    parser.add_argument('--profile', action='store_true', help='also how much of each '
                        "distillation's step is mmkd's own code, beside networks and losses")
    parser.add_argument('--losses', nargs='*', metavar='LOSS',
                        help='also losses alone, against their straightforward form: names without '
                        "'Loss', or all; by default " + ' '.join(LOSSES))
    parser.add_argument('--compiled', action='store_true', help='with --losses: and against the '
                        'straightforward form by torch.compile')
    parser.add_argument('--loss-shape', type=int, nargs='+', default=[2, 720, 100, 168],
                        metavar='N', help='of the logits: N C H W; 2 720 100 168 by default, the '
                        'first level of RetinaNet for COCO')
    parser.add_argument('--feature-shape', type=int, nargs=4, default=[2, 256, 64, 64],
                        metavar='N', help='of the features that losses other than those of logits '
                        'compare; 2 256 64 64 by default')
    parser.add_argument('--work-dir', default='work_dirs/benchmark')
    parser.add_argument('--only', help=argparse.SUPPRESS)
    args = parser.parse_args()
    is_pair = bool(args.student and args.teacher)
    if args.losses is not None:
        every = names_of_losses()
        names = every if args.losses == ['all'] else args.losses or list(LOSSES)
        if not set(names) <= set(every):
            parser.error(f'--losses {" ".join(sorted(set(names) - set(every)))}: there are '
                         f'{", ".join(every)}; write some of these, or all')
        args.losses = names
    if bool(args.student or args.teacher) != is_pair or (is_pair and args.configs) or not (
            is_pair or args.configs or args.losses):
        parser.error('give distillation configs, or --student and --teacher, or only --losses')
    if args.mmrazor and not is_pair:
        parser.error('--mmrazor goes with --student and --teacher')
    if args.mmrazor and not set(args.methods) & set(MMRAZOR_LOSSES):
        parser.error(f'--mmrazor goes with the --methods {", ".join(MMRAZOR_LOSSES)}, but got '
                     f'{", ".join(args.methods)}')
    if args.no_times and (args.no_memory or args.losses or args.profile or not (
            is_pair or args.configs)):
        parser.error('--no-times goes with steps, and with none of --no-memory, --losses and '
                     '--profile')
    if args.compiled and not args.losses:
        parser.error('--compiled goes with --losses')
    if args.amp == 'float16' and args.device == 'cpu':
        parser.error('--amp float16 needs a GPU; on a CPU there is --amp bfloat16')
    if len(args.loss_shape) != 4:
        parser.error(f'--loss-shape is that of maps, N C H W, but got {args.loss_shape}')
    if args.teacher_checkpoint == NONE:
        args.teacher_checkpoint = None
    if args.teacher_checkpoint:
        check_checkpoint(args.teacher_checkpoint, '--teacher-checkpoint')
    if args.fast is not None:
        args.fast = args.fast or FAST
    return args


def main() -> None:
    args = parse_args()
    MMLogger.get_instance('benchmark', log_level='WARNING')
    MessageHub.get_current_instance().update_info('epoch', 0)  # TOOD reads it
    if args.only:
        return print(json.dumps(memory_of(args)))
    found: Dict[str, Any] = dict(machine=machine_of(args), command=' '.join(sys.argv[1:]))
    text = f'{found["machine"]}\n\n'
    if args.configs or args.student:
        found['steps'] = measure_steps(args)
        text += table_of_steps(found['steps']) + '\n'
        if args.profile:
            text += table_of_profiles(found['steps']['profiles']) + '\n'
    if args.losses:
        found['losses'] = measure_losses(args)
        text += table_of_losses(found['losses'], args)
    os.makedirs(args.work_dir, exist_ok=True)
    with open(os.path.join(args.work_dir, 'benchmark.json'), 'w') as file:
        json.dump(found, file, indent=1)
    with open(os.path.join(args.work_dir, 'benchmark.md'), 'w') as file:
        file.write(text)
    print(f'\n{text}\nWritten to {args.work_dir}')


# --- the parts ----------------------------------------------------------------------------------


def configs_of(args: argparse.Namespace) -> Dict[str, Config]:
    """Return the configs of the distillations to measure, by name."""
    if not args.student:
        configs = {}
        for path in args.configs:
            config = read_config(path)
            if 'student' not in config.model:
                raise SystemExit(f'{path} has no teacher; give a distillation config, or --student '
                                 'and --teacher')
            folder, file = os.path.split(os.path.abspath(path))
            # The folder of a scheme has its name. The folder of an experiment has a config per
            # method.
            is_experiment = os.path.isfile(os.path.join(folder, 'student.py'))
            configs[file.removesuffix('.py') if is_experiment else os.path.basename(folder)
                    ] = config
        return configs
    student, teacher = read_config(args.student), read_config(args.teacher)
    findings = inspect_pair(student, teacher)
    files, args.teacher_checkpoint = random_first_stages(
        args.methods, Config(without_weights(teacher)), findings.kinds, args.teacher_checkpoint)
    configs = {}
    for method in args.methods:
        config = copy.deepcopy(student)
        config.model = ConfigDict(
            type='mmkd.Distiller', student=model_config(student),
            teacher=dict(config=teacher), distill=entries_of(method, findings, files))
        configs[method] = config
    return configs


def without_weights(value: Any) -> Any:
    """Return the config as a dict with random weights, so that nothing is downloaded."""
    if isinstance(value, Config):
        return without_weights(value._cfg_dict.to_dict())
    if isinstance(value, (list, tuple)):
        return type(value)(without_weights(one) for one in value)
    if not isinstance(value, dict):
        return value
    value = {key: without_weights(one) for key, one in value.items()}
    start = value.get('init_cfg')
    if isinstance(start, dict) and start.get('type') == 'Pretrained':
        value['init_cfg'] = None
    if 'pretrained' in value:  # used by mmseg, which refuses to build a config with it twice
        value['pretrained'] = None
    if 'config' in value:  # a teacher or a companion
        if isinstance(value['config'], str):
            value['config'] = without_weights(read_config(value['config']))
        value['checkpoint'] = None
    return value


def with_options(config: Config, **options: Any) -> Config:
    """Return the config with other settings of its teacher."""
    config = copy.deepcopy(config)
    config.model.teacher.update(options)
    return config


def with_nothing(config: Config) -> Config:
    """Return the config with losses that compute nothing, at the same points."""
    config = copy.deepcopy(config)
    config.model.distill = [dict(nothing_at(entry), name=f'loss_nothing_{number}')
                            for number, entry in enumerate(config.model.distill)]
    return config


def parts_of(args: argparse.Namespace) -> Dict[str, Callable[[], Callable[[], Any]]]:
    """Return functions by part, which build the part and return the function to time."""
    configs = configs_of(args)
    configs = {name: Config(without_weights(config)) for name, config in configs.items()}
    first = next(iter(configs.values()))
    parts: Dict[str, Callable] = {STUDENT: partial(step_of, args, first, model_config(first))}
    teacher = first.model.get('teacher') or {}
    if 'config' in teacher:
        parts[TEACHER] = partial(forward_of, args, Config(teacher['config']))
    for name, config in configs.items():
        forms: Dict[str, Config] = {name: config}
        is_frozen = 'config' in (config.model.get('teacher') or {})
        if is_frozen and args.teacher_checkpoint:
            forms[name] = config = with_options(config, checkpoint=args.teacher_checkpoint)
        if is_frozen and args.cached:
            folder = tempfile.mkdtemp(prefix='mmkd_cache_')
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
            forms[f'{name}, answers from a cache'] = with_options(
                config, type='mmkd.CachedTeacher', cache=folder)
        if is_frozen and args.fast:
            settings = ', '.join(f'{key}={value}' for key, value in args.fast.items())
            forms[f'{name}, teacher with {settings}'] = with_options(config, **args.fast)
        for form, one in forms.items():
            parts[form] = partial(step_of, args, one, one.model)
        if is_frozen and args.terms:
            nothing = with_nothing(config)
            parts[f'{name}, {WITHOUT}'] = partial(step_of, args, nothing, nothing.model)
        if is_frozen and args.whole:
            parts[f'{name}, whole teacher'] = partial(step_of, args, config, config.model, True)
        if args.mmrazor and name in MMRAZOR_LOSSES:
            parts[f'{MMRAZOR}, {name}'] = partial(mmrazor_step_of, args, config, name)
    return parts


def build(config: Config, model: Any, args: argparse.Namespace) -> Any:
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(config.get('default_scope')):
        model = MODELS.build(copy.deepcopy(model))  # DETR changes the config of its head
        initialise(getattr(model, 'student', model))
        if isinstance(getattr(model, 'teacher', None), BaseModel):  # in MMRazor's model
            initialise(model.teacher)
        model.to(args.device).train()
        if getattr(model.data_preprocessor, 'size', None):  # mmseg pads to this size
            model.data_preprocessor.size = tuple(args.size)
        if hasattr(model, 'distillation'):
            model.prepare()
    return model


def step_of(args: argparse.Namespace, config: Config, model: Any,
            runs_whole: bool = False) -> Callable[[], Any]:
    """Return a function that runs a training step: data preprocessor, losses, backward, optimizer.
    """
    model = build(config, model, args)
    settings = copy.deepcopy(config.optim_wrapper)
    settings.optimizer.lr = 1e-9  # small, because training on random labels could diverge
    if args.amp:
        settings.update(dict(type='AmpOptimWrapper', dtype=args.amp) if args.device != 'cpu' else
                        dict(type='mmkd.BFloat16OptimWrapper'))
    optimizer = build_optim_wrapper(getattr(model, 'student', model), settings)
    batch = made_up_batch(getattr(model, 'student', model), *args.size, args.batch_size)
    distillation = getattr(model, 'distillation', None)
    if distillation is None:
        return lambda: (model.train_step(copy.deepcopy(batch), optimizer), {})[1]
    join_optimizer(distillation.trained_beside, optimizer)
    for network in distillation.networks.values():
        network.runs_whole = runs_whole
        if network.view is not None:
            for image, sample in zip(batch['inputs'], batch['data_samples']):
                sample.set_data({VIEW.format(network.view): image})
    distillation.begin()
    distillation.after_epoch(1)  # EarlierSelf teaches from the second epoch on
    number = count(1)
    beside = sum(one.numel() for one in distillation.trained_beside)

    def step() -> Any:
        # MMEngine's hooks would do this in a run.
        logged = BaseModel.train_step(model, copy.deepcopy(batch), optimizer)
        distillation.after_iter(next(number))
        return {name: value.item() for name, value in logged.items()
                if any(name.startswith(term.name) for term in model.terms)}

    step.parameters = beside  # type: ignore[attr-defined]
    return step


def mmrazor_step_of(args: argparse.Namespace, config: Config, method: str) -> Callable[[], Any]:
    """Return the training step of MMRazor's distillation of the same pair."""
    import_mmrazor()
    student, teacher = model_config(config), model_config(Config(config.model.teacher.config))
    model = build(config, student, args)
    modules = dict(model.named_modules())
    if args.mmrazor not in modules:
        nearest = get_close_matches(args.mmrazor, modules)
        raise SystemExit(f'--mmrazor {args.mmrazor}: the student has no such module' + (
            f'; close to it are {", ".join(nearest)}' if nearest else ''))
    calls: List[None] = []
    modules[args.mmrazor].register_forward_hook(lambda *_: calls.append(None))
    with torch.no_grad():
        batch = made_up_batch(model, *args.size, args.batch_size)
        model(**model.data_preprocessor(batch, True), mode='tensor')
    if not calls:
        raise SystemExit(f'--mmrazor {args.mmrazor}: this module does not run by itself, so '
                         'MMRazor has nothing to record; give one that does, such as a convolution')
    return step_of(args, config, mmrazor_model(student, teacher, method, args.mmrazor, len(calls)))


def forward_of(args: argparse.Namespace, config: Config) -> Callable[[], Any]:
    """Return the complete forward of the teacher, without gradient."""
    model = build(config, model_config(config), args).eval().requires_grad_(False)
    # The student's step already includes the data preprocessor.
    data = model.data_preprocessor(made_up_batch(model, *args.size, args.batch_size), True)

    def forward() -> Any:
        dtype = getattr(torch, args.amp) if args.amp else None
        with torch.no_grad(), torch.autocast(args.device, dtype, enabled=bool(args.amp)):
            model(**data, mode='tensor')
        return {}

    return forward


# --- steps --------------------------------------------------------------------------------------


def measure_steps(args: argparse.Namespace) -> Dict[str, Any]:
    """Measure seconds and memory of every part."""
    makers = parts_of(args)
    if args.no_times:
        return dict(memory=memories_of(makers))
    parts = {name: make() for name, make in makers.items()}
    terms: Dict[str, Any] = {}
    seconds = timed(parts, args, terms)
    profiles = {name: profile(part) for name, part in parts.items()
                if args.profile and not name.startswith((STUDENT, TEACHER, MMRAZOR))}
    parameters = {name: getattr(part, 'parameters', 0) for name, part in parts.items()}
    del parts
    gc.collect()
    memory = {} if args.no_memory else memories_of(makers)
    return dict(seconds=seconds, memory=memory, terms=terms, profiles=profiles,
                parameters=parameters)


def memories_of(makers: Dict[str, Any]) -> Dict[str, Dict[str, float]]:
    return {name: in_a_process(name) for name in makers if not name.endswith(WITHOUT)}


def timed(parts: Dict[str, Callable], args: argparse.Namespace,
          last: Optional[Dict[str, Any]] = None) -> Dict[str, List[float]]:
    """Measure the seconds of every part in every round, after two warm-up rounds.

    ``last`` receives the return value of each part in the last round.
    """
    last = {} if last is None else last
    seconds: Dict[str, List[float]] = {name: [] for name in parts}
    for number in tqdm(range(args.rounds + 2), desc='rounds', ncols=100):
        for name, part in parts.items():
            wait_for(args.device)
            begin = time.perf_counter()
            last[name] = part()
            wait_for(args.device)
            if number >= 2:
                seconds[name].append(time.perf_counter() - begin)
    return seconds


def profile(step: Callable[[], Any], steps: int = 5) -> Dict[str, float]:
    """Shares of a step that are spent in mmkd's own files, without the losses.

    Includes the time in their functions and in built-in functions that these call directly, such as
    torch's operators, but not in networks that they call.
    """
    observer = cProfile.Profile()
    for _ in range(steps):
        observer.runcall(step)
    stats = pstats.Stats(observer).stats  # type: ignore[attr-defined]
    whole = sum(own for _, _, own, _, _ in stats.values())
    shares: Dict[str, float] = {}
    for (file, _, _), (_, _, own, _, callers) in stats.items():
        spent = [(file, own)] if file != '~' else [
            (caller, one[2]) for (caller, _, _), one in callers.items()]
        for place, seconds in spent:
            inside = os.path.relpath(place, PACKAGE)
            if not inside.startswith(('..', 'losses')) and os.path.isabs(place):
                shares[inside] = shares.get(inside, 0.) + seconds / whole
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def wait_for(device: str) -> None:
    if device.startswith('cuda'):
        torch.cuda.synchronize()


def in_a_process(name: str) -> Dict[str, float]:
    """Memory of a part, measured in a separate process."""
    found = subprocess.run([sys.executable, '-W', 'ignore', *sys.argv, '--only', name],
                           capture_output=True, text=True, env=dict(os.environ, **GIVE_BACK))
    if found.returncode:
        raise SystemExit(f'measuring the memory of {name} failed:\n{last_words(found.stderr)}')
    result: Dict[str, float] = json.loads(found.stdout.strip().splitlines()[-1])
    return result


def memory_of(args: argparse.Namespace) -> Dict[str, float]:
    """Peak memory in MiB, beyond that of the process at its start."""
    loss, _, form = args.only.partition('/')
    if form:
        if form == COMPILED:  # the memory of the compiler does not count
            small = argparse.Namespace(**{**vars(args), 'loss_shape': [1, 2, 3, 4],
                                          'feature_shape': [1, 32, 4, 4]})
            loss_step(small, loss, form)()
            torch._dynamo.reset()
        part = loss_step(args, loss, form)
        before = peak(args.device)
        part()
        return dict(peak=peak(args.device) - before)
    before = peak(args.device)
    part = parts_of(args)[args.only]()
    weights = peak(args.device) - before
    # What was in use while the entries were made and the models built does not count.
    gc.collect()
    reset_peak(args.device)
    for _ in range(3):
        part()
    return dict(peak=peak(args.device) - before, built=weights)


def peak(device: str) -> float:
    """Peak in MiB: of the allocator on a GPU, of the resident memory of the process on a CPU."""
    if device.startswith('cuda'):
        return torch.cuda.max_memory_allocated() / 2**20
    # `ru_maxrss` starts with the value of the parent process
    with open('/proc/self/status') as file:
        return next(int(line.split()[1]) for line in file if line.startswith('VmHWM:')) / 2**10


def reset_peak(device: str) -> None:
    """Let :func:`peak` begin again, at the memory in use."""
    if device.startswith('cuda'):
        torch.cuda.reset_peak_memory_stats()
    else:
        with open('/proc/self/clear_refs', 'w') as file:
            file.write('5')


def table_of_steps(found: Dict[str, Any]) -> str:
    if 'seconds' not in found:
        return as_table([['part', 'peak memory / student alone'], *(
            [name, f'{own["peak"] / found["memory"][STUDENT]["peak"]:.2f}']
            for name, own in found['memory'].items())])
    seconds = {name: median(values) for name, values in found['seconds'].items()}
    student, teacher, memory = seconds[STUDENT], seconds.get(TEACHER), found['memory']
    rows = [['part', 'time / student alone', 'time / (student alone + whole teacher)',
             'peak memory / student alone', 'terms differ by']]
    for name, own in seconds.items():
        is_distilled = name not in (STUDENT, TEACHER)
        exact = found['terms'].get(name.split(',')[0])
        moved = [abs(value / exact[key] - 1) for key, value in found['terms'][name].items()
                 if exact and exact.get(key)] if is_distilled and ',' in name else []
        rows.append([
            name, f'{own / student:.2f}',
            f'{own / (student + teacher):.2f}' if teacher and is_distilled else '',
            f'{memory[name]["peak"] / memory[STUDENT]["peak"]:.2f}' if name in memory else '',
            f'{max(moved):.1e}' if moved else ''])
    return as_table(rows)


def table_of_profiles(profiles: Dict[str, Dict[str, float]]) -> str:
    rows = [["mmkd's own code, share of the step", 'all', 'most of it']]
    for name, shares in profiles.items():
        most = [f'{file} {share:.2%}' for file, share in list(shares.items())[:3]]
        rows.append([name, f'{sum(shares.values()):.2%}', ', '.join(most)])
    return as_table(rows)


# --- losses alone -------------------------------------------------------------------------------


def loss_step(args: argparse.Namespace, name: str, form: str) -> Callable[[], Any]:
    """Value and gradient of a loss in one of its :func:`forms`."""
    generator = torch.Generator().manual_seed(0)
    loss = loss_of(name)
    assert loss is not None, name
    student, teacher = (torch.randn(shape_of(args, loss), generator=generator).to(args.device)
                        for _ in range(2))
    student.requires_grad_()
    value: Any = prepared(loss, student, teacher, generator,
                          form != OURS and has_two_forms(loss))
    if form == COMPILED:
        value = torch.compile(value)

    def step() -> None:
        student.grad = None
        value(student, teacher).backward()

    return step


def shape_of(args: argparse.Namespace, loss: DistillLoss) -> List[int]:
    shape: List[int] = args.loss_shape if is_of_logits(loss) else args.feature_shape
    return shape


def measure_losses(args: argparse.Namespace) -> Dict[str, Any]:
    """Seconds and memory of every loss, in both forms."""
    losses = {name: loss for name, loss in ((one, loss_of(one)) for one in args.losses) if loss}
    seconds: Dict[str, List[float]] = {}
    memory: Dict[str, float] = {}
    # one after another, so that only the tensors of one loss exist
    for name, loss in losses.items():
        its = {f'{name}/{form}': loss_step(args, name, form) for form in forms(args, loss)}
        its[f'{name}/{TRAFFIC}'] = traffic_of(args, loss)
        seconds.update(timed(its, args))
        names = [one for one in its if not one.endswith(TRAFFIC)]
        del its
        gc.collect()
        size = 4 * torch.Size(shape_of(args, loss)).numel() / 2**20
        if not args.no_memory:
            memory.update((one, in_a_process(one)['peak'] / size) for one in names)
    return dict(seconds=seconds, memory=memory,
                left_out=[name for name in args.losses if name not in losses])


def forms(args: argparse.Namespace, loss: DistillLoss) -> List[str]:
    """The forms of a loss that are measured."""
    return [*[STRAIGHTFORWARD] * has_two_forms(loss), *[COMPILED] * args.compiled, OURS]


def traffic_of(args: argparse.Namespace, loss: DistillLoss) -> Callable[[], Any]:
    """The minimum for any form: read both inputs twice, and write a gradient."""
    a, b = (torch.randn(shape_of(args, loss), device=args.device) for _ in range(2))
    gradient = torch.empty_like(a)

    def step() -> None:
        a.sum()
        b.sum()
        torch.add(a, b, out=gradient)

    return step


def table_of_losses(found: Dict[str, Any], args: argparse.Namespace) -> str:
    seconds = {name: median(values) for name, values in found['seconds'].items()}
    others = [STRAIGHTFORWARD, *[COMPILED] * args.compiled]
    rows = [['loss', *[f'{form} / mmkd, time' for form in others], 'mmkd / memory traffic, time',
             *[f'memory, {form}' for form in [*others, OURS] if found['memory']]]]
    for name in (one for one in args.losses if f'{one}/{OURS}' in seconds):
        own = seconds[f'{name}/{OURS}']
        rows.append([name, *[_shown(seconds.get(f'{name}/{form}', 0.) / own) for form in others],
                     f'{own / seconds[f"{name}/{TRAFFIC}"]:.1f}',
                     *[_shown(found['memory'].get(f'{name}/{form}', 0.))
                       for form in [*others, OURS] if found['memory']]])
    return (f'Logits {tuple(args.loss_shape)}, features {tuple(args.feature_shape)}, forward and '
            'backward; memory in sizes of the input of one side, beyond both inputs, gradient '
            f'included; – where a loss has one form.\n\n{as_table(rows)}' + (
                f'\nNot called on two maps alone: {", ".join(found["left_out"])}.\n'
                if found['left_out'] else ''))


def _shown(value: float) -> str:
    return f'{value:.1f}' if value else '–'


# --- output -------------------------------------------------------------------------------------


def as_table(rows: List[List[str]]) -> str:
    return ''.join(f'| {" | ".join(row)} |\n'
                   for row in [rows[0], ['---'] * len(rows[0]), *rows[1:]])


def machine_of(args: argparse.Namespace) -> str:
    """The machine and its software."""
    if args.device.startswith('cuda'):
        kind = torch.cuda.get_device_name()
    else:
        kind = f'CPU, {torch.get_num_threads()} threads, ' + (cpu_name() or 'unknown')
    steps = (f'; images {args.size[0]}x{args.size[1]}, batch size {args.batch_size}, '
             f'{args.amp or "float32"}' if args.configs or args.student else '')
    return f'{kind}; torch {torch.__version__}{steps}; medians of {args.rounds} rounds.'


def cpu_name() -> Optional[str]:
    try:
        with open('/proc/cpuinfo') as file:
            return next((line.split(':')[1].strip() for line in file
                         if line.startswith('model name')), None)
    except OSError:
        return None


if __name__ == '__main__':
    run(main)
