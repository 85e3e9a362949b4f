"""Detectors of mmdet with a text prompt: GLIP, Grounding DINO."""
from typing import Any, Dict, Iterable, Optional, Sequence

from torch import Tensor, nn

from ...registry import FAMILIES
from ..family import ModelFamily
from ..point import Point, is_asked

KINDS = ('GLIP', 'GroundingDINO')
"""Names of their classes. An import of the classes would need optional packages."""

FEATURES = ('backbone', 'neck')


@FAMILIES.register_module()
class TextDetector(ModelFamily):
    """Detectors whose classes are the words of a prompt, which may differ between images.

    Their classes and boxes depend on the prompt; the features of the image do not. So their points
    are 'neck' and 'backbone', for which the text encoder does not run.
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
        """Do nothing: the heads have no points."""
