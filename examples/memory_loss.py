"""A loss with one layer per level, and a bank of past features of all processes.

    custom_imports = dict(imports=['mmkd', 'memory_loss'], allow_failed_imports=False)
    distill=[dict(type='mmkd.PastImagesLoss', on='neck')]
"""
import torch
from torch import nn
from torch.nn.functional import cross_entropy, normalize

from mmkd.losses import LOSSES, Bank, DistillLoss


@LOSSES.register
class PastImagesLoss(DistillLoss):
    """InfoNCE: finds the teacher's vector of the same image among the vectors of past images.

    Args:
        size (int): Number of past images. Defaults to 64.
        tau (float): Temperature. Defaults to 0.1.
        loss_weight (float): Factor of the result. Defaults to 1.0.
    """

    must_match = frozenset()  # vectors are compared, so the map sizes may differ
    communicates = True       # the bank is the same in all processes

    def __init__(self, size=64, tau=0.1, loss_weight=1.0):
        super().__init__(loss_weight)
        self.size, self.tau = size, tau

    def setup(self, student_channels, teacher_channels, *, level):
        self.project = nn.Linear(student_channels, teacher_channels)
        self.bank = Bank(self.size >> level, teacher_channels)

    def compare(self, student, teacher):
        own = normalize(self.project(student.mean((2, 3))), dim=1)
        other = normalize(teacher.mean((2, 3)), dim=1)
        past, is_filled = self.bank.table()
        logits = torch.cat([own @ other.T, (own @ past.T).masked_fill(~is_filled, -100.)], dim=1)
        self.bank.push(other)
        return cross_entropy(logits / self.tau, torch.arange(len(own), device=own.device))
