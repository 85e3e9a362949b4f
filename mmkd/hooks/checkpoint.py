"""Save checkpoints so that at every moment a whole one is on disk."""
import os
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, List

from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook as MMEngineCheckpointHook

from ..recorder import replaced_forward
from ..registry import HOOKS

PART = '.part'
"""End of the name of a file that is being written."""


@HOOKS.register_module()
class CheckpointHook(MMEngineCheckpointHook):
    """MMEngine's, but a run that is killed while it saves loses nothing.

    A checkpoint is written under another name, down to the disk, and renamed when it is whole; the
    one that ``max_keep_ckpts`` gives up for it is removed after that, not before. `tools/train.py`
    takes it in place of MMEngine's; elsewhere ``default_hooks=dict(checkpoint=dict(
    type='mmkd.CheckpointHook', ...))``, with the arguments of MMEngine's.
    """

    def _save_checkpoint_with_step(self, runner: Any, step: int, meta: Dict[str, Any]) -> None:
        outdated: List[str] = []
        with self._replaced_when_whole(runner), replaced_forward(
                self.file_backend, lambda remove: outdated.append, 'remove'):
            super()._save_checkpoint_with_step(runner, step, meta)
        for path in outdated:
            self.file_backend.remove(path)

    def _save_best_checkpoint(self, runner: Any, metrics: Any) -> None:
        with self._replaced_when_whole(runner):
            super()._save_best_checkpoint(runner, metrics)

    @contextmanager
    def _replaced_when_whole(self, runner: Any) -> Iterator[None]:
        """Inside the block, what the Runner saves gets its name only when it is whole."""
        if not isinstance(self.file_backend, LocalBackend):  # object stores do it of themselves
            yield
            return
        with replaced_forward(runner, _safely, 'save_checkpoint'):
            yield


def _safely(save: Callable) -> Callable:
    def save_and_rename(out_dir: str, filename: str, *args: Any, **kwargs: Any) -> None:
        save(out_dir, filename + PART, *args, **kwargs)
        path = os.path.join(out_dir, filename)
        if os.path.isfile(path + PART):  # only one of several processes writes
            with open(path + PART, 'rb+') as file:
                os.fsync(file.fileno())
        if os.path.exists(path + PART):  # DeepSpeed's are folders
            os.replace(path + PART, path)

    return save_and_rename
