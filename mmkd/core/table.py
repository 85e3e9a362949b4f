"""Which losses exist, by name? Needs only torch; ``mmkd.registry`` registers them in MMEngine."""
import sys
from typing import Callable, Dict, List, Optional, TypeVar

Class = TypeVar('Class', bound=type)


class Table:
    """A registry of classes by name that needs no MMEngine, and can be mirrored in others.

    Example:
        >>> table = Table()
        >>> @table.register
        ... class MyLoss:
        ...     pass
        >>> table.classes['MyLoss'] is MyLoss
        True
    """

    def __init__(self) -> None:
        self.classes: Dict[str, type] = {}
        self._mirrors: List[Callable[[type], object]] = []

    def register(self, cls: Class) -> Class:
        """Register a class; use it as a decorator. A redefined class replaces its old definition.

        Raises:
            TypeError: If it is not a class.
            ValueError: If another class has the same name.
        """
        if not isinstance(cls, type):
            raise TypeError(f'only a class can be registered, but got {cls!r:.200}; write '
                            '`@LOSSES.register` above the class')
        check_name(cls, self.classes.get(cls.__name__))
        for keep in self._mirrors:
            keep(cls)
        self.classes[cls.__name__] = cls
        return cls

    def mirror(self, keep: Callable[[type], object]) -> None:
        """Call a function with every class: those registered already, and each new one."""
        for cls in self.classes.values():
            keep(cls)
        self._mirrors.append(keep)


def check_name(cls: type, other: Optional[type]) -> None:
    """Check that the name of a new class is free, or belongs to an old definition of the class.

    Raises:
        ValueError: If another class has the name.
    """
    if other is not None and (other.__module__, other.__qualname__) != (
            cls.__module__, cls.__qualname__):
        one, both = ({getattr(sys.modules.get(module), '__file__', None) for module in modules}
                     for modules in ([cls.__module__], [cls.__module__, other.__module__]))
        if one == both != {None}:
            raise ValueError(f'`{cls.__name__}` cannot be registered, because its file was '
                             f'imported twice, as `{other.__module__}` and as `{cls.__module__}`; '
                             'use one of these names everywhere')
        raise ValueError(f'`{cls.__name__}` of `{cls.__module__}` cannot be registered, because '
                         f'`{other.__module__}` has registered a class with the same name; rename '
                         'it')


LOSSES = Table()
"""Losses between student and teacher."""

PREPARED = Table()
"""Modules that are trained through a teacher before a student is distilled."""
