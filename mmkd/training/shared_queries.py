"""How are a student and its teacher both asked with the same queries?

The teacher is asked with them in the place of its own. The student has its own queries in training,
so it is asked again, with gradient: its decoder and its head run once more, on the memory of its
encoder.
"""
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, List, Mapping, Sequence, Set

import torch
from torch import Tensor, nn

from ..compare.term import Term
from ..core.processes import rank
from ..core.rng import generator_of, preserved_rng, seed_from
from ..points import family_of
from ..points.recorder import Records, recording
from .questions import name_of_set, seen_by, student_paths

Features = Dict[str, Dict[str, Any]]
"""By name of the learner, what its model needs to predict again."""


def check_shared(term: Term, student: nn.Module, teacher: nn.Module) -> None:
    """Whether one set of queries fits both models of a term with ``queries``.

    Raises:
        ValueError: If one of them has no learned queries, or a query is something else to it.
    """
    if term.spec.queries is None:
        return
    head = f'`{term.name}`: `queries={term.spec.queries!r}`'
    own = []
    for side, model in (('student', student), ('teacher', teacher)):
        try:
            own.append(family_of(model, side).queries(model))
        except ValueError as error:
            raise ValueError(f'{head}, but the {error}, so the {side} cannot run with other '
                             'queries; leave out `queries` to pair predictions by class and '
                             'box') from None
    decoders = [type(model.decoder).__name__ for model in (student, teacher)]
    if decoders[0] != decoders[1]:
        raise ValueError(f'{head}, but the teacher decodes queries by a {decoders[1]}, the student '
                         f"by a {decoders[0]}; use a teacher of the student's model family, or "
                         'leave out `queries`')
    if own[0].shape[1] != own[1].shape[1]:
        raise ValueError(f'{head}, but a query of the teacher has {own[1].shape[1]} channels, one '
                         f'of the student {own[0].shape[1]}; use a teacher with the same width of '
                         'the decoder, or leave out `queries`')


@torch.no_grad()
def sets_of(terms: Sequence[Term], model_of: Callable[[str], nn.Module],
            iteration: int) -> Dict[str, Tensor]:
    """The queries (Q, D) of this step, by :func:`name_of_set`.

    Random ones are drawn as ``torch.nn.Embedding`` is initialised, from a normal distribution, by a
    generator of their own: the student's random numbers stay as they are without the term.

    Args:
        terms (Sequence[Term]): The terms.
        model_of (Callable): The model of a network, by its name.
        iteration (int): Number of the iteration of the run.
    """
    sets: Dict[str, Tensor] = {}
    for term in terms:
        if term.spec.queries is not None and name_of_set(term) not in sets:
            teacher = model_of(term.spec.source)
            own = family_of(teacher).queries(teacher).detach()
            sets[name_of_set(term)] = own if term.spec.queries == 'teacher' else (
                random_like(own, iteration))
    return sets


def random_like(queries: Tensor, iteration: int) -> Tensor:
    """Random queries of the shape of others, the same ones in a resumed run."""
    return torch.randn(queries.shape, dtype=queries.dtype, device=queries.device,
                       generator=generator_of(queries.device, iteration))


@contextmanager
def remembering(terms: Sequence[Term], learner: str, model: nn.Module,
                features: Features) -> Iterator[None]:
    """Keep what a learner needs to be asked again, if a term asks it, inside the block.

    Args:
        terms (Sequence[Term]): The terms.
        learner (str): Its name.
        model (nn.Module): Its model, which runs inside the block.
        features (dict): Where it is kept, by the name of the learner.
    """
    if not any(term.spec.queries is not None and term.spec.learner == learner for term in terms):
        yield
        return
    features[learner] = {}
    with family_of(model).remembering(model, features[learner]):
        yield


def asked_again(terms: Sequence[Term], sets: Mapping[str, Tensor], features: Features,
                model_of: Callable[[str], nn.Module], iteration: int) -> Dict[str, Records]:
    """Ask each learner with each set of queries that a term names, once.

    The dropout of the second run has random numbers of its own, as the queries have.

    Args:
        terms (Sequence[Term]): The terms.
        sets (Mapping[str, Tensor]): From :func:`sets_of`.
        features (dict): From :func:`remembering`.
        model_of (Callable): The model of a network, by its name.
        iteration (int): Number of the iteration of the run.

    Returns:
        dict[str, Records]: The records, by :func:`seen_by`.
    """
    asking: Dict[str, List[Term]] = {}
    for term in terms:
        if term.spec.queries is not None:
            asking.setdefault(seen_by(term), []).append(term)
    found: Dict[str, Records] = {}
    for key, its in asking.items():
        first = its[0]
        model = model_of(first.spec.learner)
        paths: Set[str] = set().union(*(student_paths(term) for term in its))
        queries = sets[name_of_set(first)].to(next(model.parameters()).dtype)
        with preserved_rng(), recording(model, paths) as records:
            seed_from(torch.initial_seed() % 2**64, rank(), iteration, len(found))
            family_of(model).predict(model, features[first.spec.learner], paths, queries)
        found[key] = records
    return found
