"""FGD: features of objects, of background, attention, and global relations (Yang et al., 2022).

:Paper: `Focal and Global Knowledge Distillation for Detectors
    <https://arxiv.org/abs/2111.11837>`_, CVPR 2022, sections 3.1 and 3.2, equations 2 to 13.
:Compares: The neck; dense heads all levels, RoI heads and SOLO the first four (P2 to P5).
:Defaults: The authors' configs, as alpha, beta, gamma, lambda and temperature. RetinaNet, GFL and
    other dense heads: 1e-3, 5e-4, 5e-4, 5e-6, 0.5. FCOS and heads derived from it: 1.6e-3, 8e-4,
    8e-4, 8e-6, 0.8. RepPoints: as FCOS, with temperature 0.5. All of these begin with the teacher's
    neck and head. RoI heads: 5e-5, 2.5e-5, 5e-5, 5e-7, 0.5, and nothing is inherited, as with the
    authors' Cascade Mask R-CNN; for a teacher with the student's head (Faster R-CNN R101) they
    inherit, which is ``inherit='neck,head'``. ``fgd_fcos`` writes the values of FCOS for every
    dense head. Gradients are clipped at a norm of 35.
:Differs: The authors divide the boxes by the size of the image without padding, and multiply by
    the size of the map, which includes the padding: in a padded image their boxes are too large and
    lie too far right and down. mmkd divides by the padded size; ``boxes_by='image'`` is theirs.
    Where the neck has norms after its 3x3 convolutions (RepPoints), the authors compare the outputs
    of the convolutions, mmkd those of the neck. The FCOS student of the published figure has
    training tricks that its baseline lacks (norm on boxes, centre sampling, GIoU), so a part of the
    gain is not due to FGD.
:Published: RetinaNet R50, X101-64x4d (1x), 2x: 37.4 -> 40.7 (authors' README); RetinaNet R50,
    R101 2x, 2x: 37.4 -> 39.6 (notes on the paper); Faster R-CNN R50, Cascade Mask X101-32x4d-DCN,
    2x: 38.4 -> 42.0 (authors' README); Faster R-CNN R50, R101, 2x: 38.4 -> 40.4 (notes on the
    paper); FCOS R50, R101, 2x: 38.5 -> 42.7 (authors' README); GFL R50, R101, 1x: 40.2 -> 43.5
    (authors' README); RepPoints R50, X101-DCN, 2x: 38.6 -> 42.0 (authors' README); SOLO R50, R101,
    1x: mask 33.1 -> 36.0 (authors' README); Mask R-CNN R50, Cascade Mask X101-32x4d-DCN, 2x: 39.2
    -> 42.1, mask 35.4 -> 37.8 (authors' README); YOLOX-m, YOLOX-l: 45.9 -> 46.6 (authors' README)
"""
from typing import Dict, List, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn
from torch.nn.functional import softmax
from torch.nn.utils.rnn import pad_sequence

from ..core.arguments import finite_number, temperature
from ..core.table import LOSSES
from .base import DistillLoss
from .method import CLIP, Method, Recipe

AT_ONCE = 32
"""Boxes of an image whose masks are held at once: with hundreds of objects, the masks of all would
be larger than the features."""


class Relation(nn.Module):
    """Global context that is added to the features (GcBlock, equation 13).

    Args:
        channels (int): C of the features; half of them inside.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(channels // 2, 1)
        self.attend = nn.Conv2d(channels, 1, 1)
        self.transform = nn.Sequential(
            nn.Conv2d(channels, inner, 1), nn.LayerNorm([inner, 1, 1]), nn.ReLU(inplace=True),
            nn.Conv2d(inner, channels, 1))
        nn.init.kaiming_normal_(self.attend.weight, mode='fan_in', nonlinearity='relu')
        for parameter in (self.attend.bias, *self.transform[-1].parameters()):
            nn.init.zeros_(parameter)  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> Tensor:
        """What is added to (N, C, H, W) at every position, (N, C, 1, 1)."""
        share = softmax(self.attend(features).flatten(2), dim=2)
        context = features.flatten(2) @ share.transpose(1, 2)
        added: Tensor = self.transform(context.unsqueeze(3))
        return added


@LOSSES.register
class FGDLoss(DistillLoss):
    r"""Focal and global distillation of features.

    `Focal and Global Knowledge Distillation for Detectors <https://arxiv.org/abs/2111.11837>`_,
    section 3. With spatial attention :math:`A^S_{h,w} = HW \, softmax_{h,w}(mean_c |F| / \tau)` and
    channel attention :math:`A^C_c = C \, softmax_c(mean_{h,w} |F| / \tau)` of each image, the
    attentions of the teacher and masks of objects and background weigh the differences:

    .. math::
        L = \frac{1}{N} \sum_{n,c,h,w} (\alpha M^{fg} + \beta M^{bg})_{n,h,w}
        A^{S,T}_{n,h,w} A^{C,T}_{n,c} (F^S - F^T)^2
        + \frac{\gamma}{N} \Big( \sum |A^{S,S} - A^{S,T}| + \sum |A^{C,S} - A^{C,T}| \Big)
        + \frac{\lambda}{N} \sum (R_S(F^S) - R_T(F^T))^2

    :math:`M^{fg}_{h,w}` is 1 divided by the number of positions of the smallest box that covers the
    position, with corners rounded outwards, and 0 where there is none. :math:`M^{bg}` is 1 divided
    by the number of the other positions of the image. In an image without boxes all is background.
    :math:`R(F) = F + W_2 \, ReLU(LN(W_1 \sum_i softmax_i(w^T F_i) F_i))` adds the global context.
    :math:`R_S` and :math:`R_T` have layers of their own, both trained; :math:`W_2` is 0 at first,
    so :math:`R(F) = F`. The sums are divided by the N images of the process alone, so the weights
    are small.

    It returns the parts 'foreground', 'background', 'attention' and 'relation'.

    Args:
        foreground (float): :math:`\alpha`, weight of the objects. Defaults to 1e-3.
        background (float): :math:`\beta`, weight of the background. Defaults to 5e-4.
        attention (float): :math:`\gamma`, weight of the attentions. Defaults to 5e-4.
        relation (float): :math:`\lambda`, weight of the global relation. Defaults to 5e-6.
        tau (float): :math:`\tau`, temperature of the attentions, greater than 0. Defaults to 0.5.
        boxes_by (str): What boxes are divided by, before they are multiplied by the size of the
            map: 'input', the size of the input, which the map covers; 'image', the size of the
            image without padding, as in the authors' code. Defaults to 'input'.
        loss_weight (float): Factor of the result. Defaults to 1.0.

    Raises:
        TypeError: If a number is of the wrong type.
        ValueError: If a number is out of range, or ``boxes_by`` is none of the two; when called, if
            the features are not maps (N, C, H, W), or ``boxes_by='image'`` and there are no
            ``image_sizes``.

    Example:
        >>> loss = FGDLoss()
        >>> loss.setup(8, 8)
        >>> parts = loss(torch.zeros(1, 8, 4, 4), torch.ones(1, 8, 4, 4), input_size=(32, 32),
        ...              boxes=[torch.tensor([[0., 0., 15., 7.]])])
        >>> {name: round(value.item(), 5) for name, value in parts.items()}
        {'foreground': 0.008, 'background': 0.004, 'attention': 0.0, 'relation': 0.00064}
    """

    def __init__(self, foreground: float = 1e-3, background: float = 5e-4,
                 attention: float = 5e-4, relation: float = 5e-6, tau: float = 0.5,
                 boxes_by: str = 'input', loss_weight: float = 1.0) -> None:
        super().__init__(loss_weight)
        self.weights = {name: finite_number(name, value, least=0) for name, value in dict(
            foreground=foreground, background=background, attention=attention,
            relation=relation).items()}
        self.tau = temperature(tau)
        if boxes_by not in ('input', 'image'):
            raise ValueError(f"`boxes_by` must be 'input' or 'image', but got {boxes_by!r}; write "
                             'one of them')
        self.boxes_by = boxes_by

    def setup(self, student_channels: int, teacher_channels: int) -> None:
        self.relations = nn.ModuleList([Relation(student_channels), Relation(teacher_channels)])

    def compare(self, student: Tensor, teacher: Tensor, *, boxes: List[Tensor],
                input_size: Tuple[int, int],
                image_sizes: Optional[Tensor] = None) -> Dict[str, Tensor]:
        if student.dim() != 4:
            raise ValueError(f'FGDLoss compares maps (N, C, H, W), but got '
                             f"{tuple(student.shape)}; compare 'neck' or 'backbone'")
        if not student.numel():
            zero = student.sum() * 0
            return dict(foreground=zero, background=zero, attention=zero, relation=zero)
        difference = student - teacher
        ours, theirs = (attentions(one, self.tau) for one in (student, teacher))
        error = theirs[0] * torch.einsum('nc,nchw->nhw', theirs[1], difference.square())
        with torch.no_grad():
            objects = coverage(self.on_map(boxes, student, input_size, image_sizes),
                               student.shape[2:])
            is_rest = (objects == 0).to(student.dtype)
            rest = is_rest / is_rest.sum((1, 2), keepdim=True).clamp(min=1)
        spatial, channel = ((a - b).abs().sum() for a, b in zip(ours, theirs))
        context = self.relations[0](student) - self.relations[1](teacher)
        parts = dict(foreground=(objects * error).sum(), background=(rest * error).sum(),
                     attention=spatial + channel,
                     relation=(difference + context).square().sum())
        return {name: self.weights[name] / len(student) * part for name, part in parts.items()}

    def on_map(self, boxes: Sequence[Tensor], features: Tensor, input_size: Tuple[int, int],
               image_sizes: Optional[Tensor]) -> Tensor:
        """Boxes in positions of a map, (N, K, 4), with NaN after those of an image with fewer."""
        found = pad_sequence([one.to(features.dtype) for one in boxes], batch_first=True,
                             padding_value=float('nan'))
        height, width = features.shape[2:]
        # Multiplied first: a corner between two positions is then not moved by rounding.
        x, y = found[..., 0::2] * width, found[..., 1::2] * height
        if self.boxes_by == 'input':
            x, y = x / input_size[1], y / input_size[0]
        elif image_sizes is None:
            raise ValueError("FGDLoss(boxes_by='image') needs `image_sizes`, but got none; pass "
                             "the sizes without padding, or write boxes_by='input'")
        else:
            x, y = x / image_sizes[:, 1, None, None], y / image_sizes[:, 0, None, None]
        return torch.stack([x, y], dim=3).flatten(2)


def attentions(features: Tensor, tau: float) -> Tuple[Tensor, Tensor]:
    """Of (N, C, H, W): H·W times a softmax over positions, (N, H, W), and C times one over
    channels, (N, C)."""
    magnitude = features.abs()
    spatial = softmax(magnitude.mean(1).flatten(1) / tau, dim=1) * features[0, 0].numel()
    channel = softmax(magnitude.mean((2, 3)) / tau, dim=1) * features.shape[1]
    return spatial.unflatten(1, features.shape[2:]), channel


def coverage(boxes: Tensor, size: Sequence[int]) -> Tensor:
    """1 divided by the number of positions of the smallest box that covers a position, else 0.

    Args:
        boxes (Tensor): (N, K, 4) in positions; NaN if there is no box.
        size (tuple[int, int]): Height and width of the map.

    Returns:
        Tensor: (N, H, W).

    Example:
        >>> coverage(torch.tensor([[[0.2, 1, 1.5, 1]]]), (3, 4))
        tensor([[[0.0000, 0.0000, 0.0000, 0.0000],
                 [0.3333, 0.3333, 0.3333, 0.0000],
                 [0.0000, 0.0000, 0.0000, 0.0000]]])
    """
    found = boxes.new_zeros(len(boxes), *size)
    y, x = (torch.arange(one, device=boxes.device) for one in size)
    for part in boxes.split(AT_ONCE, dim=1) if boxes.shape[1] else ():
        low, high = part[..., :2].floor(), part[..., 2:].ceil()
        share = torch.nan_to_num(1 / (high - low + 1).prod(2))
        columns, rows = ((at >= low[..., k, None]) & (at <= high[..., k, None])
                         for k, at in enumerate((x, y)))
        covered = (rows * share[..., None]).unsqueeze(3) * columns.unsqueeze(2)
        found = torch.maximum(found, covered.amax(1))
    return found


INHERIT = {**CLIP, 'model.inherit': 'neck,head'}
OF_POINTS = dict(foreground=1.6e-3, background=8e-4, attention=8e-4, relation=8e-6)
OF_FCOS = Recipe([dict(type='mmkd.FGDLoss', on='neck', **OF_POINTS, tau=0.8)], INHERIT)

METHOD = Method(
    'fgd',
    dense=Recipe([dict(type='mmkd.FGDLoss', on='neck')], INHERIT),
    roi=Recipe([dict(type='mmkd.FGDLoss', on='neck', levels=[0, 1, 2, 3], foreground=5e-5,
                     background=2.5e-5, attention=5e-5, relation=5e-7)], CLIP),
    solo=Recipe([dict(type='mmkd.FGDLoss', on='neck', levels=[0, 1, 2, 3])], INHERIT),
    FCOSHead=OF_FCOS,
    RepPointsHead=Recipe([dict(type='mmkd.FGDLoss', on='neck', **OF_POINTS)], INHERIT))
METHOD_FCOS = Method('fgd_fcos', dense=OF_FCOS)
