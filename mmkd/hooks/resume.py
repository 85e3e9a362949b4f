"""Does a checkpoint fit the run that resumes it?"""
import logging
from contextlib import contextmanager
from typing import Any, Iterator

from mmengine.hooks import EMAHook, Hook
from mmengine.logging import print_log

from ..core.runner import unwrapped
from ..files.fit import check_start
from ..files.guard import before_reading
from ..files.history import KEY, History, record_of, warn_of
from ..files.kinds import check_kinds
from ..files.resumable import check_run


class ResumeHook(Hook):
    """Checks every checkpoint from which a Runner resumes, before anything is loaded from it.

    The hook is registered automatically when a Runner that is about to train reads a checkpoint,
    with or without distillation. It keeps the record of earlier teachers in the checkpoints of a
    student that is no longer distilled.

    Args:
        path (str): Path of the checkpoint, for error messages.
    """

    priority = 'HIGHEST'  # before EMAHook swaps weights that are not checked

    def __init__(self, path: str) -> None:
        self.path = path
        self.history = History()

    @classmethod
    def join(cls, runner: Any, path: str) -> None:
        """Register the hook with a Runner; a second call only sets the path."""
        for hook in runner.hooks:
            if isinstance(hook, cls):
                hook.path = path
                return
        runner.register_hook(cls(path))

    def after_load_checkpoint(self, runner: Any, checkpoint: Any) -> None:
        """Refuse a checkpoint that cannot be resumed, and log what will differ.

        Raises:
            ValueError: If the checkpoint does not fit this run, or is not complete.
        """
        if not runner._resume:
            return
        with naming_file(runner):
            check_run(runner, checkpoint, is_distilled(runner))
        if 'ema_state_dict' in checkpoint and not _has(runner, EMAHook):
            print_log(
                'the checkpoint was trained with EMAHook, but this run has none: it continues from '
                'the moving average (`state_dict` of the file), not from the trained weights '
                '(`ema_state_dict`) to which the optimizer state belongs; keep EMAHook in '
                '`custom_hooks` to resume exactly', 'current', logging.WARNING)
        if not is_distilled(runner):
            meta = checkpoint['meta']
            warn_of(self.history.go_on(meta, record_of(None)), meta['iter'])

    def before_save_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Keep the record of earlier teachers, if the run has no distillation."""
        if not is_distilled(runner):
            meta = checkpoint.setdefault('meta', {})
            record = self.history.of(record_of(None), meta.get('iter', runner.iter))
            if record is not None:
                meta[KEY] = record


before_reading(ResumeHook.join)


def is_distilled(runner: Any) -> bool:
    """Whether a run has a Distiller or a DistillHook, which keep the history themselves."""
    return any(getattr(hook, 'keeps_history', False) for hook in runner.hooks)


@contextmanager
def naming_file(runner: Any) -> Iterator[None]:
    """Context manager that adds the path of the resumed checkpoint to a ValueError."""
    path = next((hook.path for hook in runner.hooks if isinstance(hook, ResumeHook)),
                runner._load_from)
    try:
        yield
    except ValueError as error:
        raise ValueError(f'`{path}` cannot be resumed: {error}') from error


def check_loaded(runner: Any, checkpoint: Any) -> None:
    """Check that a distilled run can start from a checkpoint, or resume it.

    Raises:
        ValueError: If nothing fits, or values are infinite or NaN; on resume, also if a part of
            the training state is missing.
    """
    if runner._resume and _has(runner, ResumeHook):
        return  # already checked
    check_start(unwrapped(runner), checkpoint, f'`{runner._load_from}`')
    if runner._resume:  # a strategy of MMEngine that reads checkpoints in its own way
        check_kinds(checkpoint)


def _has(runner: Any, kind: type) -> bool:
    return any(isinstance(hook, kind) for hook in runner.hooks)
