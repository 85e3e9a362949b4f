"""Training steps of the plain student and of distillations, and the forward of the teacher.

A part, such as the step of a distillation, is built once, and then runs with each batch size and
precision.
"""
import argparse
import atexit
import copy
import cProfile
import gc
import os
import pstats
import shutil
import tempfile
from difflib import get_close_matches
from functools import partial
from itertools import count
from statistics import median
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Tuple

import tools_on_path  # noqa: F401
import torch
from common import read_config
from first_stages import random_first_stages
from loss_calls import nothing_at
from made_up import initialise, made_up_batch
from measuring import allocated, as_table, in_a_process, peak, peak_of, reset_peak, timed
from mmengine.config import Config, ConfigDict
from mmengine.model import BaseModel
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from peer import LOSSES as MMRAZOR_LOSSES
from peer import import_mmrazor, mmrazor_model

import mmkd
from mmkd.core.fields import VIEW
from mmkd.inspection import entries_of, inspect_pair
from mmkd.networks.frozen import model_config
from mmkd.training.beside import join_optimizer

PACKAGE = os.path.dirname(mmkd.__file__)
STUDENT, TEACHER, MMRAZOR = 'student alone', 'teacher, whole forward', 'MMRazor'
WITHOUT = 'teacher observed'
"""Name of the part with the same entries and a loss that computes nothing."""
FLOAT32 = 'float32'


class Setting(NamedTuple):
    """Batch size and precision of a step."""
    batch_size: int
    amp: str
    """'float32', or the dtype of automatic mixed precision."""

    def __str__(self) -> str:
        return f'batch size {self.batch_size}, {self.amp}'


Step = Callable[[], Any]
Part = Callable[[Setting], Step]
"""A part that is built, and returns what to time with a setting."""


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


def parts_of(args: argparse.Namespace) -> Dict[str, Callable[[], Part]]:
    """Return functions by part, which build the part."""
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
            runs_whole: bool = False) -> Part:
    """Build a training step: data preprocessor, losses, backward, optimizer."""
    model = build(config, model, args)
    distillation = getattr(model, 'distillation', None)
    if distillation is not None:
        for network in distillation.networks.values():
            network.runs_whole = runs_whole
        distillation.begin()
        distillation.after_epoch(1)  # EarlierSelf teaches from the second epoch on
    number = count(1)

    def at(setting: Setting) -> Step:
        # BFloat16OptimWrapper of an earlier setting has made the weights channels-last.
        model.to(memory_format=torch.contiguous_format)
        optimizer = build_optim_wrapper(getattr(model, 'student', model),
                                        optimizer_of(config, setting, args.device))
        batch = made_up_batch(getattr(model, 'student', model), *args.size, setting.batch_size)

        def data() -> Any:
            # A step may change annotations, and no image. What goes to a GPU is a copy already.
            if args.device != 'cpu':
                return batch
            return dict(batch, data_samples=copy.deepcopy(batch['data_samples']))

        if distillation is None:
            return lambda: (model.train_step(data(), optimizer), {})[1]
        join_optimizer(distillation.trained_beside, optimizer)
        for network in distillation.networks.values():
            if network.view is not None:
                for image, sample in zip(batch['inputs'], batch['data_samples']):
                    sample.set_data({VIEW.format(network.view): image})

        def step() -> Any:
            # MMEngine's hooks would do this in a run.
            logged = BaseModel.train_step(model, data(), optimizer)
            distillation.after_iter(next(number))
            return {name: value.item() for name, value in logged.items()
                    if any(name.startswith(term.name) for term in model.terms)}

        return step

    at.parameters = sum(  # type: ignore[attr-defined]
        one.numel() for one in distillation.trained_beside) if distillation is not None else 0
    return at


def optimizer_of(config: Config, setting: Setting, device: str) -> Any:
    """Return the config's optimizer, for a precision."""
    settings = copy.deepcopy(config.optim_wrapper)
    settings.optimizer.lr = 1e-9  # small, because training on random labels could diverge
    if setting.amp == FLOAT32:
        return settings
    if device == 'cpu':
        settings.update(type='mmkd.BFloat16OptimWrapper')
    else:
        settings.update(type='AmpOptimWrapper', dtype=setting.amp)
        if setting.amp == 'float16':  # the default of 65536 overflows at first, without a step
            settings.update(loss_scale=dict(init_scale=512.))
    return settings


def mmrazor_step_of(args: argparse.Namespace, config: Config, method: str) -> Part:
    """Build the training step of MMRazor's distillation of the same pair."""
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
        batch = made_up_batch(model, *args.size, 1)
        model(**model.data_preprocessor(batch, True), mode='tensor')
    if not calls:
        raise SystemExit(f'--mmrazor {args.mmrazor}: this module does not run by itself, so '
                         'MMRazor has nothing to record; give one that does, such as a convolution')
    return step_of(args, config, mmrazor_model(student, teacher, method, args.mmrazor, len(calls)))


def forward_of(args: argparse.Namespace, config: Config) -> Part:
    """Build the complete forward of the teacher, without gradient."""
    model = build(config, model_config(config), args).eval().requires_grad_(False)

    def at(setting: Setting) -> Step:
        # The student's step already includes the data preprocessor.
        data = model.data_preprocessor(
            made_up_batch(model, *args.size, setting.batch_size), True)

        def forward() -> Any:
            is_mixed = setting.amp != FLOAT32
            dtype = getattr(torch, setting.amp) if is_mixed else None
            with torch.no_grad(), torch.autocast(args.device, dtype, enabled=is_mixed):
                model(**data, mode='tensor')
            return {}

        return forward

    return at


# --- measuring ----------------------------------------------------------------------------------


def settings_of(args: argparse.Namespace) -> List[Setting]:
    return [Setting(size, amp) for size in args.batch_size for amp in args.amp]


def measure_steps(args: argparse.Namespace) -> Iterator[Tuple[Setting, Dict[str, Any]]]:
    """Measure seconds and memory of every part, with one setting after another.

    The memory of a part is measured in a process of its own on a CPU. On a GPU it is the memory of
    its models, and what a step needs beyond all that exists, without the state of the optimizer.
    """
    makers = parts_of(args)
    on_gpu = args.device.startswith('cuda')
    if args.no_times and not on_gpu:
        for setting in settings_of(args):
            yield setting, dict(memory=memories_of(makers, setting))
        return
    parts: Dict[str, Part] = {}
    models: Dict[str, float] = {}
    for name, make in makers.items():
        before = allocated(args.device)
        parts[name] = make()
        models[name] = allocated(args.device) - before
    for setting in settings_of(args):
        steps = {name: part(setting) for name, part in parts.items()}
        found: Dict[str, Any] = dict(memory={})
        if not args.no_times:
            terms: Dict[str, Any] = {}
            found = dict(
                seconds=timed(steps, args, terms), memory={}, terms=terms,
                profiles={name: profile(step) for name, step in steps.items() if args.profile and
                          not name.startswith((STUDENT, TEACHER, MMRAZOR))},
                parameters={name: getattr(part, 'parameters', 0) for name, part in parts.items()})
        if on_gpu and not args.no_memory:
            found['memory'] = {
                name: dict(peak=models[name] + peak_of(step, args.device), built=models[name])
                for name, step in steps.items() if not name.endswith(WITHOUT)}
        del steps
        gc.collect()
        if not on_gpu and not args.no_memory:
            found['memory'] = memories_of(makers, setting)
        yield setting, found


def memories_of(makers: Dict[str, Any], setting: Setting) -> Dict[str, Dict[str, float]]:
    return {name: in_a_process(name, '--batch-size', str(setting.batch_size), '--amp', setting.amp)
            for name in makers if not name.endswith(WITHOUT)}


def memory_of_step(args: argparse.Namespace) -> Dict[str, float]:
    """Peak memory of the part ``args.only`` in MiB, beyond that of the process at its start."""
    before = peak(args.device)
    setting, = settings_of(args)
    step = parts_of(args)[args.only]()(setting)
    weights = peak(args.device) - before
    # What was in use while the entries were made and the models built does not count.
    gc.collect()
    reset_peak(args.device)
    for _ in range(3):
        step()
    return dict(peak=peak(args.device) - before, built=weights)


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


def table_of_steps(found: Dict[str, Any]) -> str:
    if 'seconds' not in found:
        return as_table([['part', 'peak memory / student alone'], *(
            [name, f'{own["peak"] / found["memory"][STUDENT]["peak"]:.2f}']
            for name, own in found['memory'].items())])
    seconds = {name: median(values) for name, values in found['seconds'].items()}
    student, teacher, memory = seconds[STUDENT], seconds.get(TEACHER), found['memory']
    rows = [['part', 'milliseconds', 'time / student alone',
             'time / (student alone + whole teacher)', 'peak memory / student alone',
             'terms differ by']]
    for name, own in seconds.items():
        is_distilled = name not in (STUDENT, TEACHER)
        exact = found['terms'].get(name.split(',')[0])
        moved = [abs(value / exact[key] - 1) for key, value in found['terms'][name].items()
                 if exact and exact.get(key)] if is_distilled and ',' in name else []
        rows.append([
            name, f'{1e3 * own:.0f}' if own >= 0.1 else f'{1e3 * own:.1f}', f'{own / student:.2f}',
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
