"""What is learned between student and teacher, and how it comes to be trained.

Connectors are no part of the student: its checkpoint must not hold them, and a distributed wrapper
has been built before their shapes are known. So they join the optimizer by themselves, and average
their gradients over processes by themselves.
"""
import math
from typing import Any, Iterable, List, Sequence

from mmengine.optim import OptimWrapper
from torch import Tensor, distributed, nn


def connect(student: Sequence[Tensor], teacher: Sequence[Tensor],
            kind: str = 'auto') -> nn.ModuleList:
    """Modules that bring the student's channels to the teacher's, one per level.

    Args:
        student (Sequence[Tensor]): Levels (N, C, H, W), or (N, C).
        teacher (Sequence[Tensor]): As many.
        kind (str): 'conv' for a 1x1 convolution with bias on every level (a linear layer for
            (N, C)), 'auto' only where the channels differ. Defaults to 'auto'.

    Returns:
        nn.ModuleList: On the student's device, trainable, initialised as torch does it.
    """
    connectors = nn.ModuleList()
    for one, other in zip(student, teacher):
        channels = one.shape[1], other.shape[1]
        if kind == 'auto' and channels[0] == channels[1]:
            connectors.append(nn.Identity())
        elif one.dim() == 2:
            connectors.append(nn.Linear(*channels))
        else:
            connectors.append(nn.Conv2d(*channels, kernel_size=1))
    return connectors.to(student[0].device, student[0].dtype)


def share_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Start equal in all processes, and average gradients over them: DDP does not know these."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return
    world = distributed.get_world_size()

    def average(parameter: Tensor) -> None:
        assert parameter.grad is not None
        distributed.all_reduce(parameter.grad)
        parameter.grad /= world

    for parameter in parameters:
        distributed.broadcast(parameter.data, src=0)
        parameter.register_post_accumulate_grad_hook(average)


def join_optimizer(parameters: List[nn.Parameter], optim_wrapper: Any,
                   lr_scale: float = 1.) -> None:
    """Have parameters trained by the student's optimizer, at its base learning rate.

    They go into a group that is there already, because learning-rate schedules hold the groups
    they found when they were built. Parameters that are in a group already stay where they are.

    Args:
        parameters (list[nn.Parameter]): The connectors'.
        optim_wrapper (OptimWrapper): MMEngine's wrapper of the student's optimizer.
        lr_scale (float): By what MMEngine has multiplied all learning rates (``auto_scale_lr``).
            Defaults to 1.0.

    Raises:
        TypeError: If it is no OptimWrapper of one optimizer.
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
        f'decay {decay or 0:g}, so the connectors find no group of the optimizer to join; leave '
        '`paramwise_cfg` of some parameter at 1')


def lr_scale_of(runner: Any) -> float:
    """By what MMEngine's Runner multiplies all learning rates, 1.0 unless it is asked to."""
    scaling = runner.auto_scale_lr
    if not (scaling and scaling.get('enable')):
        return 1.
    per_process = getattr(runner.train_dataloader, 'batch_size', None)
    return per_process * runner.world_size / scaling['base_batch_size']
