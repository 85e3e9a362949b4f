"""Can a run be resumed from this checkpoint exactly?"""
import logging
from typing import Any, Dict, Optional

from mmengine.logging import print_log
from mmengine.runner import EpochBasedTrainLoop, FlexibleRunner, IterBasedTrainLoop
from torch import Tensor, nn

from ..core.runner import unwrapped
from .finite import not_finite
from .fit import check_start, load_what_fits, misfit
from .kinds import REMEDY, check_kinds
from .optimization import check_optimizer, check_schedulers


def check_run(runner: Any, checkpoint: Any, is_distilled: bool) -> None:
    """Check that a run resumed from a checkpoint continues exactly like one without a break.

    Args:
        runner (Runner): The run.
        checkpoint (Any): Content of the checkpoint file.
        is_distilled (bool): Whether connectors or partners join the optimizer later; its state is
            then checked after they have joined.

    Raises:
        ValueError: If the checkpoint belongs to another student or another schedule, lacks a part
            of the training state, or has values that are infinite or NaN; the message names the
            key.
    """
    model = unwrapped(runner)
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get('state_dict'), dict):
        check_start(model, checkpoint, 'the file')
        raise ValueError(f'it contains only weights, not the state of its training{REMEDY}')
    check_start(model, checkpoint, 'the file')
    check_kinds(checkpoint)
    if has_all_weights(runner):
        check_exact(model, checkpoint)
    if not is_distilled:
        check_optimizer(runner, checkpoint)
    check_schedulers(runner, checkpoint)
    broken = not_finite(checkpoint, (name for name, _ in model.named_parameters()))
    if broken:
        raise ValueError(f'{len(broken)} of its tensors have infinite or NaN values, such as '
                         f'`{broken[0]}`, because its training diverged; resume from an earlier '
                         'one, with a lower learning rate')
    check_schedule(runner, checkpoint['meta'])  # last, because it may log that the run has ended


def has_all_weights(runner: Any) -> bool:
    """Whether this process holds all weights of the model under their own names."""
    if not isinstance(runner, FlexibleRunner):
        return True
    return type(runner.strategy).__name__ in ('SingleDeviceStrategy', 'DDPStrategy')


def check_exact(model: nn.Module, checkpoint: Dict[str, Any]) -> None:
    """Check that a checkpoint has exactly the names and shapes of a model.

    Raises:
        ValueError: If not; the message lists the differences.
    """
    own = model.state_dict()
    weights = {key.removeprefix('module.'): value
               for key, value in checkpoint['state_dict'].items()}
    if own.keys() != weights.keys() or any(map(_misfit, weights.values(), map(own.get, weights))):
        kinds = [f'{key}: {value.dtype} in the file, {own[key].dtype} in the model'
                 for key, value in weights.items() if key in own and isinstance(value, Tensor)
                 and value.is_floating_point() != own[key].is_floating_point()]
        if kinds:
            raise ValueError(f'{len(kinds)} of its weights have another dtype, such as '
                             f'{kinds[0]}{REMEDY}')
        # Layers may rename keys of earlier versions.
        misfits = load_what_fits(model, dict(checkpoint))
        if misfits:
            raise ValueError(f'its weights do not fit the student in the config: {misfits}; resume '
                             f'with the student that was trained, or{REMEDY[1:]}')
    ema = checkpoint.get('ema_state_dict')
    if ema is None:
        return
    ema = {key.removeprefix('module.'): value for key, value in ema.items()
           if key.startswith('module.')}
    odd = sorted(weights.keys() ^ ema.keys()) or [
        key for key, value in ema.items() if _misfit(value, weights[key])]
    if odd:
        raise ValueError(f'`ema_state_dict` is not the average of its `state_dict`: {len(odd)} '
                         f'tensors differ in name or shape, such as `{odd[0]}`{REMEDY}')


def _misfit(given: Any, own: Optional[Tensor]) -> bool:
    return not isinstance(given, Tensor) or own is None or bool(misfit(given, own)) or (
        given.is_floating_point() != own.is_floating_point())


def check_schedule(runner: Any, meta: Dict[str, Any]) -> None:
    """Check that a run stopped within its schedule; log a warning if it stopped at the end.

    Raises:
        ValueError: If it stopped beyond the end.
    """
    loop = runner.train_loop
    if isinstance(loop, EpochBasedTrainLoop):
        key, last, setting = 'epoch', loop.max_epochs, 'max_epochs'
    elif isinstance(loop, IterBasedTrainLoop):
        key, last, setting = 'iter', loop.max_iters, 'max_iters'
    else:
        return
    if meta[key] > last:
        raise ValueError(
            f"`meta['{key}']` is {meta[key]}, but the schedule ends with {last} "
            f'(`train_cfg.{setting}`); use the schedule that it was trained with, or a longer one')
    if meta[key] == last:
        print_log(
            f'this run is complete: {last} of {last} {"epochs" if key == "epoch" else key} are '
            f'done; to continue training, raise `train_cfg.{setting}`, and check the '
            'schedules', 'current', logging.WARNING)
