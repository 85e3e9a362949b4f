"""Random numbers: left as they were, or begun from numbers that are given."""
import random
from contextlib import contextmanager
from typing import Iterator

import numpy as np
import torch


@contextmanager
def preserved_rng() -> Iterator[None]:
    """Put the generators of Python, NumPy and torch back as they were on leaving.

    A network draws random numbers while it is constructed. Without this, the student of a
    distilled run would see other augmentations than the same student alone with the same seed.
    """
    python, numpy = random.getstate(), np.random.get_state()
    # Only this process's device: asking the others would open a context on each of them.
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def seed_from(*numbers: int) -> None:
    """Begin the generators of Python, NumPy and torch (of all devices) from a few numbers.

    Args:
        *numbers (int): 0 or more; another one anywhere gives other random numbers.
    """
    entropy = np.random.SeedSequence([len(numbers), *numbers])  # to NumPy, 1 and 1, 0 are the same
    first, second, third = (int(word) for word in entropy.generate_state(3))
    random.seed(first)
    np.random.seed(second)
    torch.manual_seed(third)
