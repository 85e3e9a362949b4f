"""Build what an entry of the config describes, or say what is wrong with the entry."""
import inspect
from difflib import get_close_matches
from typing import Any, Dict, Optional, Tuple

from mmengine.registry import Registry


def build_entry(entry: Any, registry: Registry, what: str,
                default_type: Optional[str] = None) -> Any:
    """Build an object from ``dict(type=..., **arguments)``.

    MMEngine's own messages speak of its registries and of ``__init__``; these speak of the entry.

    Args:
        entry (Any): What the config holds.
        registry (Registry): Where the type is registered.
        what (str): What the entry is, for messages: 'teacher', 'a loss of `distill`'.
        default_type (str, optional): The type where the entry names none. Defaults to None.

    Returns:
        Any: The object.

    Raises:
        TypeError: If the entry is no dict, or lacks or misspells an argument.
        ValueError: If its type is not registered.
    """
    if not isinstance(entry, dict):
        raise TypeError(f'{what} must be a dict, but got {type(entry).__name__}: {entry!r}')
    arguments = {key: value for key, value in entry.items() if key not in ('type', '_scope_')}
    kind = entry.get('type', default_type)
    cls = _find(kind, registry, what) if isinstance(kind, str) else kind
    if not callable(cls):
        raise TypeError(f'`type` of {what} must be a name or a class, but got {kind!r}')
    parameters, takes_any = parameters_of(cls)
    unknown = [] if takes_any else [name for name in arguments if name not in parameters]
    missing = [name for name, p in parameters.items()
               if p.default is p.empty and name not in arguments]
    if unknown or missing:
        problems = [f'has no argument `{name}`' + _closest(name, parameters) for name in unknown]
        problems += [f'needs `{name}`' for name in missing]
        raise TypeError(f'{what}: {cls.__name__} {" and ".join(problems)}; it takes '
                        f'{", ".join(f"`{name}`" for name in parameters)}')
    return cls(**arguments)


def parameters_of(cls: Any) -> Tuple[Dict[str, inspect.Parameter], bool]:
    """What may be written in an entry: its own arguments, and those it hands on to its base class.

    Returns:
        tuple[dict, bool]: The parameters by name, and whether there may be any others.
    """
    found: Dict[str, inspect.Parameter] = {}
    kinds = cls.__mro__ if isinstance(cls, type) else [cls]
    for kind in kinds:
        if kind is not cls and '__init__' not in vars(kind):
            continue
        parameters = inspect.signature(kind).parameters
        for name, one in parameters.items():
            if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY):
                found.setdefault(name, one)
        if not any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
            return found, False
        if kind is object:
            break
    return found, True


def _find(name: str, registry: Registry, what: str) -> Any:
    try:
        cls = registry.get(name)
    except KeyError:  # a scope that MMEngine cannot import
        cls = None
    if cls is None:
        known = [f'{registry.scope}.{key}' for key in registry.module_dict]
        raise ValueError(f'{what}: no type `{name}`' + _closest(name, known) +
                         f'; mmkd has {", ".join(f"`{one}`" for one in known)}; a type of your own '
                         'must be registered in mmkd.MODELS and imported by `custom_imports`')
    return cls


def _closest(name: str, known: Any) -> str:
    nearest = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f' (closest: `{nearest[0]}`)' if nearest else ''
