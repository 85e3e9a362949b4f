"""What NKD's authors return: `NKDLoss` of cls_KD.

    git clone https://github.com/yzd-v/cls_KD clone
    python benchmarks/authors/nkd.py clone
"""
import sys

import torch
from one_file import load
from recording import Case, write

SETTINGS = (dict(gamma=1.5, tau=1.), dict(gamma=0.8, tau=3.))


def main(clone: str) -> None:
    authors = load(clone, 'mmcls/models/dis_losses/nkd.py', 'mmcls.registry')
    torch.manual_seed(0)
    cases = []
    for settings in SETTINGS:
        student = (2 * torch.randn(12, 7, dtype=torch.float64)).requires_grad_()
        teacher = 2 * torch.randn(12, 7, dtype=torch.float64)
        labels = torch.randint(0, 7, (12, ))
        loss = authors.NKDLoss('name', True, temp=settings['tau'], gamma=settings['gamma'])
        value = loss(student, teacher, labels)
        gradient, = torch.autograd.grad(value, student)
        cases.append(Case(settings, dict(student=student, teacher=teacher, labels=labels),
                          dict(value=value, gradient=gradient)))
    write('nkd', 'https://github.com/yzd-v/cls_KD', clone, cases)


if __name__ == '__main__':
    main(sys.argv[1])
