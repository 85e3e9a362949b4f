"""Detectors of mmdet with a text prompt: GLIP, Grounding DINO."""
from functools import partial
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Tuple

from torch import Tensor, nn

from ...registry import FAMILIES
from ..family import ModelFamily
from ..point import Point, is_asked
from ..prompt import Prompt, add_prompt, prompt_of
from ..queries import Queries
from ..recorder import Call
from .decoding import run_head
from .query import OF_IMAGE, points_of_layers, samples_of

KINDS = ('GLIP', 'GroundingDINO')
"""Names of their classes. An import of the classes would need optional packages."""

FEATURES = ('backbone', 'neck')


@FAMILIES.register_module()
class TextDetector(ModelFamily):
    """Detectors whose classes are the words of a prompt, which may differ between images.

    As teachers they get one prompt, that of the student's classes
    (:mod:`mmkd.points.prompt`). Points of Grounding DINO are then those of DETR and its variants,
    'cls', 'reg', 'cls.0', ...; the point of GLIP is 'cls', (N, anchors·C, H, W) per level. The
    activation is sigmoid: the probability of a class is the mean over its tokens, as their own
    ``predict`` computes it. Without a prompt the points are 'neck' and 'backbone', for which the
    text encoder does not run.
    """

    family = 'detectors of mmdet with a text prompt (GLIP, Grounding DINO)'
    kind = 'text'

    @staticmethod
    def fits(model: nn.Module) -> bool:
        return any(cls.__name__ in KINDS for cls in type(model).__mro__)

    @staticmethod
    def points(model: Any) -> Dict[str, Point]:
        prompt, _ = prompt_of(model)
        if prompt is None or prompt.is_in_parts:
            return {}
        columns = len(prompt.texts)
        if not _has_queries(model):
            return dict(cls=Point('cls', ('bbox_head', ), partial(_of_grid, prompt),
                                  use_sigmoid=True, num_classes=columns, num_named=columns))

        def of_layer(layer: int) -> Tuple[Tuple[str, ...], Callable[..., List[Queries]]]:
            return ('bbox_head', ), partial(_of_layer, prompt, layer)

        return points_of_layers(model.decoder.num_layers, of_layer, True, columns, OF_IMAGE)

    @staticmethod
    def missing(model: nn.Module, name: str) -> str:
        kind = type(model).__name__
        prompt, problem = prompt_of(model)
        if prompt is not None and prompt.is_in_parts:
            problem = (f'`chunked_size` of its `test_cfg` splits {len(prompt.texts)} classes into '
                       f'{len(prompt.parts)} prompts, each with its own boxes')
        if prompt is not None and not problem:
            return ''
        problem = problem or ('it has none: only a teacher gets the classes of its student, whose '
                              'names must be known')
        return (f'classes of a {kind} are the words of a prompt, and {problem}; or compare '
                "'neck' or 'backbone'")

    @staticmethod
    def about(model: nn.Module, path: str) -> Dict[str, Any]:
        if any(is_asked([path], part) for part in FEATURES):
            return {}
        raise ValueError(f'`{path}` cannot be compared: except for the features, all outputs of a '
                         f'{type(model).__name__} depend on the words of a prompt; compare '
                         "'neck' or 'backbone'")

    @staticmethod
    def extract(model: Any, inputs: Tensor) -> Any:
        return model.extract_feat(inputs), tuple(inputs.shape)

    @staticmethod
    def predict(model: Any, features: Any, paths: Iterable[str],
                at: Optional[Tensor] = None, data_samples: Optional[Sequence] = None) -> None:
        prompt, _ = prompt_of(model)
        if prompt is None or not is_asked(paths, 'bbox_head'):
            return
        maps, shape = features
        text = prompt.encoded(model, shape[0])
        if not _has_queries(model):
            model.bbox_head.forward(maps, text)
            return
        run_head(model, model.forward_transformer(maps, text, samples_of(shape, data_samples)))

    @staticmethod
    def predict_images(model: Any, inputs: Tensor, data_samples: Sequence[Any]) -> List[Any]:
        add_prompt(model, data_samples)
        prompt, _ = prompt_of(model)
        if prompt is None or not prompt.is_in_parts:
            return list(model.predict(inputs, data_samples, rescale=False))
        # mmdet takes several prompts for one image at a time.
        return [model.predict(image[None], [sample], rescale=False)[0]
                for image, sample in zip(inputs, data_samples)]


def _has_queries(model: Any) -> bool:
    return hasattr(model, 'forward_transformer')


def _of_layer(prompt: Prompt, layer: int, calls: List[Call]) -> List[Queries]:
    """Predictions of a decoder layer of Grounding DINO."""
    return [Queries(prompt.class_logits(call.output[0][layer]).transpose(1, 2),
                    call.output[1][layer].transpose(1, 2), True, OF_IMAGE) for call in calls]


def _of_grid(prompt: Prompt, calls: List[Call]) -> List[Tensor]:
    """Class logits of GLIP, whose head returns (N, H·W·anchors, tokens) per level."""
    levels = []
    for call in calls:
        for tokens, boxes in zip(*call.output[:2]):
            logits = prompt.class_logits(tokens).unflatten(1, (*boxes.shape[2:], -1))
            levels.append(logits.flatten(3).permute(0, 3, 1, 2))
    return levels
