"""Methods: the entries of ``distill`` and the settings that ``--method NAME`` writes."""
from difflib import get_close_matches
from typing import Any, Dict, List, Optional, Sequence

Entries = Sequence[Dict[str, Any]]


class Method:
    """Entries of ``distill`` of a method, written by ``--method NAME``.

    A loss file creates one after its class; the constructor registers it. The entries are those of
    the authors, by family of the student where they differ. In addition to the keys of ``distill``,
    an entry may have:

    - ``on`` as a tuple of points: the first point that can be compared is used;
    - ``if_there=True``: the entry is left out if its point cannot be compared.

    Args:
        name (str): Name of the method, in lower case.
        entries (Sequence[dict], optional): Entries for the families that are not in ``by_family``.
            Defaults to None, no entries.
        around (dict, optional): Settings of the config outside ``model`` that belong to the method,
            by dotted key, such as ``{'optim_wrapper.clip_grad': dict(max_norm=35)}``. Defaults to
            None.
        **by_family (Sequence[dict]): Entries by the ``kind`` of the student's family: 'dense',
            'roi', 'query', 'segmentor', ...

    Raises:
        ValueError: If there is no entry, or if the name is taken by another method.

    Example:
        >>> method = Method('far', [dict(type='mmkd.MSELoss', on=('neck', 'backbone'))],
        ...                 segmentor=[dict(type='mmkd.MSELoss', on='cls')])
        >>> method.entries('segmentor')
        [{'type': 'mmkd.MSELoss', 'on': 'cls'}]
        >>> del METHODS['far']
    """

    def __init__(self, name: str, entries: Optional[Entries] = None,
                 around: Optional[Dict[str, Any]] = None, **by_family: Entries) -> None:
        if not isinstance(name, str) or not name or '+' in name or name != name.lower():
            raise ValueError(f'a method is called {name!r}; write a name in lower case, without '
                             "'+', such as 'dkd'")
        if not entries and not any(by_family.values()):
            raise ValueError(f'the method `{name}` has no entries; give what it compares, for '
                             "instance [dict(type='mmkd.DISTLoss', on='cls')]")
        self.name, self.around = name, dict(around or {})
        self._entries, self._by_family = list(entries or ()), by_family
        if vars(METHODS.get(name, self)) != vars(self):  # a module may be imported again
            raise ValueError(f'there is a method `{name}` already; give it another name')
        METHODS[name] = self

    def kinds(self) -> str:
        """Families with entries, for messages."""
        return 'all families' if self._entries else ', '.join(self._by_family)

    def entries(self, kind: str) -> List[Dict[str, Any]]:
        """Entries for students of a family; [] if there are none."""
        return [dict(entry) for entry in self._by_family.get(kind, self._entries)]


METHODS: Dict[str, Method] = {}
"""All methods by name."""


def methods_of(written: str) -> List[Method]:
    """The methods of a string such as 'a' or 'a+b'.

    Raises:
        ValueError: If a name is unknown; the message has the closest name.
    """
    names = written.split('+')
    for name in names:
        if name not in METHODS:
            nearest = get_close_matches(name, METHODS, 1)
            raise ValueError(f'no method `{name}`; there are {", ".join(METHODS)}, and several '
                             "joined by '+'; write " + (f'`{nearest[0]}`' if nearest else
                                                        'one of these'))
    return [METHODS[name] for name in names]


def around_of(methods: Sequence[Method]) -> Dict[str, Any]:
    """The settings outside ``model`` that the methods need.

    Raises:
        ValueError: If two methods need different values of one setting.
    """
    found: Dict[str, Any] = {}
    whose: Dict[str, str] = {}
    for method in methods:
        for key, value in method.around.items():
            if key in found and found[key] != value:
                raise ValueError(f'`{whose[key]}` trains with {key}={found[key]!r}, '
                                 f'`{method.name}` with {value!r}; take one of the methods, or '
                                 'write the config by hand')
            found[key], whose[key] = value, method.name
    return found
