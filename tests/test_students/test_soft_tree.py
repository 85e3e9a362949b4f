"""The soft decision tree: its formulas compared with loops, its regulariser with a formula."""
import copy
import math

import pytest
import torch
from support.processes import in_processes

from mmkd.students.soft_tree import SoftTree


def tree(channels=5, classes=3, depth=2, seed=0, **settings):
    torch.manual_seed(seed)
    made = SoftTree(channels, classes, depth, **settings).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(std=0.3)
    return made


def rows(count, channels=5, seed=1):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(count, channels, dtype=torch.float64, generator=rng)


def sigmoid(x):
    return 1 / (1 + torch.exp(-x))


def by_loops(made, x):
    """Return log-probabilities per row. The root is node 0, the children of i are 2i+1 and 2i+2."""
    inner = 2**made.depth - 1
    found = []
    for row in x:
        reach = {0: torch.tensor(1., dtype=torch.float64)}
        for i in range(inner):
            activation = sum(w * v for w, v in zip(made.filters[i], row)) + made.offsets[i]
            p = sigmoid(made.log_beta[i].exp() * activation)
            reach[2 * i + 1], reach[2 * i + 2] = reach[i] * (1 - p), reach[i] * p
        total = [0.] * made.num_classes
        for leaf in range(2**made.depth):
            scores = [(10 * one).exp() for one in made.scores[leaf]]
            for k, score in enumerate(scores):
                total[k] = total[k] + reach[inner + leaf] * score / sum(scores)
        found.append(torch.stack([one.log() for one in total]))
    return torch.stack(found)


@pytest.mark.parametrize('depth', [1, 2, 3])
def test_it_agrees_with_loops(depth):
    made, x = tree(depth=depth), rows(4).requires_grad_()
    found, expected = made(x), by_loops(made, x)
    torch.testing.assert_close(found, expected)
    inputs = [x, *made.parameters()]
    labels = torch.tensor([0, 1, 2, 1])
    mine, wanted = (torch.autograd.grad(torch.nn.functional.cross_entropy(one, labels), inputs)
                    for one in (found, expected))
    for one, other in zip(mine, wanted):
        assert other.abs().sum() > 0
        torch.testing.assert_close(one, other)


def test_probabilities_sum_to_one():
    made, x = tree(depth=4), rows(50)
    routes = made.routes(x)
    torch.testing.assert_close(routes.leaves.sum(1), torch.ones(50).double())
    for level in range(4):  # also within each level
        torch.testing.assert_close(routes.nodes[:, 2**level - 1:2**(level + 1) - 1].sum(1),
                                   torch.ones(50).double())
    torch.testing.assert_close(made(x).exp().sum(1), torch.ones(50).double())
    torch.testing.assert_close(made.distributions.sum(1), torch.ones(16).double())


def test_gradients_agree_with_differences():
    made, x = tree(), rows(3).requires_grad_()
    names = [name for name, _ in made.named_parameters()]

    def call(x, *values):
        return torch.func.functional_call(made, dict(zip(names, values)), (x, ))

    made.eval()
    assert torch.autograd.gradcheck(call, (x, *made.parameters()))


def test_positions_of_a_map_are_rows():
    made, x = tree(), rows(24)
    maps = x.reshape(2, 3, 4, 5).permute(0, 3, 1, 2)
    expected = made(x).reshape(2, 3, 4, 3).permute(0, 3, 1, 2)
    torch.testing.assert_close(made(maps), expected)


def test_extreme_values_stay_finite():
    """Decisions and leaves have probabilities of 0 and 1."""
    made = SoftTree(2, 3, 2)
    with torch.no_grad():
        made.filters.mul_(1e4)
        made.scores.mul_(1e5)
    x = (100 * torch.randn(20, 2)).requires_grad_()
    logits = made(x)
    (torch.nn.functional.cross_entropy(logits, torch.zeros(20).long()) + made.penalty()).backward()
    assert logits.isfinite().all()
    assert x.grad.isfinite().all()
    assert all(one.grad.isfinite().all() for one in made.parameters() if one.grad is not None)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert made(x.bfloat16()).dtype == torch.float32
    assert made(x[:0]).shape == (0, 3)


# --- regulariser ----------------------------------------------------------------------------------


def test_regulariser_by_hand():
    """One batch: averages weighted by the probability of reaching the node."""
    made, x = tree(penalty=0.4), rows(6)
    made(x)
    found = made.penalty()
    routes = made.routes(x)
    total = 0.
    for node, depth in ((0, 0), (1, 1), (2, 1)):
        alpha = sum(routes.nodes[r, node] * routes.right[r, node] for r in range(6)) / sum(
            routes.nodes[r, node] for r in range(6))
        total -= 0.4 * 2**-depth * (0.5 * alpha.log() + 0.5 * (1 - alpha).log())
    torch.testing.assert_close(found, total, rtol=1e-5, atol=0)  # the averages are float32
    for one, other in zip(*(torch.autograd.grad(value, [made.filters, made.log_beta])
                            for value in (found, total))):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)


def test_even_decisions_have_the_least_penalty():
    made = tree(penalty=1.)
    with torch.no_grad():
        made.filters.zero_()
        made.offsets.zero_()
    made(rows(4))
    expected = math.log(2) * (1 + 2 * 0.5)  # the root, and two nodes with half of its weight
    assert math.isclose(made.penalty().item(), expected, rel_tol=1e-6)
    with torch.no_grad():
        made.offsets[0] = 3.
    made(rows(4))
    assert made.penalty() > expected


def test_deep_nodes_average_over_more_iterations():
    made = tree()
    history = []
    for seed in range(3):
        x = rows(4, seed=seed)
        made(x)
        made.penalty()
        routes = made.routes(x)
        history.append((routes.nodes.mean(0), (routes.nodes * routes.right).mean(0)))
    arrivals = history[0][0]
    for one, _ in history[1:]:
        arrivals = torch.cat([one[:1], (arrivals[1:] + one[1:]) / 2])
    torch.testing.assert_close(made.arrivals.double(), arrivals.detach().float().double())


def test_regulariser_is_of_the_last_call_in_training():
    made = tree()
    assert made.penalty() == 0
    made(rows(3))
    made(rows(4, seed=2))
    assert made.penalty() > 0
    assert made.penalty() == 0
    made.eval()(rows(3))
    assert made.penalty() == 0
    made.train()
    with torch.no_grad():
        made(rows(3))
    copy.deepcopy(made)
    assert made.penalty() == 0
    before = made.arrivals.clone()
    made(rows(0))  # no RoIs
    assert made.penalty().isfinite()
    assert made.arrivals.equal(before)


def penalty_of_two(rank, world):
    """Return the value of one process, the gradient that DDP would compute, and the averages."""
    made = tree(depth=2)
    x = rows(6)
    made(x[:2] if rank == 0 else x[2:])
    value = made.penalty()
    value.backward()
    gradient = made.filters.grad
    torch.distributed.all_reduce(gradient)
    return value.item(), (gradient / world).tolist(), made.arrivals.tolist()


def test_two_processes_have_the_averages_of_all(tmp_path):
    made = tree(depth=2)
    made(rows(6))
    value = made.penalty()
    value.backward()
    for found, gradient, arrivals in in_processes(penalty_of_two, 2, tmp_path):
        assert math.isclose(found, value.item(), rel_tol=1e-5)
        torch.testing.assert_close(torch.tensor(gradient).double(), made.filters.grad, rtol=1e-4,
                                   atol=1e-7)
        torch.testing.assert_close(torch.tensor(arrivals), made.arrivals.float())


def test_arguments():
    named = SoftTree(in_features=7, out_features=4, depth=3)  # as mmdet's heads call it
    assert named(torch.zeros(2, 7)).shape == (2, 4)
    assert repr(named) == 'SoftTree(7, 4, depth=3, penalty=0.1)'
    for settings, error in ((dict(num_classes=3), TypeError), (dict(in_channels=4), TypeError),
                            (dict(in_channels=0, num_classes=3), ValueError),
                            (dict(in_channels=4, num_classes=3, depth=0), ValueError),
                            (dict(in_channels=4, num_classes=3, depth=1.5), TypeError),
                            (dict(in_channels=4, num_classes=3, penalty=-1), ValueError),
                            (dict(in_channels=4, num_classes=3, beta=0), ValueError)):
        with pytest.raises(error, match='must be'):
            SoftTree(**settings)
