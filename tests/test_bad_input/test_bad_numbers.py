"""Logits that are huge, infinite or NaN, levels without positions, and a single class."""
import math
from typing import Any, Callable

import pytest
import torch
from catalogue import Parts, Row, refused, rows
from conftest import build, distiller, retinanet
from test_bad_data import detected, frozen
from torch import nn

from mmkd import DISTLoss, KDLoss, MSELoss

SHAPE = (2, 3, 4, 5)


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*(shape or SHAPE), generator=torch.Generator().manual_seed(seed))


def scaled(student: float, teacher: float) -> Callable[[], tuple]:
    return lambda: (normal(0) * student, normal(1) * teacher)


LOSSES = [DISTLoss(), DISTLoss(use_sigmoid=True), KDLoss(), KDLoss(use_sigmoid=True),
          DISTLoss(tau=1e-3), KDLoss(tau=50.), MSELoss()]
NUMBERS = [
    Row('teacher of 1e4', scaled(1, 1e4)),
    Row('student of 1e4', scaled(1e4, 1)),
    Row('both of 1e4', scaled(1e4, 1e4)),
    Row('both 0', scaled(0, 0)),
    Row('teacher 0', scaled(1, 0)),
    Row('student 0', scaled(0, 1)),
    Row('both tiny', scaled(1e-30, 1e-30)),
    Row('equal', lambda: (normal(0), normal(0))),
    Row('one class', lambda: (normal(0, 2, 1, 4, 5), normal(1, 2, 1, 4, 5))),
    Row('one position', lambda: (normal(0, 1, 3, 1, 1), normal(1, 1, 3, 1, 1))),
    Row('one of everything', lambda: (normal(0, 1, 1, 1, 1), normal(1, 1, 1, 1, 1))),
    Row('no image', lambda: (normal(0, 0, 3, 4, 5), normal(1, 0, 3, 4, 5))),
    Row('no height', lambda: (normal(0, 2, 3, 0, 5), normal(1, 2, 3, 0, 5))),
    Row('no position of RoIs', lambda: (normal(0, 0, 3), normal(1, 0, 3))),
    Row('a level without positions among others', lambda: (
        [normal(0), normal(1, 2, 3, 0, 0)], [normal(2), normal(3, 2, 3, 0, 0)])),
    Row('nothing counts', lambda: (normal(0), normal(1), torch.zeros(2, 4, 5))),
    Row('none where nothing counts', lambda: (
        normal(0).masked_fill(torch.arange(5) == 0, math.nan), normal(1),
        torch.ones(2, 4, 5).masked_fill(torch.arange(5) == 0, 0))),
    Row('half precision', lambda: (normal(0).half(), normal(1).half())),
    Row('bfloat16 and float32', lambda: (normal(0).bfloat16(), normal(1))),
    Row('double', lambda: (normal(0).double(), normal(1).double())),
    Row('not contiguous', lambda: (normal(0).transpose(2, 3), normal(1).transpose(2, 3))),
]


@rows(NUMBERS)
@pytest.mark.parametrize('loss', LOSSES, ids=lambda loss: (
    f'{type(loss).__name__}-{getattr(loss, "use_sigmoid", None)}-{getattr(loss, "tau", None)}'))
def test_value_and_gradient_are_finite(row, loss):
    sides = row.input()
    leaves = [one.requires_grad_() for one in (
        sides[0] if isinstance(sides[0], list) else [sides[0]])]
    values = loss(*sides)
    values = values if isinstance(values, list) else [values]
    assert all(one.isfinite() for one in values), values
    torch.stack(values).sum().backward()
    weight = sides[2] if len(sides) > 2 else None
    for leaf in leaves:
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()
        if weight is not None:
            assert (leaf.grad * (weight == 0).unsqueeze(1) == 0).all()


LOSS = '(DIST|KD|MSE)Loss'
UNLIKE = Parts(LOSS, r'got \(2, 3, 4, 5\) of the student and \(2, 4, 4, 5\) of the teacher',
               'of equal shape', '; pass tensors of matching shapes')
KINDS = Parts(LOSS, 'got Tensor and list', 'compares two tensors or two lists',
              '; pass two tensors or two lists')
WRONG = [
    Row('numbers: other shapes', lambda: (normal(0), normal(1, 2, 4, 4, 5)), ValueError,
        UNLIKE._replace(expected='of equal shape')),
    Row('numbers: one and several', lambda: (normal(0), [normal(1)]), TypeError, KINDS),
    Row('numbers: levels', lambda: ([normal(0)], [normal(1)] * 2), ValueError, Parts(
        LOSS, 'got 1 of the student, 2 of the teacher', 'needs the same number of levels',
        '; pass the same number of each')),
    Row('numbers: a vector', lambda: (normal(0, 3), normal(1, 3)), ValueError, UNLIKE._replace(
        found=r'got \(3,\) of the student', expected='compares tensors .N, C, ')),
    Row('numbers: weight of other positions', lambda: (normal(0), normal(1), torch.ones(2, 4)),
        ValueError, Parts(LOSS, r'got \(2, 4\)', r'one weight per position, \(2, 4, 5\)',
                          '; pass a weight without the class dimension')),
    Row('numbers: weight below 0', lambda: (normal(0), normal(1), -torch.ones(2, 4, 5)),
        ValueError, Parts(LOSS, 'the smallest is -1', 'needs weights of 0 or more', '; write 0')),
    Row('numbers: labels for logits', lambda: (normal(0), torch.zeros(2, 4, 5).long()), ValueError,
        UNLIKE._replace(found=r'got \(2, 3, 4, 5\) of the student and \(2, 4, 5\) of the teacher',
                        expected='of equal shape')),
    Row('numbers: None for a teacher', lambda: (normal(0), None), TypeError,
        KINDS._replace(found='got Tensor and NoneType')),
]


@rows(WRONG)
@pytest.mark.parametrize('loss', LOSSES[::3], ids=lambda loss: type(loss).__name__)
def test_tensors_that_cannot_be_compared(row, loss):
    with refused(row):
        loss(*row.input())


# --- in a model -----------------------------------------------------------------------------------

def distilled(**changes: Any) -> Any:
    torch.manual_seed(0)
    model = build(dict(distiller(retinanet(), frozen(retinanet(width=12)), dict(
        type='mmkd.KDLoss', on='cls'), dict(type='mmkd.DISTLoss', on='cls')), **changes))
    model.init_weights()
    return model.train()


def bias(model: Any, number: float) -> None:
    nn.init.constant_(model.bbox_head.retina_cls.bias, number)


DIVERGED = Parts('`loss_cls_(kd|dist)` was infinite or NaN in 2 steps in a row',
                 'the teacher no number and [0-9]+ of [0-9]+ not finite',
                 'the outputs of the teacher are not finite', ': check its checkpoint')
IN_TRAINING = [
    Row('training: teacher is not a number', lambda model: bias(model.teacher.model, math.nan),
        FloatingPointError, DIVERGED),
    Row('training: teacher is infinite', lambda model: bias(model.teacher.model, math.inf),
        FloatingPointError, DIVERGED),
    Row('training: student is not a number', lambda model: bias(model, math.nan),
        FloatingPointError, DIVERGED._replace(
            found='the student no number and [0-9]+ of [0-9]+ not finite',
            expected='the student diverges', step=': lower the learning rate')),
    Row('training: teacher says 1e4', lambda model: bias(model.teacher.model, 1e4)),
    Row('training: teacher says 1e30', lambda model: bias(model.teacher.model, 1e30)),
    Row('training: weight of 1e30 for a student of -1e30', lambda model: [
        bias(model, -1e30), setattr(model.terms[0].loss, 'loss_weight', 1e30)],
        FloatingPointError, DIVERGED._replace(
            found='the student from -1e.30 to', expected='too large for the loss',
            step=': lower `loss_weight`')),
    Row('training: student says 1e4', lambda model: bias(model, 1e4)),
    Row('training: teacher says one thing alone', lambda model: [
        nn.init.zeros_(p) for p in model.teacher.model.bbox_head.parameters()]),
]


@rows(IN_TRAINING)
def test_values_that_become_infinite_in_training(row):
    """No weight has changed when the run stops with an error."""
    model = distilled(nonfinite_limit=2)
    row.input(model)
    data = model.data_preprocessor(detected([(64, 64)] * 2, [1, 1]), True)

    def step() -> dict:
        return model(**data, mode='loss')

    first = step()
    terms = {name: sum(value) for name, value in first.items() if name.endswith(('_kd', '_dist'))}
    assert len(terms) == 2
    assert all(value.isfinite() for value in terms.values()), terms
    if row.error is None:
        step()
        return
    assert any(value == 0 for value in terms.values())
    with refused(row):
        step()
