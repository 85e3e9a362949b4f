"""Tell the networks beside the student what a run is doing, and keep their state."""
import logging
from typing import Any, Optional

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.runner import IterBasedTrainLoop

from ..beside import join_run
from ..checkpoint import check_start
from ..distillation import Distillation
from .reseed import ReseedHook

KEY = 'mmkd'
"""Key of the checkpoint, beside ``state_dict``, that holds all of it."""


class StateHook(Hook):
    """Keeps connectors and networks in step with the run; the Distiller registers it.

    Args:
        distillation (Distillation, optional): What is kept; None until there is one.
    """

    # Before CheckpointHook saves, after EMAHook has copied or averaged the student.
    priority = 'LOW'

    def __init__(self, distillation: Optional[Distillation] = None) -> None:
        self.distillation = distillation

    def before_train(self, runner: Any) -> None:
        """The student has its weights.

        Raises:
            ValueError: If a network waits for epochs in a run that has none.
        """
        assert self.distillation is not None
        self._join(runner)
        if runner.cfg.get('compile'):
            print_log('`compile` leaves a distilled student uncompiled, because what is watched in '
                      'it comes and goes with every step; to compile its parts, call '
                      '`runner.model.backbone.compile()` and the like from a hook (see '
                      'docs/training_modes.md)', 'current', logging.WARNING)
        waiting = [name for name, network in self.distillation.networks.items()
                   if network.needs_epochs]
        if waiting and isinstance(runner.train_loop, IterBasedTrainLoop):
            raise ValueError(f'`{waiting[0]}` changes with every epoch, but training goes by '
                             'iterations; write `every=` a number of iterations, for instance '
                             'those of one pass over the data')
        self.distillation.begin()

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None,
                         outputs: Optional[dict] = None) -> None:
        """An iteration is over."""
        if self.distillation is not None:
            self.distillation.after_iter(runner.iter + 1)

    def after_train_epoch(self, runner: Any) -> None:
        """An epoch is over."""
        if self.distillation is not None:
            self.distillation.after_epoch(runner.epoch + 1)

    def before_save_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Add the key, where there is anything to keep, and say how the weights came about."""
        if self.distillation is None:
            return
        state = self.distillation.state_dict()
        if state:
            checkpoint[KEY] = state
        checkpoint.setdefault('meta', {})[KEY] = self.distillation.provenance()

    def after_load_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Restore it on resume. Weights to start from (``load_from``) need not have it.

        Raises:
            ValueError: If the checkpoint's is of another distillation, or of another student, or it
                is none of a run.
        """
        check_loaded(runner, checkpoint)
        if runner._resume and self.distillation is not None:
            self._join(runner)
            self.distillation.load_state_dict(checkpoint.get(KEY, {}))
            check_optimizer(runner, checkpoint)
        if runner._resume and not any(isinstance(hook, ReseedHook) for hook in runner.hooks):
            print_log('random numbers (augmentation, samples, dropout) begin anew, as MMEngine has '
                      'it, so this run will not equal one without a break; where it should, train '
                      "with hooks=[dict(type='mmkd.ReseedHook')] of the mmkd.Distiller from the "
                      'start', 'current')

    def _join(self, runner: Any) -> None:
        """Now its optimizer is built, and has not resumed: a FlexibleRunner builds it late."""
        assert self.distillation is not None
        join_run(self.distillation.parameters, self.distillation.partners.values(), runner)


def check_loaded(runner: Any, checkpoint: Any) -> None:
    """Whether a run can start from a checkpoint, or go on from it.

    Raises:
        ValueError: If it is of another student, holds numbers that are none, or is to be resumed
            and is not all of a run that trained so.
    """
    check_start(unwrapped(runner), checkpoint, f'`{runner._load_from}`')
    if not runner._resume:
        return
    remedy = '; start from its weights by `load_from`, without `resume`'
    meta = checkpoint.get('meta')
    if not isinstance(meta, dict) or not all(
            isinstance(meta.get(key), int) for key in ('epoch', 'iter')):
        raise ValueError('the checkpoint does not say where its training stopped, so it cannot '
                         f'be resumed{remedy}')
    for key in ('message_hub', 'optimizer'):
        if not isinstance(checkpoint.get(key), dict):
            raise ValueError(f'the checkpoint has no `{key}` (it may be a published one), so its '
                             f'run cannot be resumed{remedy}')
    if not isinstance(checkpoint.get(KEY, {}), dict):
        raise ValueError(f'`{KEY}` of the checkpoint is no dict, but '
                         f'{type(checkpoint[KEY]).__name__}{remedy}')


def check_optimizer(runner: Any, checkpoint: Any) -> None:
    """Whether the optimizer of a run can go on from a checkpoint, once all have joined it.

    Raises:
        ValueError: If it is another one, or trained other parameters.
    """
    if not isinstance(getattr(runner, 'optim_wrapper', None), OptimWrapper):
        return
    own = runner.optim_wrapper.optimizer.param_groups
    given = checkpoint['optimizer'].get('param_groups')
    if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
        raise ValueError('the `optimizer` of the checkpoint has no groups of parameters; start '
                         'from its weights by `load_from`, without `resume`')
    sizes = [[len(group.get('params', ())) for group in groups] for groups in (given, own)]
    settings = [sorted({str(key) for group in groups for key in group} - {'params'})
                for groups in (given, own)]
    missing = [key for key in settings[1] if key not in settings[0]
               and not key.startswith('initial_')]
    if sizes[0] != sizes[1] or missing:
        raise ValueError(
            'the checkpoint was trained by another optimizer, or with other networks: its groups '
            f'have {sizes[0]} parameters and the settings {settings[0]}, those of this run '
            f'{sizes[1]} and {settings[1]}; resume with the config that it was trained with, or '
            'start from its weights by `load_from`, without `resume`')


def unwrapped(runner: Any) -> Any:
    """The model of a run, without what distributes it."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model
