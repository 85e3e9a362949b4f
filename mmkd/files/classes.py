"""Which classes does a checkpoint, a config, a run or its user state?"""
import ast
import json
import os
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import yaml
from mmengine.config import Config
from mmengine.registry import DATASETS

from ..core.errors import explained
from ..core.missing import looked_for
from ..core.names import joined, shown_names
from ..core.runner import current_runner


def classes_of_checkpoint(checkpoint: dict) -> Optional[List[str]]:
    """Class names that a checkpoint was trained on, None if it does not state them.

    MMEngine writes ``meta['dataset_meta']['classes']``; mmdet 2.x and mmseg 0.x wrote
    ``meta['CLASSES']``.
    """
    meta = checkpoint.get('meta', {})
    dataset_meta = meta.get('dataset_meta') or {}
    return _names(dataset_meta.get('classes') or dataset_meta.get('CLASSES') or
                  meta.get('CLASSES'))


def classes_of_config(config: Config) -> Optional[List[str]]:
    """Class names of the training data of a config, None if it has no data set."""
    dataset = (config.get('train_dataloader') or {}).get('dataset')
    while dataset is not None:
        names = (dataset.get('metainfo') or {}).get('classes')
        if names:
            return _names(names)
        inner = dataset.get('dataset') or dataset.get('datasets')
        if not inner:
            break
        dataset = inner[0] if isinstance(inner, (list, tuple)) else inner
    if dataset is None or 'type' not in dataset:
        return None
    return _names(getattr(dataset_class(dataset), 'METAINFO', {}).get('classes'))


def classes_of_run() -> Optional[List[str]]:
    """Class names of the training set of the current Runner, None outside of a run.

    If the parts of a concatenated data set have different ``metainfo``, the first part with class
    names counts; :func:`mmkd.files.labels.check_label_order` compares the others with it.
    """
    metainfo = getattr(training_set(), 'metainfo', None) or {}
    parts = metainfo if isinstance(metainfo, (list, tuple)) else [metainfo]
    return next(filter(None, (_names((one or {}).get('classes')) for one in parts)), None)


def training_set() -> Any:
    """The training set of the current Runner, None outside of a run."""
    runner = current_runner()
    return getattr(runner.train_dataloader, 'dataset', None) if runner else None


def dataset_class(dataset: Dict[str, Any]) -> Any:
    """The class that a data set's config names, None if it is not registered."""
    cls = dataset.get('type')
    if isinstance(cls, str):
        with DATASETS.switch_scope_and_registry(None) as registry:  # the default scope
            cls = registry.get(cls)
    return cls


class ClassMapping(NamedTuple):
    """Which classes of the teacher stand for a class of the student, as a config states it."""
    entries: Tuple[Tuple[str, Tuple[str, ...]], ...]
    """Per named class of the student, names of the teacher's classes; () for none."""
    file: str = ''
    """The file it was read from; '' if the config contains it."""

    @property
    def name(self) -> str:
        """Its name in messages."""
        return '`classes` of the teacher' + (f' in `{self.file}`' if self.file else '')

    def shown(self) -> str:
        """The mapping in one line, for the log and for the record in a checkpoint."""
        return ', '.join(f'{name}={"+".join(theirs) or None}' for name, theirs in self.entries)


def stated_classes(classes: Any, what: str) -> Optional[List[str]]:
    """Check the argument ``classes``, with which a config states the class of each column.

    Args:
        classes (Any): Value of the argument.
        what (str): Name of the argument for messages, such as 'teacher.classes'.

    Returns:
        list[str] | None: The names, None if the argument is None.

    Raises:
        TypeError: If it is not a list of names.
        ValueError: If it is empty or has a duplicate name.
    """
    if classes is None:
        return None
    if isinstance(classes, dict):
        raise TypeError(f'`{what}` must be the list of class names in the order of the columns, '
                        f'but got a dict; write for instance classes={shown_names(classes)}, and '
                        "put a mapping to the teacher's classes into "
                        '`teacher=dict(classes=dict(...))`')
    if not isinstance(classes, (list, tuple)) or not all(
            isinstance(name, str) and name for name in classes):
        raise TypeError(f'`{what}` must be a list of class names in the order of the columns, but '
                        f"got {classes!r:.200}; write for instance ['car', 'bus']")
    if not classes:
        raise ValueError(f'`{what}` is empty; write the class names in the order of the columns, '
                         'or leave it out')
    twice = doubled(classes)
    if twice:
        raise ValueError(f'`{what}` has a name twice, {joined(twice)}: {shown_names(classes)}; '
                         'give each column a unique name')
    return list(classes)


def stated_mapping(classes: Any, what: str) -> Tuple[Optional[List[str]], Optional[ClassMapping]]:
    """Check the argument ``classes`` of a teacher: names of its columns, or a mapping.

    Args:
        classes (Any): A list of names (see :func:`stated_classes`); a dict whose keys are classes
            of the student, and whose values are the teacher's class, a list of its classes, or
            None for none; or the path of a .json, .yaml, .yml or .py file with one of these.
        what (str): Name of the argument for messages, such as 'teacher.classes'.

    Returns:
        tuple[list[str] | None, ClassMapping | None]: The names, and the mapping.

    Raises:
        FileNotFoundError: If the file does not exist.
        TypeError: If it is neither a list of names nor a mapping.
        ValueError: If it is empty, has a duplicate name, or the file cannot be read.

    Example:
        >>> stated_mapping(dict(RBC='cell', rider=None), 'teacher.classes')[1].shown()
        'RBC=cell, rider=None'
    """
    file = ''
    if isinstance(classes, str) and classes.lower().endswith(FILES):
        file, classes = classes, _of_file(classes, what)
        what = f'{what}` in `{file}'
    if classes is not None and not isinstance(classes, (dict, list, tuple)):
        raise TypeError(
            f'`{what}` must be a list of class names in the order of the columns, a mapping from '
            f"the student's classes, or a {joined(FILES)} file with one of these, but got "
            f"{classes!r:.200}; write for instance ['car', 'bus'], or dict(car='automobile', "
            "rider=None)")
    if not isinstance(classes, dict):
        return stated_classes(classes, what), None
    entries: List[Tuple[str, Tuple[str, ...]]] = []
    for name, value in classes.items():
        theirs = [value] if isinstance(value, str) else [] if value is None else value
        if not isinstance(name, str) or not name or not isinstance(theirs, (list, tuple)) or not (
                all(isinstance(one, str) and one for one in theirs)):
            raise TypeError(
                f'`{what}` must map each class of the student to a class of the teacher, a list of '
                f'classes, or None, but got {name!r}: {value!r:.200}; write for instance '
                "dict(car='automobile', vehicle=['bus', 'truck'], rider=None)")
        twice = doubled(theirs)
        if twice:
            raise ValueError(f'`{what}` contains {joined(twice)} twice for {name!r}; write each '
                             'class once')
        entries.append((name, tuple(theirs)))
    if not entries:
        raise ValueError(f'`{what}` is empty; write the names of the classes, or leave it out')
    return None, ClassMapping(tuple(entries), file)


FILES = ('.json', '.yaml', '.yml', '.py')
"""Endings of a file with a mapping or a list of classes."""


def _of_file(path: str, what: str) -> Any:
    """The list or dict in a file: its whole content, or what it has under 'classes'."""
    if not os.path.isfile(os.path.expanduser(path)):
        raise FileNotFoundError(f'`{what}`: no file at `{path}` {looked_for(path)}; give the path '
                                'of a file with the mapping of classes')
    is_python = path.lower().endswith('.py')
    example = 'classes = dict(RBC="cell", rider=None)' if is_python else (
        '{"RBC": "cell", "rider": null}')
    twice: List[str] = []
    with explained(f'`{what}`: `{path}` cannot be read',
                   f'write a mapping of classes in it, such as {example}'):
        found = _content(os.path.expanduser(path), twice)
    if twice:
        raise ValueError(f'`{what}`: `{path}` names {joined(map(repr, twice))} twice, and only the '
                         'last would count; write each class of the student once, with a list of '
                         "the teacher's classes")
    if is_python and found is None:
        raise ValueError(f'`{what}`: `{path}` has no variable `classes`; write a mapping of '
                         f'classes in it, such as {example}')
    if isinstance(found, dict) and isinstance(found.get('classes'), (dict, list, tuple)):
        found = found['classes']
    if not isinstance(found, (dict, list, tuple)):
        raise TypeError(f'`{what}`: `{path}` must contain a mapping or a list of classes, but '
                        f'contains {type(found).__name__}; write for instance {example}')
    return found


def _content(path: str, twice: List[str]) -> Any:
    """What a file has. Names that a mapping in it has twice are put into ``twice``."""
    def once(pairs: Sequence[Tuple[Any, Any]]) -> Dict[Any, Any]:
        twice.extend(doubled([name for name, _ in pairs if isinstance(name, str)]))
        return dict(pairs)

    with open(path, encoding='utf-8-sig') as file:  # some editors begin with a mark
        text = file.read()
    if path.lower().endswith('.py'):
        written = [one for one in ast.parse(text).body
                   if isinstance(one, (ast.Assign, ast.AnnAssign)) and any(
                       isinstance(target, ast.Name) and target.id == 'classes' for target in (
                           one.targets if isinstance(one, ast.Assign) else [one.target]))]
        for node in [node for one in written for node in ast.walk(one)]:
            if isinstance(node, ast.Dict):
                once([(key.value, None) for key in node.keys if isinstance(key, ast.Constant)])
        return Config.fromfile(path, import_custom_modules=False).get('classes')
    if path.lower().endswith('.json'):
        return json.loads(text, object_pairs_hook=once)

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> Dict[Any, Any]:
            once([(key.value, None) for key, _ in node.value])
            return super().construct_mapping(node, deep)

    return yaml.load(text, Loader)


def doubled(names: Sequence[str]) -> List[str]:
    """Names that occur more than once in a list, sorted."""
    seen: Dict[str, int] = {}
    for name in names:
        seen[name] = seen.get(name, 0) + 1
    return sorted(name for name, count in seen.items() if count > 1)


def _names(names: Any) -> Optional[List[str]]:
    return [names] if isinstance(names, str) else list(names) if names else None
