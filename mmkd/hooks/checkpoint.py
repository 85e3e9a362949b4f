"""How are checkpoints saved so that a complete one is on disk at every moment?"""
import logging
import os
import time
from contextlib import ExitStack, contextmanager
from typing import Any, Callable, Dict, Iterator, List, Optional, Set, Tuple

from mmengine.dist import all_gather_object, get_world_size, is_main_process
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook as MMEngineCheckpointHook
from mmengine.logging import print_log
from torch import Tensor

from ..core.agreement import all_or_none, check_alike, parts_of_config, weights_of
from ..core.build import check_arguments, parameters_of
from ..core.names import joined
from ..core.runner import is_training, unwrapped
from ..files.finite import not_finite
from ..files.folder import HeldFolder
from ..files.guard import is_trusted
from ..files.latest import RUN, checkpoints_of
from ..files.parts import Process, part_of, remove_abandoned, whole_or_not
from ..files.reading import read_file
from ..files.resumable import has_all_weights
from ..points.recorder import replaced_forward
from ..registry import HOOKS
from .validation import MissedValidationHook, note_validation, resumed_checkpoint


@HOOKS.register_module()
class CheckpointHook(MMEngineCheckpointHook):
    """MMEngine's CheckpointHook with safe saving.

    - A checkpoint is written under a temporary name, flushed to disk, and renamed when complete.
      Outdated ones (``max_keep_ckpts``) are removed afterwards, and only in the folder of
      checkpoints.
    - A checkpoint with infinite or NaN weights never replaces the last one with finite weights.
    - Only one run at a time writes into a folder; a second one is an error.
    - If the disk is full, the incomplete file is removed, and the error lists files that could be
      removed.
    - All processes must start with the same config and the same weights.

    `tools/train.py` uses it in place of MMEngine's. Elsewhere, write
    ``default_hooks=dict(checkpoint=dict(type='mmkd.CheckpointHook', ...))``. It takes the arguments
    of MMEngine's hook.
    """

    _is_saving = _was_read = False
    last_ckpt: Optional[str]
    _needed = 0
    """Approximate size in bytes of the checkpoint that is being saved."""
    _broken: Tuple[str, ...] = ()
    """Names of its tensors with infinite or NaN values."""
    _last_fine = ''
    """The newest checkpoint for resuming with finite weights."""
    _writer: Optional[Process] = None
    _run: Optional[Dict[str, float]] = None
    """Start time of this run, saved in its checkpoints."""
    _held: Tuple[HeldFolder, ...] = ()
    _spared: Tuple[Tuple[Callable, str], ...] = ()
    """Removals that wait, because the newest checkpoint has infinite or NaN weights."""

    @classmethod
    def protect(cls, runner: Any) -> None:
        """Replace MMEngine's CheckpointHook of a Runner by this one."""
        for hook in runner.hooks:
            if type(hook) is MMEngineCheckpointHook:
                hook.__class__ = cls

    def before_run(self, runner: Any) -> None:
        """Compare the configs of all processes.

        Raises:
            ValueError: If they differ.
        """
        if is_training(runner):
            check_alike(lambda: parts_of_config(runner.cfg), 'their configs')

    def before_train(self, runner: Any) -> None:
        """Lock the folder, and remove incomplete files of runs that were killed.

        Raises:
            TypeError: If the config misspells an argument. MMEngine's hook would notice at the
                first save.
            ValueError: If another run uses the folder, or the processes of this one start with
                different weights.
        """
        check_arguments('CheckpointHook', self.args, parameters_of(MMEngineCheckpointHook)[0])
        if has_all_weights(runner):
            check_alike(lambda: dict(epoch=runner.epoch, iter=runner.iter,
                                     weights=weights_of(runner.model)),
                        'where they start, and with which weights')
        with all_or_none('begin to train'):
            self._hold(runner.work_dir)  # before anything in it is removed
            super().before_train(runner)
            self.last_ckpt = resumed_checkpoint(runner, self.out_dir)
            MissedValidationHook.join(runner)
            if isinstance(self.file_backend, LocalBackend):
                self._hold(self.out_dir)
                if is_main_process():
                    remove_abandoned(self.out_dir)
                    if not runner._resume:
                        _warn_of_earlier(self.out_dir)
        self._run = dict(started=time.time())
        writer = Process.this()
        self._writer = all_gather_object(writer)[0] if get_world_size() > 1 else writer
        resumed = runner.message_hub.runtime_info.get('last_ckpt')
        if runner._resume and isinstance(resumed, str):
            self._last_fine = os.path.join(self.out_dir, os.path.basename(resumed))
        self._was_broken: Set[str] = set()

    def after_train(self, runner: Any) -> None:
        """Publish the checkpoints that the config requests, and release the folder."""
        super().after_train(runner)
        for held in self._held:
            held.release()

    def _hold(self, folder: str) -> None:
        if is_main_process():
            os.makedirs(folder, exist_ok=True)
            self._held = (*self._held, HeldFolder(folder))

    # --- saving ---------------------------------------------------------------------------------

    def before_save_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Check the values to be saved, and record the run in the checkpoint."""
        self._needed = _bytes_of(checkpoint)
        self._broken = tuple(not_finite(
            checkpoint, (name for name, _ in unwrapped(runner).named_parameters())))
        if self._run is not None:
            checkpoint.setdefault('meta', {})[RUN] = dict(self._run)

    def after_val_epoch(self, runner: Any, metrics: Any = None) -> None:
        """Save the best checkpoint, and record in it that this validation is finished."""
        note_validation(runner)
        super().after_val_epoch(runner, metrics)

    def _save_checkpoint_with_step(self, runner: Any, step: int, meta: Dict[str, Any]) -> None:
        note = os.path.join(runner.work_dir, 'last_checkpoint')
        before = _read(note)
        with self._whole_before_gone(runner):
            super()._save_checkpoint_with_step(runner, step, meta)
        if not is_main_process() or not self.last_ckpt:
            return
        if not self._broken:
            self._last_fine = self.last_ckpt
            self._was_broken.discard(self.last_ckpt)
            return
        self._was_broken.add(self.last_ckpt)
        if before:  # MMEngine's `resume=True` reads it, and would resume from broken weights
            with open(note, 'w') as file:
                file.write(before)
        print_log(
            f'{self.last_ckpt} contains {len(self._broken)} tensors with infinite or NaN values, '
            f'such as `{self._broken[0]}`: training diverges. ' + (
                f'{self._last_fine} is the newest checkpoint without them, and is kept until there '
                'is a newer one; `--resume` continues from '
                'it' if self._last_fine else 'No checkpoint is without them') +
            '. Lower the learning rate, or clip gradients', 'current', logging.WARNING)

    def _save_best_checkpoint(self, runner: Any, metrics: Any) -> None:
        with self._whole_before_gone(runner):
            super()._save_best_checkpoint(runner, metrics)

    @contextmanager
    def _whole_before_gone(self, runner: Any) -> Iterator[None]:
        """Context manager in which the Runner saves complete files only, and removes outdated
        ones after that."""
        if self._is_saving:  # nested: saving the best one saves the last one again
            yield
            return
        outdated: List[Tuple[Callable, str]] = []

        def later(remove: Callable) -> Callable:
            return lambda path: outdated.append((remove, path))

        with ExitStack() as stack:
            for name in ('remove', 'rmtree'):
                stack.enter_context(replaced_forward(self.file_backend, later, name))
            if isinstance(self.file_backend, LocalBackend):  # object stores write atomically
                stack.enter_context(replaced_forward(runner, self._safely, 'save_checkpoint'))
            self._is_saving = True
            stack.callback(setattr, self, '_is_saving', False)
            yield
        outdated = [*self._spared, *outdated]
        spared = [one for one in outdated if self._broken and self._is_needed(one[1])]
        self._spared = tuple(spared)
        for remove, path in outdated:
            if (remove, path) not in spared:
                self._remove(remove, path)
        self._read_back()

    def _is_needed(self, path: str) -> bool:
        """Whether an outdated file is the last one, or the best one, with finite weights."""
        return os.path.abspath(path) == os.path.abspath(self._last_fine) or (
            os.path.basename(path).startswith('best_') and path not in self._was_broken)

    def _remove(self, remove: Callable, path: str) -> None:
        is_local = isinstance(self.file_backend, LocalBackend)
        if is_local and os.path.dirname(os.path.abspath(path)) != os.path.abspath(self.out_dir):
            print_log(f'{path} is not in {self.out_dir}, and is kept', 'current', logging.WARNING)
        elif not is_local or os.path.exists(path):
            remove(path)

    def _safely(self, save: Callable) -> Callable:
        def save_and_rename(out_dir: str, filename: str, *args: Any, **kwargs: Any) -> None:
            path = os.path.join(out_dir, filename)
            part = os.path.basename(part_of(path, self._writer))
            if not is_main_process():
                save(out_dir, part, *args, **kwargs)
                return
            with whole_or_not(path, self._writer, lambda: self._needed):
                save(out_dir, part, *args, **kwargs)

        return save_and_rename

    def _read_back(self) -> None:
        """Read the first checkpoint of a run back, to find early whether it can be resumed."""
        if self._was_read or not is_main_process() or not self.last_ckpt:
            return
        self._was_read = True
        if os.path.isfile(self.last_ckpt):
            try:
                read_file(self.last_ckpt, is_trusted(), 'at the top level of the config')
            except ValueError as error:
                print_log(f'this run could not be resumed: {error}', 'current', logging.WARNING)


def _warn_of_earlier(folder: str) -> None:
    """Warn that a run that starts from scratch overwrites the checkpoints of an earlier one."""
    names = [os.path.basename(path) for path in checkpoints_of(folder)]
    if names:
        print_log(f'{folder} contains {joined(names)} of an earlier run, but this run starts from '
                  'scratch and overwrites files of the same names; stop it and use `--resume` to '
                  'continue, or another `--work-dir` to keep them', 'current',
                  logging.WARNING)


def _bytes_of(value: Any) -> int:
    """Size in bytes of all tensors in nested dicts and lists."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, dict):
        return sum(map(_bytes_of, value.values()))
    return sum(map(_bytes_of, value)) if isinstance(value, (list, tuple)) else 0


def _read(path: str) -> str:
    if not os.path.isfile(path):
        return ''
    with open(path, errors='replace') as file:
        return file.read(4096)
