"""What one training step adds: the student is watched, the teacher looks, matches compare."""
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Set, Tuple, Union

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from .build import build_entry
from .classes import check_label_order, classes_of_run
from .heads import adapter_of, points_of
from .match import Match
from .recorder import Records, recording
from .registry import MODELS
from .rng import preserved_rng
from .teachers import BaseTeacher, Question

PROBE_SIZES = (128, 320, 512)
"""Heights and widths, in pixels, of the blank image that tells the shapes before training."""


class Distillation:
    """A teacher and what is compared with it, for one student.

    Both ways into training use it: :class:`mmkd.Distiller`, a model, and
    :class:`mmkd.DistillHook`.

    Args:
        student (nn.Module): The student.
        teacher (dict | BaseTeacher): See :class:`mmkd.Distiller`.
        distill (Sequence[dict]): See :class:`mmkd.Distiller`.
        classes (Sequence[str], optional): Names of the student's classes. Defaults to None, those
            of the running Runner's training set.

    Raises:
        TypeError: If an argument is not of the kind above.
        ValueError: If ``distill`` is empty, a point does not exist in the student, or two entries
            have one name.
    """

    def __init__(self, student: nn.Module, teacher: Union[dict, BaseTeacher],
                 distill: Sequence[dict], classes: Optional[Sequence[str]] = None) -> None:
        self.student = student
        self._classes = classes
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
        self.is_prepared = False

    # --- before the first batch -----------------------------------------------------------------

    def prepare(self) -> None:
        """Build the teacher, check that it fits the student, and make what connects them.

        What is compared is logged. The second call does nothing. The random numbers of the run
        stay as they are.

        Raises:
            FileNotFoundError: If the teacher's config or checkpoint does not exist.
            ValueError: If teacher and student cannot be compared as the config asks; the message
                says what was found and what to do.
        """
        if self.is_prepared:
            return
        with preserved_rng():
            self.teacher.prepare(self.student)
            assert self.teacher.model is not None
            parameter = next(self.student.parameters())
            self.teacher.model.to(parameter.device, parameter.dtype)
            try:
                self.match_points()
            except ValueError as error:
                raise ValueError(f'{error}. Of this pair can be compared: '
                                 f'{self._comparable() or "no point"}') from error
        for match in self.matches:
            print_log(str(match), 'current')
        self.is_prepared = True

    def match_points(self) -> None:
        """Find the points on the teacher, which is prepared, and try them with a blank image.

        Raises:
            ValueError: If teacher and student cannot be compared as the config asks.
        """
        assert self.teacher.model is not None
        student_classes = self._classes or classes_of_run()
        if self.teacher.classes != student_classes:
            check_label_order()
        for match in self.matches:
            match.find_on_teacher(self.teacher.model, student_classes, self.teacher.classes)
        self._student_paths = set().union(*(match.student_paths for match in self.matches))
        self._asked: Dict[str, Set[str]] = {}
        for match in self.matches:
            for at, paths in match.asked:
                self._asked.setdefault(at, set()).update(paths)
        self._fit()

    def trials(self) -> Iterator[Tuple[str, Union[Match, Exception]]]:
        """Every named point of either side, tried alone on the prepared teacher.

        Yields:
            tuple[str, Match | Exception]: The point; what compares it, or why nothing can.
        """
        assert self.teacher.model is not None
        for name in {**points_of(self.student, 'student'),
                     **points_of(self.teacher.model, 'teacher')}:
            # No loss is computed; this one takes logits and features alike.
            entry = dict(type='mmkd.MSELoss', on=name)
            try:
                trial = Distillation(self.student, self.teacher, [entry], self._classes)
                trial.match_points()
                yield name, trial.matches[0]
            except Exception as error:  # a point that cannot run cannot be compared
                yield name, error

    def _comparable(self) -> str:
        return ', '.join(f'`{name}`' + (' through a connector' if match.connectors else '')
                         for name, match in self.trials() if isinstance(match, Match))

    def _fit(self) -> None:
        """Let both sides see a blank image, and make the connectors."""
        found = None
        for size in PROBE_SIZES:
            side, like = 'student', next(self.student.parameters())
            blank = torch.zeros(1, 3, size, size, device=like.device, dtype=like.dtype)
            try:
                with torch.no_grad(), evaluating(self.student), recording(
                        self.student, self._student_paths) as seen:
                    adapter = adapter_of(self.student)
                    adapter.predict(self.student, adapter.extract(self.student, blank),
                                    self._student_paths, adapter.made_up(blank))
                side = 'teacher'
                found = seen, self._ask(seen, blank, None)
            except Exception as error:  # perhaps the image is too small for the network
                problem = error
                continue
            if not any(match.is_ambiguous(*found) for match in self.matches):
                break
        if found is None:
            raise ValueError(
                f'the {side} does not run on a blank image of {size}x{size} pixels: '
                f'{type(problem).__name__}: {problem}; look whether the parts of its config fit '
                'together, and whether `on` names a point of its family') from problem
        for match in self.matches:
            match.fit(*found)

    # --- every step -----------------------------------------------------------------------------

    @torch.compiler.disable  # what is recorded comes and goes with every step
    def losses(self, forward: Callable[..., Dict[str, Any]], inputs: Tensor,
               data_samples: Optional[list]) -> Dict[str, Any]:
        """The student's losses and the distillation's.

        Args:
            forward (Callable): The student's own forward.
            inputs (Tensor): Float (N, 3, H, W), normalised.
            data_samples (list, optional): The N samples.

        Returns:
            dict: The student's losses under their own names, then those of the matches.
        """
        self.prepare()
        with recording(self.student, self._student_paths) as seen:
            losses = forward(inputs, data_samples, mode='loss')
        told = self._ask(seen, inputs, data_samples)
        for match in self.matches:
            if match.name in losses:
                raise ValueError(f'the student has a loss `{match.name}` of its own; give the '
                                 'entry of `distill` another `name=`')
            losses[match.name] = match.compare(seen, told, self.student, data_samples)
        return losses

    def _ask(self, seen: Records, inputs: Tensor,
             data_samples: Optional[Sequence]) -> Dict[str, Records]:
        places = {at: where for match in self.matches
                  for at, where in match.student_point.places(seen).items()}
        questions = {at: Question(paths, places.get(at)) for at, paths in self._asked.items()
                     if not at or at in places}  # a cascade stops where nothing is proposed
        return self.teacher.look(inputs, data_samples, questions)

    # --- what is trained and saved beside the student -------------------------------------------

    @property
    def connectors(self) -> Dict[str, nn.ModuleList]:
        """Connectors by the name of their loss; known after :meth:`prepare`."""
        return {match.name: match.connectors for match in self.matches if match.connectors}

    @property
    def parameters(self) -> List[nn.Parameter]:
        """What is trained beside the student."""
        return [p for connectors in self.connectors.values() for p in connectors.parameters()]

    def state_dict(self) -> Dict[str, Any]:
        """What a checkpoint must hold beside the student, on the CPU; {} if nothing."""
        if not self.connectors:
            return {}
        return dict(connectors={
            name: {key: value.cpu() for key, value in connectors.state_dict().items()}
            for name, connectors in self.connectors.items()})

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """Take up what :meth:`state_dict` gave.

        Raises:
            ValueError: If it is that of another distillation.
        """
        saved, own = state.get('connectors', {}), self.connectors
        shapes = [{f'{name}.{key}': tuple(value.shape)
                   for name, connectors in one.items() for key, value in connectors.items()}
                  for one in (saved, self.state_dict().get('connectors', {}))]
        if shapes[0] != shapes[1]:
            differ = [{key: shape for key, shape in one.items() if other.get(key) != shape}
                      for one, other in (shapes, shapes[::-1])]
            raise ValueError(
                'the checkpoint has other connectors than the config asks for; in the checkpoint '
                f'alone: {differ[0] or "none"}, in the config alone: {differ[1] or "none"}; resume '
                'with the `distill` that it was trained with, or start from its weights with '
                '`load_from` and without `resume`')
        for name, connectors in own.items():
            connectors.load_state_dict(saved[name])

    def _apply(self, fn: Callable[[Tensor], Tensor]) -> None:
        self.teacher._apply(fn)
        for connectors in self.connectors.values():
            connectors._apply(fn)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode inside the block, afterwards each module's own mode again."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
