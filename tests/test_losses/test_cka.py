"""CKALoss compared with the kernels of its paper."""
import numpy as np
import pytest
import torch

from mmkd import CKALoss


def by_kernels(student, teacher):
    """HSIC with the centring matrix, equation 3 of the paper."""
    count = len(student)
    centring = np.eye(count) - np.ones((count, count)) / count
    kernels = [side @ side.T for side in (student, teacher)]

    def hsic(one, other):
        return np.trace(one @ centring @ other @ centring) / (count - 1)**2

    return 1 - hsic(*kernels) / (hsic(kernels[0], kernels[0]) * hsic(kernels[1], kernels[1]))**0.5


@pytest.mark.parametrize('images', [3, 6])
def test_it_is_the_definition(images):
    rng = np.random.default_rng(images)
    student, teacher = rng.normal(size=(images, 4)) + 3, rng.normal(size=(images, 7))
    found = CKALoss(loss_weight=2.)(torch.tensor(student), torch.tensor(teacher))
    assert found.item() == pytest.approx(2 * by_kernels(student, teacher), rel=1e-9)


def test_orthogonal_features_have_the_largest_loss():
    student = torch.tensor([[1., 0], [-1, 0], [1, 0], [-1, 0]])
    teacher = torch.tensor([[1.], [1], [-1], [-1]])
    assert CKALoss()(student, teacher).item() == pytest.approx(1)
    assert CKALoss()(student, torch.ones(4, 3)) == 1


def test_two_images_have_a_loss_of_0_and_a_warning():
    with pytest.warns(UserWarning, match='CKALoss compares 3 or more images'):
        assert CKALoss()(torch.randn(2, 4), torch.randn(2, 4)) == 0
