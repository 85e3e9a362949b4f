"""Was a validation left out, because the run was killed before it was over?"""
import os
from typing import Any, Optional

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, find_latest_checkpoint

VALIDATED = 'mmkd_validated'
"""In MMEngine's message hub, and by that in every checkpoint: after how many epochs, or iterations
where training goes by them, the last validation ended."""


def note_validation(runner: Any) -> None:
    """Have the checkpoints that are saved from now on say that this validation is over.

    Args:
        runner (Runner): Its validation is over, and its scores are in the message hub.
    """
    number = _steps(runner)
    if number is not None:
        runner.message_hub.update_info(VALIDATED, number)


def missed_validation(runner: Any) -> Optional[int]:
    """After how many epochs or iterations a validation is due that the checkpoint does not know.

    MMEngine validates after it has saved, so the checkpoint of an epoch holds the scores of that
    epoch only where it was saved again, because they were the best so far.

    Args:
        runner (Runner): It has resumed, and has not begun to train.

    Returns:
        int | None: None if no validation is due, or the checkpoint was saved after it.
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
    """The checkpoint that a run goes on from, where it is the one that this run saved last.

    MMEngine saves it again when the validation after it was the best so far, so that it knows the
    best score.

    Args:
        runner (Runner): It may have resumed.
        folder (str): Where the run saves.
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
    """Makes up for a validation before training goes on; :class:`CheckpointHook` registers it.

    By that a run that was killed while it validated, or before it had saved again, ends with the
    scores and the best checkpoint of a run without a break.
    """

    priority = 'LOWEST'  # when all others are ready to train

    @classmethod
    def join(cls, runner: Any) -> None:
        """Register it, once, as the last hook of a Runner that is about to train."""
        if not any(isinstance(hook, cls) for hook in runner.hooks):
            runner.register_hook(cls())

    def before_train(self, runner: Any) -> None:
        """Validate, if it is due."""
        number = missed_validation(runner) if runner._resume else None
        if number is None:
            return
        kind = 'epoch' if isinstance(runner.train_loop, EpochBasedTrainLoop) else 'iteration'
        print_log(f'the checkpoint was saved before the validation of {kind} {number}, which is '
                  'made up for now', 'current')
        runner.val_loop.run()


def _steps(runner: Any) -> Optional[int]:
    """How far training is, in that by which it validates; None if the loop is another one."""
    loop = runner._train_loop
    if isinstance(loop, EpochBasedTrainLoop):
        return loop.epoch
    return loop.iter if isinstance(loop, IterBasedTrainLoop) else None
