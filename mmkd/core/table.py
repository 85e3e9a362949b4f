"""Which losses are there, by name? This needs torch alone; ``mmkd.registry`` tells MMEngine."""
from typing import Callable, Dict, List, Optional, TypeVar

Class = TypeVar('Class', bound=type)


class Table:
    """Classes by their names, and who else keeps them.

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
        """Keep a class; a decorator. A class that is defined anew takes the place of the old one.

        Raises:
            TypeError: If it is no class.
            ValueError: If there is another one of its name.
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
        """Have a function called with every class, those that are there and those that come."""
        for cls in self.classes.values():
            keep(cls)
        self._mirrors.append(keep)


def check_name(cls: type, other: Optional[type]) -> None:
    """Whether a class may be registered where another one has its name.

    Raises:
        ValueError: If the other one is not an earlier definition of the same class.
    """
    if other is not None and (other.__module__, other.__qualname__) != (
            cls.__module__, cls.__qualname__):
        raise ValueError(f'`{cls.__name__}` of `{cls.__module__}` cannot be registered, because '
                         f'`{other.__module__}` has registered one of that name; give it another '
                         'name')


LOSSES = Table()
"""Losses between student and teacher."""
