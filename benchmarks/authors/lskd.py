"""What LSKD's authors return: `kd_loss` and `dkd_loss`, standardised and not.

    git clone https://github.com/sunshangquan/logit-standardization-KD clone
    python benchmarks/authors/lskd.py clone
"""
import sys
import warnings

import torch
from one_file import load
from recording import Case, write

SETTINGS = (dict(tau=2., standardize=True), dict(tau=4., standardize=False),
            dict(tau=2., standardize=True, alpha=9., beta=72.))
"""With `alpha` DKD is used, otherwise KD."""


def main(clone: str) -> None:
    warnings.simplefilter('ignore')  # the authors use an argument that torch has renamed
    kd, dkd = (load(clone, f'mdistiller/distillers/{name}.py', 'mdistiller.distillers._base')
               for name in ('KD', 'DKD'))
    torch.manual_seed(0)
    cases = []
    for settings in SETTINGS:
        student = (2 * torch.randn(12, 7, dtype=torch.float64) + 3).requires_grad_()
        teacher = 5 * torch.randn(12, 7, dtype=torch.float64)
        labels = torch.randint(0, 7, (12, ))
        shared = settings['tau'], settings['standardize']
        value = kd.kd_loss(student, teacher, *shared) if 'alpha' not in settings else dkd.dkd_loss(
            student, teacher, labels, settings['alpha'], settings['beta'], *shared)
        gradient, = torch.autograd.grad(value, student)
        cases.append(Case(settings, dict(student=student, teacher=teacher, labels=labels),
                          dict(value=value, gradient=gradient)))
    write('lskd', 'https://github.com/sunshangquan/logit-standardization-KD', clone, cases)


if __name__ == '__main__':
    main(sys.argv[1])
