"""Compare distilled steps in mixed precision with float32: terms, and gradients of the student.

    python benchmarks/gpu/amp.py

One batch, the same random weights. Only terms of distillation count. Numbers have 8 bits in
bfloat16 and 11 in float16, and errors of some fifty layers add up. Logits of random weights hardly
vary, so relations between them are more sensitive than those of a trained student. A term may
differ by 5 % (bfloat16) or 1 % (float16), and the cosine of the gradients must be at least 0.9 or
0.99.
"""
import copy
from typing import Any, Dict, List, Tuple

import torch
from parts import arguments, batch_of, models_of
from torch import Tensor

CASES = {
    'retinanet': [dict(type='mmkd.DISTLoss', on='cls'), dict(type='mmkd.KDLoss', on='cls'),
                  dict(type='mmkd.PKDLoss', on='neck'),
                  dict(type='mmkd.MSELoss', on='neck', connector='conv')],
    'faster_rcnn': [dict(type='mmkd.DISTLoss', on='cls')],  # RoIAlign has no bfloat16
    'pspnet': [dict(type='mmkd.CWDLoss', on='cls'), dict(type='mmkd.DISTLoss', on='cls')],
}
LIMITS = dict(bfloat16=(0.05, 0.9), float16=(0.01, 0.99))
"""Largest relative difference of a term, and smallest cosine of its gradient."""


def main() -> None:
    args = arguments(__doc__)
    print('| pair | term | dtype | relative difference | cosine of the gradients |\n'
          '|---|---|---|---|---|')
    failed: List[str] = []
    for pair, distill in CASES.items():
        torch.manual_seed(0)
        model = models_of(pair, distill, args.device)
        data = model.data_preprocessor(batch_of(model), True)
        exact = terms_of(model, data, None, args.device)
        for name, (most, least) in LIMITS.items():
            if (args.device == 'cpu') if name == 'float16' else (pair == 'faster_rcnn'):
                continue
            found = terms_of(model, data, getattr(torch, name), args.device)
            for term, (value, gradient) in found.items():
                other, direction = exact[term]
                difference = abs(value / other - 1)
                cosine = float(torch.cosine_similarity(gradient, direction, 0))
                print(f'| {pair} | {term} | {name} | {difference:.1e} | {cosine:.4f} |', flush=True)
                if not (difference <= most and cosine >= least):
                    failed.append(f'{pair} {term} {name}')
    if failed:
        raise SystemExit('beyond the limit: ' + '; '.join(failed))


def terms_of(model: Any, data: Any, dtype: Any, device: str) -> Dict[str, Tuple[float, Tensor]]:
    """Return the value of each term, and its gradient with respect to the student's weights."""
    torch.manual_seed(1)  # sampling of RoIs
    with torch.autocast(device, dtype, enabled=dtype is not None):
        _, losses = model.parse_losses(model(**copy.copy(data), mode='loss'))
    weights = [one for one in model.student.parameters() if one.requires_grad]
    found = {}
    for term in model.terms:
        value = losses[term.name]
        # A loss scaler does this: gradients of early layers would be 0 in float16.
        gradients = torch.autograd.grad(value * 1024, weights, retain_graph=True, allow_unused=True)
        found[term.name] = float(value), torch.cat([
            one.double().flatten() for one in gradients if one is not None]) / 1024
    return found


if __name__ == '__main__':
    main()
