"""Which entries of `distill` has a method for a pair, and which settings around them?"""
from typing import Any, Dict, List, Sequence

from ..losses import Method
from ..losses.method import FAMILIES, alternatives, around_of, entries_among, methods_of
from ..losses.prepared import with_file
from .pair import Pair

REMEDY = '; take '
HOW_TO_LIST = ('a method that fits, as `tools/inspect_pair.py STUDENT TEACHER --methods` lists '
               'them')


def entries_of(method: str, pair: Pair, prepared: Sequence[str] = ()) -> List[Dict[str, Any]]:
    """The entries of ``distill`` of a method, for a pair of models.

    Args:
        method (str): Name of a :class:`mmkd.losses.Method`, or several joined by '+'.
        pair (Pair): From :func:`inspect_pair`.
        prepared (Sequence[str]): Files of first stages, for methods that have one. Defaults to ().

    Raises:
        FileNotFoundError: If a file of ``prepared`` does not exist.
        ValueError: If the method is unknown, or an entry cannot be used for the pair; the message
            has the points that can be compared.
    """
    entries: List[Dict[str, Any]] = []
    methods = methods_of(method)
    for one in methods:
        its = entries_among(one, methods, *pair.kinds)
        if not its:
            raise ValueError(f'`{one.name}` has nothing to compare in this pair: it is for '
                             f'{one.kinds()}, but the student belongs to '
                             f'{FAMILIES.get(pair.kind, "none of these")}{REMEDY}'
                             f'{_others(one, pair)}')
        for entry in its:
            problems: Dict[str, None] = {}
            for given in alternatives(with_file(entry, prepared)):
                problem = pair.problem(given)
                if not problem:
                    if given not in entries:  # MGD has the entry of CWD
                        entries.append(given)
                    break
                problems[f'`{given["on"]}`: {problem}'] = None
            else:
                if entry.get('if_there'):
                    continue
                able = [finding.point for finding in pair if finding.term]
                raise ValueError(
                    f'`{one.name}` has nothing to compare in this pair; {"; ".join(problems)}. '
                    'Points that can be compared: '
                    f'{", ".join(f"`{name}`" for name in able) or "none"}{REMEDY}{HOW_TO_LIST}')
    return entries


def _others(method: Method, pair: Pair) -> str:
    """Which methods a user may take in place of one without entries for the student."""
    name = method.instead.get(pair.kind)
    if name is None:
        return HOW_TO_LIST
    try:
        entries_of(name, pair)
    except ValueError:
        return HOW_TO_LIST
    return f'`{name}`, the method for such heads, or {HOW_TO_LIST}'


def settings_of(method: str, pair: Pair) -> Dict[str, Any]:
    """The settings around the entries of a method, for a pair of models.

    Parts of which the student can inherit nothing are left out of 'model.inherit'.

    Args:
        method (str): Name of a :class:`mmkd.losses.Method`, or several joined by '+'.
        pair (Pair): From :func:`inspect_pair`.

    Raises:
        ValueError: If a name is unknown, or two methods need different values of a setting.
    """
    found = around_of(methods_of(method), *pair.kinds)
    if 'model.inherit' in found:
        parts = [part for part in found.pop('model.inherit').split(',') if pair.can_inherit(part)]
        if parts:
            found['model.inherit'] = ','.join(parts)
    return found
