"""Detectors of mmdet that are told what to find by words: GLIP, Grounding DINO."""
from typing import Any, Dict, Iterable, Optional, Sequence

from torch import Tensor, nn

from ...registry import FAMILIES
from ..family import ModelFamily
from ..point import Point, is_asked

KINDS = ('GLIP', 'GroundingDINO')
"""Their classes are told by name: importing mmdet's would need packages that others do without."""

FEATURES = ('backbone', 'neck')


@FAMILIES.register_module()
class TextDetector(ModelFamily):
    """Detectors whose classes are the words of a prompt, and may differ from image to image.

    What they say of classes and boxes depends on the prompt; the features of the image do not. So
    'neck' and 'backbone' are their points, and their text encoder does not run for these.
    """

    family = 'detectors of mmdet with a text prompt (GLIP, Grounding DINO)'
    kind = 'text'

    @staticmethod
    def fits(model: nn.Module) -> bool:
        return any(cls.__name__ in KINDS for cls in type(model).__mro__)

    @staticmethod
    def points(model: nn.Module) -> Dict[str, Point]:
        return {}

    @staticmethod
    def missing(model: nn.Module, name: str) -> str:
        return (f'classes of a {type(model).__name__} are the words of a prompt, so that behind '
                "the features there is nothing to compare; compare 'neck' or 'backbone'")

    @staticmethod
    def about(model: nn.Module, path: str) -> Dict[str, Any]:
        if any(is_asked([path], part) for part in FEATURES):
            return {}
        raise ValueError(f'`{path}` cannot be compared: {TextDetector.missing(model, path)}')

    @staticmethod
    def predict(model: nn.Module, features: Any, paths: Iterable[str],
                at: Optional[Tensor] = None, data_samples: Optional[Sequence] = None) -> None:
        """Nothing lies behind the features that is a point."""
