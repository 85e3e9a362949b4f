"""How does a resumed run draw the random numbers of an uninterrupted one?"""
import logging
from typing import Any, Callable, Iterator, Optional

from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import IterBasedTrainLoop

from ..core.build import named_arguments
from ..core.rng import seed_from
from ..registry import HOOKS


@HOOKS.register_module()
class ReseedHook(Hook):
    """Seeds the random generators by the seed of the run and the number of the epoch or iteration.

    MMEngine seeds its generators once at the start of a run, so a resumed run repeats the
    augmentations, samples and dropout of its beginning. With this hook it ends with the weights of
    an uninterrupted run, bitwise equal if the device sums in a fixed order.

    In epoch-based training, worker processes restart with every epoch, even with
    ``persistent_workers``, because their random state is not saved. In iteration-based training,
    MMEngine reads all earlier batches again, so the workers draw the same numbers.

    .. code-block:: python

        randomness = dict(seed=0)
        model = dict(type='mmkd.Distiller', ..., hooks=[dict(type='mmkd.ReseedHook')])

    Raises:
        TypeError: If it is given an argument.
    """

    priority = 'VERY_LOW'  # after other hooks that draw random numbers before an epoch

    @named_arguments
    def __init__(self) -> None:
        super().__init__()

    def before_train(self, runner: Any) -> None:
        """Seed before every batch in iteration-based training.

        Raises:
            ValueError: If the config has no seed; the order of images would differ then.
        """
        if (runner.cfg.get('randomness') or {}).get('seed') is None:
            raise ValueError('`mmkd.ReseedHook` needs the seed of the config, but it has none; '
                             'write `randomness = dict(seed=0)`')
        loop = runner.train_loop
        if isinstance(loop, IterBasedTrainLoop):
            loop.dataloader_iterator = Numbered(
                loop.dataloader_iterator, lambda number: seed_from(runner.seed, number))
        elif runner.iter % len(runner.train_dataloader):
            print_log('this checkpoint was saved in the middle of an epoch, which MMEngine '
                      'restarts, so the run will differ from an uninterrupted one; save by epochs, '
                      'or train by iterations', 'current', logging.WARNING)

    def before_train_epoch(self, runner: Any) -> None:
        """Seed this process and the workers for an epoch."""
        if isinstance(runner.train_loop, IterBasedTrainLoop):
            return
        seed_from(runner.seed, runner.epoch)
        loader = runner.train_dataloader
        started = loader.worker_init_fn
        loader.worker_init_fn = StartWorker(
            started.before if isinstance(started, StartWorker) else started,
            runner.seed, runner.epoch)
        loader._iterator = None  # torch keeps persistent workers here


class StartWorker:
    """Seeds a worker process.

    Args:
        before (Callable, optional): ``worker_init_fn`` of the config, called first.
        *numbers (int): As in :func:`mmkd.core.rng.seed_from`.
    """

    def __init__(self, before: Optional[Callable[[int], None]], *numbers: int) -> None:
        self.before = before
        self.numbers = (*numbers, get_rank())

    def __call__(self, worker: int) -> None:
        if self.before is not None:
            self.before(worker)
        seed_from(*self.numbers, worker)


class Numbered:
    """Iterator over batches that calls a function before each.

    Args:
        batches (Iterator): The batches.
        prepare (Callable): Called with the number of the next batch, from 0.
    """

    def __init__(self, batches: Iterator, prepare: Callable[[int], None]) -> None:
        self.batches = batches
        self.prepare = prepare
        self.number = 0

    def __iter__(self) -> 'Numbered':
        return self

    def __next__(self) -> Any:
        self.prepare(self.number)
        self.number += 1
        return next(self.batches)
