"""Which of the teacher's classes is which of the student's? Matched by name, never by chance."""
from typing import Any, List, Optional, Sequence

from mmengine.config import Config
from mmengine.fileio import load
from mmengine.registry import DATASETS

from .runner import current_runner


def classes_of_checkpoint(checkpoint: dict) -> Optional[List[str]]:
    """Class names a checkpoint was trained on, None where it does not say.

    MMEngine writes ``meta['dataset_meta']['classes']``, mmdet 2.x and mmseg 0.x wrote
    ``meta['CLASSES']``.
    """
    meta = checkpoint.get('meta', {})
    dataset_meta = meta.get('dataset_meta') or {}
    return _names(dataset_meta.get('classes') or dataset_meta.get('CLASSES') or
                  meta.get('CLASSES'))


def classes_of_config(config: Config) -> Optional[List[str]]:
    """Class names of the data a config trains on, None where it names no data set."""
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
    cls = dataset['type']
    if isinstance(cls, str):
        with DATASETS.switch_scope_and_registry(None) as registry:  # the default scope's
            cls = registry.get(cls)
    return _names(getattr(cls, 'METAINFO', {}).get('classes'))


def classes_of_run() -> Optional[List[str]]:
    """Class names of the training set of the running Runner, None outside of one."""
    runner = current_runner()
    dataset = getattr(runner.train_dataloader, 'dataset', None) if runner else None
    return _names((getattr(dataset, 'metainfo', None) or {}).get('classes'))


def check_label_order() -> None:
    """Look whether the labels of the training set stand for the names it gives.

    mmdet's CocoDataset numbers labels in the order of the annotation file, whatever the order of
    ``metainfo``. As long as both sides do so nobody notices; matched by name, classes would be
    compared crosswise.

    Raises:
        ValueError: If the orders differ; the message shows both.
    """
    runner = current_runner()
    dataset: Any = getattr(runner.train_dataloader, 'dataset', None) if runner else None
    while hasattr(dataset, 'dataset'):  # RepeatDataset and the like
        dataset = dataset.dataset
    names = _names((getattr(dataset, 'metainfo', None) or {}).get('classes'))
    default = _names(getattr(type(dataset), 'METAINFO', {}).get('classes'))
    if not hasattr(dataset, 'cat2label') or names is None or names == default:
        return
    content = load(dataset.ann_file)
    of_id = {category['id']: category['name'] for category in content.get('categories', [])}
    labels = sorted(dataset.cat2label.items(), key=lambda pair: pair[1])
    order = [of_id.get(category) for category, _ in labels]
    if order != [name for name in names if name in order]:
        raise ValueError(
            f'the classes of the data set are {names} by its `metainfo`, but mmdet numbers them in '
            f'the order of {dataset.ann_file}, {order}; write `metainfo` in the order of the file, '
            'or they cannot be matched with the teacher\'s by name')


def match_classes(student: Sequence[str], teacher: Sequence[str]) -> Optional[List[int]]:
    """For each of the student's classes, the teacher's column.

    Args:
        student (Sequence[str]): The student's classes, in the order of its columns.
        teacher (Sequence[str]): The teacher's.

    Returns:
        list[int] | None: Indices into the teacher's classes; None if both lists are equal.

    Raises:
        ValueError: If the teacher lacks one of the student's classes, or a name stands twice in a
            list; the message names it and shows the lists.
    """
    for side, names in (('student', student), ('teacher', teacher)):
        twice = sorted({name for name in names if list(names).count(name) > 1})
        if twice:
            raise ValueError(f'the {side} has classes of one name, {", ".join(twice)}: '
                             f'{list(names)}; give each a name of its own')
    if list(student) == list(teacher):
        return None
    missing = [name for name in student if name not in teacher]
    if missing:
        raise ValueError(
            f'the teacher does not know {len(missing)} of the student\'s classes: '
            f'{", ".join(missing)}; the student has {list(student)}, the teacher '
            f'{list(teacher)}; give a teacher trained on these classes, or rename those of the '
            'data set\'s `metainfo`')
    return [list(teacher).index(name) for name in student]


def _names(names: Any) -> Optional[List[str]]:
    return [names] if isinstance(names, str) else list(names) if names else None
