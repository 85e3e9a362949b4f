"""What DIST's authors return: `DIST` of their segmentation code.

    git clone https://github.com/hunto/DIST_KD clone
    python benchmarks/authors/dist.py clone
"""
import sys

import torch
from one_file import load
from recording import Case, write


def main(clone: str) -> None:
    authors = load(clone, 'segmentation/losses/dist_kd.py')
    torch.manual_seed(0)
    cases = []
    for settings in (dict(beta=1., gamma=1.), dict(beta=2., gamma=0.5)):
        for shape in ((12, 7), (2, 5, 3, 4)):
            student = (2 * torch.randn(shape, dtype=torch.float64)).requires_grad_()
            teacher = 2 * torch.randn(shape, dtype=torch.float64)
            value = authors.DIST(**settings)(student, teacher)
            gradient, = torch.autograd.grad(value, student)
            cases.append(Case(settings, dict(student=student, teacher=teacher),
                              dict(value=value, gradient=gradient)))
    write('dist', 'https://github.com/hunto/DIST_KD', clone, cases)


if __name__ == '__main__':
    main(sys.argv[1])
