"""Do the labels of the training data match its class names?"""
import inspect
import json
import re
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from mmengine.config import Config
from mmengine.fileio import get_text
from torch.utils.data import Dataset

from ..core.names import shown_names
from .classes import _names, dataset_class, training_set

Side = Tuple[Optional[Sequence[str]], bool, Sequence['ZeroLabel']]
"""Class names of student or teacher, whether the config states them by ``classes``, and the setting
``reduce_zero_label`` of each of its data sets."""


def check_meaning(student: Side, teacher: Side, source: str = 'teacher') -> None:
    """Check that columns matched by name or by number mean the same class.

    Args:
        student (Side): The student.
        teacher (Side): The teacher.
        source (str): The teacher's name, for messages. Defaults to 'teacher'.

    Raises:
        ValueError: If labels do not match the class names, or ``reduce_zero_label`` differs.
    """
    names, other_names = student[0], teacher[0]
    if names and other_names:
        check_label_order(names, is_stated=student[1])
        if list(names) != list(other_names):  # columns are matched by name
            return
    if not (student[1] or teacher[1]):
        check_zero_label(student[2], teacher[2], source)


# --- order of labels --------------------------------------------------------------------------


def check_label_order(classes: Sequence[str], is_stated: bool = False) -> None:
    """Check that the labels of the training data are in the order of the names, per data set.

    mmdet's CocoDataset and its subclasses number labels in the order of the annotation file,
    whatever the order of ``metainfo``, and leave out classes that the file lacks. A wrong order is
    an error and not corrected: a teacher trained on such a file has wrong names, too, and nothing
    tells whether it was.

    Args:
        classes (Sequence[str]): The student's classes, in the order of its columns.
        is_stated (bool): Whether they come from ``classes`` of the config and not from the data.
            Defaults to False.

    Raises:
        ValueError: If a label belongs to another class than its name says.
    """
    column_of = {name: column for column, name in enumerate(classes)}
    for leaf in leaves_of(training_set()):
        found = names_of_labels(leaf) or []
        wrong = [label for label, name in enumerate(found)
                 if name is not None and column_of.get(name, label) != label]
        if not wrong:
            continue
        is_of_file = found != _names_of(leaf)
        whose = (f'mmdet numbers them in the order of {leaf.ann_file}' if is_of_file else
                 f'{_called(leaf)} numbers them in the order of its own `metainfo`')
        first = wrong[0]
        expected = repr(classes[first]) if first < len(classes) else 'none of them'
        is_short = is_of_file and len(found) < len(classes)
        raise ValueError(
            f'the classes of the training data are {shown_names(classes)} by '
            f'{"`classes` of the config" if is_stated else "its `metainfo`"}, but {whose}, '
            f'{shown_names(found)}: label {first} is {found[first]!r}, not {expected}, so '
            f'{len(wrong)} of the classes would be compared with columns of other classes of the '
            f'teacher; write {"`classes`" if is_stated else "`metainfo`"} in the order of the '
            f'{"file" if is_of_file else "labels"}' +
            (', followed by the classes that it lacks' if is_short else '') +
            '; if the teacher was also trained on labels in this order, set the order of its '
            'columns: `teacher=dict(classes=[...])`')


def leaves_of(dataset: Any) -> Iterator[Any]:
    """The data sets inside nested wrappers and concatenations."""
    inner: List[Any] = []
    if isinstance(getattr(dataset, 'datasets', None), (list, tuple)):
        inner = list(dataset.datasets)
    elif _is_dataset(getattr(dataset, 'dataset', None)):
        inner = [dataset.dataset]
    if dataset is not None and not inner:
        yield dataset
    for one in inner:
        yield from leaves_of(one)


def names_of_labels(dataset: Any) -> Optional[List[Optional[str]]]:
    """Names of the labels 0, 1, ... of a data set that is not a wrapper; None if not known.

    In mmdet ``cat2label`` maps categories to labels; its keys are names (VOC, WIDER Face) or ids
    of the annotation file (COCO, LVIS, Objects365, V3Det). Other data sets number labels in the
    order of ``metainfo``.
    """
    labels = getattr(dataset, 'cat2label', None)
    if not isinstance(labels, dict) or not labels:
        return _names_of(dataset)  # type: ignore[return-value]
    if all(isinstance(category, str) for category in labels):
        of_category = {category: category for category in labels}
    else:
        of_category = categories_of(getattr(dataset, 'ann_file', None),
                                    getattr(dataset, 'backend_args', None))
    names: List[Optional[str]] = [None] * (max(labels.values()) + 1)
    for category, label in labels.items():
        names[label] = of_category.get(category)
    return names


def categories_of(path: Any, backend_args: Optional[dict] = None) -> Dict[Any, str]:
    """Names of the categories of a COCO annotation file by id; {} if it has another format.

    If the file has one list "categories", only that is parsed, so half a gigabyte of boxes takes
    one second.
    """
    try:
        text = get_text(path, backend_args=backend_args)
        places = [place.end() - 1 for place in re.finditer(r'"categories"\s*:\s*\[', text)]
        found = (json.JSONDecoder().raw_decode(text, places[0])[0] if len(places) == 1 else
                 json.loads(text)['categories'])
        return {one['id']: one['name'] for one in found}
    except (OSError, TypeError, ValueError, KeyError):  # another format
        return {}


# --- reduce_zero_label --------------------------------------------------------------------------


class ZeroLabel(NamedTuple):
    """The setting ``reduce_zero_label``: whether label 0 is ignored and all others are reduced by
    one."""
    is_reduced: bool
    where: str
    """Where it is set, for messages."""


def zero_labels_of_run() -> List[ZeroLabel]:
    """Settings of the data sets that the current Runner trains on; [] outside of a run."""
    found = []
    for leaf in leaves_of(training_set()):
        value = getattr(leaf, 'reduce_zero_label', None)
        for transform in getattr(getattr(leaf, 'pipeline', None), 'transforms', ()):
            if value is None and getattr(transform, 'with_seg', False):
                value = getattr(transform, 'reduce_zero_label', None)
        if isinstance(value, bool):
            found.append(ZeroLabel(value, _called(leaf)))
    return found


def zero_labels_of_config(config: Config) -> List[ZeroLabel]:
    """Settings of the data sets that a config trains on, defaults of their classes included."""
    found = []
    for leaf in _leaf_configs((config.get('train_dataloader') or {}).get('dataset')):
        value = leaf.get('reduce_zero_label')
        for transform in leaf.get('pipeline') or ():
            if value is None and isinstance(transform, dict):
                value = transform.get('reduce_zero_label')
        cls = dataset_class(leaf)
        if value is None and inspect.isclass(cls):
            defaults = [inspect.signature(kind).parameters.get('reduce_zero_label')
                        for kind in cls.__mro__ if '__init__' in vars(kind)]
            value = next((one.default for one in defaults if one is not None), None)
        if isinstance(value, bool):
            found.append(ZeroLabel(value, f'{getattr(cls, "__name__", leaf.get("type"))} in '
                                   '`train_dataloader` of its config'))
    return found


def zero_label_of_checkpoint(checkpoint: dict) -> List[ZeroLabel]:
    """Setting that mmseg saved in a checkpoint; [] if there is none."""
    value = (checkpoint.get('meta', {}).get('dataset_meta') or {}).get('reduce_zero_label')
    return [ZeroLabel(value, '`dataset_meta` of its checkpoint')] if isinstance(value, bool) else []


def check_zero_label(student: Sequence[ZeroLabel], teacher: Sequence[ZeroLabel],
                     source: str = 'teacher') -> None:
    """Check that ``reduce_zero_label`` is the same for student and teacher.

    Args:
        student (Sequence[ZeroLabel]): Settings of the student's data sets.
        teacher (Sequence[ZeroLabel]): Settings of the teacher's data sets.
        source (str): The teacher's name, for messages. Defaults to 'teacher'.

    Raises:
        ValueError: If a data set of the student differs from the teacher's.
    """
    if len({one.is_reduced for one in teacher}) != 1:  # not known, or data sets that differ
        return
    theirs = teacher[0]
    for mine in student:
        if mine.is_reduced != theirs.is_reduced:
            raise ValueError(
                f"`reduce_zero_label` is {mine.is_reduced} in the student's training data "
                f'({mine.where}) and {theirs.is_reduced} for `{source}` ({theirs.where}), so their '
                'columns are shifted by one class; use the same setting for both; or, if the masks '
                'differ but the columns have the same meaning, write the class names of its '
                f'columns: `{source}=dict(classes=[...])`')


# --- helpers ------------------------------------------------------------------------------------


def _is_dataset(thing: Any) -> bool:
    # mmdet's MultiImageMixDataset is not a subclass of torch's Dataset.
    return isinstance(thing, Dataset) or hasattr(thing, 'metainfo')


def _names_of(dataset: Any) -> Optional[List[str]]:
    return _names((getattr(dataset, 'metainfo', None) or {}).get('classes'))


def _called(dataset: Any) -> str:
    place = getattr(dataset, 'ann_file', None) or getattr(dataset, 'data_root', None)
    return type(dataset).__name__ + (f' of {place}' if place else '')


def _leaf_configs(dataset: Any) -> Iterator[Dict[str, Any]]:
    inner = dataset.get('dataset') or dataset.get('datasets') if dataset else None
    if dataset and not inner:
        yield dataset
    for one in inner if isinstance(inner, (list, tuple)) else [inner] if inner else []:
        yield from _leaf_configs(one)
