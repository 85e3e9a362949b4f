"""PKD by the code of the authors' release in mmrazor, with gradients.

    git clone https://github.com/open-mmlab/mmrazor clone
    python benchmarks/authors/pkd.py clone
"""
import sys
import types
from pathlib import Path

import torch
from importing import load
from recording import Case, write


class Registry:
    """A registry that does not register anything; mmrazor's requires packages that are not
    installed.
    """

    @staticmethod
    def register_module():
        return lambda kind: kind


if __name__ == '__main__':
    clone = sys.argv[1]
    sys.modules['mmrazor'] = types.ModuleType('mmrazor')
    sys.modules['mmrazor.registry'] = types.SimpleNamespace(MODELS=Registry)
    theirs = load(Path(clone) / 'mmrazor/models/losses/pkd_loss.py').PKDLoss
    torch.manual_seed(0)
    found = []
    for shape, dtype in (((2, 3, 4, 5), torch.float64), ((1, 4, 3, 3), torch.float64),
                         ((2, 3, 4, 5), torch.float32)):
        student = (torch.randn(shape, dtype=dtype) * 3 + 5).requires_grad_()
        teacher = torch.randn(shape, dtype=dtype) - 2
        value = theirs(loss_weight=6.)(student, teacher)
        gradient, = torch.autograd.grad(value, student)
        found.append(Case(dict(loss_weight=6.), dict(student=student, teacher=teacher),
                          dict(value=value, gradient=gradient)))
    write('pkd', 'https://github.com/open-mmlab/mmrazor', clone, found)
