"""CIRKD: how similar a pixel is to those of other images, and to past ones (Yang et al., 2022).

:Paper: `Cross-Image Relational Knowledge Distillation for Semantic Segmentation
    <https://arxiv.org/abs/2204.06986>`_, CVPR 2022, section 3.
:Compares: Segmentors: 'features', which enter the classifier, and by KD the logits of the decode
    head.
:Defaults: The authors' code of the paper (``train_cirkd.py``, commit 351400e^): temperature 0.1;
    weights 1 (pixels of the mini-batch), 0.1 and 0.1 (memory of pixels and of regions), 1 (KD, tau
    1); queues of 20000 pixels and 2000 regions per class, 16 pixels per class and image; 4096
    pixels and 1024 regions are compared with. ``saved='float16'`` is our choice.
:Differs: 1. Stored pixels: 16 random pixels of each class. The authors mean the same, but their
    code draws random positions of any class. 2. Processes: each stores pixels of its own images.
    The authors' draw different pixels, and the queues of the first process overwrite the others. 3.
    Queue: a ring. The authors' starts again before its last slots are full. 4. Empty slots: random
    unit vectors, as theirs, but drawn again in each step. 5. Batch norm of the projection:
    statistics of one process; theirs are of all. 6. Similarities: computed in chunks of rows, with
    the same result. 7. Not here: relations of channels, from their later code (CIRKDv2). That code
    also averages maps of 256x256 or more over 4x4, which is ``pool=4``.
:Published: DeepLabV3 R18, DeepLabV3 R101 (78.07), 40k: 74.21 -> 76.38 (authors' README); DeepLabV3
    MobileNetV2, the same: 73.12 -> 75.42 (authors' README); PSPNet R18, the same: 72.55 -> 74.73
    (authors' README). All on Cityscapes val.
"""
from typing import Dict, Tuple, Union

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, normalize

from ..core.arguments import finite_number, temperature, whole_number
from ..core.rng import generator_of
from ..core.table import LOSSES
from .base import DistillLoss
from .fast.eager import eager
from .fast.pairwise import similarity_divergence
from .memory import Bank, numbered
from .method import Method


@LOSSES.register
class CIRKDLoss(DistillLoss):
    r"""Relations of pixels to those of other images, and to pixels and regions of past images.

    `Cross-Image Relational Knowledge Distillation for Semantic Segmentation
    <https://arxiv.org/abs/2204.06986>`_, section 3. With features f of unit length, and the
    similarities of pixel i to keys k, :math:`p_i = softmax_k(f_i \cdot k / \tau)`, each part is

    .. math:: \lambda \, mean_i \sum_k p^T_{i,k} (\log p^T_{i,k} - \log p^S_{i,k})

    - 'minibatch': the keys are the pixels of one image, for all ordered pairs of
      images of the process, and their mean;
    - 'pixel': the keys are past pixels of the teacher, evenly from a queue of each
      class, the same ones for both sides. The student's features first pass a projection to the
      teacher's width: 1x1 convolution, batch norm, ReLU, 1x1 convolution;
    - 'region': the keys are past regions, each the mean of the teacher's features of
      one class in one image.

    The memories contain the current batch, of all processes. They are compared at positions with a
    label; the mini-batch is compared at all positions. A class that has not been seen yet has
    random keys. Random numbers depend only on the seed of the run, the process and the iteration.

    Time grows with the square of the number of positions of a batch, as the formula does; memory
    in proportion to the number. Of two images with features (128, 64, 64), the loss holds 24 times
    these features; all similarities at once are 320 times as large, and take twice the time.

    Args:
        tau (float): :math:`\tau`, greater than 0. Defaults to 0.1.
        lambda_minibatch (float): Weight of 'minibatch'; 0 leaves it out. Defaults to 1.0.
        lambda_pixel (float): Weight of 'pixel'. Defaults to 0.1.
        lambda_region (float): Weight of 'region'. With both 0 there is no memory. Defaults to 0.1.
        pixels (int): Length of the queue of pixels of a class. Defaults to 20000.
        regions (int): Length of the queue of regions of a class. Defaults to 2000.
        pixel_keys (int): Number of pixels to compare with, over all classes. Each class has the
            same number of them, rounded up. Defaults to 4096.
        region_keys (int): The same of regions. Defaults to 1024.
        stored (int): Number of pixels per class and image that are stored. Defaults to 16.
        pool (int): For 'minibatch', average maps over squares of this length. Defaults to 1.
        saved (str | bool): Format of the queues in a checkpoint, see :class:`mmkd.losses.Bank`:
            of 19 classes and 256 channels, 428 MB for 'float32', 214 MB for 'float16'. With False a
            resumed run begins with empty queues. Defaults to 'float16'.
        loss_weight (float): Factor of the result. Defaults to 1.0.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If an argument is out of range; when called, if the features are not maps
            (N, C, H, W).

    Example:
        >>> loss = CIRKDLoss(pixels=40, regions=20, pixel_keys=8, region_keys=8)
        >>> loss.setup(4, 6, num_classes=3)
        >>> parts = loss(torch.randn(2, 4, 5, 5), torch.randn(2, 6, 5, 5), iteration=0,
        ...              label_map=torch.randint(3, (2, 40, 40)))
        >>> sorted(parts), len(loss.region_bank.read())
        (['minibatch', 'pixel', 'region'], 6)
    """

    must_match = frozenset({'positions'})
    communicates = True

    def __init__(self, tau: float = 0.1, lambda_minibatch: float = 1.0, lambda_pixel: float = 0.1,
                 lambda_region: float = 0.1, pixels: int = 20000, regions: int = 2000,
                 pixel_keys: int = 4096, region_keys: int = 1024, stored: int = 16, pool: int = 1,
                 saved: Union[str, bool] = 'float16', loss_weight: float = 1.0) -> None:
        super().__init__(loss_weight)
        self.tau = temperature(tau)
        self.lambdas = {name: finite_number(f'lambda_{name}', value, least=0) for name, value in (
            ('minibatch', lambda_minibatch), ('pixel', lambda_pixel), ('region', lambda_region))}
        self.sizes = {name: whole_number(name, value, least=1) for name, value in dict(
            pixels=pixels, regions=regions, pixel_keys=pixel_keys, region_keys=region_keys,
            stored=stored, pool=pool).items()}
        self.saved = saved
        self.communicates = self.has_memory

    @property
    def has_memory(self) -> bool:
        """Whether relations to past images are compared."""
        return bool(self.lambdas['pixel'] or self.lambdas['region'])

    def setup(self, student_channels: int, teacher_channels: int, *, num_classes: int) -> None:
        if not self.has_memory:
            return
        self.num_classes = num_classes
        self.project = nn.Sequential(
            nn.Conv2d(student_channels, teacher_channels, 1, bias=False),
            nn.BatchNorm2d(teacher_channels), nn.ReLU(inplace=True),
            nn.Conv2d(teacher_channels, teacher_channels, 1, bias=False))
        self.pixel_bank, self.region_bank = (
            Bank(self.sizes[name], teacher_channels, classes=num_classes, saved=self.saved)
            for name in ('pixels', 'regions'))

    def compare(self, student: Tensor, teacher: Tensor, *, label_map: Tensor,
                iteration: int) -> Dict[str, Tensor]:
        if student.dim() != 4:
            raise ValueError(f'CIRKDLoss compares maps (N, C, H, W), but got '
                             f"{tuple(student.shape)}; compare 'features' of a "
                             'segmentor')
        parts: Dict[str, Tensor] = {}
        if self.lambdas['minibatch']:
            own, other = (rows_of(avg_pool2d(one, self.sizes['pool'], ceil_mode=True))
                          if self.sizes['pool'] > 1 else rows_of(one) for one in (student, teacher))
            parts['minibatch'] = similarity_divergence(own, other, own, other, self.tau,
                                                       blocks=max(len(student), 1))
        if self.has_memory:
            labels = label_map[:, None].float()
            labels = interpolate(labels, student.shape[2:]).flatten(1).long() if (
                student.numel()) else label_map.new_zeros(len(student), 0)
            rows = rows_of(teacher)
            generator = eager(generator_of)(student.device, iteration)
            self.remember(rows, labels, generator)
            # A batch norm refuses an empty batch.
            projected = rows_of(self.project(student)) if student.numel() else rows
            weight = (labels.flatten() >= 0).to(student.dtype)
            for name in ('pixel', 'region'):
                if self.lambdas[name]:
                    keys = self.keys(name, generator).to(rows)
                    parts[name] = similarity_divergence(projected, rows, keys, keys, self.tau,
                                                        weight)
        return {name: self.lambdas[name] * (value if student.numel() else student.sum())
                for name, value in parts.items()}

    @torch.no_grad()
    def remember(self, rows: Tensor, labels: Tensor, generator: torch.Generator) -> None:
        """Store a batch in both memories.

        Args:
            rows (Tensor): (N·P, C), features of the teacher.
            labels (Tensor): Int (N, P), one per row.
            generator (torch.Generator): It chooses the pixels.
        """
        index, of_pixels = chosen(labels, self.num_classes, self.sizes['stored'], generator)
        some = rows[index] if len(rows) else rows.new_zeros(len(index), rows.shape[1])
        self.pixel_bank.push(some, of_pixels)
        classes = torch.arange(self.num_classes, device=labels.device)
        is_class = labels[..., None] == classes
        sums = is_class.to(rows).transpose(1, 2) @ rows.unflatten(0, labels.shape)
        is_there = is_class.any(1)
        self.region_bank.push(normalize(sums, dim=2).flatten(0, 1),
                              torch.where(is_there, classes, -1).flatten())

    @torch.no_grad()
    def keys(self, name: str, generator: torch.Generator) -> Tensor:
        """Rows of the memory 'pixel' or 'region' at random, as many for each class, (keys, C)."""
        bank = self.pixel_bank if name == 'pixel' else self.region_bank
        count = self.sizes[f'{name}_keys'] // self.num_classes + 1
        slots = torch.randperm(bank.size, generator=generator, device=generator.device)[:count]
        rows, is_filled = bank.table(slots)
        noise = torch.randn(rows.shape, generator=generator, device=generator.device)
        return rows.where(is_filled[..., None], normalize(noise.to(rows), dim=2)).flatten(0, 1)


def rows_of(maps: Tensor) -> Tensor:
    """(N, C, H, W) to rows of unit length, (N·H·W, C)."""
    return normalize(maps, dim=1).movedim(1, -1).flatten(0, -2)


def chosen(labels: Tensor, classes: int, count: int, generator: torch.Generator
           ) -> Tuple[Tensor, Tensor]:
    """Choose positions of each class in each image at random, without a wait for a GPU.

    Args:
        labels (Tensor): Int (N, P); positions with a label outside of 0…classes-1 are not chosen.
        classes (int): Number of classes.
        count (int): Number of positions per class and image, at most.
        generator (torch.Generator): Random number generator.

    Returns:
        tuple[Tensor, Tensor]: Int (N·classes·count,), indices into the N·P positions; and their
        labels, -1 where a class has fewer positions.

    Example:
        >>> index, of = chosen(torch.tensor([[0, 1, 1, -1]]), 2, 2, torch.Generator())
        >>> index[of == 0].tolist(), sorted(index[of == 1].tolist()), of.tolist()
        ([0], [1, 2], [0, -1, 1, 1])
    """
    n, positions = labels.shape
    order = torch.rand(labels.shape, generator=generator, device=labels.device).argsort(1)
    label = labels.gather(1, order)
    images = torch.arange(n, device=labels.device)[:, None]
    is_known = ((label >= 0) & (label < classes)).flatten()
    groups = torch.where(is_known, (label + classes * images).flatten(), n * classes)
    numbers, _ = numbered(groups, n * classes)
    # One more place takes the positions that are not chosen.
    places = torch.where(is_known & (numbers < count), groups * count + numbers,
                         n * classes * count)
    index = labels.new_full((n * classes * count + 1, ), -1)
    index = index.scatter_(0, places, (order + positions * images).flatten())[:-1]
    of = torch.arange(classes, device=labels.device)[:, None].expand(n, classes, count).flatten()
    return index.clamp(min=0), torch.where(index < 0, -1, of)


METHOD = Method('cirkd', segmentor=[
    dict(type='mmkd.CIRKDLoss', on='features'),
    dict(type='mmkd.KDLoss', on='cls')])
