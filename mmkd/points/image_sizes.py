"""For which image sizes was a model built, and with which sizes is it trained?"""
from typing import Any, Iterable, Iterator, List, NamedTuple, Optional, Tuple

from ..core.runner import current_runner

Size = Tuple[int, int]
"""Height and width of an image in pixels."""

SAME_SIZE = {
    'LoadImageFromFile', 'LoadAnnotations', 'LoadPanopticAnnotations', 'LoadProposals',
    'FilterAnnotations', 'RandomFlip', 'PhotoMetricDistortion', 'YOLOXHSVRandomAug', 'Normalize',
    'GenerateEdge', 'ToTensor', 'PackDetInputs', 'PackSegInputs', 'PackViews'}
"""Transforms of mmcv, mmdet, mmseg and mmkd that do not change the size of an image."""


class TrainedAt(NamedTuple):
    """Sizes of images in training, from model and config."""
    exact: Optional[Size] = None
    """The size of every batch; None if sizes differ or are not known."""
    others: Tuple[Size, ...] = ()
    """Other sizes in the config, such as that of the largest images."""


def sizes_of_model(model: Any) -> List[Size]:
    """Sizes that a model was built for: ``img_size`` of its modules, the crop of a sliding
    window."""
    found = [as_size(module.__dict__.get('img_size')) for module in model.modules()]
    crop = (getattr(model, 'test_cfg', None) or {}).get('crop_size')
    return [size for size in dict.fromkeys([*found, as_size(crop)]) if size]


def trained_at(model: Any, config: Any = None) -> TrainedAt:
    """The sizes of a model's images in training, as far as they follow from model and config.

    Args:
        model (nn.Module): The student.
        config (Config, optional): Its complete config. Defaults to None, that of the running
            Runner.
    """
    if config is None:
        config = getattr(current_runner(), 'cfg', None) or {}
    scope = config.get('default_scope') or ''
    dataset = (config.get('train_dataloader') or {}).get('dataset')
    ends = [size_after(pipeline, scope) for pipeline in pipelines_of(dataset)]
    preprocessor = getattr(model, 'data_preprocessor', None)
    divisor = next((value for value in (getattr(preprocessor, name, None) for name in (
        'size_divisor', 'pad_size_divisor')) if isinstance(value, int)), 1)
    sizes = [(_rounded_up(size, divisor) if size else None, is_exact) for size, is_exact in ends]
    others = tuple(dict.fromkeys(size for size, _ in sizes if size))
    exact = others[0] if len(others) == 1 and all(is_exact for _, is_exact in sizes) else None
    padded = as_size(getattr(preprocessor, 'size', None))  # of mmseg
    if padded:
        exact = padded
    augments = getattr(preprocessor, 'batch_augments', None)
    # mmpretrain's is one function, which mixes images without a change of size.
    for augment in augments if isinstance(augments, Iterable) else ():
        exact = as_size(getattr(augment, 'size', None))  # of mmdet; None if random
    return TrainedAt(exact, others)


def pipelines_of(dataset: Any) -> Iterator[List[Any]]:
    """The transforms of all data sets in a config of a data set; those of a wrapper come after
    those of the wrapped data set."""
    if not isinstance(dataset, dict):
        return
    own: List[Any] = []
    for transform in dataset.get('pipeline') or ():
        is_replay = isinstance(transform, dict) and transform.get('type') == 'mmkd.Replay'
        own += transform.get('transforms') or () if is_replay else [transform]
    inner = dataset.get('dataset') or dataset.get('datasets')
    if inner is None:
        yield own
        return
    for one in inner if isinstance(inner, (list, tuple)) else [inner]:
        for pipeline in pipelines_of(one):
            yield pipeline + own


def size_after(pipeline: Iterable[Any], scope: str = '') -> Tuple[Optional[Size], bool]:
    """The size of images after a pipeline.

    Args:
        pipeline (Iterable[dict]): The transforms of a config.
        scope (str): Package of transforms without a scope in their type: the size of a crop is
            (width, height) in mmdet, (height, width) in mmseg. Defaults to ''.

    Returns:
        tuple[tuple[int, int] | None, bool]: The size, None if it is not known; True if all images
        have this size, False if it is the size of the largest.
    """
    size: Optional[Size] = None
    is_exact = False
    for transform in pipeline:
        known = transform if isinstance(transform, dict) else {}
        package, _, kind = str(known.get('type', '')).rpartition('.')
        if kind in SAME_SIZE:
            continue
        crop = as_size(known.get('crop_size'), reverse=(package or scope) == 'mmdet')
        pad = as_size(known.get('size'), reverse=True)  # of mmcv: (width, height)
        if kind == 'Resize':
            size = as_size(known.get('scale'), reverse=True)
            is_exact = size is not None and not known.get('keep_ratio', False)
        elif kind == 'RandomCrop' and crop and size and is_exact:
            size = min(size[0], crop[0]), min(size[1], crop[1])
        elif kind == 'RandomCrop' and known.get('crop_type', 'absolute') == 'absolute':
            size, is_exact = crop, False
        elif kind == 'Pad' and pad:
            is_exact = size is not None and size[0] <= pad[0] and size[1] <= pad[1]
            size = pad
        else:  # it changes the size, or is not known
            size, is_exact = None, False
    return size, is_exact


def shown_size(size: Size) -> str:
    """'height x width', for messages."""
    return f'{size[0]}x{size[1]}'


def as_size(value: Any, reverse: bool = False) -> Optional[Size]:
    """Read a size from a config: one number for both sides, or two; None for other values.

    Args:
        value (Any): The value in the config.
        reverse (bool): Whether the width comes first. Defaults to False.
    """
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    if len(values) not in (1, 2) or not all(
            isinstance(one, int) and not isinstance(one, bool) and one > 0 for one in values):
        return None
    return (values[-1], values[0]) if reverse else (values[0], values[-1])


def _rounded_up(size: Size, divisor: int) -> Size:
    height, width = (-(-side // divisor) * divisor for side in size)
    return height, width
