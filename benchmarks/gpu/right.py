"""Compare kernels and losses on a GPU with their formulas in float64.

    python benchmarks/gpu/right.py

Kernels of DIST, KD and CWD: value and gradient on all shapes, relative to the largest number of the
exact result. Losses of half-precision logits: mmkd computes in float32, so what is left is the
rounding of the logits; `in half` is the error of the same formula that gets the rounded logits.
"""
import argparse
from typing import Any, Dict, List, Optional, Tuple

import torch
from torch import Tensor

from mmkd.losses import CWDLoss, DISTLoss, KDLoss, LogitLoss, PKDLoss
from mmkd.losses.fast import fused

SHAPES: List[Tuple[int, ...]] = [
    (2, 40, 5, 7), (1, 70, 5, 7), (2, 33, 2, 2), (2, 1, 3, 3), (2, 2, 3, 3), (1, 5, 1, 1),
    (2, 720, 13, 21), (2, 19, 64, 128), (2, 1203, 7, 11)]
WEIGHTS = (None, 'some', 'mask', 'none')
LIMIT = dict(value=2e-5, gradient=2e-4)
"""Largest relative error of float32: sums of up to 1e6 terms, and differences of probabilities."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--device', default='cuda')
    parser.add_argument('--out')
    args = parser.parse_args()
    if args.device == 'cuda':
        assert fused.fits(torch.zeros(1, device='cuda')), 'Triton is not installed'
    print('| loss | dtype of the logits | cases | value, largest relative error | gradient |\n'
          '|---|---|---|---|---|')
    failed = []
    for name, loss in losses().items():
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            worst = dict(value=0., gradient=0.)
            cases = 0
            for number, shape in enumerate(SHAPES):
                for weight in WEIGHTS:
                    errors = errors_of(loss, shape, weight, dtype, number, args.device)
                    if errors is None:
                        continue
                    cases += 1
                    worst = {key: max(worst[key], errors[key]) for key in worst}
            # The gradient of logits in half precision is rounded to their dtype.
            unit = 0. if dtype == torch.float32 else torch.finfo(dtype).eps
            failed += [f'{name} {dtype} {key} {value:.1e}' for key, value in worst.items()
                       if not value <= LIMIT[key] + unit]
            print(f'| {name} | {str(dtype)[6:]} | {cases} | {worst["value"]:.1e} | '
                  f'{worst["gradient"]:.1e} |')
    if failed:
        raise SystemExit('beyond the limit: ' + '; '.join(failed))
    print('\nAll within 2e-5 (values) and 2e-4 (gradients, relative to the largest), plus the '
          "rounding of half precision's gradients.")


def losses() -> Dict[str, Any]:
    found: Dict[str, Any] = {}
    for use_sigmoid in (True, False):
        form = 'sigmoid' if use_sigmoid else 'softmax'
        found[f'DIST, {form}'] = DISTLoss(1.3, 0.7, tau=2., use_sigmoid=use_sigmoid)
        found[f'KD, {form}'] = KDLoss(tau=3., use_sigmoid=use_sigmoid)
    return dict(found, CWD=CWDLoss(tau=2.), PKD=PKDLoss())


def errors_of(loss: Any, shape: Tuple[int, ...], kind: Optional[str], dtype: torch.dtype,
              seed: int, device: str) -> Optional[Dict[str, float]]:
    """Return the relative errors of value and gradient."""
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (3 * torch.randn(shape, generator=generator) for _ in range(2))
    weight: Optional[Tensor] = None
    if kind is not None:
        weight = torch.rand(shape[0], *shape[2:], generator=generator)
        weight = dict(some=weight, mask=(weight > 0.5).float(), none=weight * 0)[kind]
    positions = shape[0] * shape[2] * shape[3]
    if isinstance(loss, PKDLoss) and (weight is not None or positions < 2):
        return None  # standardised over positions
    if isinstance(loss, DISTLoss) and (shape[1] < 3 or positions < 3):
        return None  # correlations of ±1 have a gradient of 0, so only rounding would be compared
    student, teacher = student.to(dtype), teacher.to(dtype)
    one = student.to(device).requires_grad_()
    exact = student.double().requires_grad_()
    value = loss(one, teacher.to(device), None if weight is None else weight.to(device))
    weight = None if weight is None else weight.double()
    # By autograd, from the formula.
    expected = (LogitLoss.compare(loss, exact, teacher.double(), weight)
                if isinstance(loss, LogitLoss) else loss(exact, teacher.double(), weight))
    found, = torch.autograd.grad(value, one)
    gradient, = torch.autograd.grad(expected, exact, allow_unused=True)  # every position is masked
    return dict(value=error(value, expected), gradient=error(
        found, torch.zeros_like(exact) if gradient is None else gradient))


def error(found: Tensor, expected: Tensor) -> float:
    found, expected = found.detach().double().cpu(), expected.detach().double()
    largest = expected.abs().max().clamp(min=1e-6)
    return float((found - expected).abs().max() / largest)


if __name__ == '__main__':
    main()
