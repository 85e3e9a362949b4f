"""How are parameters outside the student trained by its optimizer?

They must not be in the student's checkpoint, and are created after the distributed wrapper and the
optimizer. So they are added to the optimizer separately.
"""
import copy
import math
from typing import Any, Dict, Iterable, List, Optional

from mmengine.optim import OptimWrapper, build_optim_wrapper
from torch import nn


class MoveWatch:
    """Checks that parameters outside the student are updated, in a training loop without a
    Runner."""

    def __init__(self) -> None:
        self._last: Optional[List[int]] = None

    def check(self, student: Iterable[nn.Parameter], beside: Iterable[nn.Parameter]) -> None:
        """Check the parameters at the beginning of a step.

        Args:
            student (Iterable[nn.Parameter]): Parameters of the student.
            beside (Iterable[nn.Parameter]): Trained parameters outside the student.

        Raises:
            ValueError: If the student was updated since the last step, and one of the others was
                not, although it has a gradient.
        """
        beside = list(beside)
        # torch counts the in-place writes to a tensor.
        now = [sum(one._version for one in student), *(one._version for one in beside)]
        last, self._last = self._last, now
        if last is None or len(last) != len(now) or last[0] == now[0]:
            return
        left = sum(before == after and one.grad is not None
                   for before, after, one in zip(last[1:], now[1:], beside))
        if left:
            raise ValueError(
                f'{left} of the {len(beside)} parameters of connectors and partners have gradients '
                'but are in no optimizer, so they did not change in the last step; train by '
                '`model.train_step(data, optim_wrapper)`, or add '
                '`model.distillation.trained_beside` to the optimizer after `model.prepare()`')


def join_optimizer(parameters: List[nn.Parameter], optim_wrapper: Any,
                   lr_scale: float = 1.) -> None:
    """Add parameters to the student's optimizer, at its base learning rate.

    They are added to an existing group, because learning-rate schedules refer to the groups that
    existed when they were built. Parameters that are in a group already are skipped.

    Args:
        parameters (list[nn.Parameter]): The parameters, such as those of connectors.
        optim_wrapper (OptimWrapper): MMEngine's wrapper of the student's optimizer.
        lr_scale (float): Factor that MMEngine has applied to all learning rates
            (``auto_scale_lr``). Defaults to 1.0.

    Raises:
        TypeError: If ``optim_wrapper`` is not an OptimWrapper of one optimizer.
        ValueError: If no group has the base learning rate and weight decay.
    """
    if not isinstance(optim_wrapper, OptimWrapper):
        raise TypeError(
            'connectors are trained by the OptimWrapper of MMEngine\'s Runner, but got '
            f'{type(optim_wrapper).__name__}; compare points of equal channels, or train with '
            'Runner and one optimizer')
    optimizer = optim_wrapper.optimizer
    known = {id(one) for group in optimizer.param_groups for one in group['params']}
    new = [one for one in parameters if id(one) not in known]
    if not new:
        return
    lr = optimizer.defaults['lr'] * lr_scale
    decay = optimizer.defaults.get('weight_decay')
    for group in optimizer.param_groups:
        if math.isclose(group.get('initial_lr', group['lr']), lr) and (
                group.get('weight_decay') == decay):
            group['params'].extend(new)
            return
    raise ValueError(
        f'no parameter of the student is trained with the base learning rate {lr:g} and weight '
        f'decay {decay or 0:g}, so there is no parameter group for the connectors; leave '
        '`paramwise_cfg` of some parameter at 1')


def clip_before_steps(module: nn.Module, optimizer: Any) -> None:
    """Clip the gradients of losses with a ``clip_norm``, each by itself, before each step.

    A loss scaler has unscaled the gradients by then, and ``clip_grad`` of the OptimWrapper has
    clipped them together with those of the student.

    Args:
        module (nn.Module): A loss, or a container of losses.
        optimizer (torch.optim.Optimizer): The optimizer that they are in.
    """
    for loss in module.modules():
        norm = getattr(loss, 'clip_norm', None)
        if norm is not None:
            parameters = [one for one in loss.parameters() if one.requires_grad]
            optimizer.register_step_pre_hook(
                lambda *_, own=parameters, norm=norm: nn.utils.clip_grad_norm_(own, norm) and None)


def join_as_model(model: nn.Module, parameters: List[nn.Parameter], runner: Any) -> None:
    """Add a network to the student's optimizer, with the settings of the config's
    ``optim_wrapper``.

    ``paramwise_cfg`` applies to it, too. Its parameters are added to groups of the student with the
    same settings, or to new groups, which are added to the learning-rate schedules. Settings of the
    whole optimizer are shared: ``clip_grad`` clips the norm over all networks together.

    Args:
        model (nn.Module): The network.
        parameters (list[nn.Parameter]): Its parameters, without those of the student.
        runner (Runner): The Runner, with an optimizer and optional schedules.

    Raises:
        TypeError: If the Runner does not train with an OptimWrapper of one optimizer.
    """
    config = runner.cfg.get('optim_wrapper')
    if not isinstance(config, dict):  # built by the user: no config to build another from
        return join_optimizer(parameters, runner.optim_wrapper, lr_scale_of(runner))
    if not isinstance(runner.optim_wrapper, OptimWrapper):
        raise TypeError('a partner is trained by the OptimWrapper of MMEngine\'s Runner, but got '
                        f'{type(runner.optim_wrapper).__name__}; train with Runner and one '
                        'optimizer')
    optimizer = runner.optim_wrapper.optimizer
    new = {id(one) for one in parameters} - {
        id(one) for group in optimizer.param_groups for one in group['params']}
    template = build_optim_wrapper(model, copy.deepcopy(config)).optimizer
    for group in template.param_groups:
        joining = [one for one in group['params'] if id(one) in new]
        settings = {name: value for name, value in group.items() if name != 'params'}
        settings['lr'] *= lr_scale_of(runner)
        alike = [one for one in optimizer.param_groups if _settings(one) == _settings(settings)]
        if alike:
            alike[0]['params'].extend(joining)
        elif joining:
            _add_group(optimizer, dict(settings, params=joining), runner)


def _settings(group: Dict[str, Any]) -> Dict[str, Any]:
    """Settings of a group, with the learning rate before any schedule."""
    own = {name: value for name, value in group.items()
           if name != 'params' and not name.startswith('initial_')}
    own.update({name[len('initial_'):]: value for name, value in group.items()
                if name.startswith('initial_')})
    return own


def _add_group(optimizer: Any, group: Dict[str, Any], runner: Any) -> None:
    first = optimizer.param_groups[0]
    schedules: Any = runner.param_schedulers or []
    for name in [name[len('initial_'):] for name in first if name.startswith('initial_')]:
        group[f'initial_{name}'] = group[name]
        if not isinstance(group[name], (list, tuple)):  # betas are scheduled per element
            group[name] *= first[name] / first[f'initial_{name}'] if first[f'initial_{name}'] else 1
    optimizer.add_param_group(group)
    for schedule in schedules:
        name = f'initial_{schedule.param_name}'
        schedule.base_values.append(group.get(name, group.get(schedule.param_name)))


def lr_scale_of(runner: Any) -> float:
    """Factor of all learning rates in MMEngine's Runner (``auto_scale_lr``); 1.0 by default."""
    scaling = getattr(runner, 'auto_scale_lr', None) or getattr(runner, '_auto_scale_lr', None)
    if not (scaling and scaling.get('enable')):
        return 1.
    per_process = getattr(runner.train_dataloader, 'batch_size', None)
    return per_process * runner.world_size / scaling['base_batch_size']
