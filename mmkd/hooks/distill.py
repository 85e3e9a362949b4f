"""How is a model distilled without changing ``model`` in the config?"""
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
from ..training.health import LIMIT
from ..training.side_modules import layers_of, needs_of
from ..training.strategies import check_strategy
from .state import KEY, StateHook, check_loaded


@HOOKS.register_module()
class DistillHook(StateHook):
    """Adds distillation losses to the model that a Runner trains.

    .. code-block:: python

        custom_hooks = [
            *_base_.custom_hooks,  # if the base config has any
            dict(type='mmkd.DistillHook', teacher=dict(config=..., checkpoint=...),
                 distill=[dict(type='mmkd.DISTLoss', on='cls')])]

    The losses are bitwise equal to those of :class:`mmkd.Distiller`. The hook attaches to the model
    when training begins and detaches when it ends. A test needs no teacher.

    Args:
        teacher (dict | BaseTeacher): As in :class:`mmkd.Distiller`.
        distill (Sequence[dict]): As in :class:`mmkd.Distiller`, but only entries without modules
            to be trained and saved in addition to the model, such as connectors.
        nonfinite_limit (int): As in :class:`mmkd.Distiller`. Defaults to 10.
        classes (Sequence[str], optional): As in :class:`mmkd.Distiller`. Defaults to None.

    Example:
        >>> hook = DistillHook(teacher=dict(config='teacher.py', checkpoint='teacher.pth'),
        ...                    distill=[dict(type='mmkd.KDLoss', on='cls')])
        >>> hook.nonfinite_limit
        10
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
        """Detach from the model when training ends, also after an error."""
        def guarded(run: Callable) -> Callable:
            def run_and_detach() -> Any:
                try:
                    return run()
                finally:
                    self._attached.close()
                    self.distillation = None

            return run_and_detach

        loop = runner._train_loop  # not `train_loop`, which would build it in a test
        if isinstance(loop, BaseLoop) and 'run' not in vars(loop):
            self._attached.enter_context(replaced_forward(loop, guarded, 'run'))

    def before_train(self, runner: Any) -> None:
        """Attach to the model.

        Raises:
            TypeError: If the model is a :class:`mmkd.Distiller`, or the teacher cannot be built.
            ValueError: If teacher and student cannot be compared as the config says, or an entry
                needs a connector.
        """
        warn_of_lost('custom_hooks', 'custom_imports')
        model = unwrapped(runner)
        if hasattr(model, 'distillation'):
            raise TypeError('the model is a mmkd.Distiller already; move the entries of `distill` '
                            'there, and remove mmkd.DistillHook from the hooks')
        if sum(isinstance(hook, DistillHook) for hook in runner.hooks) > 1:
            raise ValueError('there are two mmkd.DistillHook in `custom_hooks`, but a model can '
                             'have only one; put all entries of `distill` into one, and several '
                             'teachers into a mmkd.Committee')
        distillation = Distillation(model, self.teacher, self.distill, self.classes,
                                    nonfinite_limit=self.nonfinite_limit)
        check_strategy(runner, distillation, is_hook=True)
        with all_or_none('prepare its teacher'):
            distillation.prepare()
        check_alike(distillation.provenance, 'the teachers and the comparisons')
        if distillation.partners:
            raise ValueError(f'`{next(iter(distillation.partners))}` is a mmkd.Partner, but a hook '
                             'cannot train or save it; use the model `mmkd.Distiller`')
        if layers_of(distillation.side_modules):
            raise ValueError(
                f'{needs_of(distillation.side_modules)}, but a hook cannot train or save it; use '
                'the model `mmkd.Distiller`, or compare logits')

        def distil(forward: Callable) -> Callable:
            def distilled_forward(inputs: torch.Tensor, data_samples: Optional[list] = None,
                                  mode: str = 'tensor') -> Any:
                if mode != 'loss':
                    return forward(inputs, data_samples, mode=mode)
                return distillation.losses(forward, inputs, data_samples)

            return distilled_forward

        if self._resumed is not None:
            distillation.side_modules.load_state_dict(self._resumed.get(KEY, {}))
        self.distillation = distillation
        if self._resumed is not None:
            self._go_on(self._resumed)
        super().before_train(runner)
        self._attached.enter_context(replaced_forward(model, distil))

    def after_load_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Keep the state for :meth:`before_train`, which builds the teacher."""
        check_loaded(runner, checkpoint)
        self._resumed = {key: checkpoint[key] for key in (KEY, 'meta')
                         if key in checkpoint} if runner._resume else None


def distillation_of(runner: Any) -> Optional[Distillation]:
    """The distillation of a run, from its model or its hook; None if there is none yet."""
    found: List[Optional[Distillation]] = [getattr(unwrapped(runner), 'distillation', None)]
    found += [hook.distillation for hook in runner.hooks if isinstance(hook, DistillHook)]
    return next((one for one in found if one is not None), None)
