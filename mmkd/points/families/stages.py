"""Which parts of a module of another library return its feature maps?

For ``on='backbone'`` of a teacher whose module has no part of this name.
"""
import math
from dataclasses import replace
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

from torch import Tensor, nn

from ..image_sizes import Size
from ..layout import MAPS, Layout
from ..recorder import Records

LEAST_STRIDE = 4
"""Maps of smaller strides belong to the stem."""

PYRAMID = (0.5, 1., 2.)
"""Strides to which the only map of a transformer is resized, relative to the power of two that is
nearest to its patch."""


class Stages(NamedTuple):
    """Parts of a module that return its feature maps, the finest first."""
    paths: Tuple[str, ...]
    layout: Layout


class _Map(NamedTuple):
    path: str
    order: int
    size: Size
    layout: Layout


def stages_of(module: nn.Module, run: str, calls: Records, image: Size,
              tokens: Optional[Layout]) -> Optional[Stages]:
    """Find the parts that return feature maps, from the calls of all parts in one run.

    The children of the module are taken in the order in which they finish. A container whose parts
    return maps of three sizes or more is replaced by its parts. All maps are of one layout: tokens
    if the last one is, else that with the most sizes. Of the maps of one size, the last is taken.
    If there is only one size, as in a vision transformer, this map is also resized to half and to
    twice its stride.

    Args:
        module (nn.Module): The module.
        run (str): Dotted path of the part that is called with images.
        calls (Records): The calls of all parts.
        image (tuple[int, int]): Height and width of the images.
        tokens (Layout, optional): Layout of its tokens, if it is known.

    Returns:
        Stages | None: None if there are no maps.

    Example:
        >>> from mmkd.points.recorder import recording
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1))
        >>> with recording(net, ['0', '1', '2']) as calls:
        ...     _ = net(torch.zeros(1, 3, 64, 96))
        >>> stages_of(net, '', calls, (64, 96), None).paths
        ('1', '2')
    """
    found = sorted(_maps_in(module.get_submodule(run), run, calls, image, tokens),
                   key=lambda one: one.order)
    found = [one for one in found if image[0] // one.size[0] >= LEAST_STRIDE and one.size != (1, 1)]
    if not found:
        return None
    kind = found[-1].layout
    if kind.stride is None:  # torchvision's Swin has its channels last, but permutes the last map
        kind = max((one.layout for one in reversed(found) if one.layout.stride is None),
                   key=lambda layout: len({one.size for one in found if one.layout == layout}))
    last: Dict[Size, str] = {one.size: one.path for one in found if one.layout == kind}
    paths = tuple(last[size] for size in sorted(last, reverse=True))
    if len(paths) == 1 and kind.stride is not None:
        near = [2**round(math.log2(side)) for side in kind.stride]
        kind = replace(kind, resized=tuple((near[0] * one, near[1] * one) for one in PYRAMID))
    return Stages(paths, kind)


def _maps_in(part: nn.Module, path: str, calls: Records, image: Size,
             tokens: Optional[Layout]) -> Iterator[_Map]:
    for name, child in part.named_children():
        inner = f'{path}.{name}' if path else name
        own = _map_of(inner, calls, image, tokens)
        parts = list(_maps_in(child, inner, calls, image, tokens)) if own is None or isinstance(
            child, (nn.Sequential, nn.ModuleList)) else []
        sizes = {one.size for one in parts}
        if own is None or len(sizes) > 2:  # two: the first layer of a stage has the stride before
            yield from parts
        else:
            yield own


def _map_of(path: str, calls: Records, image: Size, tokens: Optional[Layout]) -> Optional[_Map]:
    """What a part returns, if it is one map or the tokens of one."""
    its = calls.get(path) or []
    output: Any = its[-1].output if its else None
    if len(its) != 1 or not isinstance(output, Tensor):
        return None
    order, shape = its[-1].order, tuple(output.shape)
    if len(shape) == 4:
        for layout, size in ((MAPS, shape[2:]), (Layout('NHWC'), shape[1:3])):
            if abs(size[0] * image[1] - size[1] * image[0]) <= sum(image):
                return _Map(path, order, (size[0], size[1]), layout)
    if len(shape) == 3 and tokens is not None and tokens.stride is not None:
        height, width = (side // patch for side, patch in zip(image, tokens.stride))
        for extra in (tokens.extra_tokens, 0):
            if shape[1] == height * width + extra:
                return _Map(path, order, (height, width), replace(tokens, extra_tokens=extra))
    return None


def shown(stages: Stages, point: str) -> str:
    """The choice in one line, for the log."""
    strides: List[str] = [f'{one[0]:g}' for one in stages.layout.resized]
    resized = f', resized to strides {", ".join(strides)}' if strides else ''
    return f'`{point}` of the teacher is {", ".join(f"`{one}`" for one in stages.paths)}{resized}'
