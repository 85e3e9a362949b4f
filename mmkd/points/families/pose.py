"""Pose estimators of mmpose: their features."""
import sys
from typing import Any, Dict, Iterable, Optional, Sequence

from torch import Tensor, nn

from ...registry import FAMILIES
from ..family import ModelFamily
from ..point import Point


class FeaturesAlone(ModelFamily):
    """Models of which mmkd knows no predictions, only 'neck' and 'backbone'."""

    truth = ()

    @staticmethod
    def points(model: nn.Module) -> Dict[str, Point]:
        return {}

    @staticmethod
    def missing(model: nn.Module, name: str) -> str:
        if name in ('cls', 'reg', 'boxes', 'mask'):
            return ("mmkd does not know its predictions; compare features by on='backbone' or "
                    "on='neck', or by a method such as pkd or mimic")
        return ''

    @staticmethod
    def predict(model: Any, features: Any, paths: Iterable[str],
                at: Optional[Tensor] = None, data_samples: Optional[Sequence] = None) -> None:
        """Do nothing: no point is in the head."""


@FAMILIES.register_module()
class PoseEstimator(FeaturesAlone):
    """Pose estimators of mmpose."""

    family = 'pose estimators of mmpose'

    @staticmethod
    def fits(model: nn.Module) -> bool:
        module = sys.modules.get('mmpose.models.pose_estimators.base')
        return module is not None and isinstance(model, module.BasePoseEstimator)
