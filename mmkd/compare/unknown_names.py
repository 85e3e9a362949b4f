"""Warning for classes that are matched by order, because their names are unknown."""
from typing import Sequence

from ..core.log import warn
from ..core.names import joined
from .term import Term


def warn_of_unknown_names(is_student_known: bool, parts: Sequence[Term]) -> None:
    """Warn once that classes are matched by order, and how to state their names."""
    unknown_of = {part.name: {side for one in (part.alignment, *part.also) if one is not None
                              for side in one.unknown_names} for part in parts}
    unknown_of = {name: sides for name, sides in unknown_of.items() if sides}
    parts = [part for part in parts if part.name in unknown_of]
    if not parts:
        return
    unknown = {} if is_student_known else {'the student': 'classes=[...] in the mmkd.Distiller'}
    unknown.update({f'`{part.spec.source}`': _classes_of_network(part.spec.source) for part in parts
                    if 'teacher' in unknown_of[part.name]})
    warn(
        f'The class names of {joined(unknown)} are not known, so '
        f'{joined(part.name for part in parts)} pairs the columns by their order; check that both '
        'sides have the same classes in the same order, and set them: '
        f'{joined(f"`{how}`" for how in unknown.values())}')


def _classes_of_network(name: str) -> str:
    """The key of the config that states the classes of a network."""
    network, _, member = name.partition('.')
    if member:
        return f'classes=[...] in member {member} of {network}'
    entry = f'{network}=dict(classes=[...])'
    return entry if network == 'teacher' else f'companions=dict({entry})'
