"""What is each network asked in a step?"""
from typing import Dict, Iterable, List, Mapping, Sequence, Set, Tuple

from ..compare.alignment import THROUGH
from ..compare.term import Term
from ..networks import BaseTeacher, LiveNetwork, Question
from ..points import Answers, Point
from ..points.recorder import Records

Key = Tuple[str, str]
"""Whose places a question is about, and the module that knows them; ('', '') for a grid."""

Told = Dict[str, Dict[Key, Answers]]
"""What each network returned, by its name and the key of the question."""


def watched(terms: Sequence[Term], name: str) -> Set[str]:
    """Modules of a network in training that must be watched, as learner and as teacher."""
    paths: Set[str] = set()
    for term in terms:
        if term.spec.learner == name:
            paths |= term.student_paths
        if term.spec.source == name:
            paths.update(path for at, point in term.asked if not at for path in point.watched)
    return paths


def key_of(term: Term, at: str) -> Key:
    """Under which key a term asks: learners share what does not depend on their places."""
    if at.startswith(THROUGH):
        return term.name, at
    return (term.spec.learner if at else '', at)


def asked_of(term: Term) -> List[Tuple[str, Point]]:
    """What a term asks: places, or a value of the student that goes on, and points."""
    through = [] if term.spec.through is None else [
        (THROUGH + at, point) for at, point in term.asked]
    return [*term.asked, *through]


def told_to(term: Term, told: Told) -> Dict[str, Answers]:
    """The answers to a term's questions, by where they were asked."""
    answers = told.get(term.spec.source, {})
    return {at: answers[key_of(term, at)] for at, _ in asked_of(term)
            if key_of(term, at) in answers}


def questions_of(terms: Iterable[Term], seen: Dict[str, Records],
                 values: Mapping[str, Records] = {}) -> Dict[str, Dict[Key, Question]]:
    """What terms want to know, by the network that is asked.

    Args:
        terms (Iterable[Term]): They are aligned.
        seen (dict[str, Records]): What was recorded of each learner; {} where it does not matter
            where they predict.
        values (Mapping): By name of a term, the records of the student whose values go on through
            the teacher. Defaults to none, those of ``seen``.
    """
    questions: Dict[str, Dict[Key, Question]] = {}
    for term in terms:
        places = term.student_point.places(seen.get(term.spec.learner, {}))
        of_source = questions.setdefault(term.spec.source, {})
        for key_at, point in asked_of(term):
            at = key_at.removeprefix(THROUGH)
            if at and at not in places:  # a cascade stops where nothing is proposed
                continue
            key = key_of(term, key_at)
            before = of_source[key].points if key in of_source else ()
            through = None
            if at != key_at:
                assert term.spec.through is not None
                own, other = term.spec.through
                through = other, [call.output for call in values.get(
                    term.name, seen[term.spec.learner])[own]]
            of_source[key] = Question((*before, point), places.get(at), through)
    return questions


def by_turn(terms: Sequence[Term],
            networks: Dict[str, BaseTeacher]) -> Tuple[List[Term], List[Term]]:
    """Terms whose teacher can be asked at once, and those that wait for what learners predict."""
    waiting = {term.spec.source for term in terms
               if term.student_point.asked_at or term.spec.through is not None or isinstance(
                   networks[term.spec.source], LiveNetwork)}
    return ([term for term in terms if term.spec.source not in waiting],
            [term for term in terms if term.spec.source in waiting])
