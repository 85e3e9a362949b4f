"""How is a module of another library built, and which input does it need?

Nothing is downloaded: models are built with random weights.
"""
import importlib
import inspect
import json
import os
from difflib import get_close_matches
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

from ..core.build import check_arguments, parameters_of
from ..core.errors import explained, said_by
from ..core.names import joined
from ..points.image_sizes import Size, as_size
from ..points.layout import Layout

FETCHING = ('pretrained', 'weights', 'weights_backbone', 'checkpoint_path')
"""Arguments of functions of timm and torchvision that download or read weights."""


class Built(NamedTuple):
    """A module, and the properties of its input."""
    module: nn.Module
    mean: Optional[Tuple[float, ...]] = None
    """Mean of the pixels, RGB, 0 to 255; None if the library has none."""
    std: Optional[Tuple[float, ...]] = None
    size: Optional[Size] = None
    """Height and width of its input."""
    patch: Size = (1, 1)
    """Height and width of a patch; the size of images must be a multiple of it."""
    tokens: Optional[Layout] = None
    """Layout of its tokens."""
    run: str = ''
    """Dotted path of the part that is called with images."""
    call: Mapping[str, Any] = {}
    """Keyword arguments of this call."""
    rename: Optional[Callable[[Dict[str, Tensor]], Dict[str, Tensor]]] = None
    """Renames the weights of a file to the names of the module, for names that the library has
    changed."""


def build_module(kind: Any, arguments: Dict[str, Any]) -> Built:
    """Build a module.

    Args:
        kind (str | Callable): 'timm:NAME', 'torchvision:NAME', 'transformers:FOLDER', a dotted
            path such as 'package.module.function', or the function or class itself.
        arguments (dict): Arguments of the function or class.

    Raises:
        TypeError: If the arguments do not fit.
        ValueError: If the library, model or function does not exist, if an argument requires a
            download, or if the module cannot be built.
    """
    if not isinstance(kind, str):
        built = Built(_called(kind, getattr(kind, '__name__', str(kind)), arguments))
    elif ':' in kind:
        library, _, name = kind.partition(':')
        if library not in LIBRARIES:
            raise ValueError(f'`{kind}`: mmkd does not support the library `{library}`' +
                             nearest(library, LIBRARIES) + '; the libraries are '
                                                           f'{joined(LIBRARIES)}; write for '
                                                           "instance 'timm:vit_tiny_patch16_224', "
                                                           'or the dotted path of a function, such '
                                                           "as 'package.module.function'")
        try:
            importlib.import_module(library)
        except ModuleNotFoundError as error:
            raise ValueError(f'`{kind}` needs the package {error.name}, which is not installed; '
                             f'run `{_command(str(error.name))}`') from error
        except Exception as error:  # operators of torchvision need their build of torch
            culprit = 'torchvision' if 'torchvision' in str(error) else library
            raise ValueError(f'`{kind}`: {library} cannot be imported with torch '
                             f'{torch.__version__}: {said_by(error)}; install the build of '
                             f'{culprit} that fits this torch: `{_command(culprit)}`') from error
        fetching = [one for one in FETCHING if arguments.get(one)]
        if fetching:
            raise ValueError(f'`{kind}`: `{fetching[0]}={arguments[fetching[0]]!r}` would download '
                             'weights, but mmkd does not download weights of other libraries; '
                             'leave it out, and write `checkpoint=` with the path of the weights')
        built = LIBRARIES[library](name, arguments)
    else:
        built = Built(_called(_found(kind), kind, arguments))
    if not isinstance(built.module, nn.Module) or next(built.module.parameters(), None) is None:
        raise ValueError(f'`{kind}` must return a torch.nn.Module with parameters, but returned '
                         f'{type(built.module).__name__}; correct the function')
    return built


def is_module(teacher: str) -> bool:
    """Whether a teacher is named by library and model, or by the dotted path of a function, and
    not by the path of a config.

    Example:
        >>> [is_module(one) for one in ('timm:resnet18', 'nets.vit.build', 'a/b.py', 'mmdet::b.py')]
        [True, True, False, False]
    """
    if '::' in teacher or os.path.isfile(teacher):
        return False
    library, colon, name = teacher.partition(':')
    if colon:
        return bool(name) and library.isidentifier() and not name.startswith('//')
    parts = teacher.split('.')
    return len(parts) > 1 and all(part.isidentifier() for part in parts) and (
        parts[-1] not in ('py', 'json', 'yaml', 'yml', *WEIGHTS))


WEIGHTS = 'pth', 'pt', 'pkl', 'ckpt', 'bin', 'safetensors'
"""Endings of files with weights."""


def nearest(name: str, known: Any) -> str:
    """The closest known name, for a message: ' (closest: `name`)'; '' if none is close."""
    found = get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f' (closest: {", ".join(f"`{one}`" for one in found)})' if found else ''


def _found(path: str) -> Any:
    """The object at a dotted path."""
    home, _, name = path.rpartition('.')
    if not home:
        raise ValueError(f"`build='{path}'` is not a dotted path; write 'package.module.function', "
                         f"or a library before it, such as 'timm:{path}'")
    with explained(f'`{home}` of `build={path!r}` cannot be imported',
                   'correct the path, or put its folder on PYTHONPATH'):
        module = importlib.import_module(home)
    if not callable(getattr(module, name, None)):
        raise ValueError(f'`{home}` has no function or class `{name}`' +
                         nearest(name, [one for one in vars(module) if one[0] != '_']) +
                         '; correct `build`')
    return getattr(module, name)


def _command(package: str) -> str:
    """How a package is installed. torchvision is built for one torch, and PyPI has one build."""
    build = torch.__version__.partition('+')[2]
    index = f' --index-url https://download.pytorch.org/whl/{build}'
    return f'pip install {package}' + index * bool(package == 'torchvision' and build)


def _called(make: Callable[..., Any], name: str, arguments: Dict[str, Any]) -> Any:
    try:
        parameters = parameters_of(make)
    except ValueError:  # a function written in C has no signature
        parameters = {}, True
    check_arguments(f'`build={name!r}`', arguments, *parameters)
    with explained(f'`{name}` cannot be built', 'look at `arguments`'):
        return make(**arguments)


def _of_255(values: Any) -> Optional[Tuple[float, ...]]:
    return None if values is None else tuple(255. * one for one in values)


def _check_name(name: str, known: List[str], library: str) -> None:
    if name not in known:
        raise ValueError(f'{library} has no model `{name}`' + nearest(name, known) +
                         f'; `{library}.list_models()` lists all {len(known)}; correct `build`')


def _timm(name: str, arguments: Dict[str, Any]) -> Built:
    import timm
    _check_name(name.partition('.')[0], timm.list_models(), 'timm')
    # With this option, vision transformers interpolate their position embeddings and accept images
    # of any size.
    options: List[Dict[str, Any]] = [dict(dynamic_img_size=True), {}]
    with explained(f'`timm:{name}` cannot be built', 'look at `arguments`'):
        for option in options:
            try:
                module = timm.create_model(name, pretrained=False, **{**option, **arguments})
                break
            except TypeError:  # the class has no such argument
                if not option:
                    raise
    told = getattr(module, 'pretrained_cfg', None) or timm.models.get_pretrained_cfg(name)
    told = told if isinstance(told, dict) else told.to_dict() if told else {}
    patch = as_size(getattr(getattr(module, 'patch_embed', None), 'patch_size', None))
    extra = getattr(module, 'num_prefix_tokens', 0)
    size = as_size(getattr(getattr(module, 'patch_embed', None), 'img_size', None)) or as_size(
        tuple(told.get('input_size') or (0, ))[1:])
    return Built(module, _of_255(told.get('mean')), _of_255(told.get('std')), size, patch or (1, 1),
                 Layout('NLC', extra, patch) if patch else None)


def _torchvision(name: str, arguments: Dict[str, Any]) -> Built:
    from torchvision import models
    _check_name(name, models.list_models(), 'torchvision.models')
    make = models.get_model_builder(name)
    without = {one: None for one in ('weights', 'weights_backbone')
               if one in inspect.signature(make).parameters}
    with explained(f'`torchvision:{name}` cannot be built', 'look at `arguments`'):
        module = make(**{**arguments, **without})
    told = getattr(module, 'transform', None)  # a detector normalises its input itself
    mean, std = getattr(told, 'image_mean', None), getattr(told, 'image_std', None)
    is_detector = mean is not None and hasattr(module, 'backbone')
    if mean is None:
        weights = next(iter(models.get_model_weights(name)), None)
        told = weights.transforms() if weights is not None else None
        mean, std = getattr(told, 'mean', None), getattr(told, 'std', None)
    size, patch = (as_size(getattr(module, one, None)) for one in ('image_size', 'patch_size'))
    return Built(module, _of_255(mean), _of_255(std), size, patch or (1, 1),
                 Layout('NLC', 1, patch) if patch and hasattr(module, 'class_token') else None,
                 'backbone' if is_detector else '')


def _transformers(name: str, arguments: Dict[str, Any]) -> Built:
    import transformers
    is_here = os.path.isfile(os.path.join(name, 'config.json'))
    with explained(
            f'transformers {getattr(transformers, "__version__", "")} cannot read the config.json '
            f'of `transformers:{name}`' if is_here else
            f'`transformers:{name}` is not on this machine',
            'install the version that the file names (`transformers_version`), or a later one'
            if is_here else 'write the folder of a model, with its config.json'):
        config = transformers.AutoConfig.from_pretrained(name, local_files_only=True, **arguments)
    written: Sequence[str] = getattr(config, 'architectures', None) or ()
    kinds = [getattr(transformers, one, None) for one in written]
    with explained(f'`transformers:{name}` cannot be built', 'check its config.json'):
        module = (kinds[0](config) if kinds and kinds[0] is not None else
                  transformers.AutoModel.from_config(config))

    def rename(weights: Dict[str, Tensor]) -> Dict[str, Tensor]:
        # Missing weights would be random, so they are removed again; unexpected ones are kept.
        with explained(f'the weights cannot be read into `transformers:{name}`',
                       'use the weights of this model'):
            read, told = type(module).from_pretrained(  # type: ignore[attr-defined]
                None, config=config, state_dict=dict(weights), output_loading_info=True)
        return {**{key: value for key, value in read.state_dict().items()
                   if key not in told['missing_keys']},
                **{key: weights[key] for key in told['unexpected_keys'] if key in weights}}

    told: Dict[str, Any] = {}
    file = os.path.join(name, 'preprocessor_config.json')
    if os.path.isfile(file):
        with explained(f'`{file}` cannot be read', 'write `mean` and `std`'), open(file) as opened:
            told = json.load(opened)
    scale = told.get('rescale_factor', 1 / 255) if told.get('do_rescale', True) else 1.
    mean, std = (None if told.get(one) is None else tuple(value / scale for value in told[one])
                 for one in ('image_mean', 'image_std'))
    takes = inspect.signature(module.forward).parameters
    call = {one: True for one in ('interpolate_pos_encoding', ) if one in takes}
    size, patch = (as_size(getattr(config, one, None)) for one in ('image_size', 'patch_size'))
    # A class token, and the registers of DINOv2 and DINOv3. Swin has neither, nor such a patch.
    extra = 1 + (getattr(config, 'num_register_tokens', 0) or 0)
    return Built(module, mean, std, size, patch or (1, 1), call=call, rename=rename,
                 tokens=Layout('NLC', extra, patch) if patch else None)


LIBRARIES: Dict[str, Callable[[str, Dict[str, Any]], Built]] = dict(
    timm=_timm, torchvision=_torchvision, transformers=_transformers)
