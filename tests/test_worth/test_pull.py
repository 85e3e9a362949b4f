"""Gradients beside each other, on networks whose gradients are known."""
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mmkd.worth.costs import break_even
from mmkd.worth.findings import MethodFinding
from mmkd.worth.pull import Lesson, Pull, fill, memory_of, pull_of, step, unchanged


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


NECK = {'loss_neck_mse': ['neck']}


def test_norms_and_cosine_of_a_linear_model():
    """Gradients on the output of the neck are (3, 4) and (0, 10)."""
    model, forward = losses_of((0., 10.), (3., 4.))
    found = step(forward, model, torch.ones(1, 2), NECK)
    assert found.pulls == {'loss_neck_mse': (
        pytest.approx(10.), pytest.approx(5.), pytest.approx(0.8))}
    assert found.losses == {'loss_neck_mse': pytest.approx(7.)}
    assert all(one.grad is None for one in model.parameters())


def test_each_term_is_measured_at_its_own_modules():
    """The gradients on the output of the backbone are (2, 2) and, through the neck, (1, 1)."""
    model = Line()
    model.backbone = nn.Linear(2, 2, bias=False)

    def forward(inputs, samples):
        early = model.backbone(inputs)
        late = model.neck(early)
        return dict(loss=late.sum(), loss_early=2 * early.sum(), loss_late=[late[:, 0].sum()])

    found = step(forward, model, torch.ones(1, 2), dict(
        loss_early=['backbone'], loss_late=['neck'])).pulls
    assert found['loss_early'] == (pytest.approx(2**.5), pytest.approx(8**.5), pytest.approx(1.))
    assert found['loss_late'] == (pytest.approx(2**.5), pytest.approx(1.), pytest.approx(2**-.5))


def test_term_without_gradient_has_no_ratio():
    model, forward = losses_of((0., 10.), (3., 4.))
    found = step(lambda *given: {**forward(*given), 'loss_neck_mse': torch.ones(())}, model,
                 torch.ones(1, 2), NECK)
    assert found.pulls == {}
    assert found.note == ''


def test_a_term_beside_the_task_says_why_it_has_no_share():
    model = Line()
    model.side = nn.Linear(2, 2)
    found = step(lambda inputs, samples: dict(
        loss=model.neck(inputs).sum(), loss_side=model.side(inputs).sum()), model,
        torch.ones(1, 2), dict(loss_side=['side']))
    assert found.pulls == {}
    assert '`loss_side`: the losses on labels do not depend on `side`' in found.note


def test_gradients_of_zero():
    assert pull_of(torch.tensor([2., 0., 0.])) == (2., 0., 0.)
    assert pull_of(torch.tensor([0., 2., 0.])) == (0., 2., 0.)
    assert pull_of(torch.zeros(3)) is None


def test_the_largest_term_stands_for_the_method():
    """(1 + 5) / (2 + 4) = 1 of the first term, 9 / 6 of the second one."""
    terms = [SimpleNamespace(name=name, spec=SimpleNamespace(on_student=on), loss=SimpleNamespace(
        loss_weight=weight), parts=[SimpleNamespace(shared=(place, ))]) for name, on, weight, place
        in (('loss_a', 'cls', 4., 'neck'), ('loss_b', 'backbone', 1., 'backbone'))]
    lessons = [Lesson(dict(loss_a=Pull(2., 1., 0.5), loss_b=Pull(2., 3., 0.)), {}, 1., 1.),
               Lesson(dict(loss_a=Pull(4., 5., 0.1), loss_b=Pull(4., 6., -0.2)), {}, 2., 3.)]
    found = MethodFinding('both')
    fill(found, lessons, SimpleNamespace(terms=terms))
    first, second = found.terms
    assert (first.ratio, first.cosine, first.on, first.shared) == (1., 0.3, 'cls', 'neck')
    assert (found.ratio, found.cosine, found.shared) == (1.5, -0.1, 'backbone')
    assert (found.seconds, found.memory) == (1., 3.)
    assert first.weight_for(10.) == 40.
    assert second.weight_for(3.) == 2.


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
