"""Let the random numbers of a resumed run be those that it would have drawn without a break."""
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
    """Random numbers follow from the seed and the number of the epoch, or iteration, alone.

    MMEngine seeds its generators once, when a run starts, so a run that is resumed repeats the
    augmentations, samples and dropout of its beginning. With this hook it ends with the weights of
    a run without a break, to the bit where the device sums in one order.

    Where training goes by epochs, worker processes start anew with each, also those that are
    ``persistent_workers``: what they have drawn is known to nobody else. Where it goes by
    iterations, MMEngine reads again what was read before, and workers draw the same by that.

    .. code-block:: python

        randomness = dict(seed=0)
        model = dict(type='mmkd.Distiller', ..., hooks=[dict(type='mmkd.ReseedHook')])

    Raises:
        TypeError: If it is given an argument.
    """

    priority = 'VERY_LOW'  # what other hooks draw or change before an epoch comes first

    @named_arguments
    def __init__(self) -> None:
        super().__init__()

    def before_train(self, runner: Any) -> None:
        """Number the batches of training by iterations.

        Raises:
            ValueError: If the config has no seed: the order of the images would be another.
        """
        if (runner.cfg.get('randomness') or {}).get('seed') is None:
            raise ValueError('`mmkd.ReseedHook` begins random numbers from the seed of the config, '
                             'but it has none; write `randomness = dict(seed=0)`')
        loop = runner.train_loop
        if isinstance(loop, IterBasedTrainLoop):
            loop.dataloader_iterator = Numbered(
                loop.dataloader_iterator, lambda number: seed_from(runner.seed, number))
        elif runner.iter % len(runner.train_dataloader):
            print_log('this checkpoint was saved in the middle of an epoch, which MMEngine begins '
                      'anew, so the run will not equal one without a break; save by epochs, or '
                      'train by iterations', 'current', logging.WARNING)

    def before_train_epoch(self, runner: Any) -> None:
        """Begin the numbers of an epoch."""
        if isinstance(runner.train_loop, IterBasedTrainLoop):
            return
        seed_from(runner.seed, runner.epoch)
        loader = runner.train_dataloader
        started = loader.worker_init_fn
        loader.worker_init_fn = StartWorker(
            started.before if isinstance(started, StartWorker) else started,
            runner.seed, runner.epoch)
        loader._iterator = None  # where torch keeps workers that are persistent


class StartWorker:
    """Begins the numbers of a worker process.

    Args:
        before (Callable, optional): What the config has workers call; it comes first.
        *numbers (int): See :func:`mmkd.core.rng.seed_from`.
    """

    def __init__(self, before: Optional[Callable[[int], None]], *numbers: int) -> None:
        self.before = before
        self.numbers = (*numbers, get_rank())

    def __call__(self, worker: int) -> None:
        if self.before is not None:
            self.before(worker)
        seed_from(*self.numbers, worker)


class Numbered:
    """Batches, before each of which something is done with its number.

    Args:
        batches (Iterator): The batches.
        prepare (Callable): Called with the number of the next one, from 0.
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
