"""Instance segmentors of mmdet that classify the cells of a grid: SOLO, SOLOv2."""
import sys
from typing import Any, Dict, Iterable, Optional, Sequence

from torch import Tensor, nn

from ...registry import FAMILIES
from ..family import ModelFamily
from ..point import Point, is_asked, tensors_of


@FAMILIES.register_module()
class GridOfInstances(ModelFamily):
    """SOLO and its variants: a map of classes per level, one position per cell of a fixed grid.

    In a test the forward of the head suppresses neighbours; its class layer returns logits in
    training and test.
    """

    family = 'SOLO and SOLOv2 of mmdet'
    kind = 'solo'

    @staticmethod
    def fits(model: nn.Module) -> bool:
        module = sys.modules.get('mmdet.models.dense_heads.solo_head')
        return module is not None and isinstance(getattr(model, 'mask_head', None), module.SOLOHead)

    @staticmethod
    def points(model: Any) -> Dict[str, Point]:
        columns = model.mask_head.cls_out_channels
        return dict(cls=Point('cls', ('mask_head.conv_cls', ), tensors_of, use_sigmoid=True,
                              num_classes=columns, num_named=columns))

    @staticmethod
    def predict(model: Any, features: Any, paths: Iterable[str],
                at: Optional[Tensor] = None, data_samples: Optional[Sequence] = None) -> None:
        if is_asked(paths, 'mask_head'):
            model.mask_head.forward(features)
