"""How are partners evaluated, and saved as plain checkpoints?"""
import logging
import os
import re
from typing import Any, Dict, Iterator, List, Optional, Tuple

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook, Hook
from mmengine.logging import print_log
from mmengine.runner import save_checkpoint

from ..core.rng import preserved_rng
from ..files.finite import not_finite
from ..files.history import KEY
from ..files.parts import whole_or_not
from ..networks import Partner
from ..training.distillation import Distillation
from .scoring import score

WRITTEN = re.compile(r'(epoch|iter)_\d+$|best_')
"""Default names of the files that MMEngine's CheckpointHook writes for the student."""


class PartnerHook(Hook):
    """Evaluates every partner after each validation, and saves it as a plain checkpoint at the end.

    The metrics are added to the student's as 'name/metric', in the log and for ``save_best``. The
    Distiller registers the hook for partners that share no modules with the student.

    Args:
        distillation (Distillation): The distillation with the partners.
    """

    # Before the metrics are logged and CheckpointHook compares them.
    priority = 'HIGHEST'

    def __init__(self, distillation: Distillation) -> None:
        self.distillation = distillation

    def before_train(self, runner: Any) -> None:
        """Check that the files of the partners overwrite no others.

        Raises:
            ValueError: If a file would have the name of a checkpoint of the student, or of the
                initial weights of a network.
        """
        patterns = [WRITTEN, *map(_pattern_of, (
            hook.filename_tmpl for hook in runner.hooks if isinstance(hook, CheckpointHook)))]
        for name, _, path in self._kept(runner):
            if any(pattern.match(name) for pattern in patterns):
                raise ValueError(
                    f'the file of the companion `{name}`, {os.path.basename(path)}, would '
                    'overwrite a checkpoint of the student at the end of training; use another '
                    'name, for instance `partner`')
            for other, network in self.distillation.networks.items():
                source = getattr(network, 'checkpoint', None)
                if isinstance(source, str) and os.path.realpath(source) == os.path.realpath(path):
                    raise ValueError(
                        f'the partner `{name}` would overwrite {source}, the checkpoint from which '
                        f'`{other}` starts; use another name, or move that file out of the work '
                        'dir')

    def after_val_epoch(self, runner: Any, metrics: Optional[Dict[str, float]] = None) -> None:
        """Evaluate the partners on the validation set."""
        for name, partner in self.distillation.partners.items():
            if partner.is_kept and metrics is not None:
                with preserved_rng():
                    found = score(runner, runner.val_dataloader, partner.model, lambda one: one)
                metrics.update({f'{name}/{key}': value for key, value in found.items()})

    def after_train(self, runner: Any) -> None:
        """Save ``<work_dir>/<name>.pth``, which fits the partner's own config.

        Raises:
            OSError: If the disk is full.
        """
        meta = dict(dataset_meta=getattr(runner.train_dataloader.dataset, 'metainfo', {}),
                    epoch=runner.epoch, iter=runner.iter)
        meta[KEY] = self.distillation.provenance()
        for name, partner, path in self._kept(runner):
            if not is_main_process():
                continue
            assert partner.model is not None
            weights = {key: value.cpu() for key, value in partner.model.state_dict().items()}
            broken = not_finite(dict(state_dict=weights),
                                (key for key, _ in partner.model.named_parameters()))
            if broken:
                print_log(f'The partner `{name}` is not written to {path}: {len(broken)} of its '
                          f'tensors have infinite or NaN values, such as `{broken[0]}`, because '
                          'its training diverged', 'current', logging.WARNING)
                continue
            needed = sum(value.numel() * value.element_size() for value in weights.values())
            with whole_or_not(path, needed=lambda size=needed: size) as part:  # type: ignore[misc]
                save_checkpoint(dict(meta=meta, state_dict=weights), part)
            print_log(f'Wrote the partner `{name}` to {path}', 'current')

    def _kept(self, runner: Any) -> Iterator[Tuple[str, Partner, str]]:
        """Names of the partners that are saved, the partners, and the paths."""
        for name, partner in self.distillation.partners.items():
            if partner.is_kept:
                yield name, partner, os.path.join(runner.work_dir, f'{name}.pth')


def _pattern_of(template: str) -> 're.Pattern[str]':
    """Pattern of the names that a template of MMEngine gives: '{}' is replaced by a number."""
    parts: List[str] = os.path.splitext(os.path.basename(template))[0].split('{}')
    return re.compile(r'\d+'.join(map(re.escape, parts)) + '$')
