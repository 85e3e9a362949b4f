"""Compare kernels and losses on a GPU with their formulas in float64.

    python benchmarks/gpu/right.py

Value and gradient on all shapes, relative to the largest number of the exact result, which is that
of the formula by autograd in float64. With logits in half precision the formula gets the rounded
logits, and mmkd computes in float32, so what is left is the rounding of the gradient. It is scaled
before the rounding, as a loss scaler does. Weights of positions: none, random, 0 or 1, all 0, and 0
where both logits are NaN.
"""
import math
from typing import Any, Dict, List, Optional, Tuple

import torch
from parts import arguments
from torch import Tensor

from mmkd.losses import CWDLoss, DISTLoss, KDLoss, LogitLoss, PKDLoss, cwd, kd
from mmkd.losses.fast import closed_form, fused

SHAPES: List[Tuple[int, ...]] = [
    (2, 40, 5, 7), (1, 70, 5, 7), (2, 33, 2, 2), (2, 1, 3, 3), (2, 2, 3, 3), (1, 5, 1, 1),
    (2, 720, 13, 21), (2, 19, 64, 128), (2, 1203, 7, 11), (37, 9), (0, 9)]
LARGE = (2, 720, 100, 168)
"""The first level of RetinaNet for COCO, on a GPU only."""
WEIGHTS = (None, 'some', 'mask', 'none', 'nan')
LIMIT = dict(value=2e-5, gradient=2e-4)
"""Largest relative error of float32: sums of up to 1e6 terms, and differences of probabilities."""


def main() -> None:
    args = arguments(__doc__)
    shapes = list(SHAPES)
    if args.device == 'cuda':
        check_kernels()
        shapes.append(LARGE)
    print('| loss | dtype of the logits | cases | value, largest relative error | gradient |\n'
          '|---|---|---|---|---|')
    failed = []
    for name, loss in losses().items():
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            worst = dict(value=0., gradient=0.)
            cases = 0
            for number, shape in enumerate(shapes):
                for weight in WEIGHTS[:2] if shape == LARGE else WEIGHTS:
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
                  f'{worst["gradient"]:.1e} |', flush=True)
    if failed:
        raise SystemExit('beyond the limit: ' + '; '.join(failed))
    print('\nAll within 2e-5 (values) and 2e-4 (gradients, relative to the largest), plus the '
          "rounding of half precision's gradients.")


def check_kernels() -> None:
    """Stop if a loss would run without its kernels, which would then not be tested.

    Raises:
        SystemExit: If Triton is missing, or a kernel fails or disagrees.
    """
    device = torch.device('cuda', torch.cuda.current_device())
    if not fused.fits(torch.zeros(1, device=device)):
        raise SystemExit('Triton is not installed')
    for has_weight in (False, True):
        agree = {f'{name}, sigmoid {use_sigmoid}': believed(device, use_sigmoid, has_weight)
                 for name, believed in (('DIST', closed_form.is_believed), ('KD', kd.is_believed))
                 for use_sigmoid in (False, True)}
        agree['CWD'] = cwd.is_believed(device, has_weight)
        broken = [name for name, is_right in agree.items() if not is_right]
        if broken:
            raise SystemExit(f'kernels that fail, with weights {has_weight}: {"; ".join(broken)}')


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
        weight = weight if kind == 'some' else weight * 0 if kind == 'none' else (
            weight > 0.5).float()
    positions = shape[0] * math.prod(shape[2:])
    if isinstance(loss, (PKDLoss, CWDLoss)) and len(shape) == 2:
        return None  # losses of maps
    if isinstance(loss, PKDLoss) and (weight is not None or positions < 2):
        return None  # standardised over positions
    if isinstance(loss, DISTLoss) and (shape[1] < 3 or 0 < positions < 3):
        return None  # correlations of ±1 have a gradient of 0, so only rounding would be compared
    student, teacher = (one.to(device, dtype) for one in (student, teacher))
    weight = None if weight is None else weight.to(device)
    exact, other = student.double(), teacher.double()
    if kind == 'nan':
        assert weight is not None
        is_left_out = (weight == 0).unsqueeze(1).expand(shape)
        student, teacher = (one.masked_fill(is_left_out, math.nan) for one in (student, teacher))
    student.requires_grad_()
    exact.requires_grad_()
    value = loss(student, teacher, weight)
    weight = None if weight is None else weight.double()
    expected = (LogitLoss.compare(loss, exact, other, weight)
                if isinstance(loss, LogitLoss) else loss(exact, other, weight))
    # None where all positions are masked.
    gradient, = torch.autograd.grad(expected, exact, allow_unused=True)
    gradient = torch.zeros_like(exact) if gradient is None else gradient
    scale = 1.
    if dtype != torch.float32 and gradient.numel():
        scale = 2. ** -math.floor(math.log2(max(float(gradient.abs().max()), 2. ** -40)))
    found, = torch.autograd.grad(value * scale, student)
    return dict(value=error(value, expected), gradient=error(found.double() / scale, gradient))


def error(found: Tensor, expected: Tensor) -> float:
    found, expected = found.detach().double(), expected.detach().double()
    if not expected.numel():
        return 0.
    largest = expected.abs().max().clamp(min=1e-6)
    return float((found - expected).abs().max() / largest)


if __name__ == '__main__':
    main()
