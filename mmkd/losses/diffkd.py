"""DiffKD: noise is taken out of the student's features by a diffusion model (Huang et al., 2023).

:Paper: `Knowledge Diffusion for Distillation <https://arxiv.org/abs/2305.15712>`_, NeurIPS 2023,
    section 3.
:Compares: Experimental: the authors released code only for classification, where the last features
    and the logits are compared. Detectors: the neck, all levels of dense heads, the first four of
    RoI heads. Segmentors: the logits of the decode head. These points are our choice.
:Defaults: The authors' code: a linear autoencoder, five steps of DDIM from step 400 of 1000, all
    terms of weight 1, temperature 1 for logits. The width of the autoencoder is half of the
    teacher's, as in the authors' class; their configs for ImageNet set 1024. Weights for dense
    prediction were not released; those of classification are used, untuned.
:Differs: The noise has a generator of its own, seeded from the run's seed, the process, the
    iteration and the level, so that the student's other random numbers stay as they are. The
    authors' adapter for logits takes one position; on maps, its features are averaged over the
    positions first. Gradients of the comparison reach the noise predictor, as in the authors' code.
:Published: ResNet-18, ResNet-34, ImageNet: 69.76 -> 72.20 top-1 (authors' README); Faster R-CNN
    R50, Cascade Mask X101, 2x: 38.4 -> 42.2 (from memory); RetinaNet R50, X101, 2x: 37.4 -> 40.7
    (from memory); FCOS R50, R101, 2x: 38.5 -> 42.4 (from memory); DeepLabV3 R18, R101, 40k: 74.21
    -> 77.78 mIoU (from memory); PSPNet R18, R101, 40k: 72.55 -> 75.83 mIoU (from memory)
"""
from typing import Any, Dict, List, Optional, Tuple

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from ..core.arguments import whole_number
from ..core.rng import generator_of
from ..core.table import LOSSES
from .base import DistillLoss
from .fast.eager import eager
from .kd import KDLoss
from .method import Method
from .reviewkd import Norm

TRAINED_STEPS = 1000
"""Noise levels that the predictor is trained for."""

EMBEDDED = 1280
"""Rows of the embedding of time, as in the authors' code; the last are not used."""


class Bottleneck(nn.Module):
    """Residual block of three convolutions, with ``channels / reduction`` inside."""

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        inner = max(channels // reduction, 1)
        self.block = nn.Sequential(
            nn.Conv2d(channels, inner, 1), Norm(inner), nn.ReLU(inplace=True),
            nn.Conv2d(inner, inner, 3, padding=1), Norm(inner), nn.ReLU(inplace=True),
            nn.Conv2d(inner, channels, 1), Norm(channels))

    def forward(self, features: Tensor) -> Tensor:
        added: Tensor = self.block(features)
        return added + features


class Denoiser(nn.Module):
    r"""Diffusion model that takes the noise out of the student's features.

    The student's features, projected to the teacher's width, are mixed with noise by a share
    :math:`g` for each image, which the adapter finds. Then the predicted noise
    :math:`\epsilon_\theta(x_t, t)` is taken out in steps of DDIM, for
    :math:`t = 400, 300, 200, 100, 0` of five steps:

    .. math:: x_{t'} = \sqrt{\bar\alpha_{t'}} \, \frac{x_t - \sqrt{1 - \bar\alpha_t} \, \epsilon}
        {\sqrt{\bar\alpha_t}} + \sqrt{1 - \bar\alpha_{t'}} \, \epsilon

    Args:
        student_channels (int): Of the student.
        channels (int): Of the result.
        steps (int): Steps of DDIM.
        is_pointwise (bool): Whether all convolutions are 1x1, for logits.
    """

    alphas: Tensor

    def __init__(self, student_channels: int, channels: int, steps: int,
                 is_pointwise: bool = False) -> None:
        super().__init__()
        self.project = nn.Conv2d(student_channels, channels, 1)
        self.times = nn.Embedding(EMBEDDED, channels)
        if is_pointwise:
            self.predict = nn.Sequential(*_wide(channels, 4), *_wide(channels, 4)[:-1])
            self.adapt = nn.Sequential(*_wide(channels, 2))
        else:
            self.predict = nn.Sequential(Bottleneck(channels), Bottleneck(channels),
                                         nn.Conv2d(channels, channels, 1), Norm(channels))
            self.adapt = nn.Sequential(Bottleneck(channels, 8))
        self.share = nn.Linear(channels, 2)
        self.finish = nn.Sequential(nn.Conv2d(channels, channels, 1), Norm(channels))
        kept = (1 - torch.linspace(1e-4, 0.02, TRAINED_STEPS, dtype=torch.float64)).cumprod(0)
        self.register_buffer('alphas', kept.float(), persistent=False)
        self.path = _path(kept.tolist(), steps)

    def noise_of(self, features: Tensor, at: Tensor) -> Tensor:
        """The noise that is found in (N, C, H, W); ``at`` is the embedding of the time, (C,) or
        (N, C)."""
        found: Tensor = self.predict(features + at.to(features.dtype)[..., None, None])
        return found.to(features.dtype)

    def forward(self, student: Tensor, noise: Tensor) -> Tensor:
        """Refine the student's features.

        Args:
            student (Tensor): (N, student_channels, H, W).
            noise (Tensor): (N, channels, H, W), of a standard normal distribution.

        Returns:
            Tensor: (N, channels, H, W).
        """
        features = self.project(student).to(noise.dtype)
        share = self.share(self.adapt(features).mean((2, 3))).softmax(1)[:, :1]
        share = share.to(noise.dtype)[..., None, None]
        features = share * features + (1 - share) * noise
        for time, keep, take in self.path:
            features = keep * features + take * self.noise_of(features, self.times.weight[time])
        refined: Tensor = self.finish(features)
        return refined.to(noise.dtype)

    def noise_error(self, teacher: Tensor, times: Tensor, noise: Tensor) -> Tensor:
        """Mean squared error of the noise that is found in noisy features of the teacher."""
        kept = self.alphas[times].to(teacher.dtype)[:, None, None, None]
        noisy = kept.sqrt() * teacher + (1 - kept).sqrt() * noise
        return mse_loss(self.noise_of(noisy, self.times(times)), noise)

    def diffuse(self, student: Tensor, target: Tensor, *numbers: int) -> Tuple[Tensor, Tensor]:
        """The student's features without noise, and the error of the noise that is found in the
        teacher's; ``numbers`` choose the random numbers.

        It is kept out of what torch.compile traces: the same network for each step takes a minute.
        """
        start, noise, times = _drawn(target, *numbers)
        return self(student, start), self.noise_error(target, times, noise)


@LOSSES.register
class DiffKDLoss(DistillLoss):
    r"""Features that a diffusion model has freed from noise (experimental for dense prediction).

    `Knowledge Diffusion for Distillation <https://arxiv.org/abs/2305.15712>`_, section 3. A linear
    autoencoder (E, D) makes the teacher's features narrower. A noise predictor
    :math:`\epsilon_\theta` learns from these what is noise, and takes the noise out of the
    student's features (:class:`mmkd.losses.diffkd.Denoiser`). With means over all elements:

    .. math::
        L = \| R(F^S) - Z \|^2 + \| \epsilon_\theta(\sqrt{\bar\alpha_t} Z
        + \sqrt{1 - \bar\alpha_t} \epsilon, t) - \epsilon \|^2 + \| D(E(F^T)) - F^T \|^2,
        \quad Z = E(F^T)

    where the first two terms have no gradient for E. Time t and noise are new in each iteration,
    level and process. They do not change the random numbers of the run, and they are the same in a
    resumed run. All layers are trained with the student, but are not part of it.

    It returns the parts 'denoised', 'noise' and, with an autoencoder, 'reconstruction'.

    Args:
        latent (int, optional): Channels of Z; 0 for no autoencoder. Defaults to None, half of the
            teacher's.
        steps (int): Steps of DDIM, from 1 to 500. Defaults to 5.
        loss_weight (float): Factor of the result. Defaults to 1.0.

    Raises:
        TypeError: If a number is of the wrong type.
        ValueError: If a number is out of range; when called, if the features are not maps
            (N, C, H, W).

    Example:
        >>> loss = DiffKDLoss()
        >>> loss.setup(4, 8)
        >>> parts = loss(torch.randn(2, 4, 6, 6), torch.randn(2, 8, 6, 6), iteration=0)
        >>> list(parts)
        ['denoised', 'noise', 'reconstruction']
    """

    must_match = frozenset({'positions'})  # the first layer takes the student's channels
    layers_in = 'autocast'

    def __init__(self, latent: Optional[int] = None, steps: int = 5,
                 loss_weight: float = 1.0) -> None:
        super().__init__(loss_weight)
        self.latent = None if latent is None else whole_number('latent', latent)
        self.steps = _checked_steps(steps)

    def setup(self, student_channels: int, teacher_channels: int) -> None:
        channels = max(teacher_channels // 2, 1) if self.latent is None else self.latent
        self.encode = nn.Sequential(nn.Conv2d(teacher_channels, channels, 1),
                                    Norm(channels)) if channels else None
        self.decode = nn.Conv2d(channels, teacher_channels, 1) if channels else None
        self.denoiser = Denoiser(student_channels, channels or teacher_channels, self.steps)

    def compare(self, student: Tensor, teacher: Tensor, *, iteration: int,
                level: Optional[int] = None) -> Dict[str, Tensor]:
        if student.dim() != 4:
            raise ValueError(f'DiffKDLoss compares maps (N, C, H, W), but got '
                             f"{tuple(student.shape)}; compare 'neck' or 'backbone'")
        if not student.numel():
            zero = student.sum() * 0
            named = ('denoised', 'noise', 'reconstruction')
            return dict.fromkeys(named[:2 + (self.encode is not None)], zero)
        target, rest = teacher, {}
        if self.encode is not None and self.decode is not None:
            latent = self.encode(teacher)
            rest = dict(reconstruction=mse_loss(self.decode(latent).to(teacher.dtype), teacher))
            target = latent.detach().to(teacher.dtype)
        refined, error = eager(self.denoiser.diffuse)(student, target, iteration, level or 0)
        return dict(denoised=mse_loss(refined, target), noise=error, **rest)


@LOSSES.register
class DiffKDLogitLoss(KDLoss):
    r"""Logits that a diffusion model has freed from noise (experimental for dense prediction).

    As :class:`DiffKDLoss`, with 1x1 convolutions and without an autoencoder. The refined logits are
    compared by :class:`KDLoss`.

    It returns the parts 'denoised' and 'noise'.

    Args:
        steps (int): Steps of DDIM, from 1 to 500. Defaults to 5.
        **kd: Arguments of :class:`KDLoss`.

    Raises:
        TypeError: If a number is of the wrong type.
        ValueError: If a number is out of range.

    Example:
        >>> loss = DiffKDLogitLoss()
        >>> loss.setup(4, 4)
        >>> list(loss(torch.randn(2, 4), torch.randn(2, 4), iteration=0))
        ['denoised', 'noise']
    """

    layers_in = 'autocast'

    def __init__(self, steps: int = 5, **kd: Any) -> None:
        super().__init__(**kd)
        self.steps = _checked_steps(steps)

    def setup(self, student_channels: int, teacher_channels: int) -> None:
        self.denoiser = Denoiser(student_channels, teacher_channels, self.steps,
                                 is_pointwise=True)

    def compare(self, student: Tensor, teacher: Tensor,  # type: ignore[override]
                weight: Optional[Tensor] = None, *, iteration: int,
                level: Optional[int] = None) -> Dict[str, Tensor]:
        if not student.numel():
            zero = student.sum() * 0
            return dict(denoised=zero, noise=zero)
        shape = teacher.shape
        student, target = (one.reshape(*one.shape[:2], *(one.shape[2:] + (1, 1))[:2])
                           for one in (student, teacher))
        refined, error = eager(self.denoiser.diffuse)(student, target, iteration, level or 0)
        return dict(denoised=super().compare(refined.reshape(shape), teacher, weight), noise=error)


def _wide(channels: int, factor: int) -> List[nn.Module]:
    """Two 1x1 convolutions with norms, and more channels between them."""
    return [nn.Conv2d(channels, factor * channels, 1), Norm(factor * channels),
            nn.ReLU(inplace=True), nn.Conv2d(factor * channels, channels, 1), Norm(channels)]


def _path(kept: List[float], steps: int) -> List[Tuple[int, float, float]]:
    """Steps of DDIM through the second half of a schedule: the time, and the factors of the
    features and of the noise that is found in them.

    Example:
        >>> [time for time, _, _ in _path([0.5] * 1000, 5)]
        [400, 300, 200, 100, 0]
    """
    stride = TRAINED_STEPS // (2 * steps)
    found = []
    for now in reversed(range(0, stride * steps, stride)):
        before, after = kept[now], kept[now - stride] if now else 1.
        keep = (after / before)**0.5
        found.append((now, keep, (1 - after)**0.5 - keep * (1 - before)**0.5))
    return found


def _drawn(like: Tensor, *numbers: int) -> Tuple[Tensor, Tensor, Tensor]:
    """Two tensors of noise of the shape of ``like``, and a time for each image."""
    made: Dict[str, Any] = dict(generator=generator_of(like.device, *numbers), device=like.device)
    start, noise = (torch.randn(like.shape, dtype=like.dtype, **made) for _ in range(2))
    return start, noise, torch.randint(TRAINED_STEPS, like.shape[:1], **made)


def _checked_steps(steps: int) -> int:
    if whole_number('steps', steps, least=1) > TRAINED_STEPS // 2:
        raise ValueError(f'`steps` must be at most {TRAINED_STEPS // 2}, but got {steps}; write a '
                         'number such as 5')
    return steps


METHOD = Method(
    'diffkd', dense=[dict(type='mmkd.DiffKDLoss', on='neck')],
    roi=[dict(type='mmkd.DiffKDLoss', on='neck', levels=[0, 1, 2, 3])],
    segmentor=[dict(type='mmkd.DiffKDLogitLoss', on='cls')],
    classifier=[dict(type='mmkd.DiffKDLoss', on='backbone', levels=[-1]),
                dict(type='mmkd.DiffKDLogitLoss', on='cls')])
