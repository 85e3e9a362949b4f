"""Partners are models of their own: scored by name, and left as plain checkpoints."""
import os
from typing import Any, Dict, Optional

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import save_checkpoint

from ..distillation import Distillation
from ..rng import preserved_rng
from .scoring import score


class PartnerHook(Hook):
    """Scores every partner after each validation, and writes it as a plain checkpoint at the end.

    Its metrics stand beside the student's as 'name/metric', in the log and for ``save_best``. The
    Distiller registers it where a partner shares nothing with the student.

    Args:
        distillation (Distillation): With the partners.
    """

    # Before the metrics are logged and CheckpointHook looks for the best.
    priority = 'HIGHEST'

    def __init__(self, distillation: Distillation) -> None:
        self.distillation = distillation

    def after_val_epoch(self, runner: Any, metrics: Optional[Dict[str, float]] = None) -> None:
        """Score the partners on the validation set, too."""
        for name, partner in self.distillation.partners.items():
            if partner.is_kept and metrics is not None:
                with preserved_rng():
                    found = score(runner, runner.val_dataloader, partner.model, lambda one: one)
                metrics.update({f'{name}/{key}': value for key, value in found.items()})

    def after_train(self, runner: Any) -> None:
        """Write ``<work_dir>/<name>.pth``, which the partner's own config loads."""
        meta = dict(dataset_meta=getattr(runner.train_dataloader.dataset, 'metainfo', {}),
                    epoch=runner.epoch, iter=runner.iter)
        for name, partner in self.distillation.partners.items():
            if partner.is_kept and is_main_process():
                assert partner.model is not None
                path = os.path.join(runner.work_dir, f'{name}.pth')
                weights = {key: value.cpu() for key, value in partner.model.state_dict().items()}
                save_checkpoint(dict(meta=meta, state_dict=weights), path)
                print_log(f'Wrote the partner `{name}` to {path}', 'current')
