"""How is the state of the random generators preserved, or seeded from several numbers?"""
import random
from contextlib import contextmanager
from typing import Iterator

import numpy as np
import torch


@contextmanager
def preserved_rng() -> Iterator[None]:
    """Context manager that restores the generators of Python, NumPy and torch at its end.

    A network draws random numbers when it is built. Without this, the student of a distilled run
    would see other augmentations than the same student alone with the same seed.
    """
    python, numpy = random.getstate(), np.random.get_state()
    # Only the device of this process: reading the others would create a context on each of them.
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def seed_from(*numbers: int) -> None:
    """Seed the generators of Python, NumPy and torch (all devices) from several numbers.

    Args:
        *numbers (int): Non-negative integers. Each of them changes the random numbers.
    """
    entropy = np.random.SeedSequence([len(numbers), *numbers])  # NumPy takes 1 and 1, 0 as equal
    first, second, third = (int(word) for word in entropy.generate_state(3))
    random.seed(first)
    np.random.seed(second)
    torch.manual_seed(third)
