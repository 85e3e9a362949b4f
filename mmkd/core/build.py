"""Build what an entry of the config describes, or say what is wrong with the entry."""
import copy
import inspect
import re
from contextlib import contextmanager
from difflib import get_close_matches
from functools import wraps
from importlib.util import find_spec
from typing import (
    Any,
    Callable,
    Dict,
    Iterable,
    Iterator,
    Mapping,
    Optional,
    Sequence,
    Tuple,
    TypeVar,
)

from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import DefaultScope, Registry
from torch import nn

Init = TypeVar('Init', bound=Callable[..., None])

SAID = 300
"""How many characters of an error of other code are shown."""

MISSING = (r"No module named '(\w+)", r'pip install ["\']?([\w-]+)',
           r'[`\']?([\w-]+)[`\']? is not installed', r'\b(\w+)\.\w+ is not in the')
"""What says that a package is missing: Python, other packages' own words, and MMEngine's registry
of a type of a package that it cannot import. The first group is the package."""


def build_entry(entry: Any, registry: Registry, what: str, base: type,
                default_type: Optional[str] = None, is_merged: bool = False) -> Any:
    """Build an object from ``dict(type=..., **arguments)``.

    MMEngine's own messages speak of its registries and of ``__init__``; these speak of the entry.

    Args:
        entry (Any): What the config holds.
        registry (Registry): Where the type is registered.
        what (str): What the entry is, for messages: 'teacher', 'a loss of `distill`'.
        base (type): What its class must be derived from.
        default_type (str, optional): The type where the entry names none. Defaults to None.
        is_merged (bool): Whether MMEngine merges the entry with one of a base config, as it does
            with every dict that stands in no list. Defaults to False.

    Returns:
        Any: The object.

    Raises:
        TypeError: If the entry is no dict, lacks or misspells an argument, or describes something
            else.
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
    check_arguments(f'{what}: {getattr(cls, "__name__", cls)}', arguments, parameters, takes_any)
    built = cls(**arguments)
    if not isinstance(built, base):  # of a function
        raise _misplaced(what, type(built), base)
    return built


def build_model(config: Any, what: str, scope: Optional[str] = None) -> nn.Module:
    """Build a model of MMEngine's world.

    Args:
        config (dict): The model's config.
        what (str): Whose it is, for the message: 'teacher'.
        scope (str, optional): Where its types are looked up. Defaults to None, the current one.

    Raises:
        ValueError: If it cannot be built, whatever its own code raised.
    """
    with explained(f'the model of the {what} cannot be built',
                   f'look at `model` in the config of the {what}, and whether `default_scope` '
                   'there names the package of its types'), \
            DefaultScope.overwrite_default_scope(scope):
        # mmseg writes what `pretrained` means into what it builds from, and refuses that next time.
        return MMENGINE_MODELS.build(copy.deepcopy(config))


@contextmanager
def explained(problem: str, remedy: str) -> Iterator[None]:
    """Whatever the code of others raises inside the block is told as the user's mistake it is.

    Raises:
        ValueError: In its place.
    """
    try:
        yield
    except Exception as error:
        remedy = how_to_import(missing_package(error)) or remedy
        raise ValueError(f'{problem}: {said_by(error)}; {remedy}') from error


def how_to_import(package: str) -> str:
    """What to do about a package that cannot be imported; '' if there is none."""
    return package and (
        f'`{package}` cannot be imported: if its name is spelt right, install the package, or, '
        'where it is a module of your own, put its folder on PYTHONPATH')


def said_by(error: BaseException) -> str:
    """The kind of an error of other code and what it says, in one line.

    MMEngine's go on for many lines: the search path, where to read more.
    """
    # KeyError quotes what it is given.
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    text = re.split(r', the current sys.path is|\. Please check whether the value of', text)[0]
    text = ' '.join(line.strip() for line in text.strip().splitlines()[:3]).rstrip('.')
    kind = type(error).__name__
    return f'{kind}: {text if len(text) <= SAID else text[:SAID] + " ..."}' if text else kind


def missing_package(error: BaseException) -> str:
    """The optional package for want of which other code failed; '' if it did not fail for one."""
    told: Optional[BaseException] = error
    while told is not None:
        if isinstance(told, ModuleNotFoundError) and told.name:
            return told.name.partition('.')[0]
        for pattern in MISSING:
            for name in re.findall(pattern, str(told)):
                if not _is_importable(name):
                    return str(name)
        told = told.__cause__ or told.__context__
    return ''


def _is_importable(name: str) -> bool:
    try:
        return find_spec(name.replace('-', '_')) is not None
    except (ImportError, ValueError):
        return False


def named_arguments(init: Init) -> Init:
    """Have ``__init__`` refuse misspelt and missing arguments by name.

    For classes that MMEngine builds, whose message would speak of Python's.
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
                    parameters: Mapping[str, inspect.Parameter], takes_any: bool = False) -> None:
    """Compare what stands in an entry with what can be written there.

    Args:
        what (str): The class, for the message.
        arguments (Mapping): What was written.
        parameters (Mapping[str, Parameter]): What can be.
        takes_any (bool): Whether there may be others. Defaults to False.

    Raises:
        TypeError: If an argument is missing or unknown; the message names the closest.
    """
    problems = [f'has no argument `{name}`' + _closest(name, parameters) for name in arguments
                if not isinstance(name, str) or not (takes_any or name in parameters)]
    missing = [name for name, one in parameters.items()
               if one.default is one.empty and name not in arguments]
    remedy = f'write {", ".join(f"`{name}=`" for name in missing)}' if missing else (
        'write one of these, or leave it out' if parameters else 'leave it out')
    problems += [f'needs `{name}`' for name in missing]
    if problems:
        raise TypeError(f'{what} {" and ".join(problems)}; it takes '
                        f'{", ".join(f"`{name}`" for name in parameters) or "none"}; {remedy}')


def parameters_of(cls: Any) -> Tuple[Dict[str, inspect.Parameter], bool]:
    """What may be written in an entry: its own arguments, and those it hands on to its base class.

    Returns:
        tuple[dict, bool]: The parameters by name, and whether there may be any others.
    """
    found: Dict[str, inspect.Parameter] = {}
    kinds = cls.__mro__ if isinstance(cls, type) else [cls]
    for kind in kinds:
        if kind is object:  # whoever is left with any arguments takes them itself
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
    """Whether an entry was merged with the model of the base config: parts of it are arguments.

    They are known by this: an argument of this entry holds them, too (`student=_base_.model`), or
    they are configs of modules.
    """
    unknown = [name for name in arguments if name not in parameters]
    modules = [name for name in unknown
               if isinstance(arguments[name], dict) and 'type' in arguments[name]]
    if len(modules) > 1 or (unknown and any(
            isinstance(one, dict) and one.keys() >= set(unknown) for one in arguments.values())):
        raise TypeError(_merged(what, unknown, 'a plain model', f"type='mmkd.{what}', ..."))


def _check_type_of_base(arguments: Mapping[str, Any], parameters: Mapping[str, Any],
                        registry: Registry, what: str, cls: Any, base: type) -> None:
    """Whether an entry was merged with one of another type: that has the unknown arguments."""
    unknown = [name for name in arguments if name not in parameters]
    for name, other in registry.module_dict.items() if unknown else ():
        if isinstance(other, type) and issubclass(other, base) and all(
                one in parameters_of(other)[0] for one in unknown):
            raise TypeError(_merged(f'{what}: {getattr(cls, "__name__", cls)}', unknown,
                                    f'{registry.scope}.{name}', "type='mmkd.…', ..."))


def _merged(what: str, unknown: Sequence[str], whose: str, shown: str) -> str:
    names = ', '.join(f'`{name}`' for name in unknown[:3])
    rest = f' and {len(unknown) - 3} more' if len(unknown) > 3 else ''
    return (f'{what} has no argument{"s" * (len(unknown) > 1)} {names}{rest}, which '
            f'{whose} has; if the base config has such an entry here, MMEngine has merged it with '
            f'this one: write dict(_delete_=True, {shown})')


def _misplaced(what: str, cls: type, base: type) -> TypeError:
    package = base.__module__.rpartition('.')[0]
    return TypeError(f'{what}: {cls.__name__} is no {base.__name__}; give one of '
                     f'{package}, or derive it from {package}.{base.__name__}')


def _find(name: str, registry: Registry, what: str, base: type) -> Any:
    try:
        cls = registry.get(name)
    except Exception:  # a scope that MMEngine cannot import, or a name of which it makes nothing
        cls = None
    if cls is None:
        raise ValueError(f'{what}: no type `{name}`' + _closest(name, _fitting(registry, base)) +
                         f'; mmkd has {_names_of(registry, base)}; write one of them, or register '
                         f'a type of your own in mmkd.{registry.name.upper()}S and import it by '
                         '`custom_imports`')
    return cls


def _fitting(registry: Registry, base: type) -> Dict[str, type]:
    """The registered classes of a kind, mmkd's and the user's, by name."""
    return {f'{registry.scope}.{key}': cls for key, cls in registry.module_dict.items()
            if isinstance(cls, type) and issubclass(cls, base)}


def _names_of(registry: Registry, base: type) -> str:
    """mmkd's own classes of a kind, for a message."""
    return ', '.join(f'`{name}`' for name, cls in _fitting(registry, base).items()
                     if cls.__module__.startswith('mmkd.'))


def _closest(name: Any, known: Iterable[str]) -> str:
    by_letters = {one.lower(): one for one in known}
    nearest = get_close_matches(str(name).lower(), list(by_letters), n=1, cutoff=0.5)
    return f' (closest: `{by_letters[nearest[0]]}`)' if nearest else ''
