"""Train side modules in one process of NCCL, and compare with training without it.

    python benchmarks/gpu/nccl.py

Connectors, a loss with layers and the student get the gradients of a plain step. float32 without
TF32, so that only the order of sums differs.
"""
import copy
import os
from typing import Dict

import torch
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from parts import arguments, batch_of, models_of
from torch import Tensor, nn

DISTILL = [dict(type='mmkd.DISTLoss', on='cls'),
           dict(type='mmkd.MSELoss', on='neck', connector='conv'),
           dict(type='mmkd.MGDLoss', on='neck', name='loss_neck_mgd', loss_weight=1e-4)]


class Keeping(OptimWrapper):
    """Stores gradients and changes no weights."""

    def step(self, **kwargs: object) -> None:
        """Do nothing."""

    def zero_grad(self, **kwargs: object) -> None:
        """Do nothing."""


def main() -> None:
    args = arguments(__doc__)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT='29511', RANK='0', WORLD_SIZE='1')
    backend = 'nccl' if args.device == 'cuda' else 'gloo'
    torch.distributed.init_process_group(backend)
    plain, wrapped = gradients(args.device, False), gradients(args.device, True)
    assert plain.keys() == wrapped.keys()
    assert any('beside' in name for name in plain)
    largest = max(float((plain[name] - wrapped[name]).abs().max() /
                        plain[name].abs().max().clamp(min=1e-12)) for name in plain)
    beside = sum('beside' in name for name in plain)
    print(f'{backend}, 1 process: {len(plain)} gradients, {beside} of them of side modules; the '
          f'largest relative difference from training without it is {largest:.1e}.')
    torch.distributed.destroy_process_group()
    if not largest < 1e-4:
        raise SystemExit('the gradients differ by more than 1e-4')


def gradients(device: str, is_wrapped: bool) -> Dict[str, Tensor]:
    """Return the gradients of one step of student and side modules."""
    torch.manual_seed(0)
    model = models_of('retinanet', DISTILL, device)
    beside = model.distillation.trained_beside
    optimizer = Keeping(torch.optim.SGD([*model.student.parameters(), *beside], lr=1e-3))
    torch.manual_seed(1)
    batch = batch_of(model)
    step: nn.Module = model
    if is_wrapped:
        step = MMDistributedDataParallel(
            model, device_ids=[0] if device == 'cuda' else None, broadcast_buffers=False)
    torch.manual_seed(2)  # mask of MGD
    step.train_step(copy.deepcopy(batch), optimizer)
    found = {name: one.grad for name, one in model.student.named_parameters()
             if one.grad is not None}
    found.update({f'beside.{i}': one.grad for i, one in enumerate(beside) if one.grad is not None})
    return found


if __name__ == '__main__':
    main()
