"""A connector of two layers and a norm, and one with a mask that changes every step.

    custom_imports = dict(imports=['mmkd', 'connectors'], allow_failed_imports=False)
    distill=[dict(type='mmkd.MSELoss', on='neck', connector=dict(type='mmkd.TwoLayers')),
             dict(type='mmkd.MSELoss', on='backbone', connector=dict(type='mmkd.Masked'))]
"""
import torch
from torch import nn

from mmkd import MODELS, Connector


@MODELS.register_module()
class TwoLayers(Connector):
    """A 3x3 convolution, group norm, ReLU, and a 1x1 convolution.

    Args:
        hidden (int): Channels between the two convolutions. Defaults to 32.
    """

    def __init__(self, hidden=32):
        super().__init__()
        self.hidden = hidden

    def setup(self, student_channels, teacher_channels):
        self.layers = nn.Sequential(
            nn.Conv2d(student_channels, self.hidden, 3, padding=1, bias=False),
            nn.GroupNorm(4, self.hidden), nn.ReLU(),
            nn.Conv2d(self.hidden, teacher_channels, 1))

    def forward(self, student):
        return self.layers(student)


@MODELS.register_module()
class Masked(Connector):
    """Drops random positions; the layers after it must restore the teacher's features there.

    Args:
        ratio (float): Share of positions that are dropped. Defaults to 0.5.
    """

    def __init__(self, ratio=0.5):
        super().__init__()
        self.ratio = ratio

    def setup(self, student_channels, teacher_channels):
        self.align = nn.Conv2d(student_channels, teacher_channels, 1)
        self.recover = nn.Conv2d(teacher_channels, teacher_channels, 3, padding=1)

    def forward(self, student):
        mask = torch.rand_like(student[:, :1]) > self.ratio
        return self.recover(self.align(student) * mask)
