"""Any module that takes images: neither a detector nor a segmentor, or none that is known here."""
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

MODULE, IMAGE = 'module', 'image'
"""The children of a :class:`PlainModel`."""

WHOLE = 'output'
"""The point that is what the module itself returns."""

TRIED: Sequence[Size] = ((128, 160), (320, 352), (512, 544))
"""Heights and widths that a module is tried with; not square, which some layouts would hide."""


class Place(NamedTuple):
    """Where a named point lies in a module."""
    path: str
    """Dotted path in the module, '' for what is called with the images."""
    layout: Optional[Layout] = None
    """None where it was not written: that of the library, or (N, C, H, W)."""


class ToSize(nn.Module):
    """Resizes images to what a network takes.

    Args:
        size (tuple[int, int], optional): The one height and width that it takes. Defaults to None,
            several.
        multiple (tuple[int, int]): Of what height and width must be multiples: its patches.
            Defaults to (1, 1).
    """

    def __init__(self, size: Optional[Size] = None, multiple: Size = (1, 1)) -> None:
        super().__init__()
        self.size, self.multiple = size, multiple

    def forward(self, inputs: Tensor) -> Tensor:
        """(N, C, H, W) as (N, C, H', W'): the same if the size is right, else bilinear."""
        given = inputs.shape[2:]
        size = self.size or tuple(max(1, (2 * side + patch) // (2 * patch)) * patch  # the nearest
                                  for side, patch in zip(given, self.multiple))
        return inputs if tuple(size) == tuple(given) else interpolate(
            inputs, size=size, mode='bilinear', align_corners=False, antialias=True)


class PlainModel(nn.Module):
    """A module with what is known here of a model of MMEngine: how images are normalised for it.

    Args:
        module (nn.Module): The module.
        data_preprocessor (nn.Module): Whose ``mean`` and ``std`` it was trained with.
        places (Mapping[str, Place]): Points by name. Defaults to none.
        run (str): Dotted path of its part that is called with images (N, C, H, W). Defaults to '',
            the module itself.
        arguments (Mapping[str, Any]): Keyword arguments of this call. Defaults to none.
        tokens (Layout, optional): The layout of its tokens (N, L, C), where the library tells it.

    Attributes:
        shapes (dict[str, tuple | str]): By dotted path in the module what each part returned when
            it was tried: the shapes of the levels, or why it is none. Parts that did not run are
            not there.
        tried (Call): Of ``image`` then: tensors without values, of the sizes of the images.
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

    def forward(self, inputs: Tensor) -> Any:
        """What the module returns for images (N, C, H, W)."""
        return self.module.get_submodule(self.run)(self.image(inputs), **self.arguments)

    def try_sizes(self, channels: int, built_for: Optional[Size], multiple: Size,
                  is_exact: bool = False) -> None:
        """Find out which images it takes, and what each of its parts returns.

        Args:
            channels (int): Channels of the images.
            built_for (tuple[int, int], optional): The size that it takes if it does not take every
                one. None where that is not known.
            multiple (tuple[int, int]): The patches of which images consist, as far as known.
            is_exact (bool): Whether nothing but ``built_for`` is tried. Defaults to False.

        Raises:
            Exception: What it raised, if it takes none.
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
        self.shapes = {path: _shapes(found) for path, found in calls.items() if found}


def _shapes(calls: List[Call]) -> Any:
    try:
        return tuple(tuple(level.shape) for level in tensors_of(calls))
    except TypeError as error:
        return str(error)


@FAMILIES.register_module()
class PlainModule(ModelFamily):
    """Any ``nn.Module`` that :class:`mmkd.ModuleTeacher` has built. It has features alone."""

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
        return {name: _point(model, name, *place) for name, place in places.items()}

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
        return found if name == WHOLE and isinstance(found, str) else ''

    @staticmethod
    def extract(model: Any, inputs: Tensor) -> Any:
        return model(inputs)

    @staticmethod
    def predict(model: Any, features: Any, paths: Iterable[str],
                at: Optional[Tensor] = None, data_samples: Optional[Sequence] = None) -> None:
        """There is nothing behind the features."""


def check_place(model: PlainModel, name: str, place: Place) -> None:
    """Whether a part of a module returns what its layout says.

    Args:
        model (PlainModel): One that was tried.
        name (str): The point's.
        place (Place): Where it lies.

    Raises:
        ValueError: If it did not run, or returned something else.
    """
    shapes = model.shapes.get(place.path)
    if shapes is None:
        raise ValueError(
            f'`{name}` of the teacher does not run when '
            f'{f"`{model.run}`" if model.run else "the module"} is called with images; name a '
            'module that does, or the part that is called by `run=`')
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


def _looks(model: PlainModel, shape: Sequence[int], layout: str) -> bool:
    """Whether height and width are those of the image that was tried, divided by one stride."""
    height, width = shape[1:3] if layout == 'NHWC' else shape[2:]
    rows, columns = model.tried.output.shape[2:]
    return bool(abs(height * columns - width * rows) <= rows + columns)  # one position more or less


def _point(model: PlainModel, name: str, path: str, layout: Optional[Layout] = None) -> Point:
    """A point of a module; tokens are known by what was returned when it was tried."""
    shapes = model.shapes.get(path)
    if layout is None:
        are_tokens = isinstance(shapes, tuple) and {len(one) for one in shapes} == {3}
        layout = model.tokens if are_tokens and model.tokens is not None else MAPS
        if layout.stride is not None:  # some add the class token in their last blocks alone
            assert isinstance(shapes, tuple)
            sides = zip(model.tried.output.shape[2:], layout.stride)
            if {one[1] for one in shapes} == {math.prod(side // patch for side, patch in sides)}:
                layout = Layout('NLC', 0, layout.stride)
    whole = f'{MODULE}.{path}' if path else MODULE
    return Point(name, (whole, ), tensors_of, is_map=True, layout=layout, image=IMAGE)
