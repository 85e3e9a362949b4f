"""Order of the axes of a module's outputs, and conversion of these to maps (N, C, H, W)."""
from dataclasses import dataclass
from math import ceil
from typing import Any, List, Optional, Sequence, Tuple

from torch import Tensor
from torch.nn.functional import interpolate

from .image_sizes import Size, as_size, shown_size
from .recorder import Call

LAYOUTS = ('NCHW', 'NLC', 'NHWC')


@dataclass(frozen=True)
class Layout:
    """The order of the axes of a module's outputs.

    Attributes:
        name (str): 'NCHW', maps; 'NLC', tokens, as of a vision transformer; 'NHWC', maps with the
            channels last, as of Swin. Vectors (N, C) are not changed. Defaults to 'NCHW'.
        extra_tokens (int): Number of tokens before those of the image, which are removed: a class
            token, registers. Only for 'NLC'. Defaults to 0.
        stride (tuple[int, int], optional): Height and width of a patch in pixels, required for
            'NLC'.
        resized (tuple[tuple[float, float]]): Strides to which the last map is resized, one level
            each. Defaults to (), not resized.
    """
    name: str = 'NCHW'
    extra_tokens: int = 0
    stride: Optional[Size] = None
    resized: Tuple[Tuple[float, float], ...] = ()

    @classmethod
    def of(cls, name: Any, extra_tokens: Any, stride: Any, where: str) -> 'Layout':
        """Create the layout of an entry of a config.

        Args:
            name (str): See above.
            extra_tokens (int): See above.
            stride (int | tuple[int, int], optional): See above; one number for both sides.
            where (str): The entry, for messages.

        Raises:
            ValueError: If a value is not one of the above.
        """
        if name not in LAYOUTS:
            raise ValueError(f'`layout` of {where} must be one of {", ".join(map(repr, LAYOUTS))}, '
                             f'but got {name!r}; write one of these')
        if isinstance(extra_tokens, bool) or not isinstance(extra_tokens, int) or extra_tokens < 0:
            raise ValueError(f'`extra_tokens` of {where} must be a number of tokens, 0 or more, '
                             f'but got {extra_tokens!r}; write for instance extra_tokens=1')
        size = as_size(stride)
        if size is None and (stride is not None or name == 'NLC'):
            raise ValueError(f'`stride` of {where} must be the size of a patch in pixels, but got '
                             f'{stride!r}; write for instance stride=16')
        if name != 'NLC' and (extra_tokens or stride is not None):
            raise ValueError(f'`extra_tokens` and `stride` of {where} are for tokens only, but its '
                             f"layout is {name!r}; leave them out, or write layout='NLC'")
        return cls(name, extra_tokens, size)

    def maps(self, levels: Sequence[Tensor], image: Call, name: str) -> List[Tensor]:
        """Convert outputs to maps, in the size for the image before it was resized.

        Args:
            levels (Sequence[Tensor]): Outputs in this layout.
            image (Call): Call of the module that resizes the image to the input of the network.
            name (str): Name of the point, for messages.

        Returns:
            list[Tensor]: Maps (N, C, h, w), or vectors (N, C) unchanged.

        Raises:
            ValueError: If a level has other axes, or the number of tokens does not fit the image.
        """
        given, seen = ((one.shape[2], one.shape[3]) for one in (image.args[0], image.output))
        maps = [self._map(level, seen, name) for level in levels]
        if self.resized:
            sizes = [tuple(max(1, ceil(side / one)) for side, one in zip(given, strides))
                     for strides in self.resized]
            return [interpolate(maps[-1], size=size, mode='bilinear', align_corners=False)
                    for size in sizes]
        return maps if given == seen else [_as_of(one, given, seen) for one in maps]

    def _map(self, level: Tensor, seen: Size, name: str) -> Tensor:
        if level.dim() == 2 and self.name == 'NCHW':
            return level
        if level.dim() != (3 if self.name == 'NLC' else 4):
            raise ValueError(self.misfit(name, tuple(level.shape)))
        if self.name == 'NLC':
            return self._map_of_tokens(level, seen, name)
        return level.permute(0, 3, 1, 2) if self.name == 'NHWC' else level

    def _map_of_tokens(self, level: Tensor, seen: Size, name: str) -> Tensor:
        assert self.stride is not None
        count = level.shape[1] - self.extra_tokens
        floor = [side // patch for side, patch in zip(seen, self.stride)]
        above = [-(-side // patch) for side, patch in zip(seen, self.stride)]
        for height, width in (floor, above):  # patches at the border are cropped or padded
            if height * width == count:
                return level[:, self.extra_tokens:].transpose(1, 2).unflatten(2, (height, width))
        height, width = floor
        rest = level.shape[1] - height * width
        raise ValueError(
            f'`{name}` returns {level.shape[1]} tokens for an image of {shown_size(seen)} pixels, '
            f'but patches of {shown_size(self.stride)} give {height}x{width} = {height * width} '
            f'tokens, and `extra_tokens={self.extra_tokens}`; correct `stride`' +
            (f', or write `extra_tokens={rest}`' if rest >= 0 else ' or `extra_tokens`'))

    def misfit(self, name: str, shape: Tuple[int, ...]) -> str:
        """Message for a level with other axes than those of the layout."""
        shown = f'`{name}` returns {shape}, but its layout is {self.name!r}'
        if len(shape) == 3:
            return (f"{shown}; if these are tokens (N, L, C), write points={{'{name}': "
                    "dict(path=..., layout='NLC', extra_tokens=1, stride=16)}, with the values of "
                    'this network')
        return f'{shown}; correct `layout`, or choose a module that returns maps'


MAPS = Layout()
"""Maps (N, C, H, W), or vectors (N, C)."""


def _as_of(level: Tensor, given: Size, seen: Size) -> Tensor:
    """Resize a map of a resized image to the size for the original image."""
    if level.dim() != 4:
        return level
    size = [max(1, (2 * side * one + other) // (2 * other))  # rounded
            for side, one, other in zip(level.shape[2:], given, seen)]
    return level if tuple(size) == tuple(level.shape[2:]) else interpolate(
        level, size=size, mode='bilinear', align_corners=False)
