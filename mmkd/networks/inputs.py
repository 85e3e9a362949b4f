"""Conversion of the student's input to that of a teacher: normalization and views."""
from functools import lru_cache
from typing import Any, Dict, NamedTuple, Optional, Sequence, Tuple
from weakref import WeakKeyDictionary

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor, nn

from ..core.fields import VIEW
from ..points.probe import channels as shown_channels
from ..points.probe import channels_of


class Normalization(NamedTuple):
    """Normalization of the pixels of an image (BGR, 0 to 255) by a data preprocessor."""
    mean: Tuple[float, ...]
    std: Tuple[float, ...]
    is_flipped: bool
    """Whether the channels are reversed, usually from BGR to RGB, before the mean is subtracted."""
    pad_value: float
    """Value of the padding, which is added after the normalization."""

    @classmethod
    def of(cls, preprocessor: nn.Module) -> 'Normalization':
        """Read the settings of a preprocessor of MMEngine, mmdet, mmseg or mmpretrain.

        Raises:
            ValueError: If the preprocessor is of another kind.
        """
        flip = next((getattr(preprocessor, name) for name in (
            '_channel_conversion', 'channel_conversion', 'to_rgb')  # the last one of mmpretrain
            if hasattr(preprocessor, name)), None)
        if flip is None:
            if type(preprocessor) is BaseDataPreprocessor:
                flip = False
            else:
                raise ValueError(
                    f'how {type(preprocessor).__name__} normalises images is not known; use the '
                    'same `data_preprocessor` for student and teacher')
        mean = getattr(preprocessor, 'mean', None)
        std = getattr(preprocessor, 'std', None)
        pad = getattr(preprocessor, 'pad_value', getattr(preprocessor, 'pad_val', 0))
        return cls(
            tuple(mean.flatten().tolist()) if mean is not None else (0., ),
            tuple(std.flatten().tolist()) if std is not None else (1., ), bool(flip), float(pad))

    def for_channels(self, count: int) -> 'Normalization':
        """The same, with one value per channel; only three channels can be BGR or RGB."""
        mean, std = (values * count if len(values) == 1 else values
                     for values in (self.mean, self.std))
        return Normalization(mean, std, self.is_flipped and count == 3, self.pad_value)


class Renormalize:
    """Convert a batch from the student's normalization to that of another network.

    Args:
        student (nn.Module): The student.
        network (nn.Module): The network that runs on the same images.
        name (str): Role of the network, for messages. Defaults to 'teacher'.
        channels (str, optional): 'repeat' repeats the one channel of the student's images for each
            channel of the network. Defaults to None: the numbers of channels must be equal.

    Raises:
        ValueError: If the normalization of a preprocessor cannot be read, or the numbers of
            channels differ.
    """

    def __init__(self, student: Any, network: Any, name: str = 'teacher',
                 channels: Optional[str] = None) -> None:
        given, taken = channels_of(student, 'student'), channels_of(network, name)
        if channels == 'repeat' and not given == 1 < taken:
            raise ValueError(
                f"`channels='repeat'` is for a student of 1 channel and a {name} of several, but "
                f'images of the student have {shown_channels(given)}, and those of the {name} '
                f'{taken}; leave `channels` out of `{name}`')
        if given != taken and channels is None:
            raise ValueError(
                f'images of the student have {shown_channels(given)}, but those of the {name} '
                f'{taken}; ' + (
                    f"write `{name}=dict(..., channels='repeat')` to repeat the channel {taken} "
                    f'times, or use a {name} of 1 channel' if given == 1 and name == 'teacher' else
                    f'use a {name} of {shown_channels(given)}'))
        self.taken = taken
        self.is_repeated = channels == 'repeat'
        self.student = Normalization.of(student.data_preprocessor).for_channels(given)
        self.teacher = Normalization.of(network.data_preprocessor).for_channels(taken)

    def __call__(self, inputs: Tensor, data_samples: Optional[Sequence] = None) -> Tensor:
        """Re-normalise a batch.

        Args:
            inputs (Tensor): Float (N, C, H, W), normalised for the student.
            data_samples (Sequence, optional): N samples; their ``img_shape`` is the size without
                padding. Defaults to None, no padding.

        Returns:
            Tensor: The same shape, except for repeated channels; ``inputs`` itself if both
            normalizations are equal.
        """
        if self.student == self.teacher:
            return inputs
        pixels = inputs * _channels(self.student.std, inputs) + _channels(self.student.mean, inputs)
        if self.is_repeated:
            pixels = pixels.expand(-1, self.taken, -1, -1)
        elif self.student.is_flipped != self.teacher.is_flipped:
            pixels = pixels.flip(1)
        outputs = (pixels - _channels(self.teacher.mean, inputs)) / _channels(
            self.teacher.std, inputs)
        for output, sample in zip(outputs, data_samples or ()):
            height, width = sample.get('img_shape', inputs.shape[2:])[:2]  # CIFAR's have none
            output[:, height:].fill_(self.teacher.pad_value)
            output[:, :, width:].fill_(self.teacher.pad_value)
        return outputs

    def as_loaded(self, batch: Dict[str, Any]) -> Dict[str, Any]:
        """A batch for the network's own preprocessor.

        Args:
            batch (dict): A batch of a data loader: ``inputs`` are N tensors (C, H, W).
        """
        if not self.is_repeated:
            return batch
        return dict(batch, inputs=[image.expand(self.taken, -1, -1) for image in batch['inputs']])


def view_of(name: str, inputs: Tensor, data_samples: Sequence, preprocessor: nn.Module) -> Tensor:
    """A batch of another view of the same images, preprocessed as the student's batch.

    Args:
        name (str): Name of the view in :class:`mmkd.PackViews`.
        inputs (Tensor): The student's batch, float (N, C, H, W), padded.
        data_samples (Sequence): The N samples, with the views.
        preprocessor (nn.Module): The student's data preprocessor.

    Returns:
        Tensor: Float (N, C, H, W), normalised and padded like the student's batch.

    Raises:
        ValueError: If the samples have no such view, or the preprocessor changes images in other
            ways than normalization and padding.
    """
    field = VIEW.format(name)
    known = _kept(preprocessor)
    batch = torch.full_like(inputs, known.pad_value)
    for output, sample in zip(batch, data_samples):
        if field not in sample:
            packed = [key[len(VIEW.format('')):] for key in sample.all_keys()
                      if key.startswith(VIEW.format(''))]
            raise ValueError(
                f'a network needs the view `{name}`, but the samples contain ' +
                (f'the views {packed}' if packed else 'no views') +
                '; add it to mmkd.PackViews at the end of the training pipeline')
        view = sample.get(field).to(inputs)
        shape = tuple(view.shape[1:])
        if shape != tuple(sample.img_shape[:2]) or any(
                a > b for a, b in zip(shape, inputs.shape[2:])):
            raise ValueError(
                f'the view `{name}` of an image is {shape}, but the image in the batch '
                f'{tuple(sample.img_shape[:2])} of {tuple(inputs.shape[2:])}: the data '
                'preprocessor has changed its size; leave out its `batch_augments`')
        if known.is_flipped and len(view) == 3:
            view = view.flip(0)
        output[:, :shape[0], :shape[1]] = (
            view - _channels(known.mean, view)[0]) / _channels(known.std, view)[0]
    return batch


def inputs_of(network: Any, student: Any, inputs: Tensor,
              data_samples: Optional[Sequence]) -> Tensor:
    """The input images of a network: those of the student, or a view of them.

    Args:
        network (BaseTeacher): The network, with its ``view``.
        student (nn.Module): The student, with the preprocessor that has normalised the images.
        inputs (Tensor): Float (N, C, H, W), normalised for the student.
        data_samples (Sequence, optional): The N samples; None for a blank image.
    """
    if network.view is None or data_samples is None:
        return inputs
    return view_of(network.view, inputs, data_samples, student.data_preprocessor)


_KEPT: 'WeakKeyDictionary[nn.Module, Normalization]' = WeakKeyDictionary()


def _kept(preprocessor: nn.Module) -> Normalization:
    if preprocessor not in _KEPT:  # reading numbers from a GPU makes the CPU wait
        _KEPT[preprocessor] = Normalization.of(preprocessor)
    return _KEPT[preprocessor]


def _channels(values: Tuple[float, ...], like: Tensor) -> Tensor:
    return _constant(values, like.dtype, like.device)


@lru_cache(maxsize=64)  # a copy to a GPU makes the CPU wait
def _constant(values: Tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=dtype, device=device).view(1, -1, 1, 1)
