"""How is a network run on a batch, as far as questions need?"""
from contextlib import nullcontext
from functools import partial
from typing import (
    Callable,
    ContextManager,
    Dict,
    Iterable,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
)

import torch
from torch import Tensor, nn

from ..core.rng import preserved_rng
from ..points import Answers, Point, family_of
from ..points.recorder import recording
from .continued import Replaced, continued
from .idle import Outputs, Parts, left_out, parts_of, standing_in


class Question(NamedTuple):
    """Points of a teacher to observe, and the input for them."""
    points: Tuple[Point, ...]
    """Points of the teacher."""
    at: Optional[Tensor] = None
    """Places to predict for, such as RoIs (R, 5); None for the grid of the head."""
    through: Optional[Replaced] = None
    """Values of the student that replace the outputs of a module of the teacher; the answer then
    has a gradient for the student. None: nothing is replaced."""

    @property
    def paths(self) -> Set[str]:
        """Paths of the modules that must run."""
        return {path for point in self.points for path in point.watched}


def answered(model: nn.Module, inputs: Tensor, data_samples: Optional[Sequence],
             questions: Dict[str, Question],
             skipping: Callable[[Question], ContextManager] = lambda question: nullcontext()
             ) -> Dict[str, Answers]:
    """Run a network, and return the values at the points of each question.

    Args:
        model (nn.Module): The network.
        inputs (Tensor): Float (N, C, H, W), normalised for the network.
        data_samples (Sequence, optional): The N samples.
        questions (dict[str, Question]): Questions by a key that the caller chooses.
        skipping (Callable): Returns a context in which modules that a question does not need are
            left out. Defaults to one in which all run.
    """
    family = family_of(model)
    told: Dict[str, Answers] = {}
    paths = {path for question in questions.values() for path in question.paths}
    with recording(model, paths) as before:
        features = family.extract(model, inputs)
    for key, question in questions.items():
        with skipping(question), recording(model, question.paths) as behind, continued(
                model, question.through):
            family.predict(model, features, question.paths, question.at, data_samples)
            records = {path: before[path] + calls for path, calls in behind.items()}
            # Inside, where gradients are enabled: boxes are decoded here.
            told[key] = {point: point.answer(records) for point in question.points}
    return told


class Observer:
    """Runs a network without the modules that do not contribute to the answers.

    Attributes:
        parts (dict[Point, Parts | None]): Contributing and other modules, by point.
        through (set[str]): Modules whose outputs are replaced by values of the student.
    """

    def __init__(self) -> None:
        self.parts: Dict[Point, Optional[Parts]] = {}
        self.through: Set[str] = set()
        self._noise: List[Tensor] = []
        self._idle_outputs: Dict[str, Outputs] = {}

    def observe(self, model: nn.Module, inputs: Tensor, data_samples: Optional[Sequence],
                questions: Dict[str, Question], runs_whole: bool = False) -> Dict[str, Answers]:
        """The same as :func:`answered`, without gradient.

        Args:
            model (nn.Module): The network, in eval mode.
            inputs (Tensor): Float (N, C, H, W), normalised for the network.
            data_samples (Sequence, optional): The N samples.
            questions (dict[str, Question]): Questions by a key that the caller chooses.
            runs_whole (bool): Whether every module runs. Defaults to False.
        """
        points = {point for question in questions.values() for point in question.points}
        self.through.update(one.through.path for one in questions.values() if one.through)
        known = all(point in self.parts for point in points)

        def skipping(points: Iterable[Point]) -> ContextManager:
            idle = left_out(self.parts[point] for point in points) if (
                known and not runs_whole) else set()
            return standing_in(model, idle, self._idle_outputs)

        with torch.no_grad(), skipping(points):
            # A value of the student may be passed through only one branch of a head.
            told = answered(model, inputs, data_samples, questions,
                            lambda question: skipping(question.points))
        if not known and not runs_whole:  # an image of this size has run without an error
            self._find_parts(model, inputs, points)
        return told

    def rehearsed(self, model: nn.Module, point: Point, answer: Callable,
                  image: int = 0) -> List[Tensor]:
        """The answer of a network at a point for an image of noise."""
        noise = self._noise[image]
        at = family_of(model).made_up(noise) if point.asked_at else None
        with preserved_rng():  # some networks draw random numbers in eval mode
            torch.manual_seed(0)
            told: Dict[str, Answers] = answer(noise, None, {'': Question((point, ), at)})
        return told[''][point].tensors()

    def _find_parts(self, model: nn.Module, inputs: Tensor, points: Set[Point]) -> None:
        """Find the modules that contribute to the answers at points."""
        if not self._noise:
            generator = torch.Generator().manual_seed(0)
            noise = torch.randn(inputs[:1].shape, generator=generator).to(inputs)
            self._noise = [noise, 3 * noise.flip(-1)]
        for point in points - set(self.parts):
            self.parts[point] = parts_of(model, partial(
                self.rehearsed, model, point, partial(answered, model)))

    def _apply(self, fn: Callable[[Tensor], Tensor]) -> None:
        self._noise = [fn(noise) for noise in self._noise]
