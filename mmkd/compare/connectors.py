"""What is learned between student and teacher?"""
from typing import Sequence

from torch import Tensor, nn


def connect(student: Sequence[Tensor], teacher: Sequence[Tensor],
            kind: str = 'auto') -> nn.ModuleList:
    """Modules that bring the student's channels to the teacher's, one per level.

    Args:
        student (Sequence[Tensor]): Levels (N, C, H, W), or (N, C).
        teacher (Sequence[Tensor]): As many.
        kind (str): 'conv' for a 1x1 convolution with bias on every level (a linear layer for
            (N, C)), 'auto' only where the channels differ. Defaults to 'auto'.

    Returns:
        nn.ModuleList: On the student's device, trainable, initialised as torch does it.
    """
    connectors = nn.ModuleList()
    for one, other in zip(student, teacher):
        channels = one.shape[1], other.shape[1]
        if kind == 'auto' and channels[0] == channels[1]:
            connectors.append(nn.Identity())
        elif one.dim() == 2:
            connectors.append(nn.Linear(*channels))
        else:
            connectors.append(nn.Conv2d(*channels, kernel_size=1))
    return connectors.to(student[0].device, student[0].dtype)
