"""Methods: the entries of ``distill`` and the settings that ``--method NAME`` writes."""
import sys
from difflib import get_close_matches
from itertools import product
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Set, Union

from ..core.table import LOSSES

Entries = Sequence[Dict[str, Any]]


FAMILIES = {'dense': 'one-stage detectors', 'roi': 'two-stage detectors',
            'query': 'query detectors', 'mask': 'mask transformers', 'segmentor': 'segmentors',
            'solo': 'SOLO', 'classifier': 'classifiers'}
"""Names of families for messages and docs."""


class Recipe(NamedTuple):
    """What a method writes for one family of students.

    Example:
        >>> recipe = Recipe([dict(type='mmkd.PKDLoss', on='neck')], {'model.inherit': 'neck'})
        >>> recipe.around
        {'model.inherit': 'neck'}
    """
    entries: Entries
    """Entries of ``distill``."""
    around: Dict[str, Any] = {}
    """Settings of the config, by dotted key, in addition to those of the method."""


class Preparation(NamedTuple):
    """First stage of a method: a module that is trained through the teacher."""
    module: Dict[str, Any]
    """Type and arguments of the module."""
    on: str
    """The point of the teacher."""
    iterations: int
    optimizer: Dict[str, Any]
    schedule: Dict[str, Any]
    """Scheduler of the learning rate, without the end."""


CLIP = {'optim_wrapper.clip_grad': dict(max_norm=35, norm_type=2)}
"""Clipping of gradients with which FGD, MGD, MasKD and FreeKD train, for ``around``."""


class Method:
    """Entries of ``distill`` of a method, written by ``--method NAME``.

    A loss file creates one after its class; the constructor registers it. The entries are those of
    the authors, by family of the student where they differ. In addition to the keys of ``distill``,
    an entry may have:

    - a tuple for any key: alternatives, of which the first that can be compared is used, such as
      ``on=('neck', 'backbone')``;
    - ``if_there=True``: the entry is left out if no alternative can be compared.

    Args:
        name (str): Name of the method, in lower case.
        entries (Sequence[dict], optional): Entries for the families that are not in ``by_family``.
            Defaults to None, no entries.
        around (dict, optional): Settings of the config that belong to the method, by dotted key:
            ``{'optim_wrapper.clip_grad': dict(max_norm=35)}``; below 'model', arguments of the
            Distiller: ``{'model.inherit': 'neck,head'}``. Defaults to None.
        prepare (dict[str, Preparation], optional): The first stage by family of the teacher, for
            methods with two stages; ``--prepare NAME`` writes it. Defaults to None, a single stage.
        instead (dict[str, str], optional): Name of the method that does the same for students of a
            family without entries, by family; it is named where the method is refused. Defaults to
            None.
        joined (dict[str, dict[str, Sequence[dict]]], optional): By the name of another method: its
            entries where both are joined by '+', by family of the student as in ``by_family``; ''
            stands for all families that are not named. Defaults to None: its own.
        also (str): Another name for ``--method``, such as that of the loss. Defaults to '', none.
        **by_family (Sequence[dict] | Recipe): Entries by the ``kind`` of the student's family:
            'dense', 'roi', 'query', 'segmentor', 'classifier', ...; or by a class of its dense
            head, such as ``FCOSHead``, which is taken first. Instead of entries, a
            :class:`Recipe` has settings that belong to these students alone, too.

    Attributes:
        module (str): Name of the module that creates it, whose docstring is its doc card.
        prepare (dict[str, Preparation]): See above; {} for a single stage.
        instead (dict[str, str]): See above.
        joined (dict[str, dict[str, Sequence[dict]]]): See above.
        also (str): See above.

    Raises:
        ValueError: If there is no entry, or if a name is taken by another method.

    Example:
        >>> method = Method('far', [dict(type='mmkd.MSELoss', on=('neck', 'backbone'))],
        ...                 segmentor=[dict(type='mmkd.MSELoss', on='cls')])
        >>> method.entries('segmentor')
        [{'type': 'mmkd.MSELoss', 'on': 'cls'}]
        >>> del METHODS['far']
    """

    def __init__(self, name: str, entries: Optional[Entries] = None,
                 around: Optional[Dict[str, Any]] = None,
                 prepare: Optional[Dict[str, Preparation]] = None,
                 instead: Optional[Dict[str, str]] = None,
                 joined: Optional[Dict[str, Dict[str, Entries]]] = None, also: str = '',
                 **by_family: Union[Entries, Recipe]) -> None:
        if not isinstance(name, str) or not name or '+' in name or name != name.lower():
            raise ValueError(f'{name!r} is not a valid name of a method; write a name in lower '
                             "case, without '+', such as 'dkd'")
        recipes = {kind: Recipe(*one) if isinstance(one, Recipe) else Recipe(list(one))
                   for kind, one in by_family.items()}
        if not entries and not any(one.entries for one in recipes.values()):
            raise ValueError(f'the method `{name}` has no entries; write what it compares, for '
                             "instance [dict(type='mmkd.DISTLoss', on='cls')]")
        self.name, self.also, self._around = name, also, dict(around or {})
        self.prepare, self.instead = dict(prepare or {}), dict(instead or {})
        self.joined = {name: dict(entries) for name, entries in (joined or {}).items()}
        self.module = str(sys._getframe(1).f_globals.get('__name__'))
        self._entries, self._by_family = Recipe(list(entries or ())), recipes
        other = METHODS.get(name, self)
        # A module may be imported again, and a cell of a notebook may be edited.
        if vars(other) != vars(self) and not self.module == other.module == '__main__':
            raise ValueError(f'there is a method `{name}` already, of `{other.module}`; use '
                             'another name')
        if also in METHODS or OTHER_NAMES.get(also, name) != name:
            raise ValueError(f'`also` of the method `{name}`, {also!r}, is the name of another '
                             'method; use another one')
        METHODS[name] = self
        if also:
            OTHER_NAMES[also] = name

    def kinds(self) -> str:
        """Families and heads with entries, for messages."""
        return 'all families' if self._entries.entries else ', '.join(
            FAMILIES.get(kind, kind) for kind in self._by_family)

    def modules(self) -> Set[str]:
        """Names of the modules that define it and its losses."""
        types = {str(entry.get('type')).removeprefix('mmkd.')
                 for recipe in self.recipes().values() for entry in recipe.entries}
        return {self.module, *(LOSSES.classes[one].__module__ for one in types
                               if one in LOSSES.classes)}

    def recipes(self) -> Dict[str, Recipe]:
        """Entries and settings by family; '' stands for all families that are not named."""
        return {**({'': self._entries} if self._entries.entries else {}), **self._by_family}

    def entries(self, *kinds: str) -> List[Dict[str, Any]]:
        """Entries for students of a family; [] if there are none.

        Args:
            *kinds (str): Names from :func:`mmkd.points.kinds_of`: the first one with entries
                counts.
        """
        return [dict(entry) for entry in self._recipe(kinds).entries]

    def around(self, *kinds: str) -> Dict[str, Any]:
        """Settings of the config that belong to the method, for students of a family."""
        return {**self._around, **self._recipe(kinds).around}

    def _recipe(self, kinds: Sequence[str]) -> Recipe:
        return next((self._by_family[kind] for kind in kinds if kind in self._by_family),
                    self._entries)


METHODS: Dict[str, Method] = {}
"""All methods by name."""
OTHER_NAMES: Dict[str, str] = {}
"""Names of methods by their other names."""


def name_of(written: str) -> str:
    """The name of a method that has several; other words are not changed.

    Example:
        >>> name_of('mse')
        'mimic'
    """
    return written if written in METHODS else OTHER_NAMES.get(written, written)


def methods_of(written: str) -> List[Method]:
    """The methods of a string such as 'a' or 'a+b'.

    Raises:
        ValueError: If a name is unknown; the message has the closest name.
    """
    names = list(map(name_of, written.split('+')))
    for name in names:
        if name not in METHODS:
            nearest = get_close_matches(name, [*METHODS, *OTHER_NAMES], 1)
            raise ValueError(
                f'no method `{name}`; ' + (f'write `{nearest[0]}`, the closest' if nearest else
                                           "write one of docs/methods.md, such as 'dist' or "
                                           "'dist+pkd'") +
                ", or import the module that has your METHOD by `custom_imports` of the student's "
                'config')
    return [METHODS[name] for name in names]


def entries_among(method: Method, methods: Sequence[Method], *kinds: str) -> List[Dict[str, Any]]:
    """Entries of one of several methods that are joined by '+', for students of a family.

    Another one of them may have its own entries for it: CrossKD's authors use PKD with other
    weights than PKD's.
    """
    for other in methods:
        by_kind = other.joined.get(method.name, {})
        for kind in (*kinds, ''):
            if kind in by_kind:
                return [dict(entry) for entry in by_kind[kind]]
    return method.entries(*kinds)


def around_of(methods: Sequence[Method], *kinds: str) -> Dict[str, Any]:
    """The settings that the methods need, for students of a family.

    Lists, such as the hooks of 'model.hooks', are joined.

    Raises:
        ValueError: If two methods need different values of one setting.
    """
    found: Dict[str, Any] = {}
    whose: Dict[str, str] = {}
    for method in methods:
        for key, value in method.around(*kinds).items():
            if isinstance(value, list):
                value = [*found.get(key, []), *value]
            elif key in found and found[key] != value:
                raise ValueError(f'`{whose[key]}` needs {key}={found[key]!r}, but `{method.name}` '
                                 f'needs {value!r}; use one of the methods, or write the config by '
                                 'hand')
            found[key], whose[key] = value, method.name
    return found


def alternatives(entry: Dict[str, Any]) -> List[Dict[str, Any]]:
    """The entries of ``distill`` that a method's entry stands for, the preferred one first.

    Example:
        >>> alternatives(dict(type='mmkd.MSELoss', on=('neck', 'backbone'), if_there=True))
        [{'type': 'mmkd.MSELoss', 'on': 'neck'}, {'type': 'mmkd.MSELoss', 'on': 'backbone'}]
    """
    given = {key: value if isinstance(value, tuple) else (value,) for key, value in entry.items()
             if key != 'if_there'}
    return [dict(zip(given, values)) for values in product(*given.values())]
