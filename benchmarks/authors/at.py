"""AT by the authors' code, with gradients.

    git clone https://github.com/szagoruyko/attention-transfer clone
    python benchmarks/authors/at.py clone
"""
import sys
import types
from pathlib import Path

import torch
from importing import load
from recording import Case, write

if __name__ == '__main__':
    clone = sys.argv[1]
    sys.modules['nested_dict'] = types.SimpleNamespace(nested_dict=dict)  # for checkpoints
    theirs = load(Path(clone) / 'utils.py').at_loss
    torch.manual_seed(0)
    found = []
    for channels, dtype in (((3, 5), torch.float64), ((4, 2), torch.float32)):
        student, teacher = (torch.randn(2, one, 4, 5, dtype=dtype) for one in channels)
        student.requires_grad_()
        value = theirs(student, teacher)
        gradient, = torch.autograd.grad(value, student)
        found.append(Case({}, dict(student=student, teacher=teacher),
                          dict(value=value, gradient=gradient)))
    write('at', 'https://github.com/szagoruyko/attention-transfer', clone, found)
