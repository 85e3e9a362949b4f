"""Checks of the strategies by which a Runner splits the student over devices."""
from typing import Any, Optional

from mmengine.model import is_model_wrapper

from ..networks.live import Itself
from .distillation import Distillation
from .side_modules import needs_of

SPLITTING = ('FSDPStrategy', 'DeepSpeedStrategy')
"""Strategies of MMEngine's FlexibleRunner that split the student's parameters or its optimizer."""

UNTRIED = ('ColossalAIStrategy', )
"""Strategies that mmkd was not tested with."""


REMEDY = ("train with `strategy=dict(type='DDPStrategy')` of the FlexibleRunner, or with "
          "MMEngine's Runner and its distributed wrapper")


def check_strategy(runner: Any, distillation: Distillation, is_hook: bool = False) -> None:
    """Check that the networks can be built and trained with the strategy of a Runner.

    Args:
        runner (Runner | FlexibleRunner): The Runner.
        distillation (Distillation): The distillation, prepared or not.
        is_hook (bool): Whether a hook calls it, after the student has been split. Defaults to
            False.

    Raises:
        ValueError: If they cannot.
    """
    name = strategy_of(runner)
    if name is None:
        return
    if name in UNTRIED:
        raise ValueError(f'mmkd has not been tested with {name}; {REMEDY}')
    if is_hook or name not in SPLITTING:
        raise ValueError(
            f'{name} has split the student before its teacher is built, so the pair cannot be '
            'checked on a blank image; use the model `mmkd.Distiller` with '
            f"`strategy=dict(type='{SPLITTING[0]}')` of the FlexibleRunner, or {REMEDY}")
    for other, network in distillation.networks.items():
        if not (network.is_frozen or isinstance(network, Itself)):
            raise ValueError(
                f'`{other}` is a {type(network).__name__}, which is trained with the student or '
                f'copies its weights, but with {name} no process has the whole student; use a '
                f'frozen teacher, or {REMEDY}')


def check_connectors(runner: Any, distillation: Distillation) -> None:
    """Check that the modules from :meth:`Distillation.prepare` can be trained.

    Raises:
        ValueError: If they cannot.
    """
    name = strategy_of(runner)
    if name is not None and distillation.weights:
        raise ValueError(
            f'`{next(iter(distillation.weights))}` has a `loss_weight` that is measured, but with '
            f'{name} gradients cannot be computed in the forward pass; write a number, or {REMEDY}')
    needs = needs_of(distillation.side_modules)
    if name is not None and needs:
        raise ValueError(
            f'{needs}, but {name} trains and saves only modules that it has split; compare logits, '
            f'compare points of equal channels, or {REMEDY}')


def strategy_of(runner: Any) -> Optional[str]:
    """Class name of the strategy that splits the student; None if every process has all of it."""
    strategy = getattr(runner, 'strategy', None)
    if strategy is not None:
        names = [one.__name__ for one in type(strategy).__mro__]
        return next((name for name in names if name in SPLITTING + UNTRIED), None)
    names = [one.__name__ for one in type(runner.model).__mro__]
    return names[0] if is_model_wrapper(runner.model) and (
        'FullyShardedDataParallel' in names) else None
