"""How is the state of the random generators preserved, or seeded from several numbers?"""
import random
from contextlib import contextmanager
from typing import Iterator, Union

import numpy as np
import torch

from .processes import rank


@contextmanager
def preserved_rng() -> Iterator[None]:
    """Context manager that restores the generators of Python, NumPy and torch at its end.

    A network draws random numbers when it is built. Without this, the student of a distilled run
    would see other augmentations than the plain student with the same seed.
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


def generator_of(device: Union[str, torch.device], *numbers: int) -> torch.Generator:
    """A generator for the random numbers of a loss in one step.

    Its seed is a function of the seed of torch's CPU generator, the rank of the process, and the
    given numbers. Drawing from it does not change torch's own generators: a student sees the same
    augmentations and samples with the loss as without. A resumed run draws the numbers of an
    uninterrupted one, because MMEngine sets the same seed at the start of both.

    Args:
        device (str | torch.device): Device of the tensors to draw.
        *numbers (int): Non-negative integers, such as the iteration and the level. Each of them
            changes the random numbers.

    Returns:
        torch.Generator: The generator, on ``device``.

    Example:
        >>> one, same, other = (torch.rand(1, generator=generator_of('cpu', iteration, 0)).item()
        ...                     for iteration in (3, 3, 4))
        >>> one == same, one == other
        (True, False)
    """
    entropy = np.random.SeedSequence(
        [torch.initial_seed() % 2**64, rank(), len(numbers), *numbers])
    # torch's seeds are signed for some devices.
    seed = int(entropy.generate_state(1, np.uint64)[0]) >> 1
    return torch.Generator(device).manual_seed(seed)
