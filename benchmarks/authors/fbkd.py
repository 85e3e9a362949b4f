"""Numbers of FBKD: a clone of https://github.com/open-mmlab/mmrazor is given on the command line.

The repository of the authors does not hold their code any more; this is OpenMMLab's port.
"""
import sys
from pathlib import Path

import torch
from importing import Registry, fill, load, some, stub
from recording import Case, write


class BaseConnector(torch.nn.Module):
    """Replaces the class of mmrazor."""

    def __init__(self, init_cfg: object = None) -> None:
        super().__init__()


clone = sys.argv[1]
stub('mmrazor')
stub('mmrazor.registry', MODELS=Registry)
stub('authors')
stub('authors.base_connector', BaseConnector=BaseConnector)
models = Path(clone) / 'mmrazor/models'
connectors = load(models / 'architectures/connectors/fbkd_connector.py', 'authors.connectors')
losses = load(models / 'losses/fbkd_loss.py', 'authors.loss')
cases = []
for reduction, pool in ((4, 2), (2, 1)):
    settings = dict(in_channels=4, reduction=reduction, mode='dot_product', sub_sample=True,
                    maxpool_stride=pool)
    both = torch.nn.ModuleDict(dict(student=connectors.FBKDStudentConnector(**settings),
                                    teacher=connectors.FBKDTeacherConnector(**settings)))
    state = fill(both, seed=10)
    student, teacher = some(2, 4, 6, 5, seed=0).requires_grad_(), some(2, 4, 6, 5, seed=1)
    loss = losses.FBKDLoss(mask_l2_weight=0.4, channel_weight=0.3, spatial_weight=0.3,
                           nonloacl_weight=0.2)
    value = loss(both['student'].forward_train(student), both['teacher'].forward_train(teacher))
    gradient, = torch.autograd.grad(value, student)
    # The port pools by 2, then by `maxpool_stride`.
    cases.append(Case(dict(reductions=[reduction], pools=[2 * pool], feature=0.4, channel=0.3,
                           spatial=0.3, relation=0.2),
                      dict(student=student, teacher=teacher, state=state),
                      dict(value=value, gradient=gradient)))
write('fbkd', 'https://github.com/open-mmlab/mmrazor', clone, cases)
