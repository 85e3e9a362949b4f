"""Can this entry of the config be built, and if not, what is wrong with it?"""
import copy
import inspect
import re
import sys
from difflib import get_close_matches
from functools import wraps
from types import ModuleType
from typing import (
    Any,
    Callable,
    Dict,
    Iterable,
    Mapping,
    Optional,
    Sequence,
    Tuple,
    TypeVar,
)

from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import DefaultScope, Registry
from torch import nn

from .errors import explained

Init = TypeVar('Init', bound=Callable[..., None])

SHOWN = 4
"""How many types of mmkd a message names, so that it does not change with each new one."""


def build_entry(entry: Any, registry: Registry, what: str, base: type,
                default_type: Optional[str] = None, is_merged: bool = False,
                further: Iterable[str] = ()) -> Any:
    """Build an object from ``dict(type=..., **arguments)``.

    Error messages refer to the entry of the config, not to registries and ``__init__`` like those
    of MMEngine.

    Args:
        entry (Any): The entry of the config.
        registry (Registry): Registry of its type.
        what (str): Name of the entry for messages, such as 'teacher' or 'a loss of `distill`'.
        base (type): Required base class.
        default_type (str, optional): The type of an entry without ``type``. Defaults to None.
        is_merged (bool): Whether MMEngine merges the entry with that of a base config, like every
            dict that is not in a list. Defaults to False.
        further (Iterable[str]): Other keys that the user may write in this entry, which were taken
            out before, for the closest name in the message. Defaults to ().

    Returns:
        Any: The object.

    Raises:
        TypeError: If the entry is not a dict, lacks or misspells an argument, or its class is not
            derived from ``base``.
        ValueError: If its type is not registered.
    """
    if not isinstance(entry, dict):
        raise TypeError(f'{what} must be a dict, but got {type(entry).__name__}: {entry!r:.200}; '
                        'write dict(type=..., **arguments)')
    arguments = {key: value for key, value in entry.items() if key not in ('type', '_scope_')}
    kind = entry.get('type', default_type)
    cls = _find(kind, registry, what, base) if isinstance(kind, str) else kind
    if not (inspect.isclass(cls) or inspect.isfunction(cls)):
        raise TypeError(f'`type` of {what} must be a name or a class, but got {kind!r}; write one '
                        f'of {_names_of(registry, base)}')
    if isinstance(cls, type) and not issubclass(cls, base):
        raise _misplaced(what, cls, base)
    parameters, takes_any = parameters_of(cls)
    if is_merged and not takes_any:
        _check_type_of_base(arguments, parameters, registry, what, cls, base)
    check_arguments(f'{what}: {getattr(cls, "__name__", cls)}', arguments, parameters, takes_any,
                    further)
    missing = sorted(getattr(cls, '__abstractmethods__', ()))
    if missing:
        raise TypeError(f'{what}: {cls.__name__} does not define '
                        f'{", ".join(f"`{name}`" for name in missing)}; define it in the class')
    built = cls(**arguments)
    if isinstance(built, nn.Module) and '_modules' not in vars(built):
        raise TypeError(f'{what}: `__init__` of {cls.__name__} does not call `__init__` of its '
                        'base class; call `super().__init__()` first')
    if not isinstance(built, base):  # if the type is a function
        raise _misplaced(what, type(built), base)
    return built


def build_model(config: Any, what: str, scope: Optional[str] = None) -> nn.Module:
    """Build a model from MMEngine's registry.

    Args:
        config (dict): Config of the model. It is not changed.
        what (str): Whose model it is, for error messages, such as 'teacher'.
        scope (str, optional): Default scope of its types. Defaults to None, the current one.

    Raises:
        ValueError: If it cannot be built, whatever error its code raised.
    """
    with explained(f'the model of the {what} cannot be built',
                   f'check `model` in the config of the {what}, and that `default_scope` is the '
                   'package of its types'), \
            DefaultScope.overwrite_default_scope(scope):
        # A copy, because mmseg writes into the config (`pretrained`), and then refuses it.
        return MMENGINE_MODELS.build(copy.deepcopy(config))


def named_arguments(init: Init) -> Init:
    """Decorator for ``__init__`` that raises a clear error for misspelled and missing arguments.

    For classes that MMEngine builds, because its messages do not name the entry of the config.
    """
    own = list(inspect.signature(init).parameters.values())[1:]
    parameters = {one.name: one for one in own}

    @wraps(init)
    def checked(self: Any, /, *args: Any, **arguments: Any) -> None:
        given = {**dict(zip(parameters, args)), **arguments}
        _check_model_of_base(type(self).__name__, given, parameters)
        check_arguments(type(self).__name__, given, parameters)
        init(self, *args, **arguments)

    return checked  # type: ignore[return-value]


def check_arguments(what: str, arguments: Mapping[Any, Any],
                    parameters: Mapping[str, inspect.Parameter], takes_any: bool = False,
                    further: Iterable[str] = ()) -> None:
    """Check the arguments of an entry against the parameters of its class.

    Args:
        what (str): Name of the class, for error messages.
        arguments (Mapping): Arguments of the entry.
        parameters (Mapping[str, Parameter]): Parameters of the class.
        takes_any (bool): Whether the class takes any other arguments. Defaults to False.
        further (Iterable[str]): Other keys that the entry may have, for the closest name. Defaults
            to ().

    Raises:
        TypeError: If an argument is missing or unknown; the message names the closest.
    """
    known = [*parameters, *further]
    problems = [f'has no argument `{name}`' + closest(name, known) for name in arguments
                if not isinstance(name, str) or not (takes_any or name in parameters)]
    missing = [name for name, one in parameters.items()
               if one.default is one.empty and name not in arguments]
    remedy = f'write {", ".join(f"`{name}=`" for name in missing)}' if missing else (
        'write one of these, or leave it out' if parameters else 'leave it out')
    problems += [f'needs `{name}`' for name in missing]
    if problems:
        raise TypeError(f'{what} {" and ".join(problems)}; its arguments are '
                        f'{", ".join(f"`{name}`" for name in parameters) or "none"}; {remedy}')


def parameters_of(cls: Any) -> Tuple[Dict[str, inspect.Parameter], bool]:
    """Parameters of a class, including those it passes to its base classes by ``**kwargs``.

    Returns:
        tuple[dict, bool]: The parameters by name, and whether any others are taken.
    """
    found: Dict[str, inspect.Parameter] = {}
    kinds = cls.__mro__ if isinstance(cls, type) else [cls]
    for kind in kinds:
        if kind is object:  # the last base class takes any arguments
            break
        if kind is not cls and '__init__' not in vars(kind):
            continue
        parameters = inspect.signature(kind).parameters
        for name, one in parameters.items():
            if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY):
                found.setdefault(name, one)
        if not any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
            return found, False
    return found, True


def _check_model_of_base(what: str, arguments: Mapping[str, Any],
                         parameters: Mapping[str, Any]) -> None:
    """Raise an error if MMEngine has merged an entry with the model of the base config.

    That is the case if an argument of the entry holds all unknown arguments, too
    (`student=_base_.model`), or if several of them are configs of modules.
    """
    unknown = [name for name in arguments if name not in parameters]
    modules = [name for name in unknown
               if isinstance(arguments[name], dict) and 'type' in arguments[name]]
    if len(modules) > 1 or (unknown and any(
            isinstance(one, dict) and one.keys() >= set(unknown) for one in arguments.values())):
        raise TypeError(_merged(what, unknown, 'a plain model', f"type='mmkd.{what}', ..."))


def _check_type_of_base(arguments: Mapping[str, Any], parameters: Mapping[str, Any],
                        registry: Registry, what: str, cls: Any, base: type) -> None:
    """Raise an error if MMEngine has merged an entry with one of another type, which has the
    unknown arguments."""
    unknown = [name for name in arguments if name not in parameters]
    for name, other in registry.module_dict.items() if unknown else ():
        if isinstance(other, type) and issubclass(other, base) and all(
                one in parameters_of(other)[0] for one in unknown):
            raise TypeError(_merged(f'{what}: {getattr(cls, "__name__", cls)}', unknown,
                                    f'{registry.scope}.{name}', "type='mmkd.…', ..."))


def _merged(what: str, unknown: Sequence[str], whose: str, shown: str) -> str:
    names = ', '.join(f'`{name}`' for name in unknown[:3])
    rest = f' and {len(unknown) - 3} more' if len(unknown) > 3 else ''
    return (f'{what} has no argument{"s" * (len(unknown) > 1)} {names}{rest}, which {whose} has; '
            'if the base config has such an entry here, MMEngine merged it with this one: write '
            f'dict(_delete_=True, {shown})')


def _misplaced(what: str, cls: type, base: type) -> TypeError:
    package = base.__module__.rpartition('.')[0]
    return TypeError(f'{what}: {cls.__name__} is not a {base.__name__}; use one of {package}, or '
                     f'derive it from {package}.{base.__name__}')


def find_type(name: str, registry: Registry) -> Any:
    """The class or function that a registry has for a name; None if there is none.

    ``Registry.get`` raises for a malformed name, or a scope that cannot be imported.
    """
    try:
        return registry.get(name)
    except Exception:
        return None


def _find(name: str, registry: Registry, what: str, base: type) -> Any:
    cls = find_type(name, registry)
    if cls is None:
        bare = name.rpartition('.')[2]
        mark = ('@LOSSES.register' if base.__name__ == 'DistillLoss' else
                f'@mmkd.{registry.name.upper().replace(" ", "_")}S.register_module()')
        own = _unregistered(bare, registry, base)
        if own is not None:
            raise ValueError(f'{what}: no type `{name}`: {bare} of {own.__module__} is not '
                             f'registered; write `{mark}` above it')
        near = _nearest(bare, registry, base)
        known = _names_of(registry, base)
        some = f'; mmkd has {known or "none"}' if not near else f' (closest: `{near}`)'
        cure = f'write `{near}`, or ' if near else 'write one of them, or ' * bool(known)
        raise ValueError(f'{what}: no type `{name}`{some}; {cure}write `{mark}` above your own '
                         'class and import its module by `custom_imports`')
    return cls


def _unregistered(name: str, registry: Registry, base: type) -> Optional[type]:
    """A class of this name in an imported module, which its author forgot to register."""
    for module in list(sys.modules.values()):
        found = vars(module).get(name) if isinstance(module, ModuleType) else None
        if isinstance(found, type) and issubclass(found, base) and found is not base and not (
                found.__module__.startswith('mmkd.') or _is_registered(found, registry)):
            return found
    return None


def _is_registered(cls: type, registry: Registry) -> bool:
    """Whether mmkd, MMEngine, or another package of the same root has registered it."""
    root = registry
    while root.parent is not None:
        root = root.parent
    return any(cls in one.module_dict.values() for one in (registry, root, *root.children.values()))


def _nearest(name: str, registry: Registry, base: type) -> str:
    """The registered type whose name is close, '' if none is; the common last word of all types,
    such as Loss, may be left out, but does not make two names close."""
    by_letters = {one.rpartition('.')[2].lower(): one for one in _fitting(registry, base)}
    last = re.findall('[A-Z][a-z]*', base.__name__)[-1].lower()
    for tried in (name.lower(), name.lower() + last) if name else ():
        found = get_close_matches(tried, list(by_letters), n=1, cutoff=0.8)
        if found:
            return by_letters[found[0]]
    return ''


def _fitting(registry: Registry, base: type) -> Dict[str, type]:
    """Registered subclasses of a base class by name, mmkd's and the user's."""
    return {f'{registry.scope}.{key}': cls for key, cls in registry.module_dict.items()
            if isinstance(cls, type) and issubclass(cls, base)}


def _names_of(registry: Registry, base: type) -> str:
    """mmkd's own subclasses of a base class, for a message: the first ones of many."""
    names = [f'`{name}`' for name, cls in _fitting(registry, base).items()
             if cls.__module__.startswith('mmkd.')]
    return ', '.join(names[:SHOWN]) + ', …' * (len(names) > SHOWN)


def closest(name: Any, known: Iterable[str]) -> str:
    """The closest of the known names, for a message; '' if none is close."""
    by_letters = {one.lower(): one for one in known}
    nearest = get_close_matches(str(name).lower(), list(by_letters), n=1, cutoff=0.5)
    return f' (closest: `{by_letters[nearest[0]]}`)' if nearest else ''
