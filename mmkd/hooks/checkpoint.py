"""Save checkpoints so that at every moment a whole one is on disk."""
import glob
import logging
import os
import shutil
from contextlib import ExitStack, contextmanager
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook as MMEngineCheckpointHook
from mmengine.logging import print_log

from ..build import check_arguments, parameters_of
from ..checkpoint import is_trusted, read_file
from ..recorder import replaced_forward
from ..registry import HOOKS
from .validation import MissedValidationHook, note_validation, resumed_checkpoint

PART = '.part'
"""End of the name of a file that is being written."""


@HOOKS.register_module()
class CheckpointHook(MMEngineCheckpointHook):
    """MMEngine's, but a run that is killed while it saves loses nothing.

    A checkpoint is written under another name, down to the disk, and renamed when it is whole; the
    one that ``max_keep_ckpts`` gives up for it is removed after that, not before, and nothing is
    removed that does not lie in the folder of the checkpoints. `tools/train.py` takes it in place
    of MMEngine's; elsewhere ``default_hooks=dict(checkpoint=dict(type='mmkd.CheckpointHook',
    ...))``, with the arguments of MMEngine's.
    """

    _is_saving = _was_read = False
    last_ckpt: Optional[str]

    @classmethod
    def protect(cls, runner: Any) -> None:
        """Have a Runner save by this hook in place of MMEngine's."""
        for hook in runner.hooks:
            if type(hook) is MMEngineCheckpointHook:
                hook.__class__ = cls

    def before_train(self, runner: Any) -> None:
        """Remove what a run that was killed has left half written.

        Raises:
            TypeError: If the config has misspelt an argument, which MMEngine's would find at the
                first save.
        """
        check_arguments('CheckpointHook', self.args, parameters_of(MMEngineCheckpointHook)[0])
        super().before_train(runner)
        self.last_ckpt = resumed_checkpoint(runner, self.out_dir)
        MissedValidationHook.join(runner)
        if isinstance(self.file_backend, LocalBackend) and is_main_process():
            for path in glob.glob(os.path.join(glob.escape(self.out_dir), f'*.pth{PART}*')):
                remove = shutil.rmtree if os.path.isdir(path) else os.remove
                remove(path)

    def after_val_epoch(self, runner: Any, metrics: Any = None) -> None:
        """Save the best checkpoint, and in it that this validation is over."""
        note_validation(runner)
        super().after_val_epoch(runner, metrics)

    def _save_checkpoint_with_step(self, runner: Any, step: int, meta: Dict[str, Any]) -> None:
        with self._whole_before_gone(runner):
            super()._save_checkpoint_with_step(runner, step, meta)

    def _save_best_checkpoint(self, runner: Any, metrics: Any) -> None:
        with self._whole_before_gone(runner):
            super()._save_best_checkpoint(runner, metrics)

    @contextmanager
    def _whole_before_gone(self, runner: Any) -> Iterator[None]:
        """Inside the block, what the Runner saves gets its name only when it is whole, and what is
        removed goes after that."""
        if self._is_saving:  # after the best one, the last one is saved again
            yield
            return
        outdated: List[Tuple[Callable, str]] = []

        def later(remove: Callable) -> Callable:
            return lambda path: outdated.append((remove, path))

        with ExitStack() as stack:
            for name in ('remove', 'rmtree'):
                stack.enter_context(replaced_forward(self.file_backend, later, name))
            if isinstance(self.file_backend, LocalBackend):  # object stores do it of themselves
                stack.enter_context(replaced_forward(runner, _safely, 'save_checkpoint'))
            self._is_saving = True
            stack.callback(setattr, self, '_is_saving', False)
            yield
        for remove, path in outdated:
            if os.path.dirname(os.path.abspath(path)) == os.path.abspath(self.out_dir) or not (
                    isinstance(self.file_backend, LocalBackend)):
                remove(path)
            else:
                print_log(f'{path} is not in {self.out_dir}, and stays', 'current',
                          logging.WARNING)
        self._read_back()

    def _read_back(self) -> None:
        """Try once, while it costs an epoch at most, whether the run could go on from its file."""
        if self._was_read or not is_main_process() or not self.last_ckpt:
            return
        self._was_read = True
        if os.path.isfile(self.last_ckpt):
            try:
                read_file(self.last_ckpt, is_trusted(), 'at the top level of the config')
            except ValueError as error:
                print_log(f'this run could not be resumed: {error}', 'current', logging.WARNING)


def _safely(save: Callable) -> Callable:
    def save_and_rename(out_dir: str, filename: str, *args: Any, **kwargs: Any) -> None:
        path = os.path.join(out_dir, filename)
        if is_main_process() and os.path.isfile(path + PART):  # of a run that was killed
            os.remove(path + PART)
        save(out_dir, filename + PART, *args, **kwargs)
        if not is_main_process():
            return
        if os.path.isfile(path + PART):
            with open(path + PART, 'rb+') as file:
                os.fsync(file.fileno())
            os.replace(path + PART, path)
        elif os.path.isdir(path + PART):  # DeepSpeed's, of which every process writes a part
            shutil.rmtree(path, ignore_errors=True)
            os.replace(path + PART, path)

    return save_and_rename
