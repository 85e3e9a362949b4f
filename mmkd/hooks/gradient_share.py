"""How large is the gradient of each term over a run?"""
from typing import Any, Optional

from mmengine.hooks import Hook
from mmengine.logging import print_log

from ..core.arguments import whole_number
from ..core.build import named_arguments
from ..core.names import joined
from ..registry import HOOKS
from ..training.share_meter import ShareMeter
from ..training.shares import SCALAR
from ..training.strategies import REMEDY, strategy_of
from .distill import distillation_of


@HOOKS.register_module()
class GradientShareHook(Hook):
    """Logs the share of the gradient of each term, in the first iteration and every ``interval``.

    The share is the norm of the gradient of the term, divided by that of the losses on labels, as
    :mod:`mmkd.training.shares` defines it. It is a line of the log, and a scalar
    ``gradient_share/<term>`` of every backend of the visualizer (``scalars.json``, TensorBoard,
    WandB). ``tools/report.py`` draws it. Training is not changed: the weights stay bitwise equal.

    A measured iteration has two backward passes more for each term, from the losses to the neck, or
    to the modules that are compared.

    Terms that other networks learn from, and those for unlabelled images alone, are left out.
    So is, until its weight is fixed, a term with ``loss_weight='auto'``, whose shares are logged
    then. A share is not logged where it is not finite, such as after an overflow of float16, or
    where only some of the processes have a gradient of the term.

    Args:
        interval (int): Number of iterations between two measurements. Defaults to 100.

    Raises:
        TypeError: If ``interval`` is not a whole number.
        ValueError: If it is less than 1.

    Example:
        >>> hooks = [dict(type='mmkd.GradientShareHook', interval=50)]  # of the mmkd.Distiller
        >>> GradientShareHook(interval=50).interval
        50
    """

    priority = 'VERY_LOW'  # after DistillHook has attached

    @named_arguments
    def __init__(self, interval: int = 100) -> None:
        self.interval = whole_number('interval', interval, least=1)

    def before_train(self, runner: Any) -> None:
        """Check that there is a term to measure.

        Raises:
            ValueError: If there is none, or the strategy splits the student.
        """
        distillation = distillation_of(runner)
        if distillation is None:
            raise ValueError('mmkd.GradientShareHook finds no terms: the model is not a '
                             'mmkd.Distiller, and there is no mmkd.DistillHook; remove the hook '
                             'from the config')
        name = strategy_of(runner)
        if name is not None:
            raise ValueError('mmkd.GradientShareHook computes gradients in the forward pass, which '
                             f'is not possible with {name}; remove the hook, or {REMEDY}')
        left_out = [term.name for term in distillation.terms
                    if not ShareMeter.is_measurable(term)]
        if len(left_out) == len(distillation.terms):
            raise ValueError('mmkd.GradientShareHook finds no term that the student learns from '
                             f'labelled images; the terms are {joined(left_out)}; remove the hook')
        if left_out:
            print_log(f'mmkd.GradientShareHook leaves out {joined(left_out)}: only terms that the '
                      'student learns from labelled images are compared with its losses on labels',
                      'current')

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Turn the measurement on for this iteration, if it is due."""
        distillation = distillation_of(runner)
        assert distillation is not None
        distillation.share_meter.is_on = runner.iter == 0 or (runner.iter + 1) % self.interval == 0

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None,
                         outputs: Optional[dict] = None) -> None:
        """Log the shares of this iteration."""
        distillation = distillation_of(runner)
        assert distillation is not None
        shares = distillation.share_meter.read()
        if not shares:
            return
        step = runner.iter + 1
        print_log(f'Iter(train) [{step}]  gradient_share: ' + '  '.join(
            f'{name}: {share:.4g}' for name, share in shares.items()), 'current')
        # WandB has no steps of its own: `iter` can be chosen as the x-axis there.
        runner.visualizer.add_scalars(
            {**{f'{SCALAR}{name}': share for name, share in shares.items()}, 'iter': step},
            step=step)
