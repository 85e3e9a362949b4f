"""MSE compared with loops, and on empty input."""
import torch

from mmkd import MSELoss


def test_mse_of_positions_and_channels():
    torch.manual_seed(0)
    s, t = torch.randn(2, 2, 3, 4, 5, dtype=torch.float64)
    expected = sum((s[n, c, y, x] - t[n, c, y, x])**2 for n in range(2) for c in range(3)
                   for y in range(4) for x in range(5)) / 120
    torch.testing.assert_close(MSELoss()(s, t), expected)
    weight = torch.rand(2, 4, 5, dtype=torch.float64)
    expected = (weight * ((s - t)**2).mean(1)).sum() / weight.sum()
    torch.testing.assert_close(MSELoss(loss_weight=3.)(s, t, weight), 3 * expected)
    assert MSELoss()(s[:, :, 0, 0], t[:, :, 0, 0]).dim() == 0


def test_mse_of_empty_and_masked_input():
    s = torch.randn(2, 3, 4, requires_grad=True)
    t = torch.randn(2, 3, 4)
    t[0, :, 1] = float('nan')
    weight = torch.ones(2, 4)
    weight[0, 1] = 0
    loss = MSELoss()(s, t, weight)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(s.grad).all()
    assert (s.grad[0, :, 1] == 0).all()
    assert MSELoss()(s, t, weight * 0) == 0
    empty = torch.zeros(0, 3, requires_grad=True)
    MSELoss()(empty, torch.zeros(0, 3)).backward()
    torch.autograd.gradcheck(MSELoss(), (
        torch.randn(3, 2, dtype=torch.float64, requires_grad=True),
        torch.randn(3, 2, dtype=torch.float64)))
