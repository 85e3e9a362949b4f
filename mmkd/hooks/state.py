"""Save and restore what distillation needs beside the student."""
from typing import Any

from mmengine.hooks import Hook

from ..distillation import Distillation

KEY = 'mmkd'
"""Key of the checkpoint, beside ``state_dict``, that holds all of it."""


class StateHook(Hook):
    """Keeps connectors in the checkpoint; the Distiller registers it with the Runner.

    Args:
        distillation (Distillation): What is trained.
    """

    priority = 'VERY_LOW'

    def __init__(self, distillation: Distillation) -> None:
        self.distillation = distillation

    def before_save_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Add the key, where there is anything to keep."""
        state = self.distillation.state_dict()
        if state:
            checkpoint[KEY] = state

    def after_load_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Restore it on resume. Weights to start from (``load_from``) need not have it.

        Raises:
            ValueError: If the checkpoint's is of another distillation.
        """
        if runner._resume:
            self.distillation.load_state_dict(checkpoint.get(KEY, {}))
