"""How are the modules of :class:`mmkd.Prepare` saved, resumed, and written to their file?"""
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log

from ..compare.prepared import is_same, shown
from .resume import check_loaded, naming_file

ABOUT = 'mmkd_prepare'
"""Key of the description in ``meta`` of a checkpoint."""


class PrepareHook(Hook):
    """Writes the file of a :class:`mmkd.Prepare` at the end of training, and checks on resume that
    teacher, point and module are those of the checkpoint.

    Args:
        model (Prepare): The model, without its distributed wrapper.
    """

    priority = 'LOW'

    def __init__(self, model: Any) -> None:
        self.model = model

    def before_save_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Add the description of teacher and module to a checkpoint."""
        checkpoint.setdefault('meta', {})[ABOUT] = self.model.about

    def after_load_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Refuse a checkpoint of another teacher, point or module on resume.

        Raises:
            ValueError: If it is one, or nothing of it fits.
        """
        check_loaded(runner, checkpoint)
        if not runner._resume:
            return
        with naming_file(runner):
            saved, own = checkpoint['meta'].get(ABOUT), self.model.about
            if not isinstance(saved, dict):
                raise ValueError('it was not saved by a mmkd.Prepare; resume from a checkpoint of '
                                 'this run')
            for key in ('type', 'on', 'arguments'):
                if saved.get(key) != own[key]:
                    raise ValueError(f'its `{key}` is {saved.get(key)!r}, but {own[key]!r} in the '
                                     'config; use the same setting, or train again without '
                                     '`resume`')
            if not is_same(saved.get('teacher', {}), own['teacher']):
                raise ValueError(f'it was trained with the teacher {shown(saved["teacher"])}, but '
                                 f'the teacher of this run is {shown(own["teacher"])}; use the '
                                 'same teacher, or train again without `resume`')

    def after_train(self, runner: Any) -> None:
        """Write the file.

        Raises:
            ValueError: If a value is infinite or NaN.
        """
        if is_main_process():
            path = self.model.write(runner.work_dir, runner.iter)
            print_log(f'{self.model.about["type"]} is written to {path}; set it as `tokens` of the '
                      'loss of the second stage', 'current')
