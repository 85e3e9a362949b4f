"""The questions of a step: points to observe in each network, and at which places."""
from typing import Dict, Iterable, List, Mapping, Sequence, Set, Tuple

from torch import Tensor

from ..compare.alignment import THROUGH, paths_of
from ..compare.connectors import Connector
from ..compare.provided import calls_to_record
from ..compare.term import Term
from ..networks import BaseTeacher, LiveNetwork, Question
from ..networks.continued import Replaced
from ..points import Answers, Point
from ..points.recorder import Records

Key = Tuple[str, str]
"""Key of a question: the learner that supplies the places, and its module; ('', '') for a grid, or
for the queries of the network; ('', name) for a set of other queries."""

Told = Dict[str, Dict[Key, Answers]]
"""Answers by name of the network and key of the question."""


def watched(terms: Sequence[Term], name: str) -> Set[str]:
    """Paths of the modules to record in a trained network, as learner and as teacher."""
    paths: Set[str] = set()
    for term in terms:
        if term.spec.learner == name:
            paths |= student_paths(term)
        if term.spec.source == name:
            paths.update(path for at, point in term.asked if not at for path in point.watched)
    return paths


def student_paths(term: Term) -> Set[str]:
    """Modules of the student whose calls are recorded for a term."""
    points = [term.student_point, *(one.student for one in term.also)]
    paths: Set[str] = set().union(*(paths_of(one) for one in points))
    if term.spec.through is not None:
        paths.add(term.spec.through.student)
    if term.spec.replaces == 'background':
        paths.update(term.student_point.criteria)
    asked = [term.loss.asked(), *([] if term.region is None else [term.region.asked()]),
             *(one.asked() for one in term.connectors if isinstance(one, Connector))]
    further = [one.student for one in term.also]
    return paths.union(*(calls_to_record(term.student_point, further, one) for one in asked))


def key_of(term: Term, at: str) -> Key:
    """Key of a question of a term. Learners share the questions that need no places."""
    if at.startswith(THROUGH):
        return term.name, at
    if term.spec.queries == 'random':
        return '', name_of_set(term)
    return (term.spec.learner if at else '', at)


def name_of_set(term: Term) -> str:
    """Name of the set of queries of a term with ``queries``."""
    return f'{term.spec.queries} queries of {term.spec.source}'


def seen_by(term: Term) -> str:
    """Key of the records of a term: the name of the learner; if it is asked again, with the set of
    queries."""
    its = term.spec.learner
    return its if term.spec.queries is None else f'{its} with {name_of_set(term)}'


def asked_of(term: Term) -> List[Tuple[str, Point]]:
    """Questions of a term: the module of places, or of the value that continues, and the point."""
    through = [] if term.spec.through is None else [
        (THROUGH + at, point) for at, point in term.asked]
    return [*term.asked, *through]


def told_to(term: Term, told: Told) -> Dict[str, Answers]:
    """The answers to the questions of a term, by path of the module of places."""
    answers = told.get(term.spec.source, {})
    return {at: answers[key_of(term, at)] for at, _ in asked_of(term)
            if key_of(term, at) in answers}


def questions_of(terms: Iterable[Term], seen: Dict[str, Records],
                 values: Mapping[str, Records] = {}, sets: Mapping[str, Tensor] = {}
                 ) -> Dict[str, Dict[Key, Question]]:
    """The questions of terms, by name of the network.

    Args:
        terms (Iterable[Term]): Aligned terms.
        seen (dict[str, Records]): Records of each learner; {} if no question needs the places of a
            learner.
        values (Mapping): For terms with ``through``, the records of the student with the values
            that continue through the teacher, by name of the term. Defaults to {}, those of
            ``seen``.
        sets (Mapping): Queries to ask with, by :func:`name_of_set`. Defaults to {}.
    """
    questions: Dict[str, Dict[Key, Question]] = {}
    for term in terms:
        places = term.student_point.places(seen.get(term.spec.learner, {}))
        of_source = questions.setdefault(term.spec.source, {})
        for key_at, point in asked_of(term):
            at = key_at.removeprefix(THROUGH)
            if at and at not in places:  # a cascade stops without proposals
                continue
            key = key_of(term, key_at)
            before = of_source[key].points if key in of_source else ()
            through = None
            if at != key_at:
                assert term.spec.through is not None
                own, other, rescale = term.spec.through
                through = Replaced(other, [call.output for call in values.get(
                    term.name, seen[term.spec.learner])[own]], rescale)
            of_source[key] = Question((*before, point), sets.get(key[1], places.get(at)), through)
    return questions


def by_turn(terms: Sequence[Term],
            networks: Dict[str, BaseTeacher]) -> Tuple[List[Term], List[Term]]:
    """Split terms: teachers to observe before the learners run, and those to observe after."""
    waiting = {term.spec.source for term in terms
               if term.student_point.asked_at or term.spec.through is not None or isinstance(
                   networks[term.spec.source], LiveNetwork)}
    return ([term for term in terms if term.spec.source not in waiting],
            [term for term in terms if term.spec.source in waiting])
