"""How do networks and connectors follow a run, and how is their state saved?"""
import logging
from typing import Any, Optional

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import IterBasedTrainLoop

from ..files.history import KEY, History, warn_of
from ..files.optimization import check_optimizer
from ..training.distillation import Distillation
from .reseed import ReseedHook
from .resume import check_loaded, naming_file

__all__ = ['KEY', 'StateHook', 'check_loaded']


class StateHook(Hook):
    """Updates networks during a run, and saves and loads their state; the Distiller registers it.

    Args:
        distillation (Distillation, optional): The distillation; None until it is built.
    """

    # Before CheckpointHook saves, after EMAHook has copied or averaged the student.
    priority = 'LOW'

    keeps_history = True
    """Whether the hook keeps the record of the teachers; see :mod:`mmkd.files.history`."""

    def __init__(self, distillation: Optional[Distillation] = None) -> None:
        self.distillation = distillation
        self.history = History()

    def before_train(self, runner: Any) -> None:
        """Begin the distillation; the student has its weights.

        Raises:
            ValueError: If a network changes with every epoch, but training is iteration-based.
        """
        assert self.distillation is not None
        self._join(runner)
        if runner.cfg.get('compile'):
            print_log('`compile` is ignored for a distilled student, because its modules are '
                      'wrapped again in every step; to compile its parts, call '
                      '`runner.model.backbone.compile()` and the like from a hook (see '
                      'docs/training_modes.md)', 'current', logging.WARNING)
        waiting = [name for name, network in self.distillation.networks.items()
                   if network.needs_epochs]
        if waiting and isinstance(runner.train_loop, IterBasedTrainLoop):
            raise ValueError(f'`{waiting[0]}` changes after every epoch, but training is by '
                             'iterations; ' + (
                                 'set `every=` to a number of iterations, for instance those of '
                                 'one pass over the data' if hasattr(self.distillation.networks[
                                     waiting[0]], 'every') else
                                 'train by epochs, or use a teacher that changes by iterations'))
        self.distillation.begin(runner.iter)

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None,
                         outputs: Optional[dict] = None) -> None:
        """Call ``after_iter`` of the networks."""
        if self.distillation is not None:
            self.distillation.after_iter(runner.iter + 1)

    def after_train_epoch(self, runner: Any) -> None:
        """Call ``after_epoch`` of the networks."""
        if self.distillation is not None:
            self.distillation.after_epoch(runner.epoch + 1)

    def before_save_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Add the state, if there is any, and the record of the teachers to a checkpoint."""
        if self.distillation is None:
            return
        state = self.distillation.side_modules.state_dict()
        if state:
            checkpoint[KEY] = state
        meta = checkpoint.setdefault('meta', {})
        meta[KEY] = self.history.of(self.distillation.provenance(), meta.get('iter', runner.iter))

    def after_load_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Restore the state on resume; it may be missing in weights to start from (``load_from``).

        Raises:
            ValueError: If the checkpoint belongs to another distillation or another student, or is
                not a checkpoint of a run.
        """
        check_loaded(runner, checkpoint)
        if runner._resume and self.distillation is not None:
            self._go_on(checkpoint)
            self.distillation.side_modules.keep_order(checkpoint.get(KEY, {}))
            self._join(runner)
            with naming_file(runner):
                self.distillation.side_modules.load_state_dict(checkpoint.get(KEY, {}))
                check_optimizer(runner, checkpoint)
        if runner._resume and not any(isinstance(hook, ReseedHook) for hook in runner.hooks):
            print_log('random numbers (augmentation, samples, dropout) restart, because MMEngine '
                      'does not save their state, so this run will differ from an uninterrupted '
                      "one; to avoid that, train with hooks=[dict(type='mmkd.ReseedHook')] of the "
                      'mmkd.Distiller from the start', 'current')

    def _go_on(self, checkpoint: dict) -> None:
        """Continue the record of the teachers, and log the differences to this run."""
        assert self.distillation is not None
        meta = checkpoint['meta']
        warn_of(self.history.go_on(meta, self.distillation.provenance()), meta['iter'])

    def _join(self, runner: Any) -> None:
        """Add parameters to the optimizer before it is resumed; a FlexibleRunner builds it late."""
        assert self.distillation is not None
        self.distillation.side_modules.join(runner)
