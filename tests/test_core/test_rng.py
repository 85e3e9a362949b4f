"""Building a teacher must not move the student's random numbers."""
import random

import numpy as np
import torch

from mmkd.core.rng import preserved_rng


def draw():
    return random.random(), np.random.rand(), torch.rand(1).item()


def test_generators_are_put_back():
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    expected = draw()
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    with preserved_rng():
        draw()
        torch.manual_seed(99)
    assert draw() == expected
