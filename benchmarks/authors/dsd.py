"""Numbers of DSD, from the implementation in CIRKD's repository.

    git clone https://github.com/winycg/CIRKD clone
    python benchmarks/authors/dsd.py clone
"""
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import torch
from recording import Case, write

REPOSITORY = 'https://github.com/winycg/CIRKD'


def main() -> None:
    clone = sys.argv[1]
    stub = ModuleType('turtle')  # imported there by mistake; it requires a display
    stub.forward = None  # type: ignore[attr-defined]
    sys.modules['turtle'] = stub
    torch.Tensor.cuda = lambda self: self  # type: ignore[assignment,method-assign]
    spec = importlib.util.spec_from_file_location('dsd', Path(clone) / 'losses' / 'dsd.py')
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    torch.set_default_dtype(torch.float64)  # dtype of the start value of their sum
    generator = torch.Generator().manual_seed(0)
    cases = []
    for size, widths in (((4, 6), (2, 4)), ((5, 3), (3, ))):
        student, teacher = ([torch.randn(2, width, *size, dtype=torch.float64, generator=generator)
                             .requires_grad_() for width in (*widths, 3)] for _ in range(2))
        pixel, category = module.CriterionDoubleSimKD()(student, teacher)
        gradients = [torch.autograd.grad(one, student, allow_unused=True, retain_graph=True)
                     for one in (pixel, category)]
        cases.append(Case({}, dict(student=student, teacher=teacher), dict(
            pixel=pixel, category=category, pixel_gradients=gradients[0],
            category_gradient=gradients[1][-1])))
    write('dsd', REPOSITORY, clone, cases)


if __name__ == '__main__':
    main()
