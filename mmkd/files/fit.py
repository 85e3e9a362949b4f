"""Do these weights fit this model?"""
from collections import OrderedDict
from typing import Any, Dict

import torch
from torch import nn

from ..core.names import joined


def load_exactly(model: nn.Module, checkpoint: Dict[str, Any], source: str,
                 built_by: str = 'config') -> None:
    """Load weights that must fit the model key by key and shape by shape.

    Args:
        model (nn.Module): Receives the weights.
        checkpoint (dict): As returned by :func:`mmkd.files.checkpoint.read_checkpoint`.
        source (str): Name of the file, for error messages.
        built_by (str): Argument that describes the model, for error messages. Defaults to
            'config'.

    Raises:
        ValueError: If keys are missing or unexpected, or shapes differ; the message lists them.
    """
    misfits = load_what_fits(model, checkpoint)
    if misfits:
        raise ValueError(f'the checkpoint `{source}` does not fit its {built_by} '
                         f'({type(model).__name__}): {misfits}; use the {built_by} that this '
                         'checkpoint was trained with')
    check_finite(model, {key.removeprefix('module.'): value
                         for key, value in checkpoint['state_dict'].items()}, source)


def load_what_fits(model: nn.Module, checkpoint: Dict[str, Any]) -> str:
    """Load weights if none has another shape than the model's.

    Args:
        model (nn.Module): Receives the weights.
        checkpoint (dict): As returned by :func:`mmkd.files.checkpoint.read_checkpoint`.

    Returns:
        str: Missing keys, unexpected keys and different shapes, for a message; '' if there are
        none.
    """
    weights = OrderedDict((key.removeprefix('module.'), value)  # left by a model wrapper
                          for key, value in checkpoint['state_dict'].items())
    # The version of each layer: some rename their keys when they load an older one.
    weights._metadata = getattr(checkpoint['state_dict'], '_metadata', None)  # type: ignore
    own = model.state_dict()
    found = {key: misfit(weights[key], value) for key, value in own.items() if key in weights}
    misshapen = [f'{key}: {why}' for key, why in found.items() if why]
    missing, unexpected = list(own.keys() - weights.keys()), list(weights.keys() - own.keys())
    if not misshapen:
        missing, unexpected = model.load_state_dict(weights, strict=False)
    # Files written before `num_batches_tracked` existed are complete without it.
    missing = [key for key in missing if not key.endswith('num_batches_tracked')]
    # Some models (DDQ) register parameters under a second name in training.
    unexpected = [key for key in unexpected if not any(
        value.numel() and value.data_ptr() == weights[key].data_ptr()
        for other, value in weights.items() if other in own)]
    problems = [('with other shapes', misshapen), ('missing in the file', missing),
                ('unknown to the model', unexpected)]
    return '; '.join(f'{len(found)} {what} ({joined(sorted(found))})'
                     for what, found in problems if found)


def misfit(given: torch.Tensor, own: torch.Tensor) -> str:
    """Why a tensor of a file cannot be loaded into a tensor of a model; '' if it can.

    Args:
        given (Tensor): Tensor of the file.
        own (Tensor): Tensor of the model.
    """
    if given.is_meta:
        return 'it has no values; save it from a model that is on a device'
    if given.layout != own.layout or given.is_quantized != own.is_quantized or given.is_nested:
        return f'{given.layout}{", quantized" * given.is_quantized} in the file, {own.layout} in ' \
               'the model'
    if given.is_complex() and not own.is_complex():
        return f'{given.dtype} in the file, {own.dtype} in the model'
    if own.is_floating_point() and not is_of_numbers(given):
        return f'{given.dtype} in the file, {own.dtype} in the model (a quantised export without ' \
               'its scales?)'
    if given.shape != own.shape:
        return f'{tuple(given.shape)} in the file, {tuple(own.shape)} in the model'
    if not own.is_floating_point() and not own.is_complex() and given.dtype != own.dtype and not (
            given.to(own.dtype).to(given.dtype).equal(given)):
        return f'{given.dtype} in the file, {own.dtype} in the model, which cannot hold its values'
    return ''


def is_of_numbers(tensor: torch.Tensor) -> bool:
    """Whether a tensor holds floating-point numbers, not quantized codes that need a scale."""
    return (tensor.is_floating_point() and tensor.element_size() > 1) or tensor.is_complex()


def check_numbers(checkpoint: Any, source: str) -> None:
    """Refuse integer weights of a checkpoint; for use where the model is not known.

    Args:
        checkpoint (Any): Content of a file.
        source (str): Name of the file, for error messages.

    Raises:
        ValueError: If weights or biases are integers or bool; the message names them.
    """
    weights = checkpoint.get('state_dict', checkpoint) if isinstance(checkpoint, dict) else {}
    odd = [f'{name}: {value.dtype}' for name, value in weights.items()
           if isinstance(value, torch.Tensor) and not value.is_quantized
           and f'.{name}'.endswith(('.weight', '.bias')) and not is_of_numbers(value)
           ] if isinstance(weights, dict) else []
    if odd:
        raise ValueError(f'`{source}` contains weights that are not floating-point numbers: '
                         f'{joined(sorted(odd))}; it may be a quantised export without its scales; '
                         'use float32, float16 or bfloat16 weights')


def check_finite(model: nn.Module, weights: Dict[str, Any], source: str) -> None:
    """Check that trained weights and running statistics are finite; other buffers may not be.

    Args:
        model (nn.Module): Its parameters are distinguished from buffers.
        weights (dict): Tensors by the model's names, all of which fit.
        source (str): Name of the file, for error messages.

    Raises:
        ValueError: If values are infinite or NaN; the message names the tensors.
    """
    trained = {name for name, _ in model.named_parameters()}
    broken = [key for key, value in weights.items()
              if (key in trained or key.endswith(('running_mean', 'running_var')))
              and value.is_floating_point() and not value.float().isfinite().all()]
    if broken:
        raise ValueError(f'the checkpoint `{source}` has infinite or NaN values in '
                         f'{joined(broken)}, because its training diverged; use another checkpoint')


def check_start(model: nn.Module, checkpoint: Any, source: str) -> None:
    """Check that at least a part of a checkpoint fits the model that a run starts with.

    MMEngine loads what fits and only warns about the rest, even if nothing fits.

    Args:
        model (nn.Module): The student.
        checkpoint (Any): What MMEngine is about to load into it.
        source (str): Name of the file, for error messages.

    Raises:
        ValueError: If nothing fits, or values are infinite or NaN.
    """
    weights = checkpoint.get('state_dict', checkpoint) if isinstance(checkpoint, dict) else {}
    weights = {key.removeprefix('module.'): value for key, value in weights.items()
               if isinstance(key, str)} if isinstance(weights, dict) else {}
    own = model.state_dict()
    taken = {key: weights[key] for key, value in own.items()
             if isinstance(weights.get(key), torch.Tensor)}
    fitting = {key: value for key, value in taken.items() if not misfit(value, own[key])}
    odd = [f'{key}: {misfit(value, own[key])}' for key, value in taken.items()
           if value.shape == own[key].shape and key not in fitting]
    if odd:
        raise ValueError(f'{source} cannot be loaded into the student: {joined(odd)}; use a '
                         'checkpoint with dense floating-point weights')
    if not fitting:
        raise ValueError(
            f'no weight of the checkpoint in `load_from`, {source}, fits the student '
            f'({type(model).__name__}): it contains {joined(sorted(weights)) or "no weights"}, the '
            f'student has {joined(sorted(own))}; set `load_from` to a checkpoint of the student, '
            'or leave it out')
    check_finite(model, fitting, source)

