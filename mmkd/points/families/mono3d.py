"""Detectors of mmdet3d with images alone as input (FCOS3D, PGD, SMOKE): their features."""
import sys
from typing import Any

from torch import Tensor, nn

from ...registry import FAMILIES
from ..batches import AsGiven
from .pose import FeaturesAlone

IMAGES = 'imgs'
"""Name of the images in the inputs of mmdet3d."""


class ImagesByName(AsGiven):
    """For models whose inputs are a dict with the images."""

    def images(self, inputs: Any) -> Tensor:
        if not isinstance(inputs, dict):
            return inputs  # type: ignore[no-any-return]
        if IMAGES not in inputs:
            raise ValueError(f'the inputs of a detector of mmdet3d must have `{IMAGES}`, but got '
                             f'{sorted(inputs)}; use its Det3DDataPreprocessor, and images in the '
                             'pipeline')
        return inputs[IMAGES]  # type: ignore[no-any-return]


@FAMILIES.register_module()
class MonocularDetector(FeaturesAlone):
    """Detectors of mmdet3d with one image per sample. The others are given points."""

    family = 'detectors of mmdet3d with images alone as input'
    batches = ImagesByName()

    @staticmethod
    def fits(model: nn.Module) -> bool:
        module = sys.modules.get('mmdet3d.models.detectors.single_stage_mono3d')
        return module is not None and isinstance(model, module.SingleStageMono3DDetector)

    @staticmethod
    def extract(model: Any, inputs: Any) -> Any:
        return model.extract_feat({IMAGES: ImagesByName().images(inputs)})
