"""Numbers of SKD: the pixel-wise and the pair-wise loss of the authors.

    git clone https://github.com/irfanICMLL/structure_knowledge_distillation clone
    python benchmarks/authors/skd.py clone
"""
import sys
from types import ModuleType

import torch
from recording import Case, write

REPOSITORY = 'https://github.com/irfanICMLL/structure_knowledge_distillation'
SHAPES = {'half': (2, 5, 8, 6), 'odd': (2, 5, 7, 5)}


def main() -> None:
    clone = sys.argv[1]
    sys.path.insert(0, clone)
    for name in ('tensorboardX', 'utils.parallel'):  # imported there, but not used
        stub = ModuleType(name)
        stub.SummaryWriter = object  # type: ignore[attr-defined]
        sys.modules[name] = stub
    from utils.criterion import (  # type: ignore[import-not-found]
        CriterionPairWiseforWholeFeatAfterPool,
        CriterionPixelWise,
    )
    torch.manual_seed(0)
    cases = []
    for name, shape in SHAPES.items():
        student, teacher = (torch.randn(shape).requires_grad_() for _ in range(2))
        # The authors compute the similarity in float32.
        pair = CriterionPairWiseforWholeFeatAfterPool(scale=0.5, feat_ind=0)([student], [teacher])
        pair.backward()
        gradient = student.grad
        student.grad = None
        pixel = CriterionPixelWise()([student], [teacher])
        pixel.backward()
        cases.append(Case(dict(name=name), dict(student=student, teacher=teacher),
                          dict(pair=pair, pair_gradient=gradient, pixel=pixel,
                               pixel_gradient=student.grad)))
    write('skd', REPOSITORY, clone, cases)


if __name__ == '__main__':
    main()
