"""A third-party detector with a head that mmkd does not know. See blob_family.py."""
import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.structures import InstanceData
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce


@MODELS.register_module()
class BlobDetector(BaseModel):
    """Predicts one heat map per class: 1 inside the boxes of the class, 0 elsewhere."""

    def __init__(self, width=8, num_classes=3, data_preprocessor=None):
        super().__init__(data_preprocessor)
        self.backbone = nn.Sequential(nn.Conv2d(3, width, 3, 4, 1), nn.ReLU(),
                                      nn.Conv2d(width, 2 * width, 3, 2, 1), nn.ReLU())
        self.heat = nn.Conv2d(2 * width, num_classes, 1)
        self.num_classes = num_classes

    def extract_feat(self, inputs):
        return self.backbone(inputs)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        heat = self.heat(self.extract_feat(inputs))
        if mode == 'loss':
            return dict(loss_heat=bce(heat, self.targets(heat, data_samples)))
        return heat if mode == 'tensor' else self.detected(heat.sigmoid(), data_samples)

    def detected(self, scores, data_samples):
        """Turn each position with a score above 0.5 into a box of 8x8 pixels."""
        for image, sample in zip(scores, data_samples):
            labels, y, x = (image > 0.5).nonzero().unbind(1)
            boxes = torch.stack([x, y, x + 1, y + 1], dim=1) * 8.
            scale = boxes.new_tensor(sample.scale_factor).repeat(2)
            sample.pred_instances = InstanceData(
                bboxes=boxes / scale, scores=image[labels, y, x], labels=labels)
        return data_samples

    def targets(self, heat, data_samples):
        targets = torch.zeros_like(heat)
        for image, sample in zip(targets, data_samples):
            boxes = (sample.gt_instances.bboxes / 8).long()
            for (x1, y1, x2, y2), label in zip(boxes.tolist(), sample.gt_instances.labels.tolist()):
                image[label, y1:y2 + 1, x1:x2 + 1] = 1
        return targets
