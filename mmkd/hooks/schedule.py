"""How much does each term count, and from when until when?"""
import inspect
import math
from fnmatch import fnmatchcase
from typing import Any, Callable, Dict, List, Optional, Sequence, Union

from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop

from ..registry import HOOKS
from .distill import distillation_of


class Schedule:
    """A factor over time, as MMEngine's parameter schedulers have them.

    Args:
        type (str): 'constant', 'linear', 'cosine', 'step', 'warmup' or 'stop'.
        start_factor (float): 'linear' and 'cosine': the factor at ``begin``, and before.
            Defaults to 0.0.
        end_factor (float): 'linear' and 'cosine': that of the last step before ``end``, and after;
            'constant': the factor. Defaults to 1.0.
        begin (int): 'linear', 'cosine': first step. Defaults to 0.
        end (int, optional): 'linear', 'cosine': the step at which it is over; 'warmup': how many
            steps it takes to reach 1, from 1 / ``end`` on. Defaults to None, the end of the run.
        milestones (Sequence[int]): 'step': where the factor is multiplied. Defaults to ().
        gamma (float): 'step': by what. Defaults to 0.1.
        at (int, optional): 'stop': the step from which the factor is 0. Defaults to None.
        by_epoch (bool): Whether steps are epochs, or iterations. Defaults to True.

    Raises:
        ValueError: If an argument is missing or out of its range.
    """

    def __init__(self, type: str, start_factor: float = 0., end_factor: float = 1.,
                 begin: int = 0, end: Optional[int] = None, milestones: Sequence[int] = (),
                 gamma: float = 0.1, at: Optional[int] = None, by_epoch: bool = True) -> None:
        if type not in SHAPES:
            raise ValueError(f'a schedule has the type {type!r}; there are '
                             f'{", ".join(map(repr, SHAPES))}')
        if type == 'stop' and at is None:
            raise ValueError("a schedule of type 'stop' needs `at`, the step from which on the "
                             'term is left out')
        if type == 'step' and not milestones:
            raise ValueError("a schedule of type 'step' needs `milestones`, a list of steps")
        if type == 'warmup' and end is None:
            raise ValueError("a schedule of type 'warmup' needs `end`, its number of steps")
        if end is not None and end <= begin:
            raise ValueError(f'a schedule must end after it begins, but got begin={begin} and '
                             f'end={end}')
        self.shape = SHAPES[type]
        self.start_factor, self.end_factor = start_factor, end_factor
        self.begin, self.end = begin, end
        self.milestones, self.gamma = milestones, gamma
        self.at = at
        self.by_epoch = by_epoch

    def factor(self, step: int, steps: int) -> float:
        """The factor of one step.

        Args:
            step (int): Number of the epoch or iteration, from 0.
            steps (int): How many the run has.
        """
        return self.shape(self, step, steps)

    def _progress(self, step: int, steps: int) -> float:
        last = (steps if self.end is None else self.end) - 1
        return min(max(step - self.begin, 0) / max(last - self.begin, 1), 1.)

    def _linear(self, step: int, steps: int) -> float:
        return self.start_factor + (self.end_factor - self.start_factor) * self._progress(
            step, steps)

    def _cosine(self, step: int, steps: int) -> float:
        rest = (1 + math.cos(math.pi * self._progress(step, steps))) / 2
        return self.end_factor + (self.start_factor - self.end_factor) * rest

    def _step(self, step: int, steps: int) -> float:
        return self.gamma**sum(step >= milestone for milestone in self.milestones)

    def _warmup(self, step: int, steps: int) -> float:
        return min((step + 1) / (self.end or 1), 1.)

    def _constant(self, step: int, steps: int) -> float:
        return self.end_factor

    def _stop(self, step: int, steps: int) -> float:
        return 0. if step >= (self.at or 0) else 1.


SHAPES: Dict[str, Callable[[Schedule, int, int], float]] = dict(
    constant=Schedule._constant, linear=Schedule._linear, cosine=Schedule._cosine,
    step=Schedule._step, warmup=Schedule._warmup, stop=Schedule._stop)


@HOOKS.register_module()
class DistillScheduleHook(Hook):
    """Multiplies terms of the distillation by factors that change while training goes on.

    .. code-block:: python

        custom_hooks = [dict(type='mmkd.DistillScheduleHook', schedules={
            'loss_cls_dist': [dict(type='warmup', end=500, by_epoch=False),
                              dict(type='stop', at=8)],
            'loss_neck_*': dict(type='cosine', start_factor=1., end_factor=0.)})]

    Where every term of a teacher has the factor 0, the teacher does not run. The factor is in the
    log, as 'factor_cls_dist'. A term with ``alpha`` gives back to the hard targets what it loses.
    Factors depend on epoch and iteration alone, so a resumed run goes on with the right ones.

    Args:
        schedules (dict[str, dict | list[dict]]): By the name of the term, or a pattern of names
            with ``*``: a :class:`Schedule`, or several, whose factors are multiplied.

    Raises:
        TypeError: If an entry is no schedule.
        ValueError: If a schedule is wrong in itself.
    """

    # After DistillHook has attached itself.
    priority = 'VERY_LOW'

    def __init__(self, schedules: Dict[str, Union[dict, List[dict]]]) -> None:
        if not isinstance(schedules, dict) or not schedules:
            raise TypeError('`schedules` must be a dict of schedules by the name of the term, but '
                            f'got {schedules!r}')
        self.schedules = {
            name: [_build(one, name) for one in (
                entry if isinstance(entry, (list, tuple)) else [entry])]
            for name, entry in schedules.items()}

    def before_train(self, runner: Any) -> None:
        """Look whether there are such terms.

        Raises:
            ValueError: If there is no distillation or no such term, or a schedule counts epochs
                where training goes by iterations.
        """
        if isinstance(runner.train_loop, IterBasedTrainLoop):
            for name in (name for name, found in self.schedules.items()
                         if any(one.by_epoch for one in found)):
                raise ValueError(f'the schedule of `{name}` counts epochs, but training goes by '
                                 'iterations; write `by_epoch=False`')
        for name in self.schedules:
            if not self._matches(runner, name):
                distillation = distillation_of(runner)
                raise ValueError(
                    f'mmkd.DistillScheduleHook has a schedule for `{name}`, but ' +
                    ('the run has no distillation; take the hook out of `custom_hooks`'
                     if distillation is None else 'the terms are called '
                     f'{", ".join(f"`{match.name}`" for match in distillation.matches)}'))

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Set the factors of this step."""
        # An epoch ends with validation before its number goes up; so this is the one place.
        distillation = distillation_of(runner)
        assert distillation is not None
        for name, schedules in self.schedules.items():
            factor = 1.
            for one in schedules:
                step, steps = (runner.epoch, runner.max_epochs) if one.by_epoch else (
                    runner.iter, runner.max_iters)
                factor *= one.factor(step, steps)
            for match in self._matches(runner, name):
                match.factor = factor
                match.is_scheduled = True

    @staticmethod
    def _matches(runner: Any, pattern: str) -> List[Any]:
        distillation = distillation_of(runner)
        return [match for match in (distillation.matches if distillation else ())
                if fnmatchcase(match.name, pattern)]


def _build(entry: Any, name: str) -> Schedule:
    if not isinstance(entry, dict) or 'type' not in entry:
        raise TypeError(f'the schedule of `{name}` must be a dict with a `type`, for instance '
                        f"dict(type='cosine', start_factor=1., end_factor=0.), but got {entry!r}")
    try:
        return Schedule(**entry)
    except TypeError as error:
        raise TypeError(f'the schedule of `{name}` cannot be read: {error}; it takes '
                        f'{", ".join(inspect.signature(Schedule).parameters)}') from error
