"""Segmentors of mmseg: PSPNet, DeepLabV3, FCN, SegFormer, cascades such as OCRNet, ..."""
import inspect
import sys
from dataclasses import replace
from functools import partial
from typing import Any, Dict, Iterable, List, Optional, Sequence

from torch import Tensor, nn

from ...registry import FAMILIES
from ..family import ModelFamily, criteria_of
from ..point import Point, is_asked
from ..recorder import Call
from ..relabel import relabelled_map

PREDICTION = {'DAHead': 0, 'DDRHead': 0, 'EncHead': 0, 'IterativeDecodeHead': -1, 'PIDHead': 1}
"""Index of the output in training that is the only output in a test, for heads with several."""


@FAMILIES.register_module()
class Segmentor(ModelFamily):
    """EncoderDecoder and CascadeEncoderDecoder of mmseg.

    Points are 'cls', the logits of the decode head (in a cascade, of the last head that predicts a
    map; 'cls.0', 'cls.1', ... are those of each head), and 'aux', those of the auxiliary head (for
    several, 'aux.0', 'aux.1', ...: 'aux' is then the first one with the stride of the other side,
    among heads of the same classes). Logits are compared in the size of the head's output, before
    they are upsampled to the image. 'features' is the input of the layer ``conv_seg`` that
    classifies the pixels in the head of 'cls', after the dropout of that head.
    """

    family = 'segmentors of mmseg'
    kind = 'segmentor'
    truth = ('label_map', )

    @staticmethod
    def fits(model: nn.Module) -> bool:
        module = sys.modules.get('mmseg.models.segmentors')
        return module is not None and isinstance(model, module.EncoderDecoder)

    @staticmethod
    def points(model: Any) -> Dict[str, Point]:
        points = {}
        for name, part, whole in (('cls', 'decode_head', -1), ('aux', 'auxiliary_head', 0)):
            heads: Any = getattr(model, part, None)
            found = {name: part} if heads is not None else {}
            if isinstance(heads, nn.ModuleList):
                found = {f'{name}.{i}': f'{part}.{i}' for i, head in enumerate(heads)
                         if _predicts_a_map(head)}
                if found:
                    found[name] = list(found.values())[whole]
            for point, path in found.items():
                if not _predicts_a_map(model.get_submodule(path)):
                    continue
                head = model.get_submodule(path)
                points[point] = Point(point, (path, ), partial(_first_call, type(head).__name__),
                                      criteria=criteria_of(model, path, 'loss_decode'),
                                      **_logits(head))
        if 'aux.0' in points or 'aux' in points:
            points['aux'] = _aux(points)
        head = points['cls'].paths[0] if 'cls' in points else ''
        if head and isinstance(getattr(model.get_submodule(head), 'conv_seg', None), nn.Module):
            points['features'] = Point('features', (f'{head}.conv_seg', ), _first_input,
                                       is_map=True)
        return points

    @staticmethod
    def about(model: Any, path: str) -> Dict[str, Any]:
        head, _, layer = path.rpartition('.')
        if layer == 'conv_seg' and _predicts_a_map(model.get_submodule(head)):
            return dict(_logits(model.get_submodule(head)), read=partial(_first_call, layer))
        return {}

    @staticmethod
    def predict(model: Any, features: Any, paths: Iterable[str],
                at: Optional[Tensor] = None, data_samples: Optional[Sequence] = None) -> None:
        if is_asked(paths, 'decode_head'):
            if isinstance(model.decode_head, nn.ModuleList):
                output: List[Any] = []
                for number, head in enumerate(model.decode_head):
                    output = [head.forward(features, *output)]
                    if not any(is_asked(paths, f'decode_head.{later}')
                               for later in range(number + 1, len(model.decode_head))):
                        break
            else:
                model.decode_head.forward(features)
        heads = getattr(model, 'auxiliary_head', None)
        if isinstance(heads, nn.ModuleList):
            for number, head in enumerate(heads):
                if is_asked(paths, f'auxiliary_head.{number}'):
                    head.forward(features)
        elif is_asked(paths, 'auxiliary_head'):
            heads.forward(features)  # type: ignore[union-attr]

    @staticmethod
    def ignored_label(model: Any) -> int:
        heads = model.decode_head
        head: Any = heads[-1] if isinstance(heads, nn.ModuleList) else heads
        return int(head.ignore_index)

    @staticmethod
    def relabel(prediction: Any, columns: Optional[Sequence[Any]]) -> Any:
        return relabelled_map(prediction, columns, are_logits=True)


def _aux(points: Dict[str, Point]) -> Point:
    """The point of the auxiliary heads: the first one, with other heads of the same classes as
    choices.

    The last auxiliary head of STDC, for instance, predicts edges, not classes.
    """
    several = [point for name, point in points.items() if name.startswith('aux.')]
    if not several:
        return points['aux']
    alike = [point for point in several if 'cls' in points and (
        point.num_named == points['cls'].num_named)] or several
    first = replace(alike[0], name='aux')
    same = [replace(point, name='aux') for point in alike if (
        point.num_classes, point.use_sigmoid) == (first.num_classes, first.use_sigmoid)]
    return replace(first, choices=tuple(same)) if len(same) > 1 else first


def _first_call(kind: str, calls: List[Call]) -> List[Tensor]:
    """The first call is for the loss: a cascade runs a head again, as input of the next one."""
    levels = []
    for call in calls[:1]:
        output = call.output
        if isinstance(output, (list, tuple)):
            if kind not in PREDICTION:
                raise TypeError(
                    f'{kind} returns {len(output)} outputs in training, and mmkd does not know '
                    'which of them is the prediction; write the layer, for instance '
                    "on='decode_head.conv_seg'")
            output = output[PREDICTION[kind]]
        levels.append(output)
    return levels


def _first_input(calls: List[Call]) -> List[Tensor]:
    return [call.args[0] for call in calls[:1]]


def _predicts_a_map(head: Any) -> bool:
    """Whether a head predicts one map of classes from features (and the map of an earlier stage).

    The depth head of VPD has one class, too, but predicts metres; it has no ``threshold``. For
    several classes no ``threshold`` is needed, and the head of K-Net has none.
    """
    if not all(hasattr(head, name) for name in ('out_channels', 'num_classes', 'align_corners')):
        return False
    if head.out_channels == 1 and not hasattr(head, 'threshold'):
        return False
    _, *others = inspect.signature(head.forward).parameters.values()
    return all(one.name == 'prev_output' or one.default is not one.empty for one in others)


def _logits(head: Any) -> Dict[str, Any]:
    """Activation and columns of the logits, as mmseg applies them in a test, for all losses.

    ``BaseSegmentor.postprocess_result`` takes the argmax of several columns, and compares the
    sigmoid of one column with a threshold.
    """
    return dict(
        use_sigmoid=head.out_channels == 1,
        num_classes=head.out_channels,
        num_named=head.num_classes,
        is_map=True,
        align_corners=bool(head.align_corners))
