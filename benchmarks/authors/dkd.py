"""What DKD's authors return: `dkd_loss` of mdistiller, as their detector calls it.

    git clone https://github.com/megvii-research/mdistiller clone
    python benchmarks/authors/dkd.py clone
"""
import sys
import warnings

import torch
from one_file import load
from recording import Case, write

SETTINGS = (dict(alpha=1., beta=0.25, tau=1.), dict(alpha=1., beta=8., tau=4.),
            dict(alpha=0.7, beta=0.5, tau=2.))
"""Settings of the detector, of CIFAR-100, and others."""


def main(clone: str) -> None:
    warnings.simplefilter('ignore')  # the authors use an argument that torch has renamed
    authors = load(clone, 'mdistiller/distillers/DKD.py', 'mdistiller.distillers._base')
    torch.manual_seed(0)
    cases = []
    for settings in SETTINGS:
        student = (2 * torch.randn(12, 7, dtype=torch.float64)).requires_grad_()
        teacher = 2 * torch.randn(12, 7, dtype=torch.float64)
        labels = torch.randint(0, 7, (12, ))
        value = authors.dkd_loss(student, teacher, labels, settings['alpha'], settings['beta'],
                                 settings['tau'])
        gradient, = torch.autograd.grad(value, student)
        cases.append(Case(settings, dict(student=student, teacher=teacher, labels=labels),
                          dict(value=value, gradient=gradient)))
    write('dkd', 'https://github.com/megvii-research/mdistiller', clone, cases)


if __name__ == '__main__':
    main(sys.argv[1])
