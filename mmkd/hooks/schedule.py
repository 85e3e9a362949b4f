"""How does the weight of each loss term change during training?"""
import math
from fnmatch import fnmatchcase
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop

from ..core.arguments import finite_number
from ..core.build import closest, named_arguments
from ..registry import HOOKS
from .distill import distillation_of


class Schedule:
    """A factor over time, similar to MMEngine's parameter schedulers.

    Args:
        type (str): 'constant', 'linear', 'cosine', 'step', 'warmup' or 'stop'.
        by_epoch (bool): Whether steps are epochs (True) or iterations (False). Defaults to True.
        start_factor (float): For 'linear' and 'cosine': the factor up to the step ``begin``.
            Defaults to 0.0.
        end_factor (float): For 'linear' and 'cosine': the factor from the step ``end - 1`` on;
            for 'constant': the factor. Defaults to 1.0.
        begin (int): For 'linear' and 'cosine': first step. Defaults to 0.
        end (int, optional): For 'linear' and 'cosine': end of the change, exclusive; for 'warmup':
            number of steps from 1 / ``end`` to 1. Defaults to None, the end of the run.
        milestones (Sequence[int]): For 'step': steps at which the factor is multiplied by
            ``gamma``. Defaults to ().
        gamma (float): For 'step': the multiplier. Defaults to 0.1.
        at (int): For 'stop': the step from which the factor is 0.

    Raises:
        TypeError: If an argument has the wrong type, or does not belong to the type of schedule.
        ValueError: If an argument is missing or out of range.
    """

    def __init__(self, type: str, by_epoch: bool = True, **arguments: Any) -> None:
        if not isinstance(type, str) or type not in SHAPES:
            raise ValueError(f'there is no schedule of type {type!r}{closest(type, SHAPES)}; the '
                             f'types are {", ".join(map(repr, SHAPES))}; write one of these')
        self.shape, known = SHAPES[type]
        if arguments.get('end', 0) is None:  # the default
            del arguments['end']
        for name, value in arguments.items():
            if name not in known:
                raise TypeError(f"a schedule of type '{type}' has no argument `{name}`"
                                f'{closest(name, (*known, "by_epoch"))}; it has '
                                f'{", ".join(f"`{one}`" for one in known)} and `by_epoch`; write '
                                'one of these, or leave it out')
            if name == 'milestones' and not isinstance(value, (list, tuple)):
                raise TypeError('`milestones` of a schedule must be a list of steps, for instance '
                                f'[8, 11], but got {value!r}; write a list')
            for one in value if name == 'milestones' else [value]:
                if finite_number(name, one) < 0:
                    raise ValueError(f'`{name}` of a schedule must be 0 or more, but got {value}; '
                                     'write a number such as 1.0')
        needed, what = REQUIRED.get(type, ('', ''))
        if needed and needed not in arguments:
            raise ValueError(f"a schedule of type '{type}' needs `{needed}`, {what}, but it is "
                             f'missing; write `{needed}=`')
        self.start_factor: float = arguments.get('start_factor', 0.)
        self.end_factor: float = arguments.get('end_factor', 1.)
        self.begin: int = arguments.get('begin', 0)
        self.end: Optional[int] = arguments.get('end')
        self.milestones: Sequence[int] = arguments.get('milestones', ())
        self.gamma: float = arguments.get('gamma', 0.1)
        self.at: int = arguments.get('at', 0)
        if not isinstance(by_epoch, bool):
            raise TypeError(f'`by_epoch` must be True or False, but got {by_epoch!r}; write one of '
                            'the two')
        self.by_epoch = by_epoch
        if self.end is not None and self.end <= self.begin:
            raise ValueError(f'a schedule must end after it begins, but got begin={self.begin} and '
                             f'end={self.end}; write a later `end`, or leave it out')

    def factor(self, step: int, steps: int) -> float:
        """The factor of one step.

        Args:
            step (int): Number of the epoch or iteration, from 0.
            steps (int): Number of epochs or iterations of the run.
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
        return 0. if step >= self.at else 1.


RAMP = ('start_factor', 'end_factor', 'begin', 'end')
SHAPES: Dict[str, Tuple[Callable[[Schedule, int, int], float], Tuple[str, ...]]] = dict(
    constant=(Schedule._constant, ('end_factor', )), linear=(Schedule._linear, RAMP),
    cosine=(Schedule._cosine, RAMP), step=(Schedule._step, ('milestones', 'gamma')),
    warmup=(Schedule._warmup, ('end', )), stop=(Schedule._stop, ('at', )))
"""By type: the function for the factor of a step, and the arguments."""
REQUIRED = dict(stop=('at', 'the step at which the term is turned off'),
                step=('milestones', 'a list of steps'), warmup=('end', 'its number of steps'))
"""By type: the required argument and its meaning."""


@HOOKS.register_module()
class DistillScheduleHook(Hook):
    """Multiplies loss terms of the distillation by factors that change during training.

    .. code-block:: python

        model = dict(type='mmkd.Distiller', ..., hooks=[
            dict(type='mmkd.DistillScheduleHook', schedules={
                'loss_cls_dist': [dict(type='warmup', end=500, by_epoch=False),
                                  dict(type='stop', at=8)],
                'loss_neck_*': dict(type='cosine', start_factor=1., end_factor=0.)})])

    If all terms of a teacher have the factor 0, the teacher does not run. The factor is logged, for
    instance as 'factor_cls_dist'. It also multiplies ``alpha`` of a term, so the hard targets get
    the rest. Factors depend only on epoch and iteration, so they are right in a resumed run.

    Args:
        schedules (dict[str, dict | list[dict]]): One or several :class:`Schedule` by the name of
            the term, or by a pattern of names with ``*``. If several apply to a term, their
            factors are multiplied.

    Raises:
        TypeError: If an entry is not a schedule, or a key is not a string.
        ValueError: If a schedule has wrong arguments.

    Example:
        >>> hook = DistillScheduleHook(dict(loss_cls_dist=dict(type='stop', at=8)))
        >>> list(hook.schedules)
        ['loss_cls_dist']
    """

    # After DistillHook has attached.
    priority = 'VERY_LOW'

    @named_arguments
    def __init__(self, schedules: Dict[str, Union[dict, List[dict]]]) -> None:
        if not (isinstance(schedules, dict) and schedules
                and all(isinstance(name, str) for name in schedules)):
            raise TypeError('`schedules` must be a dict of schedules by the name of the term, such '
                            f"as 'loss_cls_dist', but got {schedules!r}; write for instance "
                            "dict(loss_cls_dist=dict(type='cosine'))")
        self.schedules = {
            name: [_build(one, name) for one in (
                entry if isinstance(entry, (list, tuple)) and entry else [entry])]
            for name, entry in schedules.items()}

    def before_train(self, runner: Any) -> None:
        """Check that the terms exist.

        Raises:
            ValueError: If there is no distillation or no such term, or a schedule counts epochs in
                iteration-based training.
        """
        if isinstance(runner.train_loop, IterBasedTrainLoop):
            for name in (name for name, found in self.schedules.items()
                         if any(one.by_epoch for one in found)):
                raise ValueError(f'the schedule of `{name}` counts epochs, but training is by '
                                 'iterations; write `by_epoch=False`')
        for name in self.schedules:
            if not self._terms(runner, name):
                distillation = distillation_of(runner)
                terms = [f'`{term.name}`' for term in distillation.terms] if distillation else []
                raise ValueError(
                    f'mmkd.DistillScheduleHook has a schedule for `{name}`, but ' +
                    ('the run has no distillation; remove the hook from the config'
                     if distillation is None else f'the terms are {", ".join(terms)}; '
                     'write one of these, or a pattern with `*`'))

        if sum(isinstance(hook, DistillScheduleHook) for hook in runner.hooks) > 1:
            raise ValueError('there are two mmkd.DistillScheduleHook in `hooks` and '
                             '`custom_hooks`, and the last would override the other; put all '
                             'schedules into one')
        last = runner.max_epochs, runner.max_iters
        for term in self._terms(runner, '*'):
            steps = sorted({0, *range(0, last[1], max(1, last[1] // 1000)), last[1] - 1})
            per_epoch = max(1, last[1] // max(1, last[0]))
            if term.spec.alpha is not None:
                largest = max(self._factor(term, step // per_epoch, step, last)
                              for step in steps)
                if term.spec.alpha * largest > 1:
                    raise ValueError(
                        f'the schedule of `{term.name}` raises alpha={term.spec.alpha:g} to '
                        f'{term.spec.alpha * largest:g}, so the loss on labels would have a '
                        'negative weight; keep alpha times the factor at 1 or less')

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Set the factors of this step."""
        last = runner.max_epochs, runner.max_iters
        for term in {term for name in self.schedules for term in self._terms(runner, name)}:
            term.factor = self._factor(term, runner.epoch, runner.iter, last)
            term.is_scheduled = True

    def _factor(self, term: Any, epoch: int, iteration: int, last: Tuple[int, int]) -> float:
        """Product of the factors of all schedules that apply to a term."""
        return math.prod(
            one.factor(epoch, last[0]) if one.by_epoch else one.factor(iteration, last[1])
            for name, found in self.schedules.items() if fnmatchcase(term.name, name)
            for one in found)

    @staticmethod
    def _terms(runner: Any, pattern: str) -> List[Any]:
        distillation = distillation_of(runner)
        return [term for term in (distillation.terms if distillation else ())
                if fnmatchcase(term.name, pattern)]


def _build(entry: Any, name: str) -> Schedule:
    if not isinstance(entry, dict) or 'type' not in entry:
        raise TypeError(f'the schedule of `{name}` must be a dict with a `type`, for instance '
                        f"dict(type='cosine', start_factor=1., end_factor=0.), but got {entry!r}; "
                        'write its `type`')
    try:
        return Schedule(**entry)
    except TypeError as error:
        raise TypeError(f'the schedule of `{name}` cannot be read: {error}') from error
