"""Classifiers of mmpretrain: ResNet, ViT, Swin, MobileNet, ...; of one label or of several."""
import math
import sys
from functools import partial
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

from ...registry import FAMILIES
from ..family import ModelFamily, criteria_of
from ..point import Point
from ..recorder import Call

HEAD = 'head'
"""The child of an ``ImageClassifier`` that predicts."""
BACKBONE = 'backbone'

WITHOUT_LOGITS = {
    'ArcFaceClsHead': 'adds a margin to the logit of the label in training, so its output there is '
                      'not a prediction',
    'MultiTaskHead': 'has a classifier for each task; write one of them, such as '
                     "'head.task_heads.NAME'",
}
"""Heads without a point 'cls', and why."""


@FAMILIES.register_module()
class Classifier(ModelFamily):
    """ImageClassifier of mmpretrain.

    Points are 'cls', the logits that ``predict`` turns into scores, (N, classes): by softmax, or by
    sigmoid for heads of several labels. Of Conformer, they are the sum of its two classifiers.
    'backbone' and 'neck' are maps or vectors; tokens of a ViT or a Swin become maps, without the
    class token, at these points and at dotted paths inside the backbone.
    """

    family = 'classifiers of mmpretrain'
    kind = 'classifier'
    truth = ()
    has_background = False

    @staticmethod
    def fits(model: nn.Module) -> bool:
        module = sys.modules.get('mmpretrain.models.classifiers')
        return module is not None and isinstance(model, module.ImageClassifier)

    @staticmethod
    def points(model: Any) -> Dict[str, Point]:
        points = {}
        if _is_classifier(model.head) and not _without_logits(model.head):
            points['cls'] = Point('cls', (HEAD, ), _logits_of,
                                  criteria=criteria_of(model, HEAD, 'loss_module'),
                                  **_columns(model, model.head))
        if isinstance(model.backbone, nn.Module):
            points[BACKBONE] = Point(BACKBONE, **_as_maps(model, BACKBONE))
        return points

    @staticmethod
    def about(model: Any, path: str) -> Dict[str, Any]:
        module = model.get_submodule(path)
        if _is_classifier(module) and not _without_logits(module):
            return dict(_columns(model, module), read=_logits_of, is_map=False,
                        criteria=criteria_of(model, path, 'loss_module'))
        return _as_maps(model, path) if path.startswith(f'{BACKBONE}.') else {}

    @staticmethod
    def missing(model: Any, name: str) -> str:
        if name != 'cls':
            return ''
        if model.head is None:
            return "it has no head; compare 'backbone', or a module by its dotted path"
        why = _without_logits(model.head) or 'is not an image classifier'
        return f"{type(model.head).__name__} {why}; or compare 'neck' or 'backbone'"

    @staticmethod
    def predict(model: Any, features: Any, paths: Iterable[str],
                at: Optional[Tensor] = None, data_samples: Optional[Sequence] = None) -> None:
        if any(f'{path}.'.startswith(f'{HEAD}.') for path in paths):
            model.head(features)

    @staticmethod
    def relabel(prediction: Any, columns: Optional[Sequence[int]]) -> Any:
        if columns is None:
            return prediction
        score = prediction.pred_score
        # Softmax is of one label, which the other model may not know: its best class counts then.
        is_single = prediction.pred_label.numel() == 1 and abs(float(score.sum()) - 1) < 1e-3
        label = [prediction.pred_label] if not is_single else []
        score = score[list(columns)]
        of_column = {column: number for number, column in enumerate(columns)}
        found = [of_column[one] for labels in label for one in labels.tolist()
                 if one in of_column] if not is_single else [int(score.argmax())]
        prediction.set_field(score, 'pred_score')
        prediction.set_field(prediction.pred_label.new_tensor(found), 'pred_label')
        return prediction


def _is_classifier(module: Any) -> bool:
    """Whether it is a head of mmpretrain that predicts classes of images."""
    heads = sys.modules.get('mmpretrain.models.heads')
    return heads is not None and isinstance(module, (
        heads.ClsHead, heads.MultiLabelClsHead, heads.MultiTaskHead))


def _without_logits(head: nn.Module) -> str:
    return next((why for cls in type(head).__mro__ for name, why in WITHOUT_LOGITS.items()
                 if cls.__name__ == name), '')


def _columns(model: Any, head: Any) -> Dict[str, Any]:
    """Activation and columns of the logits, as ``predict`` has them, for all losses.

    A head trained by binary cross entropy may predict by softmax, as in "ResNet strikes back".
    """
    count = next((one for one in (getattr(head, 'num_classes', None), _last_layer(head),
                                  getattr(model.backbone, 'num_classes', None))
                  if isinstance(one, int)), None)
    is_multi = isinstance(head, sys.modules['mmpretrain.models.heads'].MultiLabelClsHead)
    return dict(use_sigmoid=is_multi, has_several_labels=is_multi, num_classes=count,
                num_named=count or 0)


def _last_layer(head: nn.Module) -> Optional[int]:
    """Outputs of the last linear layer or convolution of a head, None if it has none."""
    sizes = [layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
             for layer in head.modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]
    return sizes[-1] if sizes else None


def _logits_of(calls: List[Call]) -> List[Tensor]:
    levels = []
    for call in calls[:1]:
        output = call.output
        levels.append(torch.stack(list(output)).sum(0) if isinstance(output, (list, tuple))
                      else output)
    return levels


# --- tokens ---------------------------------------------------------------------------------------


def _as_maps(model: Any, path: str) -> Dict[str, Any]:
    """Fields of a point in the backbone, whose tokens become maps."""
    backbone = model.backbone
    embed = getattr(backbone, 'patch_embed', None)
    extra = getattr(backbone, 'num_extra_tokens', 0)
    paths: Tuple[str, ...] = (path, )
    # The layer that cuts patches returns the height and width of the map beside the tokens.
    inside = f'{BACKBONE}.patch_embed'
    if isinstance(embed, nn.Module) and not f'{path}.'.startswith(f'{inside}.'):
        paths = (path, inside)
    return dict(paths=paths, read=partial(_maps, path, extra if isinstance(extra, int) else 0),
                is_map=True)


def _maps(path: str, extra: int, calls: List[Call],
          patches: Sequence[Call] = ()) -> List[Tensor]:
    """Levels of a module: maps and vectors as they are, tokens (N, L, C) as maps.

    Raises:
        TypeError: If the module returned neither.
        ValueError: If tokens are not those of an image.
    """
    grid = _size_of(patches[-1].output) if patches else None
    levels = []
    for call in calls:
        output, size = call.output, _size_of(call.output)
        if size is not None:  # of Swin: tokens, and height and width of the map
            levels.append(_map(path, output[0], 0, size))
            continue
        outputs = output if isinstance(output, (list, tuple)) else [output]
        for one in outputs:
            # The levels of older versions are pairs of a map and a class token.
            one = one[0] if isinstance(one, (list, tuple)) and len(one) else one
            if not isinstance(one, Tensor):
                raise TypeError(f'`{path}` must return tensors, but returns {type(one).__name__}; '
                                'choose a module inside of it')
            levels.append(_map(path, one, extra, grid) if one.dim() == 3 else one)
    return levels


def _map(path: str, tokens: Tensor, extra: int, size: Optional[Tuple[int, int]]) -> Tensor:
    """Tokens (N, L, C) as a map (N, C, H, W), without the extra ones."""
    count = tokens.shape[1]
    for skipped in (extra, 0):
        side = math.isqrt(count - skipped)
        for height, width in [*([] if size is None else [size]), (side, side)]:
            if height * width == count - skipped:
                return tokens[:, skipped:].transpose(1, 2).unflatten(2, (height, width))
    raise ValueError(f'`{path}` returns {count} tokens, which do not form a map of the image; '
                     "compare 'backbone', or a module whose tokens are those of the image")


def _size_of(output: Any) -> Optional[Tuple[int, int]]:
    """Height and width in (tokens, (height, width)), None for other outputs."""
    if isinstance(output, (list, tuple)) and len(output) == 2:
        tokens, size = output
        if isinstance(tokens, Tensor) and tokens.dim() == 3 and isinstance(size, (
                list, tuple)) and len(size) == 2 and all(isinstance(one, int) for one in size):
            return size[0], size[1]
    return None
