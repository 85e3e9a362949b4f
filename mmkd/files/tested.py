"""Does a checkpoint hold the complete model that is tested with it?

MMEngine loads what fits and only warns about the rest, so a score may come from random weights.
"""
import sys
from collections import OrderedDict
from types import FrameType
from typing import Any, Dict, Optional

from mmengine.logging import print_log
from mmengine.model import BaseTTAModel
from mmengine.runner import FlexibleRunner, Runner
from torch import Tensor, nn

from ..core.names import joined
from .fit import check_finite, misfit

BY_HAND = 'init_detector', 'init_model'
"""Functions of mmdet and mmseg that build a model for inference and then load its weights."""


def check_tested(checkpoint: Any, source: str) -> None:
    """Refuse a checkpoint that a test, a validation or an inference would load only in part.

    Called while MMEngine reads a checkpoint. Does nothing if the model is to be trained.

    Args:
        checkpoint (Any): Content of the file.
        source (str): Name of the file, for error messages.

    Raises:
        ValueError: If it lacks weights of the model, or has weights of other shapes, or of layers
            that the model does not have.
    """
    model = _model_at_test()
    if model is not None:
        fit_for_test(model, checkpoint, source)


def fit_for_test(model: nn.Module, checkpoint: Any, source: str) -> None:
    """Load a checkpoint that must contain every parameter and running statistic of a model.

    Constant buffers such as `num_batches_tracked` may be missing, as in files of older versions.
    Complete parts that the model does not have, such as an auxiliary head, are skipped and logged.

    Args:
        model (nn.Module): Receives the weights.
        checkpoint (Any): Content of the file.
        source (str): Name of the file, for error messages.

    Raises:
        ValueError: If weights are missing, unexpected, or of another shape.
    """
    weights = checkpoint.get('state_dict', checkpoint) if isinstance(checkpoint, dict) else {}
    given: Dict[str, Tensor] = OrderedDict(
        (key.removeprefix('module.'), value) for key, value in weights.items()
        if isinstance(key, str) and isinstance(value, Tensor))
    given._metadata = getattr(weights, '_metadata', None)  # type: ignore[attr-defined]
    own = model.state_dict()
    found = {key: misfit(given[key], value) for key, value in own.items() if key in given}
    misshapen = [f'{key}: {why}' for key, why in found.items() if why]
    missing, unexpected = list(own.keys() - given.keys()), list(given.keys() - own.keys())
    if not misshapen:
        try:
            missing, unexpected = model.load_state_dict(given, strict=False)
        except RuntimeError as error:  # from a layer that renames keys of older versions
            misshapen = [' '.join(str(error).split())[:200]]
    learned = {name for name, _ in model.named_parameters()}
    missing = [key for key in missing
               if key in learned or key.endswith(('running_mean', 'running_var'))]
    beside = [key for key in unexpected if _part_of(key) not in map(_part_of, own)]
    # Some models (DDQ) register parameters under a second name in training.
    shared = {value.data_ptr() for key, value in given.items() if key in own and value.numel()}
    unexpected = [key for key in unexpected if key not in beside
                  and not (given[key].numel() and given[key].data_ptr() in shared)]
    problems = [('with other shapes', misshapen), ('missing in the file', missing),
                ('unknown to the model', unexpected)]
    if any(names for _, names in problems):
        raise ValueError(
            f'the checkpoint `{source}` does not fit the model that is tested '
            f'({type(model).__name__}): ' +
            '; '.join(f'{len(names)} {what} ({joined(sorted(names))})'
                      for what, names in problems if names) + _remedy(given, own))
    if beside:
        parts = sorted(set(map(_part_of, beside)))
        print_log(f'{source} also contains {joined(parts)}, which the model does not have and '
                  'which is ignored', 'current')
    check_finite(model, {key: value for key, value in given.items() if key in own}, source)


def _part_of(key: str) -> str:
    """Part of the model that a weight belongs to, such as 'backbone' or 'roi_head.mask_head'."""
    first, _, rest = key.partition('.')
    return f'{first}.{rest.partition(".")[0]}' if first == 'roi_head' else first


def _remedy(given: Dict[str, Tensor], own: Dict[str, Tensor]) -> str:
    prefixes = {key.partition('.')[0] for key in given}
    for prefix in sorted(prefixes):
        if sum(f'{prefix}.{key}' in given for key in own) > len(own) / 2:
            return (f'; the names of its weights begin with `{prefix}.`, and fit without it: save '
                    'them without this prefix')
    return '; use the config that this checkpoint was trained with'


def _model_at_test() -> Optional[nn.Module]:
    """The model of the test, validation or inference on the call stack; None if there is none."""
    frame: Optional[FrameType] = sys._getframe(1)
    while frame is not None:
        name, holder = frame.f_code.co_name, frame.f_locals.get('self')
        if name in ('train', 'test', 'val') and isinstance(holder, (Runner, FlexibleRunner)):
            return None if name == 'train' else _inner(holder.model)
        if name in BY_HAND and str(frame.f_globals.get('__name__')).startswith(
                ('mmdet.apis', 'mmseg.apis')):
            return _inner(frame.f_locals.get('model'))
        frame = frame.f_back
    return None


def _inner(model: Any) -> Optional[nn.Module]:
    """The model inside of DDP and TTA wrappers; None if it is sharded (FSDP, DeepSpeed)."""
    while isinstance(model, (BaseTTAModel, nn.DataParallel, nn.parallel.DistributedDataParallel)):
        model = model.module
    has_weights = isinstance(model, nn.Module) and not any(
        'FullySharded' in type(module).__name__ for module in model.modules())
    return model if has_weights and not hasattr(model, 'load_checkpoint') else None
