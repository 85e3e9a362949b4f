"""Was a validation missed because the run was killed before it finished?"""
import os
from typing import Any, Optional

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, find_latest_checkpoint

VALIDATED = 'mmkd_validated'
"""Key in MMEngine's message hub, and so in every checkpoint: number of epochs, or of iterations in
iteration-based training, at the end of the last validation."""


def note_validation(runner: Any) -> None:
    """Record in the message hub, and so in later checkpoints, that a validation is finished.

    Args:
        runner (Runner): The run; the scores are already in its message hub.
    """
    number = _steps(runner)
    if number is not None:
        runner.message_hub.update_info(VALIDATED, number)


def missed_validation(runner: Any) -> Optional[int]:
    """Number of epochs or iterations of a validation that the resumed checkpoint lacks.

    MMEngine saves before it validates, so a checkpoint has the scores of its own epoch only if it
    was saved again because they were the best so far.

    Args:
        runner (Runner): A run that has resumed and has not begun to train.

    Returns:
        int | None: None if no validation is due, or if the checkpoint was saved after it.
    """
    number = _steps(runner)
    if not number or runner.val_loop is None:
        return None
    loop = runner.train_loop
    loop._decide_current_val_interval()
    last = loop.max_epochs if isinstance(loop, EpochBasedTrainLoop) else loop.max_iters
    is_due = number >= loop.val_begin and (number % loop.val_interval == 0 or number == last)
    known = runner.message_hub.runtime_info.get(VALIDATED)
    return number if is_due and known != number else None


def resumed_checkpoint(runner: Any, folder: str) -> Optional[str]:
    """The checkpoint that a run resumes, if it is the one that the run saved last.

    MMEngine saves it again after a validation with the best scores so far, so that it holds them.

    Args:
        runner (Runner): The run, resumed or not.
        folder (str): Folder of its checkpoints.

    Returns:
        str | None: Path in ``folder``; None if the run has not resumed, or from another file.
    """
    named = runner.message_hub.runtime_info.get('last_ckpt')
    if not runner._resume or not isinstance(named, str):
        return None
    path = runner._load_from or find_latest_checkpoint(runner.work_dir) or ''
    # The folder may have been moved since.
    own = os.path.join(folder, os.path.basename(named))
    is_own = os.path.isfile(path) and os.path.isfile(own) and os.path.samefile(path, own)
    return own if is_own else None


class MissedValidationHook(Hook):
    """Runs a missed validation before training resumes; :class:`CheckpointHook` registers it.

    With it, a run that was killed during validation, or before it saved again, ends with the scores
    and the best checkpoint of an uninterrupted run.
    """

    priority = 'LOWEST'  # after all other hooks are ready to train

    @classmethod
    def join(cls, runner: Any) -> None:
        """Register the hook once, as the last one of a Runner that is about to train."""
        if not any(isinstance(hook, cls) for hook in runner.hooks):
            runner.register_hook(cls())

    def before_train(self, runner: Any) -> None:
        """Run the validation if it was missed."""
        number = missed_validation(runner) if runner._resume else None
        if number is None:
            return
        kind = 'epoch' if isinstance(runner.train_loop, EpochBasedTrainLoop) else 'iteration'
        print_log(f'the checkpoint was saved before the validation of {kind} {number}, so this '
                  'validation is run now', 'current')
        runner.val_loop.run()


def _steps(runner: Any) -> Optional[int]:
    """Number of finished epochs, or of iterations in iteration-based training, else None."""
    loop = runner._train_loop
    if isinstance(loop, EpochBasedTrainLoop):
        return loop.epoch
    return loop.iter if isinstance(loop, IterBasedTrainLoop) else None
