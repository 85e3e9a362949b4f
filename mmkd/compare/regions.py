"""Weights of the positions of a map."""
from abc import ABCMeta, abstractmethod
from typing import Any, Dict, List, Optional, Tuple, Union

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ..core.asking import Asked, asked_by
from ..core.build import build_entry
from ..points.labels import IGNORED
from ..registry import MODELS
from .vocabulary import Context, made_up_values, values_of_all


class Region(metaclass=ABCMeta):
    """Base class of regions. A subclass implements :meth:`weigh`, and is registered in
    ``mmkd.MODELS``.

    .. code-block:: python

        distill=[dict(type='mmkd.MSELoss', on='neck', region=dict(type='mmkd.Foreground'))]

    ``weigh`` requests further values by keyword-only parameters, as losses do. Values that belong
    to a level, such as ``labels``, are lists.

    Example:
        >>> class Confident(Region):
        ...     def weigh(self, student, teacher):
        ...         return [level.softmax(1).amax(1) for level in teacher]
        >>> weight, = Confident().weigh([torch.zeros(1, 2, 3, 3)], [torch.zeros(1, 2, 3, 3)])
        >>> weight.shape
        torch.Size([1, 3, 3])
    """

    @classmethod
    def asked(cls) -> Asked:
        """Names of the values that :meth:`weigh` requests."""
        return asked_by(cls.weigh)

    @abstractmethod
    def weigh(self, *levels: Any, **named: Any) -> List[Tensor]:
        """The weights of positions: ``weigh(self, student, teacher)``.

        Args:
            student (list[Tensor]): The compared levels (N, C, *positions), after the connectors,
                without gradient.
            teacher (list[Tensor]): The teacher's levels, of the same size.

        Returns:
            list[Tensor]: Float (N, *positions), 0 or more, one per level.
        """


@MODELS.register_module()
class Valid(Region):
    """Weight 0 for pixels with a label that the loss of a segmentor ignores, 1 otherwise.

    ``region='valid'`` is short for it.

    Example:
        >>> from mmkd.compare.regions import Valid
        >>> list(Valid.asked().required)
        ['label_map']
    """

    def weigh(self, student: List[Tensor], teacher: List[Tensor], *,
              label_map: Tensor) -> List[Tensor]:
        # Floats are exact up to 2**24, far beyond any label.
        labels = label_map.unsqueeze(1).float()
        return [interpolate(labels, size=level.shape[2:], mode='nearest').squeeze(1).ne(
            IGNORED).to(level.dtype) for level in student]


@MODELS.register_module()
class Foreground(Region):
    """Weight 1 for positions inside of boxes of objects, 0 otherwise.

    Position (x, y) of a map of (H, W) positions, for an input of (h, w) pixels, is inside of a box
    if its centre ((x + 0.5) w / W, (y + 0.5) h / H) is.

    Args:
        inside (bool): If False, weight 1 for positions outside of all boxes. Defaults to True.

    Example:
        >>> maps, box = torch.zeros(1, 8, 2, 2), torch.tensor([[0., 0., 16., 16.]])
        >>> weight, = Foreground().weigh([maps], [maps], boxes=[box], input_size=(32, 32))
        >>> weight.tolist()
        [[[1.0, 0.0], [0.0, 0.0]]]
    """

    def __init__(self, inside: bool = True) -> None:
        if not isinstance(inside, bool):
            raise TypeError(f'`inside` of mmkd.Foreground must be True or False, but got '
                            f'{inside!r}; write one of the two')
        self.inside = inside

    def weigh(self, student: List[Tensor], teacher: List[Tensor], *, boxes: List[Tensor],
              input_size: Tuple[int, int]) -> List[Tensor]:
        return [torch.stack([(inside_of(one, level.shape[2:], input_size) == self.inside).to(
            level.dtype) for one in boxes]) for level in student]


def inside_of(boxes: Tensor, size: torch.Size, input_size: Tuple[int, int]) -> Tensor:
    """Positions of a map that lie inside of boxes.

    Args:
        boxes (Tensor): (K, 4), (x1, y1, x2, y2) in pixels of the input; K may be 0.
        size (torch.Size): Height and width of the map.
        input_size (tuple[int, int]): Height and width of the padded input, in pixels.

    Returns:
        Tensor: Bool (H, W).

    Example:
        >>> boxes = torch.tensor([[0., 0., 4., 8.]])
        >>> inside_of(boxes, torch.Size([1, 2]), (8, 8))
        tensor([[ True, False]])
    """
    y, x = (((torch.arange(count, device=boxes.device) + 0.5) * (pixels / count)).view(1, -1)
            for count, pixels in zip(size, input_size))
    x1, y1, x2, y2 = boxes.unsqueeze(2).unbind(1)
    rows, columns = (y >= y1) & (y <= y2), (x >= x1) & (x <= x2)
    return (rows.unsqueeze(2) & columns.unsqueeze(1)).any(0)


NAMED = dict(valid='mmkd.Valid')
"""Short names of regions in an entry of ``distill``."""


def build_region(written: Union[str, Dict[str, Any], None]) -> Optional[Region]:
    """Build the region of an entry.

    Raises:
        TypeError: If it is not a region, or an argument is wrong.
        ValueError: If the name or type is unknown.
    """
    if written is None:
        return None
    if isinstance(written, str):
        if written not in NAMED:
            raise ValueError(f'`region` must be {", ".join(map(repr, NAMED))} or '
                             f"dict(type='mmkd.Foreground'), but got `{written}`; write one of "
                             'these, or leave `region` out')
        written = dict(type=NAMED[written])
    region: Region = build_entry(written, MODELS, '`region`', Region)
    return region


def check_weights(region: Region, weights: Any, levels: List[Tensor]) -> List[Tensor]:
    """Check that a region returned one weight per position.

    Raises:
        TypeError: If it did not; the message has the shapes.
    """
    expected = [(one.shape[0], *one.shape[2:]) for one in levels]
    given = [tuple(one.shape) if isinstance(one, Tensor) else type(one).__name__
             for one in weights] if isinstance(weights, (list, tuple)) else type(weights).__name__
    if given != expected:
        raise TypeError(f'{type(region).__name__} must return a list of weights of the positions, '
                        f'{expected}, but returned {given}; return one tensor for each level from '
                        'its `weigh`, without the channel dimension')
    return list(weights)


def weights_of(region: Region, context: Context, is_trial: bool = False) -> List[Tensor]:
    """Weights of a region for the levels of a term.

    A weight (N, H, W) applies to all anchors of a position.

    Raises:
        TypeError: If the region does not return one weight per position.
        ValueError: If the batch lacks a value that the region requests.
    """
    asked = region.asked()
    named = made_up_values(asked, context, True) if is_trial else values_of_all(asked, context)
    with torch.no_grad():
        weights: Any = region.weigh([one.detach() for one in context.student], context.teacher,
                                    **named)
    if isinstance(weights, (list, tuple)) and context.anchors > 1:
        weights = [one.repeat_interleave(context.anchors, 0) if isinstance(one, Tensor) and len(
            one) * context.anchors == len(level) else one
            for one, level in zip(weights, context.student)]
    weights = check_weights(region, weights, context.student)
    if is_trial and any((one < 0).any() for one in weights):
        raise ValueError(f'{type(region).__name__} returned negative weights, but weights of '
                         'positions must be 0 or more; return 0 from its `weigh` to leave a '
                         'position out')
    return weights
