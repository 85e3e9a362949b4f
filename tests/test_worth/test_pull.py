"""Comparison of gradients, on networks with known gradients."""
import math

import pytest
import torch
from torch import nn

from mmkd.worth.costs import break_even
from mmkd.worth.pull import memory_of, pull_of, step, unchanged


class Line(nn.Module):
    """A neck that multiplies its input by a weight, for losses that are linear in its output."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Identity()
        self.neck = nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.neck.weight.copy_(torch.eye(2))

    def data_preprocessor(self, batch, training):
        return dict(inputs=batch, data_samples=None)


def losses_of(task, term):
    def forward(inputs, samples):
        features = model.neck(model.backbone(inputs))
        return dict(loss_cls=(features * torch.tensor(task)).sum(),
                    loss_neck_mse=[(features * torch.tensor(term)).sum()], factor=torch.ones(()))

    model = Line()
    return model, forward


@pytest.fixture(autouse=True)
def points(monkeypatch):
    from mmkd.points.point import Point, tensors_of
    monkeypatch.setattr('mmkd.worth.pull.points_of', lambda model: {
        name: Point(name, (name, ), tensors_of) for name in ('neck', 'backbone')})


def test_ratio_and_cosine_of_a_linear_model():
    """The gradients at the output of the neck are (3, 4) and (0, 10)."""
    model, forward = losses_of((0., 10.), (3., 4.))
    found = step(forward, model, torch.ones(1, 2), ['loss_neck_mse'])
    assert found.pulls['neck'].ratio == pytest.approx(0.5)
    assert found.pulls['neck'].cosine == pytest.approx(0.8)
    assert found.losses == {'loss_neck_mse': pytest.approx(7.)}
    assert all(one.grad is None for one in model.parameters())


def test_gradient_of_a_term_before_the_neck():
    model = Line()
    model.backbone = nn.Linear(2, 2, bias=False)

    def forward(inputs, samples):
        early = model.backbone(inputs)
        return dict(loss=model.neck(early).sum(), loss_early=2 * early.sum())

    found = step(forward, model, torch.ones(1, 2), ['loss_early'])
    assert set(found.pulls) == {'backbone'}
    assert found.pulls['backbone'] == (pytest.approx(2.), pytest.approx(1.))


def test_term_without_gradient_has_no_ratio():
    model, forward = losses_of((0., 10.), (3., 4.))
    found = step(lambda *given: {**forward(*given), 'loss_neck_mse': torch.ones(())}, model,
                 torch.ones(1, 2), ['loss_neck_mse'])
    assert found.pulls == {}


def test_gradients_of_zero():
    assert pull_of([torch.zeros(2)], [torch.ones(2)]) == (0., 0.)
    assert pull_of([torch.ones(2)], [torch.zeros(2)]) == (math.inf, 0.)


def test_memory_counts_tensors_kept_for_backward():
    """The result of exp is kept: 1000 floats. Parameters do not count."""
    model = nn.Linear(1, 1)
    inputs = torch.ones(1000, 1, requires_grad=True)
    with memory_of(model) as found:
        inputs.exp().sum()
    assert found == [4000.]


def test_student_is_not_changed():
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout())
    model.eval()
    before = {name: one.clone() for name, one in model.state_dict().items()}
    with unchanged(model):
        assert model[1].training
        model(torch.randn(4, 2))
        assert not torch.equal(model[0].running_mean, before['0.running_mean'])
    assert not model[1].training
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())


def test_when_a_cache_pays():
    """4 variants: writing takes 4 epochs of 3 s, reading 1 s each; without a cache 2 s each."""
    epochs = break_even(teacher=2., write=3., read=1., variants=4)
    assert epochs == 8.
    assert 4 * 3. + (epochs - 4) * 1. == epochs * 2.
    assert break_even(teacher=1., write=2., read=1.) is None
