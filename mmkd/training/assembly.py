"""Which networks and terms does a config define?"""
from itertools import permutations
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Union

from torch import nn

from ..compare.auto_weight import split_weight
from ..compare.committee import CommitteeTerm
from ..compare.spec import TermSpec
from ..compare.term import Term
from ..core.arguments import finite_number
from ..core.build import build_entry
from ..networks import (
    BaseTeacher,
    CachedTeacher,
    Committee,
    EarlierSelf,
    FrozenTeacher,
    Itself,
    LiveNetwork,
    MeanTeacher,
)
from ..registry import MODELS
from .pseudo_labels import PseudoLabels
from .streams import is_pseudo_labels, pseudo_labels_of


class Assembly(NamedTuple):
    """Networks and terms of a config."""
    networks: Dict[str, BaseTeacher]
    """All networks that can teach, by name, the student first; members of a committee as
    'teacher.0', 'teacher.1', ..."""
    terms: List[Term]
    """One term per entry of ``distill``, except pseudo-labels."""
    pseudo_labels: Optional[PseudoLabels] = None
    """The entry with pseudo-labels, if there is one."""


def assemble(student: nn.Module, teacher: Union[dict, BaseTeacher, None],
             distill: Sequence[dict], companions: Optional[Dict[str, Any]]) -> Assembly:
    """Build networks and terms, and check that each network is used.

    Args:
        student (nn.Module): The student.
        teacher (dict | BaseTeacher, optional): See :class:`mmkd.Distiller`.
        distill (Sequence[dict]): See :class:`mmkd.Distiller`.
        companions (dict[str, dict | BaseTeacher], optional): See :class:`mmkd.Distiller`.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If ``distill`` is empty, an entry has an unknown network, a network is not used,
            or two entries have the same name.
    """
    built = {} if teacher is None else {'teacher': build_network(
        teacher, '`teacher`', 'mmkd.FrozenTeacher')}
    for name, one in check_names(companions).items():
        built[name] = build_network(one, f'companion `{name}`', 'mmkd.Partner')
    known: Dict[str, BaseTeacher] = {'student': Itself(student), **built}
    networks: Dict[str, BaseTeacher] = {}
    for name, network in known.items():
        members = network.members if isinstance(network, Committee) else []
        networks.update({f'{name}.{i}': one for i, one in enumerate(members)} or {name: network})
    check_entries(distill)
    labels = pseudo_labels_of(distill, built)
    terms = [build_term(entry, known) for whole in distill if not is_pseudo_labels(whole)
             for entry in expanded(whole)]
    check_use(terms, built, () if labels is None else (labels.teacher, ))
    names = [term.name for term in terms]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f'two entries of `distill` have the name `{name}` in the log, but '
                             'names must be unique; give one of them a `name=`')
    return Assembly(networks, terms, labels)


def check_entries(distill: Any) -> None:
    """Check that ``distill`` is a list of dicts.

    Raises:
        TypeError: If it is not.
        ValueError: If it is empty.
    """
    if not isinstance(distill, (list, tuple)) or not all(
            isinstance(entry, dict) for entry in distill):
        raise TypeError(f'`distill` must be a list of dicts, but got {distill!r:.200}; write for '
                        "instance [dict(type='mmkd.DISTLoss', on='cls')]")
    if not distill:
        raise ValueError('`distill` is empty, so there is nothing to compare; add an entry, for '
                         "instance dict(type='mmkd.DISTLoss', on='cls')")
    for entry in distill:
        if not all(isinstance(name, str) for name in entry):
            raise TypeError('the keys of an entry of `distill` must be strings, but got '
                            f"{entry!r:.200}; write for instance dict(type='mmkd.DISTLoss', "
                            "on='cls')")


def build_term(entry: Dict[str, Any], known: Dict[str, BaseTeacher]) -> Term:
    """Build the term of an entry.

    Args:
        entry (dict): The entry, without ``between``.
        known (dict[str, BaseTeacher]): The networks by name.

    Raises:
        TypeError: See :class:`Term`.
        ValueError: If the entry has an unknown network, or compares a point with itself.
    """
    spec = TermSpec.of(entry)
    learners = [name for name, one in known.items() if isinstance(one, LiveNetwork)]
    for side, name, names in (('teacher', spec.source, list(known)),
                              ('student', spec.learner, learners)):
        if name not in names:
            give = ('add a `teacher`' if name == 'teacher' and name not in known else
                    f'write one of these before the point, for instance `{names[0]}:cls`')
            raise ValueError(
                f'`{spec.name}` compares a point of `{name}` as {side}, but ' +
                ('there is no such network' if name not in known else
                 'it is not trained') +
                f'; there {"is" if len(names) == 1 else "are"} '
                f'{", ".join(f"`{one}`" for one in names)}; {give}')
    if (spec.learner, spec.on_student) == (spec.source, spec.on_teacher) and spec.stage is None:
        raise ValueError(f'`{spec.name}` compares `{spec.on_student}` of `{spec.learner}` with '
                         'itself, which gives no gradient; write another point or network')
    source = known[spec.source]
    for one in source.members if isinstance(source, Committee) else [source]:
        if spec.auto is not None and isinstance(one, (MeanTeacher, EarlierSelf)):
            raise ValueError(
                f'`{spec.name}`: `{spec.source}` is a {type(one).__name__}, which equals the '
                "student when `loss_weight='auto'` is measured, so the weight would have no limit; "
                'write a number')
        if spec.through is not None and (
                not isinstance(one, FrozenTeacher) or isinstance(one, CachedTeacher)):
            raise ValueError(f'`{spec.name}`: `through` needs a frozen teacher, but '
                             f'`{spec.source}` is a {type(one).__name__}; use a '
                             'mmkd.FrozenTeacher, or leave `through` out')
    if spec.queries is not None and (
            not isinstance(source, FrozenTeacher) or isinstance(source, CachedTeacher)):
        raise ValueError(f'`{spec.name}`: `queries` needs a frozen teacher, but `{spec.source}` is '
                         f'a {type(source).__name__}; use a mmkd.FrozenTeacher, or leave `queries` '
                         'out')
    return CommitteeTerm(spec, source) if isinstance(source, Committee) else Term(spec)


def check_use(terms: Sequence[Term], built: Dict[str, BaseTeacher],
              others: Sequence[str] = ()) -> None:
    """Check that every network is used, and that no two entries scale the same hard targets.

    Args:
        terms (Sequence[Term]): The terms.
        built (dict[str, BaseTeacher]): The networks except the student, by name.
        others (Sequence[str]): Networks that are used by other entries. Defaults to ().

    Raises:
        ValueError: If a check fails.
    """
    used = {name for term in terms for name in (term.spec.learner, term.spec.source)}
    idle = [name for name in built if name not in used and not any(
        one == name or one.startswith(f'{name}.') for one in others)]
    if idle:
        raise ValueError(
            f'`{idle[0]}` is not used: no entry of `distill` contains it; compare one of its '
            f"points, for instance on=dict(student='cls', teacher='{idle[0]}:cls'), or leave it "
            'out')
    mixed = [(term.spec.learner, term.spec.on_student) for term in terms
             if term.spec.alpha is not None]
    for learner, point in mixed:
        if mixed.count((learner, point)) > 1:
            raise ValueError(
                f'two entries of `distill` have an `alpha` at `{point}` of `{learner}`, and both '
                'would scale the loss on labels; write `alpha` in only one, or use one '
                '`mmkd.Committee` as teacher')


def build_network(entry: Union[dict, BaseTeacher], what: str, default_type: str) -> BaseTeacher:
    """Build a teacher or a companion from its entry in the config."""
    if isinstance(entry, BaseTeacher):
        return entry
    if isinstance(entry, (list, tuple)):
        raise TypeError(f'{what} must be a dict, but got {len(entry)} in a list; write several '
                        "teachers as dict(type='mmkd.Committee', members=[...])")
    network: BaseTeacher = build_entry(entry, MODELS, what, BaseTeacher, default_type,
                                       is_merged=True)
    return network



def check_names(companions: Optional[Dict[str, Any]]) -> Dict[str, Any]:
    """Check the names of the companions, which are part of names of points, and return them.

    Raises:
        TypeError: If ``companions`` is not a dict.
        ValueError: If a name is reserved or not valid.
    """
    if companions is None:
        return {}
    if not isinstance(companions, dict):
        raise TypeError('`companions` must be a dict of networks by name, for instance '
                        f"dict(partner=dict(type='mmkd.Partner', ...)), but got {companions!r:.200}"
                        '; give each a name')
    for name in companions:
        if not isinstance(name, str) or not name.isidentifier() or (
                name in ('student', 'teacher') or 'loss' in name):
            raise ValueError('the name of a companion must be a Python identifier other than '
                             "'student' and 'teacher', without 'loss', because MMEngine adds up "
                             f"names with 'loss', but got {name!r}; write for instance 'partner'")
    return companions


def expanded(entry: Dict[str, Any]) -> List[Dict[str, Any]]:
    """Expand an entry with ``between``: every network learns from every other one.

    `Deep Mutual Learning <https://arxiv.org/abs/1706.00384>`_, equation 7: the terms of K networks
    are divided by K - 1.

    Raises:
        TypeError: If ``between`` or ``on`` is of the wrong type.
        ValueError: If there are fewer than two networks.
    """
    if 'between' not in entry:
        return [entry]
    entry = dict(entry)
    names, on = entry.pop('between'), entry.get('on')
    if not isinstance(names, (list, tuple)) or len(names) < 2 or not all(
            isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise ValueError('`between` must be a list of two or more networks, each once, but got '
                         f"{names!r}; write for instance ['student', 'partner']")
    if not isinstance(on, str) or ':' in on or 'name' in entry:
        raise TypeError('an entry with `between` must have one point for all networks, such as '
                        f"on='cls', and no `name`, but got {entry!r}; leave out `name` and write "
                        'one point')
    split_weight(entry, 'an entry with `between`', learner='each network')
    weight = finite_number('loss_weight', entry.pop('loss_weight', 1.)) / (len(names) - 1)
    return [dict(entry, on=dict(student=f'{one}:{on}', teacher=f'{other}:{on}'),
                 loss_weight=weight) for one, other in permutations(names, 2)]
