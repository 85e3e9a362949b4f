"""Which data set shows images like those of the training, but without labels?"""
import copy
from typing import Any, Callable, Dict, List, Optional, Sequence

from mmengine.registry import TRANSFORMS

from ..core.build import parameters_of

REPEATING = ('RepeatDataset', 'ClassBalancedDataset')
"""Wrappers that only repeat images, by their labels or evenly."""


def without_labels(dataset: Dict[str, Any], scope: Optional[str] = None) -> Dict[str, Any]:
    """The config of a data set that does not load its annotations, and keeps all images.

    In its pipelines a transform that loads annotations is replaced by
    :class:`mmkd.data.unlabelled.BlankAnnotations`; one that filters them is left out; crops without
    an object are allowed. Images without annotations are not filtered.

    Args:
        dataset (dict): The config; it is not changed.
        scope (str, optional): Default scope of its types. Defaults to None, mmdet's.

    Example:
        >>> found = without_labels(dict(type='CocoDataset', filter_cfg=dict(min_size=9), pipeline=[
        ...     dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True)]))
        >>> found['pipeline'][1]
        {'type': 'mmkd.BlankAnnotations', 'boxes': True, 'masks': False, 'label_map': False}
        >>> found['filter_cfg']
        {'min_size': 9, 'filter_empty_gt': False}
    """
    def changed(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            kept = [changed(one) for one in value]
            return type(value)(one for one in kept if one is not None)
        if not isinstance(value, dict):
            return value
        name = name_of(value)
        if name.startswith('Load') and name.endswith('Annotations'):
            return blank_for(value, scope)
        if name == 'FilterAnnotations':
            return None
        found = {key: changed(one) for key, one in value.items()}
        if 'allow_negative_crop' in defaults_of(value, scope):
            found['allow_negative_crop'] = True
        if isinstance(found.get('filter_cfg'), dict):
            found['filter_cfg'] = {**found['filter_cfg'], 'filter_empty_gt': False}
        return found

    return changed(copy.deepcopy(dataset))  # type: ignore[no-any-return]


def blank_for(transform: Dict[str, Any], scope: Optional[str]) -> Dict[str, Any]:
    """The transform that replaces one that loads annotations."""
    is_map = is_of_mmseg(transform, scope)
    # What is not written has the default of its class: panoptic ones load masks and label maps.
    settings = {**dict(with_bbox=True, with_mask=False, with_seg=False),
                **defaults_of(transform, scope), **transform}
    return dict(type='mmkd.BlankAnnotations',
                boxes=not is_map and settings['with_bbox'],
                masks=not is_map and settings['with_mask'],
                label_map=is_map or settings['with_seg'])


def defaults_of(transform: Dict[str, Any], scope: Optional[str]) -> Dict[str, Any]:
    """Defaults of the arguments of a transform by name; {} if its class is not found."""
    cls = transform.get('type')
    if isinstance(cls, str):
        with TRANSFORMS.switch_scope_and_registry(scope or 'mmdet') as registry:
            cls = registry.get(cls)
    return {} if cls is None else {name: one.default
                                   for name, one in parameters_of(cls)[0].items()}


def of_folder(folder: str, dataset: Dict[str, Any],
              suffixes: Optional[Sequence[str]] = None) -> Dict[str, Any]:
    """The config of a data set with the images of a folder, and the pipeline of another data set.

    Data sets that mix images of another one (Mosaic) stay around it; those that repeat images are
    left out. Of several data sets the pipeline of the first one is taken.

    Args:
        folder (str): Path of the folder.
        dataset (dict): The config of the other data set.
        suffixes (Sequence[str], optional): Endings of the files. Defaults to None, those of
            :class:`mmkd.ImageFolder`.
    """
    inner = dataset.get('dataset') or (dataset.get('datasets') or [None])[0]
    if inner is None:
        return dict(type='mmkd.ImageFolder', folder=folder,
                    pipeline=list(dataset.get('pipeline') or ()),
                    **({} if suffixes is None else dict(suffixes=suffixes)))
    found = of_folder(folder, inner, suffixes)
    if name_of(dataset) in REPEATING or 'datasets' in dataset:
        # A concatenation may have the pipeline, and its data sets none.
        return found if found.get('pipeline') else dict(
            found, pipeline=list(dataset.get('pipeline') or ()))
    return dict(dataset, dataset=found)


def first_pipeline(dataset: Dict[str, Any]) -> List[Any]:
    """The innermost pipeline of a config of a data set; of several data sets, of the first one."""
    inner = dataset.get('dataset') or (dataset.get('datasets') or [None])[0]
    found = first_pipeline(inner) if inner else []
    return found or list(dataset.get('pipeline') or ())


def name_of(entry: Dict[str, Any]) -> str:
    """Name of the type of an entry, without its scope."""
    kind: Any = entry.get('type', '')
    return kind.split('.')[-1] if isinstance(kind, str) else getattr(kind, '__name__', '')


def is_of_mmseg(entry: Dict[str, Any], scope: Optional[str]) -> bool:
    """Whether the type of an entry is one of mmseg."""
    kind: Any = entry.get('type', '')
    if isinstance(kind, Callable):  # type: ignore[arg-type]
        return bool(kind.__module__.split('.')[0] == 'mmseg')
    return bool((kind.split('.')[0] if '.' in kind else scope) == 'mmseg')
