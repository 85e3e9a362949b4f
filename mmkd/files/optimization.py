"""Do the optimizer and the schedules of a checkpoint fit this run?"""
import logging
from typing import Any, Dict

from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from torch import Tensor

from .kinds import is_number, listed, shown

SHAPED = ('momentum_buffer', 'exp_avg', 'exp_avg_sq', 'max_exp_avg_sq', 'square_avg')
"""Entries of an optimizer's state that have the shape of the parameter."""

MOVING = ('last_step', 'base_values', 'verbose')
"""Entries of a scheduler's state that are not settings."""


def check_schedulers(runner: Any, checkpoint: Dict[str, Any]) -> None:
    """Check that the state of the schedulers fits this run; MMEngine loads it unchecked.

    Raises:
        ValueError: If their number differs, or a state belongs to another scheduler.
    """
    own, given = (listed(schedules or []) for schedules in (
        getattr(runner, 'param_schedulers', None), checkpoint.get('param_schedulers')))
    if not all(hasattr(one, 'state_dict') for one in own):  # not built yet
        return
    own = [one.state_dict() for one in own]
    if len(own) != len(given):
        how = ' (and with `save_param_scheduler` of CheckpointHook left at True)' if own else ''
        raise ValueError(f'it has {len(given)} schedules in `param_schedulers`, but the config has '
                         f'{len(own)}; resume with the `param_scheduler` that it was trained '
                         f'with{how}, or start from its weights by `load_from`, without `resume`')
    for number, (one, other) in enumerate(zip(own, given)):
        odd = sorted(map(str, one.keys() ^ other.keys())) or sorted(
            key for key, value in one.items() if is_number(value) != is_number(other[key])
            and value is not None and other[key] is not None)
        if odd:
            raise ValueError(
                f'`param_schedulers[{number}]` belongs to another schedule: `{odd[0]}` is '
                f'{shown(other.get(odd[0]))}, but {shown(one.get(odd[0]))} in the config; resume '
                'with the `param_scheduler` that it was trained with')
        for key, value in one.items():
            if not key.startswith('_') and key not in MOVING and value != other[key]:
                print_log(f'schedule {number} continues as it was trained: its `{key}` is '
                          f'{other[key]!r:.60} in the checkpoint, and {value!r:.60} in the config '
                          'is ignored', 'current', logging.WARNING)


def check_optimizer(runner: Any, checkpoint: Any) -> None:
    """Check that the optimizer's state in a checkpoint fits a run, after all parameters joined.

    Raises:
        ValueError: If it belongs to another optimizer, or to other parameters.
    """
    if not isinstance(getattr(runner, 'optim_wrapper', None), OptimWrapper):
        return
    own = runner.optim_wrapper.optimizer.param_groups
    given, state = (checkpoint['optimizer'].get(key) for key in ('param_groups', 'state'))
    if not isinstance(given, list) or not isinstance(state, dict) or not all(
            isinstance(one, dict) for one in (*given, *state.values())):
        raise ValueError('the `optimizer` of the checkpoint has no parameter groups; start from '
                         'its weights by `load_from`, without `resume`')
    sizes = [[len(group.get('params', ())) for group in groups] for groups in (given, own)]
    settings = [sorted({str(key) for group in groups for key in group} - {'params'})
                for groups in (given, own)]
    # Torch sets switches that an older version did not have to their defaults.
    missing = [key for key in settings[1] if key not in settings[0]
               and not key.startswith('initial_') and not all(
                   group.get(key) is None or isinstance(group[key], bool) for group in own)]
    if sizes[0] != sizes[1] or missing:
        raise ValueError(
            'the checkpoint was trained with another optimizer, or with other networks: its groups '
            f'have {sizes[0]} parameters and the settings {settings[0]}, but those of this run '
            f'have {sizes[1]} and {settings[1]}; resume with the config that it was trained with, '
            'or start from its weights by `load_from`, without `resume`')
    for groups, one in zip(given, own):
        for number, parameter in zip(groups['params'], one['params']):
            for key, value in state.get(number, {}).items():
                if key in SHAPED and isinstance(value, Tensor) and (
                        value.shape != parameter.shape):
                    raise ValueError(
                        f'`{key}` of the optimizer has the shape {tuple(value.shape)}, but its '
                        f'parameter has {tuple(parameter.shape)}, so it belongs to another '
                        'network; resume with the config that it was trained with, or start from '
                        'its weights by `load_from`, without `resume`')
