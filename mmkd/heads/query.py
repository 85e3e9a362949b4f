"""Detectors of mmdet that predict with queries: DETR, Conditional, DAB, Deformable DETR, DINO."""
import inspect
import sys
from functools import partial
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

from torch import Tensor, nn

from ..recorder import Call
from ..registry import HEADS
from .base import HeadAdapter, Point, is_asked

NEED_MORE = ('DDQDETR', 'GLIP', 'GroundingDINO')
"""Kin of these detectors that also need text, or hide queries of another kind among theirs."""


@HEADS.register_module()
class QueryHead(HeadAdapter):
    """Detectors with a transformer whose queries each predict one object.

    The point 'cls' is the class logits of the last decoder layer, (N, C, queries); 'cls.0',
    'cls.1', ... are those of each layer. A query of the student has no partner by its number:
    predictions are paired by class and box.
    """

    family = 'detectors of mmdet with queries (DETR and its kin)'

    @staticmethod
    def fits(model: nn.Module) -> bool:
        module = sys.modules.get('mmdet.models.detectors.base_detr')
        return module is not None and isinstance(
            model, module.DetectionTransformer) and not any(
                cls.__name__ in NEED_MORE for cls in type(model).__mro__)

    @staticmethod
    def points(model: Any) -> Dict[str, Point]:
        head = model.bbox_head
        use_sigmoid = bool(head.loss_cls.use_sigmoid)
        logits = dict(use_sigmoid=use_sigmoid, num_classes=head.cls_out_channels,
                      num_named=head.cls_out_channels - (not use_sigmoid))
        layers = dict(cls=-1, **{f'cls.{i}': i for i in range(model.decoder.num_layers)})
        return {name: Point(name, ('bbox_head', ),
                            partial(_of_layer, 0, layer, model.num_queries),
                            boxes=partial(_of_layer, 1, layer, model.num_queries), **logits)
                for name, layer in layers.items()}

    @staticmethod
    def extract(model: Any, inputs: Tensor) -> Any:
        return model.extract_feat(inputs), tuple(inputs.shape)

    @staticmethod
    def predict(model: Any, features: Any, paths: Iterable[str],
                at: Optional[Tensor] = None, data_samples: Optional[Sequence] = None) -> None:
        if not any(is_asked(paths, part) for part in ('encoder', 'decoder', 'bbox_head')):
            return
        maps, shape = features
        head_inputs = model.forward_transformer(maps, data_samples or _blank_samples(shape))
        wanted = inspect.signature(model.bbox_head.forward).parameters
        model.bbox_head.forward(**{name: head_inputs[name] for name in wanted})


def _of_layer(which: int, layer: int, queries: int, calls: List[Call]) -> List[Tensor]:
    """Logits (0) or boxes (1) of a decoder layer, (N, C, queries).

    Denoising queries, which DINO adds in training, come before the others and are left out.
    """
    return [call.output[which][layer][:, -queries:].transpose(1, 2) for call in calls]


def _blank_samples(shape: Tuple[int, ...]) -> List[Any]:
    from mmdet.structures import DetDataSample
    size = shape[2:]
    return [DetDataSample(metainfo=dict(batch_input_shape=size, img_shape=size))
            for _ in range(shape[0])]
