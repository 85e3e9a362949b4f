"""The meeting place: a student, a teacher, and what is compared between them."""
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Union

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModel
from mmengine.registry import MODELS as MMENGINE_MODELS
from torch import Tensor, nn

from .build import build_entry
from .classes import classes_of_run
from .heads import adapter_of
from .match import Match
from .recorder import recording
from .registry import MODELS
from .rng import preserved_rng
from .teachers import BaseTeacher

SHARED_TABLES = ('_parameters', '_buffers', '_modules', '_non_persistent_buffers_set',
                 '_state_dict_hooks', '_state_dict_pre_hooks', '_load_state_dict_pre_hooks',
                 '_load_state_dict_post_hooks')
"""What torch and MMEngine walk when they look into a module."""

PROBE_SIZES = (128, 320, 512)
"""Heights and widths, in pixels, of the blank image that tells the shapes before training."""


@MODELS.register_module()
class Distiller(BaseModel):
    """A student that learns from a teacher while it trains.

    To everything that walks modules the Distiller *is* its student: both share one table of
    children, parameters and buffers. So parameter names, optimizer groups, EMA copies, hooks that
    reach for ``model.bbox_head``, and the checkpoint are the plain student's; an attribute that
    the Distiller does not have is the student's too. It adds its losses where the student computes
    its own, and does nothing in prediction: the teacher is built by :meth:`prepare`, which a
    training run calls before its first batch and a test never does.

    Args:
        student (dict | nn.Module): The student's model config.
        teacher (dict | BaseTeacher): The teacher. ``type`` may be left out, it is
            'mmkd.FrozenTeacher' then: ``dict(config=..., checkpoint=...)``.
        distill (Sequence[dict]): What is compared: each entry a loss with its arguments and ``on``,
            the point; see :class:`mmkd.match.Match`.

    Raises:
        TypeError: If an argument is not of the kind above.
        ValueError: If ``distill`` is empty, a point does not exist in the student, or two entries
            have one name.
    """

    def __init__(self, student: Union[dict, nn.Module], teacher: Union[dict, BaseTeacher],
                 distill: Sequence[dict]) -> None:
        super().__init__()
        if isinstance(student, dict) and 'type' not in student:
            raise TypeError('`student` must be a model, such as `_base_.model`, but its keys are '
                            f'{list(student)}')
        student = student if isinstance(student, nn.Module) else MMENGINE_MODELS.build(student)
        for table in SHARED_TABLES:
            self.__dict__[table] = student.__dict__[table]
        self.__dict__['student'] = student  # not a child: its children are ours already
        self._version = student._version
        self.teacher: BaseTeacher = teacher if isinstance(teacher, BaseTeacher) else build_entry(
            teacher, MODELS, '`teacher`', 'mmkd.FrozenTeacher')
        if not isinstance(distill, (list, tuple)) or not all(
                isinstance(entry, dict) for entry in distill):
            raise TypeError('`distill` is a list of dicts, for instance '
                            f"[dict(type='mmkd.DISTLoss', on='cls')], but got {distill!r}")
        if not distill:
            raise ValueError('`distill` is empty, so nothing would be compared; add an entry, for '
                             "instance dict(type='mmkd.DISTLoss', on='cls')")
        self.matches: List[Match] = [Match(**entry) for entry in distill]
        names = [match.name for match in self.matches]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f'two entries of `distill` are called `{name}`; give one of them '
                                 'a `name=` of its own')
        for match in self.matches:
            match.find_on_student(student)
        self._student_paths = {match.student_point.path for match in self.matches}
        self._is_prepared = False

    # --- training -------------------------------------------------------------------------------

    def forward(self,
                inputs: Tensor,
                data_samples: Optional[list] = None,
                mode: str = 'tensor') -> Any:
        """As the student's; with ``mode='loss'`` the dict of losses holds the distillation's too.

        Args:
            inputs (Tensor): Float (N, 3, H, W), normalised.
            data_samples (list, optional): The N samples.
            mode (str): 'loss', 'predict' or 'tensor'. Defaults to 'tensor'.

        Returns:
            dict | list | tuple | Tensor: Whatever the student returns.
        """
        if mode != 'loss':
            return self.student(inputs, data_samples, mode=mode)
        return self._distilled_losses(inputs, data_samples)

    @torch.compiler.disable  # what is recorded comes and goes with every step
    def _distilled_losses(self, inputs: Tensor, data_samples: Optional[list]) -> Dict[str, Any]:
        self.prepare()
        with recording(self.student, self._student_paths) as seen:
            losses = self.student(inputs, data_samples, mode='loss')
        told = self.teacher.look(inputs, data_samples, self._teacher_paths)
        for match in self.matches:
            if match.name in losses:
                raise ValueError(f'the student has a loss `{match.name}` of its own; give the '
                                 'entry of `distill` another `name=`')
            losses[match.name] = match.compare(seen, told)
        return losses

    def init_weights(self) -> None:
        """Initialise the student, and only it; then get the teacher ready.

        MMEngine's Runner calls this before the first batch of a training run and never for a test:
        here a missing or unfit teacher is found.
        """
        self.student.init_weights()
        self.prepare()

    def prepare(self) -> None:
        """Build the teacher and check that it fits the student. The second call does nothing.

        Raises:
            FileNotFoundError: If the teacher's config or checkpoint does not exist.
            ValueError: If teacher and student cannot be compared as the config asks; the message
                says what was found and what to do.
        """
        if self._is_prepared:
            return
        with preserved_rng():
            self.teacher.prepare(self.student)
            teacher = self.teacher.model
            assert teacher is not None
            parameter = next(self.student.parameters())
            teacher.to(parameter.device, parameter.dtype)
            student_classes = classes_of_run()
            for match in self.matches:
                match.find_on_teacher(teacher, student_classes, self.teacher.classes)
            self._teacher_paths = {match.teacher_point.path for match in self.matches}
            self._report()
        self._is_prepared = True

    def _report(self) -> None:
        """Compare the shapes on a blank image, and log what will be compared with what."""
        for size in PROBE_SIZES:
            side, like = 'student', next(self.student.parameters())
            blank = torch.zeros(1, 3, size, size, device=like.device, dtype=like.dtype)
            try:
                with torch.no_grad(), _evaluating(self.student), recording(
                        self.student, self._student_paths) as seen:
                    adapter_of(self.student).run(self.student, blank)
                side = 'teacher'
                told = self.teacher.look(blank, None, self._teacher_paths)
                break
            except (RuntimeError, ValueError, AssertionError) as error:
                problem = error  # perhaps the image is too small for the network
        else:
            raise ValueError(
                f'the {side} does not run on a blank image of {size}x{size} pixels: {problem}; '
                'look whether the parts of its config fit together') from problem
        for match in self.matches:
            with torch.no_grad():
                student, _ = match.levels(seen, told)
            print_log(
                f'{match.name}: `{match.student_point.name}` of the student '
                f'({match.student_point.path}) with `{match.teacher_point.name}` of the teacher '
                f'({match.teacher_point.path}), {type(match.loss).__name__} x '
                f'{match.loss.loss_weight:g}, at {size}x{size} pixels: '
                f'{", ".join("x".join(map(str, level.shape)) for level in student)}', 'current')

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
        self.teacher._apply(fn)
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


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode inside the block, afterwards each module's own mode again."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
