"""Building a teacher or drawing for a loss must not change the student's random numbers."""
import random

import numpy as np
import torch
from support.processes import in_processes

from mmkd.core.rng import generator_of, preserved_rng


def draw():
    return random.random(), np.random.rand(), torch.rand(1).item()


def test_random_state_is_restored():
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    expected = draw()
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    with preserved_rng():
        draw()
        torch.manual_seed(99)
    assert draw() == expected


def of_loss(*numbers):
    return torch.rand(1, generator=generator_of('cpu', *numbers)).item()


def test_a_loss_draws_by_the_seed_of_the_run_and_its_numbers():
    torch.manual_seed(0)
    first = [of_loss(iteration, level) for iteration in (0, 1) for level in (0, 1)]
    assert len({*first, of_loss(), of_loss(0), of_loss(0, 0, 0)}) == 7
    before = torch.get_rng_state()
    torch.rand(3)  # as if the student drew numbers
    with preserved_rng():
        torch.manual_seed(99)
        assert of_loss(0, 0) != first[0]
    assert [of_loss(iteration, level) for iteration in (0, 1) for level in (0, 1)] == first
    torch.set_rng_state(before)
    of_loss(0)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(-1)  # seeds may be negative
    assert 0 <= of_loss(0) < 1


def drawn_by(rank, world):
    torch.manual_seed(0)
    return of_loss(3)


def test_each_process_draws_its_own_numbers(tmp_path):
    torch.manual_seed(0)
    first, second = in_processes(drawn_by, 2, tmp_path)
    assert first == of_loss(3) != second
