"""Points and how they are found: by a family's name for them or by a dotted module path."""
from abc import ABCMeta, abstractmethod
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Callable, Dict, List, Optional, Sequence

from torch import Tensor, nn

from ..registry import HEADS


@dataclass(frozen=True)
class Point:
    """A place in one model where it can be compared with another.

    Attributes:
        name (str): As the config writes it: 'cls', or a dotted module path.
        path (str): Dotted path of the module whose output is looked at.
        levels (Callable): Turns the outputs of all calls of that module in one step into a list of
            tensors (N, C, *positions), one per level.
        use_sigmoid (bool, optional): What activates the logits, None where the point has none.
        num_classes (int, optional): Columns of one prediction, background included where the head
            has a column for it; channels are a multiple of it if the head has anchors. None where
            the point has no logits.
    """
    name: str
    path: str
    levels: Callable[[List[Any]], List[Tensor]]
    use_sigmoid: Optional[bool] = None
    num_classes: Optional[int] = None


class HeadAdapter(metaclass=ABCMeta):
    """What is known of one family of models.

    Attributes:
        family (str): What an mmdet or mmseg user calls these models.

    A subclass registers with ``@mmkd.HEADS.register_module()``; the first one that fits a model,
    the latest registered first, speaks for it.
    """

    family: str

    @staticmethod
    @abstractmethod
    def fits(model: nn.Module) -> bool:
        """Whether the model is of this family. Must not raise for models that are not."""

    @staticmethod
    @abstractmethod
    def points(model: nn.Module) -> Dict[str, Point]:
        """Every named point of the model, by name."""

    @staticmethod
    @abstractmethod
    def activated(model: nn.Module, path: str) -> Dict[str, Any]:
        """``use_sigmoid`` and ``num_classes`` if a module computes the class logits, else {}."""

    @staticmethod
    @abstractmethod
    def run(model: nn.Module, inputs: Tensor, data_samples: Optional[Sequence] = None) -> None:
        """Run the model past all of its points, without losses and predictions.

        Args:
            model (nn.Module): In eval mode.
            inputs (Tensor): Float (N, 3, H, W), normalised.
            data_samples (Sequence, optional): The N samples.
        """


def adapter_of(model: nn.Module, side: str = 'model') -> HeadAdapter:
    """The adapter of a model's family.

    Args:
        model (nn.Module): Student or teacher.
        side (str): Which of them, for the message. Defaults to 'model'.

    Raises:
        ValueError: If no adapter fits.
    """
    for adapter in reversed(list(HEADS.module_dict.values())):
        if adapter.fits(model):
            return adapter()
    raise ValueError(
        f'the {side} is a {type(model).__name__}, whose points mmkd does not know; it knows '
        f'{", ".join(adapter.family for adapter in HEADS.module_dict.values())}; register an '
        'adapter of your own with `@mmkd.HEADS.register_module()`, see docs/architecture.md')


def find_point(model: nn.Module, name: str, side: str = 'model') -> Point:
    """Find a point by its name in the family or by a dotted module path.

    Args:
        model (nn.Module): Student or teacher.
        name (str): For instance 'cls' or 'bbox_head.retina_cls'.
        side (str): 'student' or 'teacher', for the message. Defaults to 'model'.

    Returns:
        Point: The point.

    Raises:
        ValueError: If there is neither; the message names the nearest that exist.
    """
    adapter = adapter_of(model, side)
    points = adapter.points(model)
    if name in points:
        return points[name]
    modules = [path for path, _ in model.named_modules() if path]
    if name in modules:
        return Point(name, name, tensors_of, **adapter.activated(model, name))
    nearest = get_close_matches(name, [*points, *modules], n=3, cutoff=0.4)
    raise ValueError(
        f'no point `{name}` in the {side} ({type(model).__name__}); ' +
        (f'closest: {", ".join(f"`{near}`" for near in nearest)}; ' if nearest else '') +
        ''.join(f'`{point}` is a point of it, and ' for point in points) +
        'every dotted path of its `named_modules()`')


def tensors_of(calls: List[Any]) -> List[Tensor]:
    """Every tensor that a module returned, call by call: one level each.

    Raises:
        TypeError: If the module returned something other than tensors or a sequence of tensors.
    """
    tensors: List[Tensor] = []
    for output in calls:
        outputs = output if isinstance(output, (list, tuple)) else [output]
        if not all(isinstance(one, Tensor) for one in outputs):
            raise TypeError(
                'a point must return a tensor or a sequence of tensors, but got '
                f'{[type(one).__name__ for one in outputs]}; choose a module further inside')
        tensors.extend(outputs)
    return tensors
