"""A teacher from any module: of timm, torchvision, transformers, or of the user."""
import hashlib
import inspect
from typing import Any, Dict, Mapping, Optional, Sequence, Union

from mmengine.logging import print_log
from mmengine.model import ImgDataPreprocessor
from torch import nn

from ..core.agreement import weights_of
from ..core.arguments import finite_number
from ..core.build import check_arguments
from ..core.errors import explained
from ..files.checkpoint import Loaded, load_hashed
from ..files.fit import load_exactly
from ..points.families.plain import Place, PlainModel, check_place
from ..points.families.stages import shown as shown_stages
from ..points.image_sizes import as_size, shown_size
from ..points.layout import Layout
from ..points.probe import channels_of
from ..registry import MODELS
from .fast import Fast
from .fixed import FixedTeacher
from .frozen import LEFT_OUT
from .inputs import Renormalize
from .libraries import Built, build_module, nearest

PARAMETERS = inspect.signature(
    lambda path, layout=None, extra_tokens=None, stride=None: None).parameters
"""Keys of an entry of ``points``."""


@MODELS.register_module()
class ModuleTeacher(FixedTeacher):
    """Any ``nn.Module`` as a teacher of features, always in eval mode, with frozen weights.

    It is called with images (N, 3, H, W), normalised by ``mean`` and ``std``. The outputs of its
    parts are compared: ``on=dict(student='neck', teacher='layer3')``. 'output' is the output of the
    module itself, 'backbone' its feature maps, one per stride; those of a vision transformer are
    its last tokens, resized to three strides: see :func:`mmkd.points.families.stages.stages_of`.
    Nothing is downloaded.

    For a module that needs images of one size, or multiples of its patch size, images are resized
    (bilinear interpolation), and its maps are resized to the size for the original image. Which
    sizes it accepts is tested before training.

    Args:
        build (str | dict | Callable): 'timm:NAME', 'torchvision:NAME', 'transformers:FOLDER', the
            dotted path of a function or class, or ``dict(type=..., **arguments)`` with one of
            these. For a detector of torchvision, the backbone with its FPN is called.
        checkpoint (str | None): Path or URL of its weights, .pth or .safetensors, which must fit
            key by key. An explicit None means random weights.
        points (Mapping[str, str | dict], optional): Names of parts: a dotted path, '' for the
            module itself, or ``dict(path=..., layout=..., extra_tokens=..., stride=...)``, see
            :class:`mmkd.points.layout.Layout`. Defaults to None: parts have the names of their
            paths. For transformers of timm and torchvision the layout of tokens is known.
        mean (Sequence[float], optional): Mean of the pixels, RGB, 0 to 255; 1 or 3 values. Defaults
            to None: the mean that timm, torchvision or the folder has for the model.
        std (Sequence[float], optional): Standard deviation of the pixels, likewise.
        arguments (dict, optional): Arguments for ``build``. Defaults to None.
        run (str, optional): Dotted path of the part that is called, if the input of the module
            itself is not an image. Defaults to None, the module.
        input_size (int | tuple[int, int], optional): Height and width to which images are resized.
            Defaults to None: not resized, if the module accepts their size.
        trust_checkpoint (bool): Read the checkpoint as a pickle that may run code.
            Defaults to False.
        view (str, optional): See :class:`BaseTeacher`.
        channels (str, optional): See :class:`mmkd.FrozenTeacher`.
        precision (str, optional): 'bf16' or 'fp16'; see :class:`mmkd.networks.fast.Fast`. Defaults
            to None, the precision of the student.
        channels_last (bool): See :class:`mmkd.networks.fast.Fast`. Defaults to False.
        fuse (bool): See :class:`mmkd.networks.fast.Fast`. Defaults to False.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If ``checkpoint`` is left out, or another argument has a wrong value.

    Example:
        >>> teacher = dict(type='mmkd.ModuleTeacher', build='timm:vit_tiny_patch16_224',
        ...                checkpoint='vit_tiny.safetensors')
        >>> entry = dict(type='mmkd.MSELoss', on=dict(student='neck', teacher='blocks.11'))
    """

    def __init__(self,
                 build: Any,
                 checkpoint: Optional[str] = LEFT_OUT,
                 points: Optional[Mapping[str, Union[str, dict]]] = None,
                 mean: Optional[Sequence[float]] = None,
                 std: Optional[Sequence[float]] = None,
                 arguments: Optional[Dict[str, Any]] = None,
                 run: Optional[str] = None,
                 input_size: Any = None,
                 trust_checkpoint: bool = False,
                 view: Optional[str] = None,
                 channels: Optional[str] = None,
                 precision: Optional[str] = None,
                 channels_last: bool = False,
                 fuse: bool = False) -> None:
        super().__init__(view, Fast(precision, channels_last, False, fuse))
        kind = build.get('type') if isinstance(build, dict) else build
        if not (isinstance(kind, str) and kind) and not callable(kind):
            raise TypeError("`teacher.build` must be 'timm:NAME', 'torchvision:NAME', "
                            "'transformers:FOLDER', the dotted path of a function, or "
                            f'dict(type=..., **arguments), but got {build!r:.200}; write one of '
                            'these')
        for name, value in dict(arguments=arguments, points=points).items():
            if not (value is None or isinstance(value, dict)):
                raise TypeError(f'`teacher.{name}` must be a dict, but got {value!r:.200}; write '
                                f'{name}=dict(...), or leave it out')
        if checkpoint == LEFT_OUT:
            raise ValueError(f'the teacher `{kind}` has no `checkpoint`; write `checkpoint=` with '
                             'the path of its weights (.pth or .safetensors), or '
                             '`checkpoint=None` for random weights')
        if not (checkpoint is None or isinstance(checkpoint, str)):
            raise TypeError('`teacher.checkpoint` must be a path, an address or None, but got '
                            f"{checkpoint!r}; write for instance checkpoint='teacher.pth'")
        if not isinstance(trust_checkpoint, bool):
            raise TypeError('`teacher.trust_checkpoint` must be True or False, but got '
                            f'{trust_checkpoint!r}; write one of the two')
        if not (run is None or isinstance(run, str)):
            raise TypeError(f'`teacher.run` must be a dotted path, but got {run!r}; write for '
                            "instance run='backbone'")
        self.size = as_size(input_size)
        if input_size is not None and self.size is None:
            raise ValueError('`teacher.input_size` must be one number of pixels, or height and '
                             f'width, but got {input_size!r}; write for instance input_size=224')
        if channels not in (None, 'repeat'):
            raise ValueError("`teacher.channels` must be 'repeat' or None, but got "
                             f'{channels!r}; write one of these')
        self.kind = kind
        own = {key: value for key, value in build.items() if key != 'type'} if isinstance(
            build, dict) else {}
        self.arguments = {**own, **(arguments or {})}
        self.checkpoint, self.trust_checkpoint = checkpoint, trust_checkpoint
        self.written = {name: _checked_point(name, entry) for name, entry in (points or {}).items()}
        self.mean, self.std = _of_pixels('mean', mean), _of_pixels('std', std)
        self.run, self.channels = run, channels
        self._provenance: Dict[str, Any] = {}

    def prepare(self, student: Any) -> None:
        """Build the module, load its weights, and run it once.

        Raises:
            FileNotFoundError: If the checkpoint does not exist.
            ValueError: If the library, model or part does not exist; the checkpoint does not fit,
                or contains more than weights; mean and std are not known; or the module does not
                accept images.
        """
        built = build_module(self.kind, self.arguments)
        module = built.module
        shown = self.kind if isinstance(self.kind, str) else getattr(self.kind, '__name__', 'it')
        mean, std = self.mean or built.mean, self.std or built.std
        if mean is None or std is None:
            raise ValueError(
                f'the image normalisation of `{shown}` is not known; write it into `teacher` of a '
                'config, for the pixels that the module was trained with, RGB, 0 to 255, such as '
                'mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]')
        run = built.run if self.run is None else self.run
        _check_path(module, run, '`teacher.run`')
        places = {name: _place(module, name, entry, built)
                  for name, entry in self.written.items()}
        loaded = Loaded({}, '', '')
        if self.checkpoint is not None:
            loaded = load_hashed(self.checkpoint, self.trust_checkpoint, 'teacher')
            weights = loaded.checkpoint
            if built.rename is not None:
                weights = dict(weights, state_dict=built.rename(weights['state_dict']))
            load_exactly(module, weights, self.checkpoint, '`build`')
        else:
            print_log('The teacher has random weights: it is built without a checkpoint', 'current')
        self._provenance = dict(
            build=shown, arguments=str(self.arguments), checkpoint=loaded.name,
            checkpoint_hash=loaded.digest, mean=list(mean), std=list(std),
            **({} if loaded.digest else dict(random_weights=weights_of(module)[:16])))
        model = PlainModel(module, ImgDataPreprocessor(mean, std, bgr_to_rgb=True), places, run,
                           built.call if run == built.run else {}, built.tokens)
        model.eval().requires_grad_(False)
        with explained(f'the teacher `{shown}` does not run on images',
                       'write `run=` with the dotted path of the part that takes images '
                       '(N, C, H, W), or `input_size=` with the size that it was built for'):
            model.try_sizes(channels_of(model, 'teacher'), self.size or built.size, built.patch,
                            self.size is not None)
        for name, place in places.items():
            check_place(model, name, place)
        self.renormalize = Renormalize(student, model, 'teacher', self.channels)
        size, patch = model.image.size, model.image.multiple
        resized = f'; images are resized to {shown_size(size)}' if size else (
            f'; images are resized to multiples of {shown_size(patch)} if needed'
            if patch != (1, 1) else '')
        print_log(f'The teacher is `{shown}`, for images with RGB mean {_shown(mean)} and std '
                  f'{_shown(std)}{resized}', 'current')
        if model.stages is not None:
            print_log(shown_stages(model.stages, 'backbone'), 'current')
        self.model = model
        self.identity = hashlib.sha256(repr((
            shown, self.arguments, size, patch, sorted(self.written.items()), model.stages,
        )).encode()).hexdigest()

    def provenance(self) -> Dict[str, Any]:
        """Description with ``build``, name and SHA-256 of the checkpoint (for random weights the
        beginning of their SHA-256), and the normalization of images."""
        return dict(super().provenance(), **self._provenance)


def _of_pixels(name: str, values: Any) -> Optional[Sequence[float]]:
    """Check ``mean`` or ``std``."""
    if values is None:
        return None
    if not isinstance(values, (list, tuple)) or len(values) not in (1, 3):
        raise ValueError(f'`teacher.{name}` must be a list of 1 or 3 numbers, RGB, 0 to 255, but '
                         f'got {values!r}; write for instance {name}=[127.5, 127.5, 127.5]')
    numbers = [finite_number(f'teacher.{name}', one) for one in values]
    if name == 'std' and min(numbers) <= 0:
        raise ValueError(f'`teacher.std` must be greater than 0, but got {values}; write for '
                         'instance std=[58.395, 57.12, 57.375]')
    if any(0 < one < 1 for one in numbers) and max(numbers) < 1:
        raise ValueError(f'`teacher.{name}` must be for pixels from 0 to 255, but got {values}, '
                         'which is for pixels from 0 to 1; write '
                         f'{name}={[round(255 * one, 3) for one in numbers]}')
    return numbers


def _checked_point(name: Any, entry: Any) -> Dict[str, Any]:
    """Check an entry of ``points``, and return it as a dict."""
    entry = dict(path=entry) if isinstance(entry, str) else entry
    if not isinstance(name, str) or not name or ':' in name or not isinstance(entry, dict):
        raise TypeError('`teacher.points` must be a dict of names, without a colon, and dotted '
                        f'paths or dicts, but got {name!r}: {entry!r:.200}; write for instance '
                        "points=dict(last=dict(path='blocks.11', layout='NLC', extra_tokens=1, "
                        'stride=16))')
    check_arguments(f'`teacher.points`: `{name}`', entry, PARAMETERS)
    if not isinstance(entry['path'], str):
        raise TypeError(f'`path` of the point `{name}` must be a dotted path, but got '
                        f"{entry['path']!r}; write for instance path='blocks.11'")
    return entry


def _place(module: nn.Module, name: str, entry: Dict[str, Any], built: Built) -> Place:
    """Place of a point, with its layout; missing settings of tokens come from the library."""
    _check_path(module, entry['path'], f'the point `{name}` of the teacher')
    if set(entry) == {'path'}:
        return Place(entry['path'])
    layout, known = entry.get('layout', 'NCHW'), built.tokens
    if layout != 'NLC' or known is None:
        known = Layout()
    return Place(entry['path'], Layout.of(
        layout, entry.get('extra_tokens', known.extra_tokens), entry.get('stride', known.stride),
        f'the point `{name}`'))


def _check_path(module: nn.Module, path: str, what: str) -> None:
    known = [one for one, _ in module.named_modules()]
    if path not in known:
        raise ValueError(f'{what}: {type(module).__name__} has no module `{path}`' +
                         nearest(path, known) + '; write one of its `named_modules()`')


def _shown(values: Sequence[float]) -> str:
    return ', '.join(f'{one:g}' for one in values)
