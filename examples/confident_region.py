"""A region that weighs positions by the teacher's confidence and leaves out ignored boxes.

    custom_imports = dict(imports=['mmkd', 'confident_region'], allow_failed_imports=False)
    distill=[dict(type='mmkd.KDLoss', on='cls', region=dict(type='mmkd.Confident'))]
"""
from mmkd import MODELS, Region, inside_of


@MODELS.register_module()
class Confident(Region):
    """The teacher's largest class probability to a power, and 0 inside ignored boxes.

    Args:
        power (float): 0 gives all positions the same weight. Defaults to 1.0.
    """

    def __init__(self, power=1.0):
        self.power = power

    def weigh(self, student, teacher, *, ignored_boxes, input_size):
        weights = []
        for logits in teacher:  # (N, anchors·classes, H, W)
            weight = logits.sigmoid().amax(1)**self.power
            for image, boxes in zip(weight, ignored_boxes):
                image.masked_fill_(inside_of(boxes, image.shape, input_size), 0)
            weights.append(weight)
        return weights
