"""Distill the model of a running project whose ``model`` may not be touched."""
from contextlib import ExitStack
from typing import Any, Callable, List, Optional, Sequence, Union

import torch
from mmengine.runner import BaseLoop

from ..core.agreement import all_or_none, check_alike
from ..core.build import named_arguments
from ..core.runner import unwrapped
from ..files.bases import warn_of_lost
from ..files.classes import stated_classes
from ..networks import BaseTeacher
from ..points.recorder import replaced_forward
from ..registry import HOOKS
from ..training.distillation import Distillation
from ..training.strategies import check_strategy
from ..training.watch import LIMIT
from .state import KEY, StateHook, check_loaded


@HOOKS.register_module()
class DistillHook(StateHook):
    """Adds the losses of distillation to the model that a Runner trains, whatever it is called.

    .. code-block:: python

        custom_hooks = [
            *_base_.custom_hooks,  # where the config that this one inherits from has some
            dict(type='mmkd.DistillHook', teacher=dict(config=..., checkpoint=...),
                 distill=[dict(type='mmkd.DISTLoss', on='cls')])]

    The numbers are those of :class:`mmkd.Distiller`, to the bit. It attaches when training begins
    and detaches when it ends, and needs no teacher in a test.

    Args:
        teacher (dict | BaseTeacher): As of :class:`mmkd.Distiller`.
        distill (Sequence[dict]): As of :class:`mmkd.Distiller`; logits only: nothing that would
            have to be trained and saved beside the model.
        nonfinite_limit (int): As of :class:`mmkd.Distiller`. Defaults to 10.
        classes (Sequence[str], optional): As of :class:`mmkd.Distiller`. Defaults to None.
    """

    @named_arguments
    def __init__(self, teacher: Union[dict, BaseTeacher], distill: Sequence[dict],
                 nonfinite_limit: int = LIMIT, classes: Optional[Sequence[str]] = None) -> None:
        super().__init__()
        self.teacher = teacher
        self.distill = distill
        self.nonfinite_limit = nonfinite_limit
        self.classes = stated_classes(classes, 'classes')
        self._resumed: Optional[dict] = None
        self._attached = ExitStack()

    def before_run(self, runner: Any) -> None:
        """See to it that the model is left as it was, however training ends."""
        def guarded(run: Callable) -> Callable:
            def run_and_detach() -> Any:
                try:
                    return run()
                finally:
                    self._attached.close()
                    self.distillation = None

            return run_and_detach

        loop = runner._train_loop  # of a test it is not built, and shall not be
        if isinstance(loop, BaseLoop) and 'run' not in vars(loop):
            self._attached.enter_context(replaced_forward(loop, guarded, 'run'))

    def before_train(self, runner: Any) -> None:
        """Attach to the model.

        Raises:
            TypeError: If the model is a :class:`mmkd.Distiller` already, or the teacher is one that
                cannot be built.
            ValueError: If teacher and student cannot be compared as the config asks, or an entry
                needs a connector.
        """
        warn_of_lost('custom_hooks', 'custom_imports')
        model = unwrapped(runner)
        if hasattr(model, 'distillation'):
            raise TypeError('the model is a mmkd.Distiller already; move the entries of `distill` '
                            'there, and take mmkd.DistillHook out of the list of hooks')
        if sum(isinstance(hook, DistillHook) for hook in runner.hooks) > 1:
            raise ValueError('there are two mmkd.DistillHook in `custom_hooks`, but only one can '
                             'work on a model; write all entries '
                             'of `distill` into one, and several teachers as a mmkd.Committee')
        distillation = Distillation(model, self.teacher, self.distill, self.classes,
                                    nonfinite_limit=self.nonfinite_limit)
        check_strategy(runner, distillation, is_hook=True)
        with all_or_none('get its teacher ready'):
            distillation.prepare()
        check_alike(distillation.provenance, 'who teaches, and what is compared')
        if distillation.partners:
            raise ValueError(f'`{next(iter(distillation.partners))}` is a mmkd.Partner, which '
                             'nothing would train or save from a hook; use the model '
                             '`mmkd.Distiller`')
        if distillation.parameters:
            raise ValueError(
                f'{", ".join(distillation.connectors)} needs connectors, which nothing would train '
                'or save from a hook; use the model `mmkd.Distiller`, or compare logits')

        def distil(forward: Callable) -> Callable:
            def distilled_forward(inputs: torch.Tensor, data_samples: Optional[list] = None,
                                  mode: str = 'tensor') -> Any:
                if mode != 'loss':
                    return forward(inputs, data_samples, mode=mode)
                return distillation.losses(forward, inputs, data_samples)

            return distilled_forward

        if self._resumed is not None:
            distillation.load_state_dict(self._resumed.get(KEY, {}))
        self.distillation = distillation
        if self._resumed is not None:
            self._go_on(self._resumed)
        super().before_train(runner)
        self._attached.enter_context(replaced_forward(model, distil))

    def after_load_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Keep it for :meth:`before_train`, where the teacher is built."""
        check_loaded(runner, checkpoint)
        self._resumed = {key: checkpoint[key] for key in (KEY, 'meta')
                         if key in checkpoint} if runner._resume else None


def distillation_of(runner: Any) -> Optional[Distillation]:
    """The distillation of a run, by model or by hook; None if it has none (yet)."""
    found: List[Optional[Distillation]] = [getattr(unwrapped(runner), 'distillation', None)]
    found += [hook.distillation for hook in runner.hooks if isinstance(hook, DistillHook)]
    return next((one for one in found if one is not None), None)
