"""Mask transformers of mmdet and mmseg: MaskFormer, Mask2Former, SAN."""
import sys
from functools import partial
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence

from torch import Tensor, nn
from torch.nn.functional import interpolate

from ...registry import FAMILIES
from ..family import ModelFamily
from ..point import Point, is_asked
from ..queries import Queries, class_map
from ..recorder import Call
from ..relabel import relabelled, relabelled_map
from .query import refuse_inside, samples_of


@FAMILIES.register_module()
class MaskTransformer(ModelFamily):
    """Models with queries that each predict a mask and its class: MaskFormer, Mask2Former.

    Points of the last decoder layer are 'cls', the class logits (N, C, queries), and 'mask', the
    mask logits (N, queries, H, W), with sigmoid per pixel; 'cls.0', 'mask.0', ... are the points of
    each layer. The order of queries has no meaning: queries are paired by class and mask.
    'semantic' is what their own ``predict`` gives each pixel, the sum over the queries of class
    probability times mask probability, divided by its sum over the classes, as logarithm,
    (N, C, H, W). It teaches 'cls' of a segmentor with softmax, in the size of the student's map:
    the mask logits are interpolated to it, as ``predict`` interpolates them to the image.
    """

    family = 'mask transformers of mmdet and mmseg'
    kind = 'mask'
    truth = (*ModelFamily.truth, 'label_map')

    @staticmethod
    def fits(model: nn.Module) -> bool:
        return _head_of(model) is not None

    @staticmethod
    def points(model: Any) -> Dict[str, Point]:
        path = _head_of(model)
        assert path is not None
        head = model.get_submodule(path)
        return _points(path, head.num_transformer_decoder_layers
                       if hasattr(head, 'num_transformer_decoder_layers') else
                       head.transformer_decoder.num_layers - 1,
                       head.cls_embed.out_features, _of_layer)

    @staticmethod
    def about(model: Any, path: str) -> Dict[str, Any]:
        head = _head_of(model)
        is_before = is_asked([path], f'{head}.pixel_decoder')
        return {} if is_before else refuse_inside(path, [f'{head}'], "'cls' or 'mask'")

    @staticmethod
    def extract(model: Any, inputs: Tensor) -> Any:
        return model.extract_feat(inputs), tuple(inputs.shape)

    @staticmethod
    def predict(model: Any, features: Any, paths: Iterable[str],
                at: Optional[Tensor] = None, data_samples: Optional[Sequence] = None) -> None:
        path = _head_of(model)
        assert path is not None
        maps, shape = features
        if is_asked(paths, path):
            model.get_submodule(path).forward(maps, samples_of(shape, data_samples))

    @staticmethod
    def relabel(prediction: Any, columns: Optional[Sequence[Any]]) -> Any:
        if 'pred_sem_seg' in prediction and 'seg_logits' in prediction:
            return relabelled_map(prediction, columns, are_logits=False)
        return relabelled(prediction, columns)


@FAMILIES.register_module()
class SideAdapter(ModelFamily):
    """SAN, which has CLIP and an adapter that proposes masks; points as of mask transformers.

    In training the decode head also predicts from intermediate layers; the points are of the last
    one.
    """

    family = 'SAN of mmseg'
    kind = 'mask'
    truth = ('label_map', )

    @staticmethod
    def fits(model: nn.Module) -> bool:
        module = sys.modules.get('mmseg.models.segmentors')
        return module is not None and isinstance(model, module.MultimodalEncoderDecoder)

    @staticmethod
    def points(model: Any) -> Dict[str, Point]:
        # One column per class of the vocabulary, and one for the background.
        return _points('decode_head', 0, model.decode_head.num_classes + 1, _of_proposals)

    @staticmethod
    def about(model: Any, path: str) -> Dict[str, Any]:
        return refuse_inside(path, ['decode_head'], "'cls' or 'mask'")

    @staticmethod
    def extract(model: Any, inputs: Tensor) -> Any:
        seen = inputs
        if model.asymetric_input:
            seen = interpolate(inputs, scale_factor=model.encoder_resolution, mode='bilinear')
        return inputs, model.image_encoder(seen)

    @staticmethod
    def predict(model: Any, features: Any, paths: Iterable[str],
                at: Optional[Tensor] = None, data_samples: Optional[Sequence] = None) -> None:
        if is_asked(paths, 'decode_head') or is_asked(paths, 'text_encoder'):
            model.decode_head.forward([*features, model.text_encoder()], [])

    @staticmethod
    def relabel(prediction: Any, columns: Optional[Sequence[Any]]) -> Any:
        return relabelled_map(prediction, columns, are_logits=False)


def _head_of(model: Any) -> Optional[str]:
    module = sys.modules.get('mmdet.models.dense_heads.maskformer_head')
    for path in ('panoptic_head', 'decode_head'):
        if module is not None and isinstance(getattr(model, path, None), module.MaskFormerHead):
            return path
    return None


def _points(path: str, layers: int, columns: int,
            queries_of: Callable[..., List[Queries]]) -> Dict[str, Point]:
    points = {}
    numbers = [(f'.{i}', i) for i in range(layers + 1)] if layers else []
    for suffix, layer in [('', -1), *numbers]:
        queries = partial(queries_of, layer)
        points[f'cls{suffix}'] = Point(
            f'cls{suffix}', (path, ), partial(_logits, queries), use_sigmoid=False,
            num_classes=columns, num_named=columns - 1, queries=queries)
        # One binary column per query: inside or outside of its mask.
        points[f'mask{suffix}'] = Point(
            f'mask{suffix}', (path, ), partial(_masks, queries), use_sigmoid=True, num_classes=1,
            queries=queries, query_dim=1)
    points['semantic'] = Point(
        'semantic', (path, ), partial(_semantic, partial(queries_of, -1)), use_sigmoid=False,
        num_classes=columns - 1, num_named=columns - 1, is_map=True,
        masks=partial(queries_of, -1))
    return points


def _logits(queries: Callable[..., List[Queries]], calls: List[Call]) -> List[Tensor]:
    return [one.logits for one in queries(calls)]


def _masks(queries: Callable[..., List[Queries]], calls: List[Call]) -> List[Tensor]:
    return [one.where for one in queries(calls)]


def _semantic(queries: Callable[..., List[Queries]], calls: List[Call]) -> List[Tensor]:
    return [class_map(one) for one in queries(calls)]


def _of_layer(layer: int, calls: List[Call]) -> List[Queries]:
    return [Queries(classes[layer].transpose(1, 2), masks[layer], use_sigmoid=False)
            for classes, masks in (call.output for call in calls)]


def _of_proposals(layer: int, calls: List[Call]) -> List[Queries]:
    """Queries of SAN, whose head returns masks first."""
    return [Queries(classes[layer].transpose(1, 2), masks[layer], use_sigmoid=False)
            for masks, classes in (call.output for call in calls)]
