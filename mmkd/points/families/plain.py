"""Any module with images as input, which is not a known detector or segmentor."""
import math
from contextlib import suppress
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ...registry import FAMILIES
from ..family import ModelFamily
from ..image_sizes import Size, shown_size
from ..layout import MAPS, Layout
from ..point import Point, tensors_of
from ..recorder import Call, recording
from .stages import Stages, stages_of

MODULE, IMAGE = 'module', 'image'
"""The children of a :class:`PlainModel`."""

BACKBONE = 'backbone'
"""Name of the point for the feature maps of the module, one per stride."""

WHOLE = 'output'
"""Name of the point for the output of the module itself."""

TRIED: Sequence[Size] = ((128, 160), (320, 352), (512, 544))
"""Heights and widths of the trial images; they are not square, so that layouts can be checked."""


class Place(NamedTuple):
    """Place of a named point in a module."""
    path: str
    """Dotted path in the module, '' for the part that is called with the images."""
    layout: Optional[Layout] = None
    """The layout; None if not given: that of the library, or (N, C, H, W)."""


class ToSize(nn.Module):
    """Resizes images to a size that a network accepts.

    Args:
        size (tuple[int, int], optional): The only accepted height and width. Defaults to None, not
            fixed.
        multiple (tuple[int, int]): Height and width must be multiples of these, the patch size.
            Defaults to (1, 1).
    """

    def __init__(self, size: Optional[Size] = None, multiple: Size = (1, 1)) -> None:
        super().__init__()
        self.size, self.multiple = size, multiple

    def forward(self, inputs: Tensor) -> Tensor:
        """Resize (N, C, H, W) to (N, C, H', W') by bilinear interpolation, if it is necessary."""
        given = inputs.shape[2:]
        size = self.size or tuple(max(1, (2 * side + patch) // (2 * patch)) * patch  # the nearest
                                  for side, patch in zip(given, self.multiple))
        return inputs if tuple(size) == tuple(given) else interpolate(
            inputs, size=size, mode='bilinear', align_corners=False, antialias=True)


class PlainModel(nn.Module):
    """A module with a data preprocessor, like a model of MMEngine.

    Args:
        module (nn.Module): The module.
        data_preprocessor (nn.Module): The preprocessor, with the module's ``mean`` and ``std``.
        places (Mapping[str, Place]): Points by name. Defaults to {}.
        run (str): Dotted path of its part that is called with images (N, C, H, W). Defaults to '',
            the module itself.
        arguments (Mapping[str, Any]): Keyword arguments of this call. Defaults to {}.
        tokens (Layout, optional): Layout of its tokens (N, L, C), if the library has it.

    Attributes:
        shapes (dict[str, tuple | str]): Outputs of the parts in the trial, by dotted path in the
            module: the shapes of the levels, or why there are none. Parts that did not run are
            missing.
        stages (Stages | None): Parts that return its feature maps, found in the trial.
        tried (Call): The call of ``image`` in the trial: tensors without values, of the sizes of
            the images.
    """

    def __init__(self, module: nn.Module, data_preprocessor: nn.Module,
                 places: Optional[Mapping[str, Place]] = None, run: str = '',
                 arguments: Optional[Mapping[str, Any]] = None,
                 tokens: Optional[Layout] = None) -> None:
        super().__init__()
        self.module = module
        self.image = ToSize()
        self.data_preprocessor = data_preprocessor
        self.places = dict(places or {})
        self.run, self.arguments, self.tokens = run, dict(arguments or {}), tokens
        self.shapes: Dict[str, Any] = {}
        self.tried = Call((), None)
        self.stages: Optional[Stages] = None

    def forward(self, inputs: Tensor) -> Any:
        """The output of the module for images (N, C, H, W)."""
        return self.module.get_submodule(self.run)(self.image(inputs), **self.arguments)

    def try_sizes(self, channels: int, built_for: Optional[Size], multiple: Size,
                  is_exact: bool = False) -> None:
        """Find out which image sizes it accepts, and the shapes of the outputs of its parts.

        Args:
            channels (int): Channels of the images.
            built_for (tuple[int, int], optional): The accepted size, if it does not accept every
                size. None if not known.
            multiple (tuple[int, int]): The patch size, if known.
            is_exact (bool): Whether only ``built_for`` is tried. Defaults to False.

        Raises:
            Exception: The error of the module, if it accepts no size.
        """
        ways = [(ToSize(None, multiple), size) for size in TRIED]
        if built_for is not None:
            ways = [*ways[:not is_exact], (ToSize(built_for), built_for)]
        for image, size in ways[:-1]:
            with suppress(Exception):
                return self._try(image, channels, size)
        image, size = ways[-1]
        self._try(image, channels, size)

    def _try(self, image: ToSize, channels: int, size: Size) -> None:
        self.image = image.eval()
        blank = next(self.parameters()).new_zeros(1, channels, *size)
        with torch.no_grad(), recording(self.module, dict(self.module.named_modules())) as calls:
            self.forward(blank)
        self.tried = Call((blank.to('meta'), ), image(blank).to('meta'))
        height, width = self.tried.output.shape[2:]
        self.stages = stages_of(self.module, self.run, calls, (height, width), self.tokens)
        self.shapes = {path: _shapes(found) for path, found in calls.items() if found}


def _shapes(calls: List[Call]) -> Any:
    try:
        return tuple(tuple(level.shape) for level in tensors_of(calls))
    except TypeError as error:
        return str(error)


@FAMILIES.register_module()
class PlainModule(ModelFamily):
    """Any ``nn.Module`` that :class:`mmkd.ModuleTeacher` has built. Its points are features."""

    family = 'any nn.Module as mmkd.ModuleTeacher'

    @staticmethod
    def fits(model: nn.Module) -> bool:
        return isinstance(model, PlainModel)

    @staticmethod
    def points(model: Any) -> Dict[str, Point]:
        places = {WHOLE: Place(model.run), **model.places}
        if WHOLE not in model.places and (WHOLE in PlainModule.modules(model) or isinstance(
                model.shapes.get(model.run), str)):
            del places[WHOLE]
        points = {name: _point(model, name, *place) for name, place in places.items()}
        if model.stages is not None and BACKBONE not in {**points, **PlainModule.modules(model)}:
            points[BACKBONE] = Point(
                BACKBONE, tuple(f'{MODULE}.{path}' for path in model.stages.paths), _tensors,
                is_map=True, layout=model.stages.layout, image=IMAGE)
        return points

    @staticmethod
    def modules(model: Any) -> Dict[str, str]:
        return {path: f'{MODULE}.{path}' for path, _ in model.module.named_modules() if path}

    @staticmethod
    def about(model: Any, path: str) -> Dict[str, Any]:
        inside = path.partition('.')[2]
        check_place(model, inside, Place(inside))
        point = _point(model, inside, inside)
        return dict(layout=point.layout, image=point.image)

    @staticmethod
    def missing(model: Any, name: str) -> str:
        found = model.shapes.get(model.run)
        if name in ('cls', 'reg', 'mask', 'aux'):
            return ("mmkd does not know its predictions; compare features by on='backbone', or by "
                    'a method such as mimic, pkd or cka')
        if name == 'neck' and model.stages is not None:
            return "it has none; write on=dict(student='neck', teacher='backbone')"
        return found if name == WHOLE and isinstance(found, str) else ''

    @staticmethod
    def extract(model: Any, inputs: Tensor) -> Any:
        return model(inputs)

    @staticmethod
    def predict(model: Any, features: Any, paths: Iterable[str],
                at: Optional[Tensor] = None, data_samples: Optional[Sequence] = None) -> None:
        """Do nothing: there are no heads."""


def check_place(model: PlainModel, name: str, place: Place) -> None:
    """Check that the output of a part of a module fits its layout.

    Args:
        model (PlainModel): The model, after its trial.
        name (str): Name of the point.
        place (Place): Its place.

    Raises:
        ValueError: If the part did not run, or its output does not fit.
    """
    shapes = model.shapes.get(place.path)
    if shapes is None:
        raise ValueError(
            f'`{name}` of the teacher does not run when '
            f'{f"`{model.run}`" if model.run else "the module"} is called with images; write a '
            'module that runs, or set `run=` to the part that is called')
    if isinstance(shapes, str):
        raise ValueError(f'`{name}` of the teacher cannot be compared: {shapes}')
    layout = _point(model, name, *place).layout
    for shape in shapes:
        other = {'NCHW': 'NHWC', 'NHWC': 'NCHW'}.get(layout.name, '')
        if len(shape) == 4 and _looks(model, shape, other) and not _looks(
                model, shape, layout.name):
            raise ValueError(f'`{name}` of the teacher returns {shape} for an image of '
                             f'{shown_size(model.tried.output.shape[2:])} pixels, which is '
                             f"{other}, not {layout.name}; write points={{'{name}': dict(path="
                             f"'{place.path}', layout='{other}')}}")
    levels = [torch.empty(shape, device='meta') for shape in shapes]
    layout.maps(levels, model.tried, name)


def _tensors(*parts: List[Call]) -> List[Tensor]:
    return [level for calls in parts for level in tensors_of(calls)]


def _looks(model: PlainModel, shape: Sequence[int], layout: str) -> bool:
    """Whether height and width are those of the trial image divided by one stride."""
    height, width = shape[1:3] if layout == 'NHWC' else shape[2:]
    rows, columns = model.tried.output.shape[2:]
    return bool(abs(height * columns - width * rows) <= rows + columns)  # one position more or less


def _point(model: PlainModel, name: str, path: str, layout: Optional[Layout] = None) -> Point:
    """A point of a module; whether it returns tokens is known from the trial."""
    shapes = model.shapes.get(path)
    if layout is None:
        are_tokens = isinstance(shapes, tuple) and {len(one) for one in shapes} == {3}
        layout = model.tokens if are_tokens and model.tokens is not None else MAPS
        if layout.stride is not None:  # some add the class token only in their last blocks
            assert isinstance(shapes, tuple)
            sides = zip(model.tried.output.shape[2:], layout.stride)
            if {one[1] for one in shapes} == {math.prod(side // patch for side, patch in sides)}:
                layout = Layout('NLC', 0, layout.stride)
    whole = f'{MODULE}.{path}' if path else MODULE
    return Point(name, (whole, ), tensors_of, is_map=True, layout=layout, image=IMAGE)
