"""The meeting place: a student, a teacher, and what is compared between them."""
from typing import Any, Callable, Dict, List, Optional, Sequence, Union

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from .compare.term import Term
from .core.agreement import all_or_none, check_alike
from .core.aliases import warn_renamed
from .core.build import build_model, named_arguments
from .core.runner import current_optim_wrapper, current_runner, is_training, surrounding_model
from .files.bases import warn_of_lost
from .hooks import OwnHooks, PartnerHook, StateHook
from .networks import BaseTeacher, FrozenTeacher
from .networks.inherit import Inheritance
from .registry import MODELS
from .training.beside import MoveWatch, join_optimizer
from .training.distillation import Distillation
from .training.health import LIMIT
from .training.strategies import check_connectors, check_strategy

SHARED_TABLES = ('_parameters', '_buffers', '_modules', '_non_persistent_buffers_set',
                 '_state_dict_hooks', '_state_dict_pre_hooks', '_load_state_dict_pre_hooks',
                 '_load_state_dict_post_hooks')
"""What torch and MMEngine walk when they look into a module."""


@MODELS.register_module()
class Distiller(BaseModel):
    """A student that learns from a teacher while it trains.

    To everything that walks modules the Distiller *is* its student: both share one table of
    children, parameters and buffers. So parameter names, optimizer groups, EMA copies, hooks that
    reach for ``model.bbox_head``, and the checkpoint are the plain student's; an attribute that
    the Distiller does not have is the student's too. Most of its methods are those of a model of
    MMEngine, answered by the student; hence there are more than 15, in a file of more than 300
    lines. It adds its losses where the student computes its own, and does nothing in prediction:
    the teacher is built by :meth:`prepare`, which a training run calls before its first batch and a
    test never does.

    Args:
        student (dict | nn.Module): The student's model config.
        teacher (dict | BaseTeacher, optional): The teacher. ``type`` may be left out, it is
            'mmkd.FrozenTeacher' then: ``dict(config=..., checkpoint=...)``. Defaults to None, where
            companions teach.
        distill (Sequence[dict]): What is compared: each entry a loss with its arguments and ``on``,
            the point; see :func:`mmkd.compare.spec.read_entry`. With ``between=[...]`` it stands
            for every pair of these networks, each learning from each.
        companions (dict[str, dict | BaseTeacher], optional): Further networks by name, which can
            teach and, where they are trained, be taught; ``type`` is 'mmkd.Partner' where it is
            left out. Defaults to None.
        inherit (str | dict, optional): What the student starts with of its teacher; see
            :class:`mmkd.networks.inherit.Inheritance`. Defaults to None, nothing.
        hooks (Sequence[dict | Hook]): Hooks of MMEngine's, as in ``custom_hooks``, that take part
            in training. Here they replace no list of the config that this one inherits from. (What
            acts in tests belongs into ``custom_hooks``.) Defaults to ().
        nonfinite_limit (int): A term that is infinite or not a number is left out of its step; the
            run stops after so many steps in a row, with a diagnosis. Defaults to 10.
        classes (Sequence[str], optional): What the student's columns stand for, in their order,
            where the training data does not name them. Defaults to None, the names of the running
            Runner's training data.
        data_preprocessor (dict, optional): The student's, if its own config has none: MMEngine's
            Runner hands it in where it stands beside ``model`` in the config. Defaults to None.

    Raises:
        TypeError: If an argument is not of the kind above.
        ValueError: If ``distill`` is empty, a point does not exist in the student, or two entries
            have one name.
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
                 classes: Optional[Sequence[str]] = None) -> None:
        super().__init__()
        if isinstance(student, dict) and 'type' not in student:
            raise TypeError('`student` must be a model, such as `_base_.model`, but its keys are '
                            f"{list(student)}; give the model itself, with its `type`")
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
        self.__dict__['student'] = student  # not a child: its children are ours already
        self._version = student._version
        self.distillation = Distillation(student, teacher, distill, classes, companions,
                                         nonfinite_limit)
        self._steps, self._is_in_step, self._has_runner = 0, False, False
        self._moves = MoveWatch()
        self.inherit = None if inherit is None else Inheritance.of(inherit)
        self._own_hooks = OwnHooks(hooks)

    # --- training -------------------------------------------------------------------------------

    def forward(self,
                inputs: Tensor,
                data_samples: Optional[list] = None,
                mode: str = 'tensor') -> Any:
        """As the student's; with ``mode='loss'`` the dict of losses holds the distillation's too.

        Args:
            inputs (Tensor): Float (N, C, H, W), normalised.
            data_samples (list, optional): The N samples.
            mode (str): 'loss', 'predict' or 'tensor'. Defaults to 'tensor'.

        Returns:
            dict | list | tuple | Tensor: Whatever the student returns.
        """
        if mode != 'loss':
            return self.student(inputs, data_samples, mode=mode)
        self._begin_step(inputs)
        return self.distillation.losses(self.student, inputs, data_samples)

    def loss(self, inputs: Tensor, data_samples: Optional[list] = None) -> Any:
        """As ``forward(inputs, data_samples, mode='loss')``: the distillation's losses are in it.

        Args:
            inputs (Tensor): Float (N, 3, H, W), normalised.
            data_samples (list, optional): The N samples.

        Returns:
            dict: The losses.
        """
        return self.forward(inputs, data_samples, mode='loss')

    def init_weights(self) -> None:
        """Initialise the student, and only it; then get the teacher ready.

        MMEngine's Runner calls this before the first batch of a training run and never for a test:
        here a missing or unfit teacher is found. (Its FlexibleRunner does call it for a test.)
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
                raise ValueError('`inherit` takes weights of a trained `teacher`, but it is ' + (
                    'none or a committee' if teacher is None else f'a {type(teacher).__name__}') +
                    '; leave out `inherit`, or start from a checkpoint by `load_from`')
            assert teacher.model is not None
            self.inherit.pass_on(teacher.model, self.student)

    def prepare(self, inputs: Optional[Tensor] = None) -> None:
        """Build the teacher and check that it fits the student. The second call does nothing.

        Under a Runner, connectors and partners join its optimizer and its checkpoints.

        Args:
            inputs (Tensor, optional): The first batch, where there is one already; see
                :meth:`mmkd.training.distillation.Distillation.prepare`. Defaults to None.

        Raises:
            FileNotFoundError: If the teacher's config or checkpoint does not exist.
            ValueError: If teacher and student cannot be compared as the config asks, or not in the
                way in which the Runner spreads the student; the message says what was found and
                what to do.
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
        with all_or_none('get its teacher ready'):
            self.distillation.prepare()
        check_alike(self.distillation.provenance, 'who teaches, and what is compared')
        check_connectors(runner, self.distillation)
        self._has_runner = True
        runner.register_hook(StateHook(self.distillation))
        if any(partner.is_kept for partner in self.distillation.partners.values()):
            runner.register_hook(PartnerHook(self.distillation))

    def _check_outermost(self) -> None:
        outer = surrounding_model(self)
        # In a loop of one's own it may be a part, unless MMEngine's way of initialising, which
        # leaves notes in all modules, is to find it there.
        if outer is None or (current_runner() is None and '_params_init_info' not in vars(self)):
            return
        name = next(name for name, one in outer.named_modules() if one is self)
        raise ValueError(
            f'a mmkd.Distiller must be the outermost model of a run, but here it is `{name}` of '
            f'{type(outer).__name__}, which would initialise, train and save parts of it past the '
            f'distillation; give `{name}` the plain student, or make the student without '
            f'{type(outer).__name__} the `student` of the mmkd.Distiller')

    def train_step(self, data: Any, optim_wrapper: Any) -> Any:
        """As any model's; a training loop of one's own trains what is beside by this, too.

        Raises:
            ValueError: If a network waits for epochs, of which such a loop tells nothing.
        """
        losses = super().train_step(data, optim_wrapper)
        self._end_step()
        return losses

    @torch.compiler.disable
    def _begin_step(self, inputs: Tensor) -> None:
        """Where no Runner's hooks do it: train what is beside, count steps.

        This is done in forward, because a distributed wrapper has a ``train_step`` of its own that
        passes ours by.
        """
        if self._has_runner:
            return
        self._end_step()
        self.prepare(inputs)
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
                raise ValueError('a network changes with every epoch, of which only a Runner '
                                 'tells; write `every=` a number of iterations')
            self.distillation.begin()
        self._steps += 1
        self._is_in_step = True

    @torch.compiler.disable
    def _end_step(self) -> None:
        """The step is over, at the latest when the next begins."""
        if self._is_in_step:
            self._is_in_step = False
            self.distillation.after_iter(self._steps)

    @property
    def teacher(self) -> BaseTeacher:
        """Who teaches; of several networks, the first."""
        return self.distillation.teacher

    @property
    def terms(self) -> List[Term]:
        """What is compared, one for each entry of ``distill``."""
        return self.distillation.terms

    @property
    def matches(self) -> List[Term]:
        """The name of :attr:`terms` in the first edition."""
        warn_renamed('`Distiller.matches`', '`Distiller.terms`')
        return self.terms

    # --- being the student ----------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if 'student' not in self.__dict__:  # while unpickled or copied
                raise
            return getattr(self.student, name)

    def __setattr__(self, name: str, value: Any) -> None:
        # Whoever sets `model.test_cfg` means the student's, if it is the student that has one.
        student = self.__dict__.get('student')
        if student is not None and name in student.__dict__ and name not in self.__dict__:
            setattr(student, name, value)
        else:
            super().__setattr__(name, value)

    def train(self, mode: bool = True) -> 'Distiller':
        """Set the student's mode. The teacher stays in eval mode."""
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
        """As the student's."""
        return self.student.val_step(data)

    def test_step(self, data: Any) -> list:
        """As the student's."""
        return self.student.test_step(data)

    def parse_losses(self, losses: Dict[str, Any]) -> Any:
        """As the student's."""
        return self.student.parse_losses(losses)



def _build_student(config: dict) -> nn.Module:
    lost = warn_of_lost('custom_imports')
    try:
        return build_model(config, 'student')
    except ValueError as error:
        if not lost:
            raise
        raise ValueError(f'{error}. Perhaps it is this: {lost[0]}') from error.__cause__
