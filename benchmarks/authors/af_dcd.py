"""Masked generation and omni-contrast by Af-DCD's authors.

    git clone https://github.com/OSVAI/Af-DCD clone
    python benchmarks/authors/af_dcd.py clone

The mask and the weights that they draw are recorded.
"""
import sys
from pathlib import Path
from typing import Any

import torch
from recording import Case, write
from torch import Tensor

REPOSITORY = 'https://github.com/OSVAI/Af-DCD'


def main(clone: str) -> None:
    sys.path.insert(0, str(Path(clone) / 'losses'))
    torch.set_default_dtype(torch.float64)
    from ocmgd import OmniContrastiveFeatureLoss
    generator = torch.Generator().manual_seed(0)
    drawn = []
    rand = torch.rand

    def recorded(size: Any) -> Tensor:
        drawn.append(rand(size, generator=generator))
        return drawn[-1]

    cases = []
    for enhanced, pool, groups, (count, height, width) in (
            (False, 2, 2, (1, 8, 16)), (True, 0, 4, (2, 4, 4)), (False, 0, 2, (1, 8, 4))):
        torch.manual_seed(0)
        loss = OmniContrastiveFeatureLoss(
            student_channels=3, teacher_channels=4, M_ocd=groups, pool_size=pool,
            enhance_projector=enhanced)
        student = torch.randn(count, 3, height, width, generator=generator).requires_grad_()
        teacher = torch.randn(count, 4, height, width, generator=generator)
        torch.rand = recorded  # type: ignore[assignment]
        feature, contrast = loss(student, teacher)
        torch.rand = rand
        weights = list(loss.parameters())
        (1e-2 * feature + contrast).backward()
        cases.append(Case(
            dict(enhanced=enhanced, pool=max(pool, 1), groups=groups),
            dict(student=student, teacher=teacher, kept=(drawn[-1] <= 0.25).to(student),
                 weights=[one.detach() for one in weights]),
            dict(feature=feature, contrast=contrast, gradient=student.grad)))
    write('af_dcd', REPOSITORY, clone, cases)


if __name__ == '__main__':
    main(sys.argv[1])
