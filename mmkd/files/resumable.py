"""Can a run go on from this checkpoint exactly as it would have gone on?"""
import logging
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import numpy as np
from mmengine.logging import HistoryBuffer, print_log
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.runner import EpochBasedTrainLoop, FlexibleRunner, IterBasedTrainLoop
from torch import Tensor, nn

from .finite import not_finite
from .fit import check_start, load_what_fits, misfit
from .history import KEY, checked

REMEDY = '; start from its weights by `load_from`, without `resume`'


def check_run(runner: Any, checkpoint: Any, is_distilled: bool) -> None:
    """Whether a run can go on from a checkpoint exactly as it would have gone on.

    Args:
        runner (Runner): The run.
        checkpoint (Any): What its file holds.
        is_distilled (bool): Whether others join the optimizer, and its state is looked at then.

    Raises:
        ValueError: If it is of another student, holds numbers that are none, or is not all of a run
            that trained so; the message names the key.
    """
    model = unwrapped(runner)
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get('state_dict'), dict):
        check_start(model, checkpoint, 'the file')
        raise ValueError(f'it holds weights alone, and not where its training stopped{REMEDY}')
    check_start(model, checkpoint, 'the file')
    check_kinds(checkpoint)
    if has_all_weights(runner):
        check_exact(model, checkpoint)
    if not is_distilled:
        check_optimizer(runner, checkpoint)
    check_schedulers(runner, checkpoint)
    broken = not_finite(checkpoint, (name for name, _ in model.named_parameters()))
    if broken:
        raise ValueError(f'{len(broken)} of its tensors have values that are infinite or not a '
                         f'number, such as `{broken[0]}`, so its training went wrong before it was '
                         'saved; resume an earlier one, with a lower learning rate')
    check_schedule(runner, checkpoint['meta'])  # the last, for it may say that all is over


def has_all_weights(runner: Any) -> bool:
    """Whether the model of this process has all weights, under their own names."""
    if not isinstance(runner, FlexibleRunner):
        return True
    return type(runner.strategy).__name__ in ('SingleDeviceStrategy', 'DDPStrategy')


def check_exact(model: nn.Module, checkpoint: Dict[str, Any]) -> None:
    """Whether weights are those of a model, name by name and shape by shape.

    Raises:
        ValueError: If not; the message lists what differs.
    """
    own = model.state_dict()
    weights = {key.removeprefix('module.'): value
               for key, value in checkpoint['state_dict'].items()}
    if own.keys() != weights.keys() or any(map(_misfit, weights.values(), map(own.get, weights))):
        kinds = [f'{key}: {value.dtype} in the file, {own[key].dtype} in the model'
                 for key, value in weights.items() if key in own and isinstance(value, Tensor)
                 and value.is_floating_point() != own[key].is_floating_point()]
        if kinds:
            raise ValueError(f'{len(kinds)} of its weights are of another kind of number, such as '
                             f'{kinds[0]}{REMEDY}')
        # Layers may know how they were called in earlier versions.
        misfits = load_what_fits(model, dict(checkpoint))
        if misfits:
            raise ValueError(f'its weights are not those of the student in the config: {misfits}; '
                             f'resume with the student that was trained, or{REMEDY[1:]}')
    ema = checkpoint.get('ema_state_dict')
    if ema is None:
        return
    ema = {key.removeprefix('module.'): value for key, value in ema.items()
           if key.startswith('module.')}
    odd = sorted(weights.keys() ^ ema.keys()) or [
        key for key, value in ema.items() if _misfit(value, weights[key])]
    if odd:
        raise ValueError(f'`ema_state_dict` is not the average of its `state_dict`: {len(odd)} '
                         f'tensors differ in name or shape, such as `{odd[0]}`{REMEDY}')


def _misfit(given: Any, own: Optional[Tensor]) -> bool:
    return not isinstance(given, Tensor) or own is None or bool(misfit(given, own)) or (
        given.is_floating_point() != own.is_floating_point())


def check_kinds(checkpoint: Dict[str, Any]) -> None:
    """Whether what a Runner takes from a checkpoint is of the kind that it takes.

    Raises:
        ValueError: If not; the message names the key.
    """
    meta = checkpoint.get('meta')
    if not isinstance(meta, dict) or not all(key in meta for key in ('epoch', 'iter')):
        raise ValueError('it does not say where its training stopped (`epoch` and `iter` of '
                         f'`meta`){REMEDY}')
    for key in ('message_hub', 'optimizer'):
        if not isinstance(checkpoint.get(key), dict):
            raise ValueError(f'it has no `{key}` (it may be a published one){REMEDY}')
    if KEY in meta:
        checked(meta[KEY])
    for name, found, expected in wrong_kinds(checkpoint):
        raise ValueError(f'{name} is {_shown(found)}, but must be {expected}; the file was changed '
                         f'after it was saved, so resume another one{REMEDY}')


def wrong_kinds(checkpoint: Dict[str, Any]) -> Iterator[Tuple[str, Any, str]]:
    """Where in a checkpoint something is of another kind than what a Runner writes there.

    Yields:
        tuple[str, Any, str]: The place, what was found, what was expected.
    """
    meta, hub = checkpoint['meta'], checkpoint['message_hub']
    for key in ('epoch', 'iter'):
        if not _is_count(meta[key]):
            yield f"`meta['{key}']`", meta[key], 'a whole number of 0 or more'
    if not (meta.get('seed') is None or _is_count(meta['seed'])):
        yield "`meta['seed']`", meta['seed'], 'a whole number of 0 or more'
    beside = checkpoint.get(KEY, {})
    if not isinstance(beside, dict):
        yield f'`{KEY}`', beside, 'a dict'
    else:
        for part in ('connectors', 'networks'):
            if not isinstance(beside.get(part, {}), dict):
                yield f"`{KEY}['{part}']`", beside[part], 'a dict'
    ema = checkpoint.get('ema_state_dict', {})
    if not isinstance(ema, dict):
        yield '`ema_state_dict`', ema, 'a dict of tensors'
    else:
        for key, value in ema.items():
            if not isinstance(value, Tensor):
                yield f"`ema_state_dict['{key}']`", value, 'a tensor'
            elif key == 'steps' and (value.numel() != 1 or value.is_floating_point()):
                yield "`ema_state_dict['steps']`", value, 'one whole number'
    for part in ('log_scalars', 'runtime_info', 'resumed_keys'):
        if not isinstance(hub.get(part), dict):
            yield f"`message_hub['{part}']`", hub.get(part), 'a dict'
            return
    for key, value in hub['log_scalars'].items():
        if isinstance(value, HistoryBuffer) and not _is_history(value):
            yield f"`message_hub['log_scalars']['{key}']`", value, 'a history of numbers'
    for key, value in hub['resumed_keys'].items():
        if not isinstance(value, (bool, np.bool_)):
            yield f"`message_hub['resumed_keys']['{key}']`", value, 'True or False'
    for key, value in hub['runtime_info'].items():
        for start, is_fine, expected in INFO:
            if str(key).startswith(start) and not is_fine(value):
                yield f"`message_hub['runtime_info']['{key}']`", value, expected
    for number, state in enumerate(_listed(checkpoint.get('param_schedulers', []))):
        if not isinstance(state, dict):
            yield f"`param_schedulers[{number}]`", state, 'a dict'


def _is_count(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and int(value) >= 0


def _is_number(value: Any) -> bool:
    if isinstance(value, (Tensor, np.ndarray)):
        return value.ndim == 0
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


def _is_history(value: HistoryBuffer) -> bool:
    parts = [getattr(value, name, None) for name in ('_log_history', '_count_history')]
    return all(isinstance(one, np.ndarray) and one.ndim == 1 and one.dtype.kind in 'iuf'
               for one in parts) and len(parts[0]) == len(parts[1]) and _is_count(  # type: ignore
                   getattr(value, 'max_length', None))


INFO: List[Tuple[str, Callable[[Any], bool], str]] = [
    ('best_score', _is_number, 'a number'),
    ('best_ckpt', lambda value: isinstance(value, str), 'a path'),
    ('last_ckpt', lambda value: isinstance(value, str), 'a path'),
    ('keep_ckpt_ids', lambda value: isinstance(value, list) and all(map(_is_count, value)),
     'a list of whole numbers'),
]
"""What MMEngine's hooks take from the message hub: how the key begins, and its kind."""


def _listed(value: Any) -> List[Any]:
    """Schedulers, of one optimizer or of several by name."""
    if isinstance(value, dict):
        return [one for states in value.values() for one in _listed(states)]
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _shown(value: Any) -> str:
    if isinstance(value, Tensor):
        return f'a tensor {tuple(value.shape)} of {value.dtype}'
    return f'{value!r:.60} ({type(value).__name__})'


def check_schedule(runner: Any, meta: Dict[str, Any]) -> None:
    """Whether the place where a run stopped lies inside of its schedule; at its end, say so.

    Raises:
        ValueError: If it lies beyond.
    """
    loop = runner.train_loop
    if isinstance(loop, EpochBasedTrainLoop):
        key, last, setting = 'epoch', loop.max_epochs, 'max_epochs'
    elif isinstance(loop, IterBasedTrainLoop):
        key, last, setting = 'iter', loop.max_iters, 'max_iters'
    else:
        return
    if meta[key] > last:
        raise ValueError(
            f"`meta['{key}']` is {meta[key]}, beyond the schedule, which ends with {last} "
            f'(`train_cfg.{setting}`); give the schedule that was trained, or a longer one')
    if meta[key] == last:
        print_log(
            f'this run has ended already: {last} of {last} {"epochs" if key == "epoch" else key} '
            'are done, and nothing is left to train; to train on, raise '
            f'`train_cfg.{setting}`, and look what the schedules do then', 'current',
            logging.WARNING)


SHAPED = ('momentum_buffer', 'exp_avg', 'exp_avg_sq', 'max_exp_avg_sq', 'square_avg')
"""Of the state of an optimizer, what has the shape of the parameter."""

MOVING = ('last_step', 'base_values', 'verbose')
"""Of the state of a schedule, what is none of its settings."""


def check_schedulers(runner: Any, checkpoint: Dict[str, Any]) -> None:
    """Whether schedules can go on; MMEngine takes whatever stands in the file.

    Raises:
        ValueError: If a state is that of another schedule, or of another kind.
    """
    own, given = (_listed(schedules or []) for schedules in (
        getattr(runner, 'param_schedulers', None), checkpoint.get('param_schedulers')))
    if not all(hasattr(one, 'state_dict') for one in own):  # not built: nothing has been trained
        return
    own = [one.state_dict() for one in own]
    if len(own) != len(given):
        how = ' (and with `save_param_scheduler` of CheckpointHook left at True)' if own else ''
        raise ValueError(f'it has {len(given)} schedules in `param_schedulers`, the config '
                         f'{len(own)}; resume with the `param_scheduler` that it was trained with'
                         f'{how}, or start from its weights by `load_from`, without `resume`')
    for number, (one, other) in enumerate(zip(own, given)):
        odd = sorted(map(str, one.keys() ^ other.keys())) or sorted(
            key for key, value in one.items() if _is_number(value) != _is_number(other[key])
            and value is not None and other[key] is not None)
        if odd:
            raise ValueError(
                f'`param_schedulers[{number}]` is that of another schedule: `{odd[0]}` is '
                f'{_shown(other.get(odd[0]))}, in the config {_shown(one.get(odd[0]))}; resume '
                'with the `param_scheduler` that it was trained with')
        for key, value in one.items():
            if not key.startswith('_') and key not in MOVING and value != other[key]:
                print_log(f'schedule {number} goes on as it was trained: its `{key}` is '
                          f'{other[key]!r:.60} in the checkpoint, and {value!r:.60} in the config '
                          'is not taken', 'current', logging.WARNING)


def check_optimizer(runner: Any, checkpoint: Any) -> None:
    """Whether the optimizer of a run can go on from a checkpoint, once all have joined it.

    Raises:
        ValueError: If it is another one, or trained other parameters.
    """
    if not isinstance(getattr(runner, 'optim_wrapper', None), OptimWrapper):
        return
    own = runner.optim_wrapper.optimizer.param_groups
    given, state = (checkpoint['optimizer'].get(key) for key in ('param_groups', 'state'))
    if not isinstance(given, list) or not isinstance(state, dict) or not all(
            isinstance(one, dict) for one in (*given, *state.values())):
        raise ValueError('the `optimizer` of the checkpoint has no groups of parameters; start '
                         'from its weights by `load_from`, without `resume`')
    sizes = [[len(group.get('params', ())) for group in groups] for groups in (given, own)]
    settings = [sorted({str(key) for group in groups for key in group} - {'params'})
                for groups in (given, own)]
    # Torch gives switches that an older version did not know their defaults.
    missing = [key for key in settings[1] if key not in settings[0]
               and not key.startswith('initial_') and not all(
                   group.get(key) is None or isinstance(group[key], bool) for group in own)]
    if sizes[0] != sizes[1] or missing:
        raise ValueError(
            'the checkpoint was trained by another optimizer, or with other networks: its groups '
            f'have {sizes[0]} parameters and the settings {settings[0]}, those of this run '
            f'{sizes[1]} and {settings[1]}; resume with the config that it was trained with, or '
            'start from its weights by `load_from`, without `resume`')
    for groups, one in zip(given, own):
        for number, parameter in zip(groups['params'], one['params']):
            for key, value in state.get(number, {}).items():
                if key in SHAPED and isinstance(value, Tensor) and (
                        value.shape != parameter.shape):
                    raise ValueError(
                        f'`{key}` of the optimizer has the shape {tuple(value.shape)}, its '
                        f'parameter {tuple(parameter.shape)}, so it trained another network; '
                        'resume with the config that it was trained with, or start from its '
                        'weights by `load_from`, without `resume`')


def unwrapped(runner: Any) -> Any:
    """The model of a run, without what distributes it."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model
