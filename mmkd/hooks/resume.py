"""Is what a run resumes what ran? Exactly that, or it is refused by name."""
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
    """Looks at every checkpoint from which a Runner resumes, before anything is taken from it.

    It joins by itself where a Runner that is about to train reads a checkpoint, be the student
    distilled, plain, or plain from now on. What taught a student that nobody teaches any more stays
    in its checkpoints.

    Args:
        path (str): The checkpoint, for messages.
    """

    priority = 'HIGHEST'  # before EMAHook exchanges weights that are none

    def __init__(self, path: str) -> None:
        self.path = path
        self.history = History()

    @classmethod
    def join(cls, runner: Any, path: str) -> None:
        """Have a Runner that reads a checkpoint look at it; a second call tells of another file."""
        for hook in runner.hooks:
            if isinstance(hook, cls):
                hook.path = path
                return
        runner.register_hook(cls(path))

    def after_load_checkpoint(self, runner: Any, checkpoint: Any) -> None:
        """Refuse what cannot be gone on from, and say what will be otherwise.

        Raises:
            ValueError: If the checkpoint is not all of a run that trained this student so.
        """
        if not runner._resume:
            return
        with naming_file(runner):
            check_run(runner, checkpoint, is_distilled(runner))
        if 'ema_state_dict' in checkpoint and not _has(runner, EMAHook):
            print_log(
                'the checkpoint was trained with EMAHook, and this run has none: it goes on from '
                'the moving average (`state_dict` of the file), not from the weights that were '
                'trained (`ema_state_dict`), which the state of the optimizer belongs to; keep '
                'EMAHook in `custom_hooks` to go on exactly', 'current', logging.WARNING)
        if not is_distilled(runner):
            meta = checkpoint['meta']
            warn_of(self.history.go_on(meta, record_of(None)), meta['iter'])

    def before_save_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Keep who taught the student, where nobody does any more."""
        if not is_distilled(runner):
            meta = checkpoint.setdefault('meta', {})
            record = self.history.of(record_of(None), meta.get('iter', runner.iter))
            if record is not None:
                meta[KEY] = record


before_reading(ResumeHook.join)


def is_distilled(runner: Any) -> bool:
    """Whether a run has a Distiller, or a DistillHook, which keep the history themselves."""
    return any(getattr(hook, 'keeps_history', False) for hook in runner.hooks)


@contextmanager
def naming_file(runner: Any) -> Iterator[None]:
    """Have what is wrong with the checkpoint that a run resumes say which file it is."""
    path = next((hook.path for hook in runner.hooks if isinstance(hook, ResumeHook)),
                runner._load_from)
    try:
        yield
    except ValueError as error:
        raise ValueError(f'`{path}` cannot be resumed: {error}') from error


def check_loaded(runner: Any, checkpoint: Any) -> None:
    """Whether a distilled run can start from a checkpoint, or go on from it.

    Raises:
        ValueError: If nothing of it fits, or it holds numbers that are none; on resume, if it is
            not all of a run.
    """
    if runner._resume and _has(runner, ResumeHook):
        return  # it has looked
    check_start(unwrapped(runner), checkpoint, f'`{runner._load_from}`')
    if runner._resume:  # a strategy of MMEngine's that reads in its own way
        check_kinds(checkpoint)


def _has(runner: Any, kind: type) -> bool:
    return any(isinstance(hook, kind) for hook in runner.hooks)
