"""What mmrazor's CWD returns, as in the clone of MasKD: `ChannelWiseDivergence`.

    git clone https://github.com/hunto/MasKD clone
    python benchmarks/authors/cwd.py clone
"""
import sys

import torch
from one_file import load
from recording import Case, write


def main(clone: str) -> None:
    authors = load(clone, 'mmrazor/mmrazor/models/losses/cwd.py', 'mmrazor.mmrazor.models.builder')
    torch.manual_seed(0)
    cases = []
    for settings in (dict(tau=1., loss_weight=5.), dict(tau=4., loss_weight=3.)):
        student = (2 * torch.randn(2, 3, 4, 5, dtype=torch.float64)).requires_grad_()
        teacher = 2 * torch.randn(2, 3, 4, 5, dtype=torch.float64)
        value = authors.ChannelWiseDivergence(**settings)(student, teacher)
        gradient, = torch.autograd.grad(value, student)
        cases.append(Case(settings, dict(student=student, teacher=teacher),
                          dict(value=value, gradient=gradient)))
    write('cwd', 'https://github.com/hunto/MasKD', clone, cases)


if __name__ == '__main__':
    main(sys.argv[1])
