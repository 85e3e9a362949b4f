"""Save checkpoints so that at every moment a whole one is on disk."""
import os
import shutil
from contextlib import ExitStack, contextmanager
from typing import Any, Callable, Dict, Iterator, List, Tuple

from mmengine.dist import is_main_process
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
        with self._whole_before_gone(runner):
            super()._save_checkpoint_with_step(runner, step, meta)

    def _save_best_checkpoint(self, runner: Any, metrics: Any) -> None:
        with self._whole_before_gone(runner):
            super()._save_best_checkpoint(runner, metrics)

    @contextmanager
    def _whole_before_gone(self, runner: Any) -> Iterator[None]:
        """Inside the block, what the Runner saves gets its name only when it is whole, and what is
        removed goes after that."""
        outdated: List[Tuple[Callable, str]] = []

        def later(remove: Callable) -> Callable:
            return lambda path: outdated.append((remove, path))

        with ExitStack() as stack:
            for name in ('remove', 'rmtree'):
                stack.enter_context(replaced_forward(self.file_backend, later, name))
            if isinstance(self.file_backend, LocalBackend):  # object stores do it of themselves
                stack.enter_context(replaced_forward(runner, _safely, 'save_checkpoint'))
            yield
        for remove, path in outdated:
            remove(path)


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
