"""What does a network predict, in the frame of the student's input?"""
import copy
from contextlib import nullcontext
from typing import Any, ContextManager, List, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

from ..points import family_of
from ..points.recorder import evaluating
from .base import BaseTeacher
from .cached import CachedTeacher
from .frozen import FrozenTeacher
from .inputs import inputs_of
from .live import LiveNetwork


def can_predict(network: BaseTeacher) -> bool:
    """Whether a network makes whole predictions, and not only answers at points.

    Networks in training do not, because their predictions need another run in eval mode.
    """
    return not (isinstance(network, (LiveNetwork, CachedTeacher)) or network.chooses_by_image) and (
        network.model is None or hasattr(network.model, 'predict'))


def predicted(network: BaseTeacher, student: nn.Module, inputs: Tensor,
              data_samples: Sequence[Any]) -> List[Any]:
    """Predictions of a network for a batch of the student, without gradient.

    A network without ``precision`` of its own predicts in the precision of its weights, also inside
    of autocast: NMS is exact there.

    Args:
        network (BaseTeacher): The network; see :func:`can_predict`. Its input is its own view of
            the images, in its own normalisation.
        student (nn.Module): The student.
        inputs (Tensor): Float (N, C, H, W), normalised for the student.
        data_samples (Sequence): The N samples; they are not changed.

    Returns:
        list: Per image a ``DetDataSample`` with ``pred_instances``, in pixels of the input, or a
        ``SegDataSample`` with ``seg_logits`` (C, H, W) and ``pred_sem_seg`` (1, H, W), as its own
        ``predict`` has them.
    """
    model: Any = network.model
    inputs = inputs_of(network, student, inputs, data_samples)
    running: ContextManager[None] = nullcontext()
    autocast: ContextManager[Any] = torch.autocast(inputs.device.type, enabled=False)
    if isinstance(network, FrozenTeacher):
        inputs = network.fast.lay_out(network.renormalize(inputs, data_samples))
        running = network.fast.running(model)
        if network.fast.precision is not None:
            autocast = nullcontext()
    samples = [in_frame(sample, inputs) for sample in data_samples]
    with torch.no_grad(), evaluating(model), autocast, running:
        if is_segmentor(model):
            logits = model.inference(inputs, [sample.metainfo for sample in samples])
            found = model.postprocess_result(logits)  # without samples nothing is resized
            for one, sample in zip(found, samples):
                one.set_metainfo(sample.metainfo)
            return list(found)
        return family_of(model).predict_images(model, inputs, samples)


def is_segmentor(model: Any) -> bool:
    """Whether a model predicts and learns label maps, as those of mmseg do."""
    return hasattr(model, 'encode_decode') and hasattr(model, 'inference')


def is_classifier(model: Any) -> bool:
    """Whether a model predicts the class of a whole image, as those of mmpretrain do."""
    return family_of(model).kind == 'classifier'


def own_threshold(model: Any, at: str = 'model') -> Optional[Tuple[str, float]]:
    """The least score of what a detector predicts by its own config.

    Args:
        model (nn.Module): A model.
        at (str): Key of the model in the config. Defaults to 'model'.

    Returns:
        tuple[str, float] | None: Key in the config and value, such as
        ('model.test_cfg.score_thr', 0.05); None if there is none above 0.
    """
    settings = getattr(model, 'test_cfg', None) or {}
    for key, part in (('', settings), ('rcnn.', settings.get('rcnn') or {})):
        least = part.get('score_thr')
        if isinstance(least, (int, float)) and least > 0:
            return f'{at}.test_cfg.{key}score_thr', float(least)
    return None


def in_frame(sample: Any, inputs: Tensor) -> Any:
    """A sample without annotations, whose image is the input of the network: not resized."""
    metainfo = copy.copy(sample.metainfo)
    shape = tuple(metainfo.get('img_shape', inputs.shape[2:])[:2])
    metainfo.update(ori_shape=shape, img_shape=shape, scale_factor=(1., 1.),
                    batch_input_shape=tuple(inputs.shape[2:]),
                    pad_shape=metainfo.get('pad_shape', tuple(inputs.shape[2:])))
    return type(sample)(metainfo=metainfo)
