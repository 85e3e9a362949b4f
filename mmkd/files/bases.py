"""Which lists of its base configs does a distillation config drop?"""
import ast
import importlib.util
import logging
import os
import sys
from collections import Counter
from typing import Any, Dict, List, NamedTuple, Optional

from mmengine.config import Config
from mmengine.logging import print_log

from ..core.runner import current_runner


class Lost(NamedTuple):
    """Entries of a list in a base config that the final config lacks."""
    key: str
    """The list: 'custom_hooks' or 'custom_imports'."""
    names: List[str]
    """Classes of the hooks, or modules."""
    base: str
    """File of the base config."""

    def __str__(self) -> str:
        names = ', '.join(f'`{name}`' for name in self.names)
        what = f'`{self.key}` of this config replaces that of its base {self.base}, and leaves out '
        if self.key == 'custom_hooks':
            return (f'{what}{names}, so the student is trained without them; write '
                    'custom_hooks=[*_base_.custom_hooks, ...], or put hooks of the distillation '
                    'into `hooks=[...]` of the mmkd.Distiller')
        imports = ', '.join(map(repr, ['mmkd', *self.names]))
        return (f'{what}{names}, so their classes are not registered, or others with the same '
                f'names are used; write custom_imports=dict(imports=[{imports}], ...)')


def lost_lists(config: Config) -> List[Lost]:
    """Entries that the base configs of a run list and the run does not.

    MMEngine merges dicts of a config with those of its bases, but replaces lists. The search goes
    from the file of the config through distillation configs to the first plain ones. The bases of
    plain configs are not searched, because a plain config may replace what it inherits.

    Args:
        config (Config): The complete config of the run.

    Returns:
        list[Lost]: Empty if nothing is lost, or if the config was not read from a file.
    """
    path = getattr(config, 'filename', None)
    if not path or not os.path.isfile(path):
        return []
    known: Dict[str, Counter] = {key: listed(config, key) for key in KEYS}
    found: List[Lost] = []
    pending, seen = [path], {os.path.abspath(path)}
    while pending:
        for base in base_files(pending.pop(0)):
            if os.path.abspath(base) in seen:
                continue
            seen.add(os.path.abspath(base))
            whole = Config.fromfile(base, import_custom_modules=False)
            for key in KEYS:
                missing = listed(whole, key) - known[key]
                if key == 'custom_imports':  # imported in some other way
                    missing = Counter({name: 1 for name in missing if name not in sys.modules})
                if missing:
                    known[key] += missing  # report each once
                    found.append(Lost(key, list(missing), base))
            if is_distilled(whole):
                pending.append(base)
    return found


def warn_of_lost(*keys: str) -> List[Lost]:
    """Log a warning for each list of its bases that the config of the current Runner drops.

    Args:
        *keys (str): The lists to check.

    Returns:
        list[Lost]: What was logged.
    """
    runner = current_runner()
    if runner is None:
        return []
    try:
        found = [one for one in lost_lists(runner.cfg) if one.key in keys]
    except Exception as error:  # a missing base, or Python code that fails when it runs again
        print_log(f'the bases of {runner.cfg.filename} cannot be read, so what it replaces of them '
                  f'is not checked: {type(error).__name__}: {error}', 'current')
        return []
    for one in found:
        print_log(str(one), 'current', logging.WARNING)
    return found


def listed(config: Config, key: str) -> Counter:
    """Names that a config lists: the classes of its hooks, or the modules that it imports."""
    entries = config.get(key) or []
    if key == 'custom_imports':
        entries = entries.get('imports') or [] if isinstance(entries, dict) else []
        return Counter([entries] if isinstance(entries, str) else list(entries))
    model = config.get('model')
    own = model.get('hooks') or [] if isinstance(model, dict) and is_distilled(config) else []
    return Counter(class_name(one) for one in [*entries, *own])


def is_distilled(config: Config) -> bool:
    """Whether a config uses distillation, by its model or by a hook."""
    model = config.get('model')
    hooks = config.get('custom_hooks') or []
    return (isinstance(model, dict) and class_name(model) == 'Distiller') or any(
        class_name(hook) == 'DistillHook' for hook in hooks)


def class_name(entry: Any) -> str:
    """Class name of an entry without its package: 'EMAHook' for 'mmengine.EMAHook'."""
    kind = entry.get('type') if isinstance(entry, dict) else type(entry)
    name: str = kind if isinstance(kind, str) else getattr(kind, '__name__', str(kind))
    return name.rpartition('.')[2]


def base_files(path: str) -> List[str]:
    """Files that a config inherits from, in either of MMEngine's config styles.

    Args:
        path (str): The config.
    """
    if not Config._is_lazy_import(path):
        return [os.path.normpath(Config._get_cfg_path(base, path)[0])
                for base in Config._get_base_files(path)]
    with open(path, encoding='utf-8') as file:
        blocks = [node for node in ast.walk(ast.parse(file.read())) if isinstance(node, ast.With)]
    found = [_file_of(node, path) for block in blocks for node in block.body
             if isinstance(node, ast.ImportFrom)]
    return [one for one in found if one is not None]


def _file_of(node: ast.ImportFrom, path: str) -> Optional[str]:
    """The file of ``from ..folder.name import *`` in a config."""
    if node.level:
        folder = os.path.abspath(path)
        for _ in range(node.level):
            folder = os.path.dirname(folder)
        return os.path.join(folder, *(node.module or '').split('.')) + '.py'
    spec = importlib.util.find_spec(node.module or '')
    return None if spec is None else spec.origin


KEYS = ('custom_hooks', 'custom_imports')
"""Lists that a distillation config is likely to replace."""
