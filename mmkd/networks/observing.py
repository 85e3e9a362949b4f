"""How is a network run on a batch, as far as questions need, and what does it return?"""
from functools import partial
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

import torch
from torch import Tensor, nn

from ..core.rng import preserved_rng
from ..points import Answers, Point, family_of
from ..points.recorder import recording
from .continued import continued
from .idle import Outputs, Parts, left_out, parts_of, standing_in


class Question(NamedTuple):
    """What a teacher is asked."""
    points: Tuple[Point, ...]
    """Its points."""
    at: Optional[Tensor] = None
    """Where to predict, such as RoIs (R, 5); None on the head's own grid."""
    through: Optional[Tuple[str, List[Any]]] = None
    """A module of its own and what takes the place of its outputs, call by call: values of the
    student, which gets a gradient by what is answered. None: it runs as it is."""

    @property
    def paths(self) -> Set[str]:
        """Its modules that must run."""
        return {path for point in self.points for path in point.watched}


def answered(model: nn.Module, inputs: Tensor, data_samples: Optional[Sequence],
             questions: Dict[str, Question]) -> Dict[str, Answers]:
    """Run a network, and read what it returns at the points of each question.

    Args:
        model (nn.Module): The network.
        inputs (Tensor): Float (N, C, H, W), as it wants them.
        data_samples (Sequence, optional): The N samples.
        questions (dict[str, Question]): By a key of the caller's.
    """
    family = family_of(model)
    told: Dict[str, Answers] = {}
    paths = {path for question in questions.values() for path in question.paths}
    with recording(model, paths) as before:
        features = family.extract(model, inputs)
    for key, question in questions.items():
        with recording(model, question.paths) as behind, continued(model, question.through):
            family.predict(model, features, question.paths, question.at, data_samples)
        records = {path: before[path] + calls for path, calls in behind.items()}
        told[key] = {point: point.answer(records) for point in question.points}
    return told


class Observer:
    """Runs a network without the modules that have no part in what is asked.

    Attributes:
        parts (dict[Point, Parts | None]): By point, the modules that have a part in it.
    """

    def __init__(self) -> None:
        self.parts: Dict[Point, Optional[Parts]] = {}
        self._noise: List[Tensor] = []
        self._idle_outputs: Dict[str, Outputs] = {}

    def observe(self, model: nn.Module, inputs: Tensor, data_samples: Optional[Sequence],
                questions: Dict[str, Question], runs_whole: bool = False) -> Dict[str, Answers]:
        """As :func:`answered`, without gradient.

        Args:
            model (nn.Module): The network, in eval mode.
            inputs (Tensor): Float (N, C, H, W), as it wants them.
            data_samples (Sequence, optional): The N samples.
            questions (dict[str, Question]): By a key of the caller's.
            runs_whole (bool): Whether every module runs. Defaults to False.
        """
        points = {point for question in questions.values() for point in question.points}
        known = all(point in self.parts for point in points)
        idle = left_out(self.parts[point] for point in points) if (
            known and not runs_whole) else set()
        with torch.no_grad(), standing_in(model, idle, self._idle_outputs):
            told = answered(model, inputs, data_samples, questions)
        if not known and not runs_whole:  # and it does run on an image of this size
            self._find_parts(model, inputs, points)
        return told

    def rehearsed(self, model: nn.Module, point: Point, answer: Callable,
                  image: int = 0) -> List[Tensor]:
        """What a network returns for noise at a point."""
        noise = self._noise[image]
        at = family_of(model).made_up(noise) if point.asked_at else None
        with preserved_rng():  # some draw random numbers also in eval mode
            torch.manual_seed(0)
            told: Dict[str, Answers] = answer(noise, None, {'': Question((point, ), at)})
        return told[''][point].tensors()

    def _find_parts(self, model: nn.Module, inputs: Tensor, points: Set[Point]) -> None:
        """Find out which modules have a part in what is returned at points."""
        if not self._noise:
            generator = torch.Generator().manual_seed(0)
            noise = torch.randn(inputs[:1].shape, generator=generator).to(inputs)
            self._noise = [noise, 3 * noise.flip(-1)]
        for point in points - set(self.parts):
            self.parts[point] = parts_of(model, partial(
                self.rehearsed, model, point, partial(answered, model)))

    def _apply(self, fn: Callable[[Tensor], Tensor]) -> None:
        self._noise = [fn(noise) for noise in self._noise]
