"""What MasKD's code returns: the loss of detectors and of segmentors, and the first stage.

    git clone https://github.com/hunto/MasKD clone
    python benchmarks/authors/maskd.py clone
"""
import importlib.util
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any, Dict, List
from unittest.mock import MagicMock, patch

import torch
from recording import Case, write
from torch import Tensor, nn


class Registry:
    """A registry that does not register anything."""

    def register_module(self) -> Any:
        return lambda cls: cls


def load(clone: str, path: str) -> ModuleType:
    """Import a file of the clone without mmcv, cv2 and the rest of its package."""
    stubs: Dict[str, Any] = {name: MagicMock(LOSSES=Registry()) for name in (
        'mmcv', 'mmcv.runner', 'mmcv.runner.checkpoint', 'cv2', 'theirs', 'theirs.builder')}
    stubs['theirs.losses'] = ModuleType('theirs.losses')
    spec = importlib.util.spec_from_file_location(
        f'theirs.losses.{Path(path).stem}', Path(clone) / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with patch.dict(sys.modules, stubs):
        spec.loader.exec_module(module)
    return module


def random_state(module: nn.Module, scale: float = 0.5) -> Dict[str, Tensor]:
    """Set random weights of a module; return copies of them."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=scale)
    return {name: value.clone() for name, value in module.state_dict().items()}


def features(*shapes: Any) -> List[Tensor]:
    """Draw random float64 levels."""
    return [torch.randn(shape, dtype=torch.float64) for shape in shapes]


SHAPES = ((2, 3, 4, 3), (2, 3, 1, 2))


def main(clone: str) -> None:
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    cases = []
    theirs = load(clone, 'mmrazor/mmrazor/models/losses/maskd.py')
    for weighted, warmup, iteration in ((True, 2, 0), (True, 2, 2), (False, 1, 0), (False, 1, 1)):
        loss = theirs.MasKDLoss([3, 3], 2, weighted, True, warmup, loss_weight=7)
        state = random_state(loss)
        loss._iter = iteration
        student, teacher = features(*SHAPES), features(*SHAPES)
        for level in student:
            level.requires_grad_()
        value = loss(student, teacher)
        cases.append(Case(
            dict(kind='detector', tokens=2, weighted=weighted, warmup=warmup),
            dict(student=student, teacher=teacher, state=state, iteration=iteration),
            dict(value=value, gradients=torch.autograd.grad(value, student))))

    for weighted in (True, False):
        module = theirs.MaskModule(3, 3, weighted)
        state = random_state(module)
        one, = features(SHAPES[0])
        one.requires_grad_()
        new, dice = module(one)
        factor = torch.randn_like(new)
        named = dict(module.named_parameters())
        gradients = torch.autograd.grad((new * factor).sum() + dice, list(named.values()))
        cases.append(Case(
            dict(kind='stage 1', tokens=3, weighted=weighted),
            dict(features=one, state=state, factor=factor),
            dict(new=new, dice=dice, gradients=dict(zip(named, gradients)))))

    theirs = load(clone, 'segmentation/losses/maskd.py')
    with tempfile.NamedTemporaryFile(suffix='.pth') as file:
        state = random_state(theirs.MaskModule(3, 4))
        torch.save(state, file.name)
        loss = theirs.MasKDLoss(3, 4, pretrained=file.name)
    student, teacher = features(SHAPES[0], SHAPES[0])
    student.requires_grad_()
    value = loss(student, teacher)
    cases.append(Case(dict(kind='segmentor', tokens=4, weighted=False),
                      dict(student=student, teacher=teacher, state=state),
                      dict(value=value, gradient=torch.autograd.grad(value, student)[0])))
    write('maskd', 'https://github.com/hunto/MasKD', clone, cases)


if __name__ == '__main__':
    main(sys.argv[1])
