"""Which classes does a checkpoint, a config, a run or its user state?"""
from typing import Any, Dict, List, Optional, Sequence

from mmengine.config import Config
from mmengine.registry import DATASETS

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
        raise TypeError(f'`{what}` is a dict, but mmkd takes no mapping of classes yet; write the '
                        'list of names in the order of the columns, for instance '
                        f'classes={shown_names(classes)}')
    if not isinstance(classes, (list, tuple)) or not all(
            isinstance(name, str) and name for name in classes):
        raise TypeError(f'`{what}` must be a list of class names in the order of the columns, but '
                        f"got {classes!r:.200}; write for instance ['car', 'bus']")
    if not classes:
        raise ValueError(f'`{what}` is empty; write the class names in the order of the columns, '
                         'or leave it out')
    twice = doubled(classes)
    if twice:
        raise ValueError(f'`{what}` has a name twice, {joined(twice)}: '
                         f'{shown_names(classes)}; give each column a name of its own')
    return list(classes)


def doubled(names: Sequence[str]) -> List[str]:
    """Names that occur more than once in a list, sorted."""
    seen: Dict[str, int] = {}
    for name in names:
        seen[name] = seen.get(name, 0) + 1
    return sorted(name for name, count in seen.items() if count > 1)


def _names(names: Any) -> Optional[List[str]]:
    return [names] if isinstance(names, str) else list(names) if names else None
