"""Which losses are there, by name? This needs torch alone; ``mmkd.registry`` tells MMEngine."""
from typing import Callable, Dict, List, TypeVar

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
        """Keep a class; a decorator.

        Raises:
            ValueError: If there is another one of its name.
        """
        other = self.classes.get(cls.__name__, cls)
        if other is not cls:
            raise ValueError(f'`{cls.__name__}` of `{cls.__module__}` is registered already by '
                             f'`{other.__module__}`; give it another name')
        if cls.__name__ not in self.classes:
            self.classes[cls.__name__] = cls
            for keep in self._mirrors:
                keep(cls)
        return cls

    def mirror(self, keep: Callable[[type], object]) -> None:
        """Have a function called with every class, those that are there and those that come."""
        for cls in self.classes.values():
            keep(cls)
        self._mirrors.append(keep)


LOSSES = Table()
"""Losses between student and teacher."""
