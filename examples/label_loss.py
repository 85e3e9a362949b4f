"""A loss that requests labels and boxes by name and returns two named parts.

    custom_imports = dict(imports=['mmkd', 'label_loss'], allow_failed_imports=False)
    distill=[dict(type='mmkd.TwoPartKDLoss', on='cls')]

or, with `label_loss` in the `custom_imports` of the student, `tools/train.py ... --method twopart`.
"""
import torch
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from mmkd.losses import LOSSES, DistillLoss, Method


@LOSSES.register
class TwoPartKDLoss(DistillLoss):
    """KD of one-vs-all logits, computed separately for objects and for the background.

    Each position is divided by the number of boxes in its image, so an image with many boxes
    counts no more than an image with few.

    Args:
        alpha (float): Weight of the background part. Defaults to 0.25.
        loss_weight (float): Factor of the result. Defaults to 1.0.
    """

    def __init__(self, alpha=0.25, loss_weight=1.0):
        super().__init__(loss_weight)
        self.alpha = alpha

    def compare(self, student, teacher, weight=None, *, labels, boxes):
        classes = student.shape[1]
        each = bce(student, teacher.sigmoid(), reduction='none').mean(1)
        # The anchors of one image are consecutive rows.
        count = torch.stack([each.new_full((), max(len(one), 1)) for one in boxes])
        each = each / count.repeat_interleave(len(each) // len(boxes)).view(-1, 1, 1)
        is_object, is_background = (labels >= 0) & (labels < classes), labels == classes
        return dict(object=(each * is_object).sum() / is_object.sum().clamp(min=1),
                    background=self.alpha * (each * is_background).mean())


METHOD = Method('twopart', dense=[dict(type='mmkd.TwoPartKDLoss', on='cls')])
