"""The Distiller: a model that combines a student, its teachers, and the terms between them."""
from typing import Any, Callable, Dict, List, Optional, Sequence, Union

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from .compare.term import Term
from .core.agreement import all_or_none, check_alike
from .core.aliases import warn_renamed
from .core.build import build_model, named_arguments
from .core.log import warn
from .core.runner import current_optim_wrapper, current_runner, is_training, surrounding_model
from .files.bases import warn_of_lost
from .hooks import OwnHooks, PartnerHook, StateHook
from .networks import BaseTeacher, FrozenTeacher
from .networks.inherit import Inheritance
from .registry import MODELS
from .training.beside import MoveWatch, join_optimizer
from .training.distillation import Distillation
from .training.harmed import warnings_about
from .training.health import LIMIT
from .training.strategies import check_connectors, check_strategy

SHARED_TABLES = ('_parameters', '_buffers', '_modules', '_non_persistent_buffers_set',
                 '_state_dict_hooks', '_state_dict_pre_hooks', '_load_state_dict_pre_hooks',
                 '_load_state_dict_post_hooks')
"""Attributes of a module that torch and MMEngine traverse."""


@MODELS.register_module()
class Distiller(BaseModel):
    """A student model that is trained with distillation losses.

    The Distiller shares the tables of children, parameters and buffers with its student. So
    parameter names, optimizer groups, EMA copies, hooks that access ``model.bbox_head``, and the
    checkpoint are those of the plain student; attributes that the Distiller does not have are read
    from the student. It adds losses to those of the student, and does not change prediction: the
    teacher is built by :meth:`prepare`, which a training run calls before its first batch, and a
    test never calls.

    The class has more than 15 methods, and the file more than 300 lines, because it has the methods
    of a model of MMEngine, which call those of the student.

    Args:
        student (dict | nn.Module): The model config of the student.
        teacher (dict | BaseTeacher, optional): The teacher, such as
            ``dict(config=..., checkpoint=...)``; ``type`` defaults to 'mmkd.FrozenTeacher'.
            Defaults to None, only companions teach.
        distill (Sequence[dict]): The terms: each entry has a loss with its arguments, and ``on``,
            the point; see :func:`mmkd.compare.spec.read_entry`. An entry with ``between=[...]`` is
            expanded to all pairs of these networks, in both directions.
        companions (dict[str, dict | BaseTeacher], optional): Further networks by name. All can be
            teachers, and trained ones also learners; ``type`` defaults to 'mmkd.Partner'. Defaults
            to None.
        inherit (str | dict, optional): Weights of the teacher that the student starts with; see
            :class:`mmkd.networks.inherit.Inheritance`. Defaults to None, none.
        hooks (Sequence[dict | Hook]): Hooks of MMEngine for training, as in ``custom_hooks``, but
            without replacing ``custom_hooks`` of a base config. (Hooks for tests belong into
            ``custom_hooks``.) Defaults to ().
        nonfinite_limit (int): A term that is infinite or NaN is left out of its step; after so many
            consecutive steps the run stops, with a diagnosis. Defaults to 10.
        classes (Sequence[str], optional): Names of the classes of the student's columns, in order.
            Defaults to None, the names in the training data of the running Runner.
        unlabelled (str | dict, optional): Images without labels, of which each step has a batch: a
            folder, or ``dict(dataloader=...)``; see :class:`mmkd.training.unlabelled.Unlabelled`.
            Entries of ``distill`` are computed for them, too, or only for them, by ``images``;
            :class:`mmkd.PseudoLabels` trains on them. Defaults to None, labelled images only.
        data_preprocessor (dict, optional): Data preprocessor for a student config without one:
            MMEngine's Runner passes the one outside of ``model`` in the config. Defaults to None.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If ``distill`` is empty, a point does not exist in the student, or two entries
            have the same name.

    Example:
        >>> from mmengine.hub import get_config
        >>> student = get_config('mmdet::retinanet/retinanet_r18_fpn_1x_coco.py').model
        >>> model = Distiller(dict(student, _scope_='mmdet'), dict(config='teacher.py'),
        ...                   [dict(type='mmkd.DISTLoss', on='cls')])
        >>> [name for name, _ in model.named_children()]  # those of the student
        ['data_preprocessor', 'backbone', 'neck', 'bbox_head']
    """

    @named_arguments
    def __init__(self, student: Union[dict, nn.Module],
                 teacher: Union[dict, BaseTeacher, None] = None,
                 distill: Sequence[dict] = (),
                 companions: Optional[Dict[str, Any]] = None,
                 inherit: Union[str, dict, None] = None,
                 hooks: Sequence[Any] = (),
                 nonfinite_limit: int = LIMIT,
                 data_preprocessor: Optional[dict] = None,
                 classes: Optional[Sequence[str]] = None,
                 unlabelled: Union[str, dict, None] = None) -> None:
        super().__init__()
        if isinstance(student, dict) and 'type' not in student:
            raise TypeError('`student` must be a model, such as `_base_.model`, but its keys are '
                            f'{list(student)}; use the dict of the model, which has a `type`')
        if isinstance(student, dict):
            if data_preprocessor is not None and student.get('data_preprocessor') is None:
                student = dict(student, data_preprocessor=data_preprocessor)
            student = _build_student(student)
        if not isinstance(student, nn.Module):
            raise TypeError('`student` must be the config of a model, such as `_base_.model`, but '
                            f'got {type(student).__name__}: {student!r:.200}; write for instance '
                            'student=_base_.model')
        if isinstance(student, Distiller):
            raise TypeError('`student` is a mmkd.Distiller already; move its `distill` and '
                            '`companions` here, and give its own `student`')
        for table in SHARED_TABLES:
            self.__dict__[table] = student.__dict__[table]
        self.__dict__['student'] = student  # not a child: its children are shared
        self._version = student._version
        self.distillation = Distillation(student, teacher, distill, classes, companions,
                                         nonfinite_limit, unlabelled=unlabelled)
        self._steps, self._is_in_step, self._has_runner = 0, False, False
        self._moves = MoveWatch()
        self.inherit = None if inherit is None else Inheritance.of(inherit)
        self._own_hooks = OwnHooks(hooks)

    # --- training -------------------------------------------------------------------------------

    def forward(self,
                inputs: Tensor,
                data_samples: Optional[list] = None,
                mode: str = 'tensor') -> Any:
        """Forward of the student; with ``mode='loss'``, the terms are added to the dict of losses.

        Args:
            inputs (Tensor): Float (N, C, H, W), normalised.
            data_samples (list, optional): The N samples.
            mode (str): 'loss', 'predict' or 'tensor'. Defaults to 'tensor'.

        Returns:
            dict | list | tuple | Tensor: The return value of the student.
        """
        if mode != 'loss':
            return self.student(inputs, data_samples, mode=mode)
        self._begin_step(inputs)
        return self.distillation.losses(self.student, inputs, data_samples)

    def loss(self, inputs: Tensor, data_samples: Optional[list] = None) -> Any:
        """The same as ``forward(inputs, data_samples, mode='loss')``, with the terms.

        Args:
            inputs (Tensor): Float (N, 3, H, W), normalised.
            data_samples (list, optional): The N samples.

        Returns:
            dict: The losses.
        """
        return self.forward(inputs, data_samples, mode='loss')

    def init_weights(self) -> None:
        """Initialise the student, and only the student; then prepare the teacher.

        MMEngine's Runner calls this before the first batch of a training run and never for a test:
        a missing teacher is found here. (Its FlexibleRunner also calls it for a test.)
        """
        runner = current_runner()
        is_for_training = runner is None or is_training(runner)
        if is_for_training:
            self._check_outermost()
        self.student.init_weights()
        if not is_for_training:
            return
        self.prepare()
        if self.inherit is not None:
            teacher = self.distillation.networks.get('teacher')
            if not isinstance(teacher, FrozenTeacher):
                raise ValueError('`inherit` copies weights of a trained `teacher`, but `teacher` '
                                 'is ' + (
                    'none or a committee' if teacher is None else f'a {type(teacher).__name__}') +
                    '; leave out `inherit`, or start from a checkpoint by `load_from`')
            assert teacher.model is not None
            self.inherit.pass_on(teacher.model, self.student)

    def prepare(self, inputs: Optional[Tensor] = None) -> None:
        """Build the teacher and check that it fits the student. A second call does nothing.

        With a Runner, connectors and partners are added to its optimizer and its checkpoints.

        Args:
            inputs (Tensor, optional): The first batch, if it is available; see
                :meth:`mmkd.training.distillation.Distillation.prepare`. Defaults to None.

        Raises:
            FileNotFoundError: If the teacher's config or checkpoint does not exist.
            ValueError: If teacher and student cannot be compared as configured, or not with the
                strategy by which the Runner splits the student.
        """
        runner = current_runner()
        if runner is None:
            return self.distillation.prepare(inputs)
        if any(isinstance(hook, StateHook) and hook.distillation is self.distillation
               for hook in runner.hooks):
            return
        self._check_outermost()
        warn_of_lost('custom_hooks')
        check_strategy(runner, self.distillation)
        self._own_hooks.join(runner)  # before networks look for an EMAHook
        with all_or_none('prepare its teacher'):
            self.distillation.prepare()
        check_alike(self.distillation.provenance, 'the teachers and the comparisons')
        check_connectors(runner, self.distillation)
        for text in warnings_about(self.student, self.distillation):
            warn(text)
        self._has_runner = True
        runner.register_hook(StateHook(self.distillation))
        if any(partner.is_kept for partner in self.distillation.partners.values()):
            runner.register_hook(PartnerHook(self.distillation))

    def _check_outermost(self) -> None:
        outer = surrounding_model(self)
        # Without a Runner it may be a part of another model, unless MMEngine initialises that
        # model, which adds `_params_init_info` to all modules.
        if outer is None or (current_runner() is None and '_params_init_info' not in vars(self)):
            return
        name = next(name for name, one in outer.named_modules() if one is self)
        raise ValueError(
            f'a mmkd.Distiller must be the outermost model of a run, but here it is `{name}` of '
            f'{type(outer).__name__}, which would initialise, train and save parts of it without '
            f'the distillation; use the plain student as `{name}`, or use the student without '
            f'{type(outer).__name__} as `student` of the mmkd.Distiller')

    def train_step(self, data: Any, optim_wrapper: Any) -> Any:
        """One training step of MMEngine; without a Runner, it also updates the side modules.

        Raises:
            ValueError: If a network needs epochs, and there is no Runner.
        """
        losses = super().train_step(data, optim_wrapper)
        self._end_step()
        return losses

    @torch.compiler.disable
    def _begin_step(self, inputs: Any) -> None:
        """Without the hooks of a Runner: add side modules to the optimizer, count steps.

        It is called in forward, because a distributed wrapper has its own ``train_step`` and does
        not call that of the Distiller.
        """
        if self._has_runner:
            return
        self._end_step()
        self.prepare(self.distillation.batches.images(inputs))
        if self._has_runner or not (self.training and torch.is_grad_enabled()):
            return
        beside, optim_wrapper = self.distillation.trained_beside, current_optim_wrapper()
        if optim_wrapper is None:
            self._steps += 1
            self.distillation.iteration = self._steps - 1
            return self._moves.check(self.student.parameters(), beside)
        if beside:
            join_optimizer(beside, optim_wrapper)
        if not self._steps:
            if any(network.needs_epochs for network in self.distillation.networks.values()):
                raise ValueError('a network changes after every epoch, but epochs are known only '
                                 'under a Runner; set `every=` to a number of iterations')
            self.distillation.begin()
        self._steps += 1
        self._is_in_step = True

    @torch.compiler.disable
    def _end_step(self) -> None:
        """End the step, at the latest when the next one begins."""
        if self._is_in_step:
            self._is_in_step = False
            self.distillation.after_iter(self._steps)

    @property
    def teacher(self) -> BaseTeacher:
        """The teacher; the first one if there are several."""
        return self.distillation.teacher

    @property
    def terms(self) -> List[Term]:
        """The terms, one per entry of ``distill``."""
        return self.distillation.terms

    @property
    def matches(self) -> List[Term]:
        """Former name of :attr:`terms`."""
        warn_renamed('`Distiller.matches`', '`Distiller.terms`')
        return self.terms

    # --- attributes and methods of the student --------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if 'student' not in self.__dict__:  # while unpickled or copied
                raise
            return getattr(self.student, name)

    def __setattr__(self, name: str, value: Any) -> None:
        # For instance, `model.test_cfg = ...` must set the attribute of the student.
        student = self.__dict__.get('student')
        if student is not None and name in student.__dict__ and name not in self.__dict__:
            setattr(student, name, value)
        else:
            super().__setattr__(name, value)

    def train(self, mode: bool = True) -> 'Distiller':
        """Set the mode of the student. The teacher remains in eval mode."""
        self.student.train(mode)
        self.training = mode
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> 'Distiller':
        super()._apply(fn, recurse)
        self.distillation._apply(fn)
        return self

    def _save_to_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self.student._save_to_state_dict(*args, **kwargs)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        # Detectors of mmdet rename keys of older checkpoints here.
        self.student._load_from_state_dict(*args, **kwargs)

    def val_step(self, data: Any) -> list:
        """``val_step`` of the student."""
        return self.student.val_step(data)

    def test_step(self, data: Any) -> list:
        """``test_step`` of the student."""
        return self.student.test_step(data)

    def parse_losses(self, losses: Dict[str, Any]) -> Any:
        """``parse_losses`` of the student."""
        return self.student.parse_losses(losses)



def _build_student(config: dict) -> nn.Module:
    lost = warn_of_lost('custom_imports')
    try:
        return build_model(config, 'student')
    except ValueError as error:
        if not lost:
            raise
        raise ValueError(f'{error}. A possible cause: {lost[0]}') from error.__cause__
