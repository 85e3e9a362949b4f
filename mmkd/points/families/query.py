"""Detectors of mmdet with queries: DETR and its variants, Sparse R-CNN, QueryInst."""
import sys
from functools import partial
from typing import Any, Callable, ContextManager, Dict, Iterable, List, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

from ...registry import FAMILIES
from ..family import ModelFamily
from ..point import Point, is_asked
from ..queries import Queries
from ..recorder import Call
from .decoding import decode, given, learned, remembering, run_head

OF_IMAGE = 'boxes (cx, cy, w, h) as parts of the image'
OF_BATCH = 'boxes (cx, cy, w, h) as parts of the padded image'
"""Coding of the boxes. Those of Sparse R-CNN are in pixels, and the size without padding is not
known at the point."""


@FAMILIES.register_module()
class QueryHead(ModelFamily):
    """Detectors with a transformer and queries that each predict one object.

    The point 'cls' is the class logits of the last decoder layer, (N, C, queries), 'reg' its boxes,
    (N, 4, queries); 'cls.0', 'reg.0', ... are the points of each layer; 'cls.all', 'reg.all' and
    'hidden.all', the outputs of the layers, (N, channels, queries), have a level for each layer.
    The order of queries has no meaning: predictions are paired by class and box, unless both sides
    are asked with the same queries.
    """

    family = 'detectors of mmdet with queries (DETR and similar)'
    kind = 'query'

    @staticmethod
    def fits(model: nn.Module) -> bool:
        module = sys.modules.get('mmdet.models.detectors.base_detr')
        return module is not None and isinstance(model, module.DetectionTransformer)

    @staticmethod
    def points(model: Any) -> Dict[str, Point]:
        head = model.bbox_head
        use_sigmoid = bool(head.loss_cls.use_sigmoid)
        which = partial(_matching, model.num_queries if hasattr(model, 'dn_query_generator') else
                        None, getattr(model, 'cache_dict', {}))
        read = partial(_of_layer, which, use_sigmoid)
        points = points_of_layers(
            model.decoder.num_layers, lambda layer: (('bbox_head', ), partial(read, layer)),
            use_sigmoid, head.cls_out_channels, OF_IMAGE)
        queries = points['cls.all'].queries
        assert queries is not None
        # No point per layer: tokens are only used by other points, with `also`.
        points['hidden.all'] = Point(
            'hidden.all', ('bbox_head', 'decoder'), partial(_hidden, which),
            queries=partial(_all_but_last, queries))
        return points

    @staticmethod
    def about(model: Any, path: str) -> Dict[str, Any]:
        return refuse_inside(path, ('decoder', 'bbox_head', 'query_embedding'), "'cls' or 'reg'")

    @staticmethod
    def extract(model: Any, inputs: Tensor) -> Any:
        return model.extract_feat(inputs), tuple(inputs.shape), {}

    @staticmethod
    def queries(model: Any) -> Tensor:
        return learned(model)

    @staticmethod
    def remembering(model: Any, features: Dict[str, Any]) -> ContextManager[None]:
        return remembering(model, features)

    @staticmethod
    def predict(model: Any, features: Any, paths: Iterable[str],
                at: Optional[Tensor] = None, data_samples: Optional[Sequence] = None) -> None:
        if not any(is_asked(paths, part) for part in ('encoder', 'decoder', 'bbox_head')):
            return
        if isinstance(features, dict):  # of a training step
            return decode(model, features, at)
        maps, shape, memory = features
        # The encoder runs once for all questions that do not need its modules.
        if memory and not is_asked(paths, 'encoder'):
            return decode(model, memory, at)
        with remembering(model, memory), given(model, at):
            run_head(model, model.forward_transformer(maps, samples_of(shape, data_samples)))


@FAMILIES.register_module()
class SparseRoIHead(ModelFamily):
    """Sparse R-CNN and QueryInst: learned queries, refined by a cascade of RoI heads.

    Unlike other two-stage detectors they cannot be run for the RoIs of the student, because each
    RoI has a query. So the points are those of DETR and its variants, stage by stage.
    """

    family = 'Sparse R-CNN and QueryInst of mmdet'
    kind = 'query'

    @staticmethod
    def fits(model: nn.Module) -> bool:
        module = sys.modules.get('mmdet.models.roi_heads')
        return module is not None and isinstance(
            getattr(model, 'roi_head', None), module.SparseRoIHead)

    @staticmethod
    def points(model: Any) -> Dict[str, Point]:
        head = model.roi_head.bbox_head[0]
        use_sigmoid = bool(head.loss_cls.use_sigmoid)

        def of_stage(stage: int) -> Tuple[Tuple[str, ...], Callable[..., List[Queries]]]:
            stage %= model.roi_head.num_stages
            return ((f'roi_head.bbox_head.{stage}', f'roi_head.bbox_roi_extractor.{stage}'),
                    partial(_of_stage, model.roi_head.bbox_head[stage].bbox_coder,
                            model.roi_head.bbox_roi_extractor[stage].featmap_strides[0],
                            use_sigmoid))

        return points_of_layers(model.roi_head.num_stages, of_stage, use_sigmoid,
                                head.num_classes + (not use_sigmoid), OF_BATCH)

    @staticmethod
    def about(model: Any, path: str) -> Dict[str, Any]:
        return refuse_inside(path, ('roi_head', 'rpn_head'), "'cls' or 'reg'")

    extract = staticmethod(QueryHead.extract)

    @staticmethod
    def predict(model: Any, features: Any, paths: Iterable[str],
                at: Optional[Tensor] = None, data_samples: Optional[Sequence] = None) -> None:
        if not is_asked(paths, 'roi_head'):
            return
        maps, shape, _ = features
        samples = samples_of(shape, data_samples)
        proposals = model.rpn_head.predict(maps, samples)
        metas = [sample.metainfo for sample in samples]
        boxes = [one.bboxes for one in proposals]
        queries = torch.stack([one.features for one in proposals])
        for stage in range(model.roi_head.num_stages):
            rois = torch.cat([torch.cat([box.new_full((len(box), 1), image), box], dim=1)
                              for image, box in enumerate(boxes)])
            results = model.roi_head._bbox_forward(stage, maps, rois, queries, metas)
            boxes, queries = results['detached_proposals'], results['object_feats']


def points_of_layers(
        layers: int, at: Callable[[int], Tuple[Tuple[str, ...], Callable[..., List[Queries]]]],
        use_sigmoid: bool, columns: int, coding: str) -> Dict[str, Point]:
    """'cls' and 'reg' of the last layer, 'cls.0', 'reg.0', ... of each, and 'cls.all', 'reg.all'
    with a level for each.

    Args:
        layers (int): Number of layers.
        at (Callable): Returns for the number of a layer the paths to record and the function that
            reads their calls.
        use_sigmoid (bool): Whether the activation of the class logits is sigmoid, or softmax.
        columns (int): Number of columns per prediction, background included.
        coding (str): Coding of the boxes.
    """
    points = {}
    for suffix, numbers in suffixes(layers).items():
        found = [at(layer) for layer in numbers]
        paths = tuple(dict.fromkeys(path for one, _ in found for path in one))
        queries = partial(_joined, [([paths.index(path) for path in one], read)
                                    for one, read in found])
        points[f'cls{suffix}'] = Point(
            f'cls{suffix}', paths, partial(_logits, queries), use_sigmoid=use_sigmoid,
            num_classes=columns, num_named=columns - (not use_sigmoid), queries=queries)
        points[f'reg{suffix}'] = Point(
            f'reg{suffix}', paths, partial(_places, queries), queries=queries, coding=coding)
    return points


def suffixes(layers: int) -> Dict[str, List[int]]:
    """Numbers of the layers of a point, by the end of its name."""
    return {'': [-1], **{f'.{i}': [i] for i in range(layers)}, '.all': list(range(layers))}


def refuse_inside(path: str, parts: Iterable[str], instead: str) -> Dict[str, Any]:
    """Accept a dotted path of a module that runs before the queries.

    Raises:
        ValueError: If it runs after them: its tensors have unordered queries.
    """
    for part in parts:
        if is_asked([path], part):
            raise ValueError(f'`{path}` returns one value per query, and queries of two models '
                             f'have no common order; compare {instead}, whose queries are paired')
    return {}


def samples_of(shape: Tuple[int, ...], data_samples: Optional[Sequence]) -> List[Any]:
    """Samples with the image sizes that these models need; for a blank image, generated ones.

    Args:
        shape (tuple[int]): Shape of the batch, (N, C, H, W).
        data_samples (Sequence, optional): The N samples; None for a blank image.
    """
    from mmengine.structures import BaseDataElement
    size = shape[2:]
    return [BaseDataElement(metainfo=dict(dict(img_shape=size, batch_input_shape=size),
                                          **(sample.metainfo if sample is not None else {})))
            for sample in (data_samples or [None] * shape[0])]


def _logits(queries: Callable[..., List[Queries]], *calls: List[Call]) -> List[Tensor]:
    return [one.logits for one in queries(*calls)]


def _places(queries: Callable[..., List[Queries]], *calls: List[Call]) -> List[Tensor]:
    return [one.where for one in queries(*calls)]


def _joined(layers: Sequence[Tuple[List[int], Callable[..., List[Queries]]]],
            *calls: List[Call]) -> List[Queries]:
    """Predictions of several layers, each of which reads the calls of modules of these numbers."""
    return [one for numbers, read in layers for one in read(*(calls[n] for n in numbers))]


def _all_but_last(read: Callable[..., List[Queries]], *calls: List[Call]) -> List[Queries]:
    return read(*calls[:-1])


def _matching(count: Optional[int], cache: Dict[str, Any], queries: int) -> slice:
    """The queries that are used in a test, among all of a call.

    In training, denoising queries (DINO) come before them, and dense queries (DDQ, which stores the
    numbers of both) after them. A model without these has no ``count``.
    """
    end = sum(cache['dis_query_info']) if 'dis_query_info' in cache else queries
    return slice(0 if count is None else end - count, end)


def _of_layer(which: Callable[[int], slice], use_sigmoid: bool, layer: int,
              calls: List[Call]) -> List[Queries]:
    """Predictions of a decoder layer of DETR and its variants."""
    found = []
    for call in calls:
        logits, boxes = (output[layer].transpose(1, 2) for output in call.output[:2])
        chosen = which(logits.shape[2])
        found.append(Queries(logits[..., chosen], boxes[..., chosen], use_sigmoid, OF_IMAGE))
    return found


def _hidden(which: Callable[[int], slice], heads: List[Call],
            decoders: List[Call]) -> List[Tensor]:
    """Outputs of all decoder layers, (N, channels, queries)."""
    found = []
    for call in decoders:
        states = call.output if isinstance(call.output, Tensor) else call.output[0]
        found += [layer[:, which(layer.shape[1])].transpose(1, 2) for layer in states]
    return found


def _of_stage(coder: Any, stride: int, use_sigmoid: bool, heads: List[Call],
              extractors: List[Call]) -> List[Queries]:
    """Predictions of a stage of Sparse R-CNN; boxes are offsets to those of the last stage."""
    found = []
    for head, extractor in zip(heads, extractors):
        maps, rois = extractor.args
        logits, deltas = head.output[:2]
        boxes = coder.decode(rois[:, 1:].detach(), deltas.flatten(0, 1))
        height, width = (stride * side for side in maps[0].shape[2:])
        boxes = boxes / boxes.new_tensor([width, height, width, height])
        boxes = torch.cat([(boxes[:, 2:] + boxes[:, :2]) / 2, boxes[:, 2:] - boxes[:, :2]], dim=1)
        found.append(Queries(logits.transpose(1, 2),
                             boxes.view(len(logits), -1, 4).transpose(1, 2), use_sigmoid,
                             OF_BATCH))
    return found
