"""Feed the teacher what it was trained on, from what the student was fed."""
from typing import NamedTuple, Optional, Sequence, Tuple

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor, nn


class Normalization(NamedTuple):
    """What a data preprocessor does to the pixels of an image as loaded (BGR, 0 to 255)."""
    mean: Tuple[float, ...]
    std: Tuple[float, ...]
    is_flipped: bool
    """Whether the channels are reversed, usually from BGR to RGB, before the mean is taken off."""
    pad_value: float
    """Value of the padding, which is added after the normalization."""

    @classmethod
    def of(cls, preprocessor: nn.Module) -> 'Normalization':
        """Read it off a preprocessor of MMEngine, mmdet or mmseg.

        Raises:
            ValueError: If the preprocessor is of another kind.
        """
        flip = getattr(preprocessor, '_channel_conversion',
                       getattr(preprocessor, 'channel_conversion', None))
        if flip is None:
            if type(preprocessor) is BaseDataPreprocessor:
                flip = False
            else:
                raise ValueError(
                    f'cannot tell how {type(preprocessor).__name__} normalises images; give '
                    'student and teacher the same `data_preprocessor`')
        mean = getattr(preprocessor, 'mean', None)
        std = getattr(preprocessor, 'std', None)
        pad = getattr(preprocessor, 'pad_value', getattr(preprocessor, 'pad_val', 0))
        return cls(
            tuple(mean.flatten().tolist()) if mean is not None else (0., ),
            tuple(std.flatten().tolist()) if std is not None else (1., ), bool(flip), float(pad))


class Renormalize:
    """Turn the student's normalised batch into the teacher's.

    Args:
        student (nn.Module): The student's data preprocessor.
        teacher (nn.Module): The teacher's.

    Raises:
        ValueError: If one of them is of a kind whose normalization cannot be read.
    """

    def __init__(self, student: nn.Module, teacher: nn.Module) -> None:
        self.student = Normalization.of(student)
        self.teacher = Normalization.of(teacher)

    def __call__(self, inputs: Tensor, data_samples: Optional[Sequence] = None) -> Tensor:
        """Re-normalise a batch.

        Args:
            inputs (Tensor): Float (N, 3, H, W), normalised as the student wants it.
            data_samples (Sequence, optional): N samples; their ``img_shape`` tells image from
                padding. Defaults to None, no padding.

        Returns:
            Tensor: The same shape; ``inputs`` itself where both sides want the same.
        """
        if self.student == self.teacher:
            return inputs
        pixels = inputs * _channels(self.student.std, inputs) + _channels(self.student.mean, inputs)
        if self.student.is_flipped != self.teacher.is_flipped:
            pixels = pixels.flip(1)
        outputs = (pixels - _channels(self.teacher.mean, inputs)) / _channels(
            self.teacher.std, inputs)
        for output, sample in zip(outputs, data_samples or ()):
            height, width = sample.img_shape[:2]
            output[:, height:] = self.teacher.pad_value
            output[:, :, width:] = self.teacher.pad_value
        return outputs


VIEW = 'mmkd_view_{}'
"""Field of a data sample that holds a view, uint8 (3, H, W), as it was loaded (BGR)."""


def view_of(name: str, inputs: Tensor, data_samples: Sequence, preprocessor: nn.Module) -> Tensor:
    """A batch of another view of the same images, made as the student's was.

    Args:
        name (str): Name of the view, as :class:`mmkd.PackViews` packed it.
        inputs (Tensor): The student's batch, float (N, 3, H, W), padded.
        data_samples (Sequence): The N samples, which hold the views.
        preprocessor (nn.Module): The student's data preprocessor.

    Returns:
        Tensor: Float (N, 3, H, W), normalised and padded as the student's.

    Raises:
        ValueError: If the samples hold no such view, or the preprocessor has changed the student's
            images otherwise.
    """
    field = VIEW.format(name)
    known = Normalization.of(preprocessor)
    batch = torch.full_like(inputs, known.pad_value)
    for output, sample in zip(batch, data_samples):
        if field not in sample:
            packed = [key[len(VIEW.format('')):] for key in sample.all_keys()
                      if key.startswith(VIEW.format(''))]
            raise ValueError(
                f'a network sees the view `{name}`, but the samples hold ' +
                (f'the views {packed}' if packed else 'no views') +
                '; pack it by mmkd.PackViews at the end of the training pipeline')
        view = sample.get(field).to(inputs)
        shape = tuple(view.shape[1:])
        if shape != tuple(sample.img_shape[:2]) or any(
                a > b for a, b in zip(shape, inputs.shape[2:])):
            raise ValueError(
                f'the view `{name}` of an image is {shape}, but the image in the batch '
                f'{tuple(sample.img_shape[:2])} of {tuple(inputs.shape[2:])}: the data '
                'preprocessor has changed its size; leave out its `batch_augments`')
        if known.is_flipped:
            view = view.flip(0)
        output[:, :shape[0], :shape[1]] = (
            view - _channels(known.mean, view)[0]) / _channels(known.std, view)[0]
    return batch


def _channels(values: Sequence[float], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device).view(1, -1, 1, 1)
