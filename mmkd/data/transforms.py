"""How are several views of one image packed into one batch?"""
import copy
from typing import Any, Dict, List, Optional, Sequence

import numpy as np
import torch
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS

from ..core.build import named_arguments
from ..core.fields import VIEW
from ..registry import TRANSFORMS

GEOMETRY = ('img_shape', 'pad_shape', 'flip', 'flip_direction', 'scale_factor', 'gt_bboxes',
            'gt_seg_map', 'gt_masks')
"""Keys that the transforms of a view must not change."""


@TRANSFORMS.register_module()
class PackViews:
    """Packs an image for the student, and views with the same geometry for other networks.

    Use it at the end of a training pipeline, in place of PackDetInputs or PackSegInputs. Earlier
    transforms (cropping, flipping, resizing) apply to all views. The transforms listed here may
    only change colors and textures, because all views share the labels.

    .. code-block:: python

        dict(type='mmkd.PackViews',
             student=[dict(type='PhotoMetricDistortion')],   # the strong view
             views=dict(weak=[]),                            # the image of the pipeline, unchanged
             pack=dict(type='PackSegInputs'))

    A network with ``view='weak'`` then gets this view. A view has the channels of the image. Its
    type stays uint8; any other type becomes float32.

    Args:
        pack (dict): The packing transform.
        views (dict[str, Sequence[dict]]): Transforms of each additional view, by name.
        student (Sequence[dict]): Transforms of the student's image. Defaults to ().

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If there are no views.

    Example:
        >>> pack = PackViews(dict(type='mmdet.PackDetInputs'), views=dict(weak=[]))
        >>> list(pack.views)
        ['weak']
    """

    @named_arguments
    def __init__(self, pack: dict, views: Dict[str, Sequence[dict]],
                 student: Sequence[dict] = ()) -> None:
        if not isinstance(views, dict) or not all(
                isinstance(one, (list, tuple)) for one in views.values()):
            raise TypeError('`views` must be a dict of lists of transforms, for instance '
                            f'dict(weak=[]), but got {views!r}; give each view a name')
        if not views:
            raise ValueError('`views` is empty; add at least one view, for instance dict(weak=[])')
        self.pack = MMENGINE_TRANSFORMS.build(pack)
        self.views = {name: _built(transforms) for name, transforms in views.items()}
        self.student = _built(student)

    def __call__(self, results: Dict[str, Any]) -> Optional[Dict[str, Any]]:
        """Pack one image.

        Args:
            results (dict): From the pipeline; ``img`` is (H, W, C), or (H, W) for one channel.

        Returns:
            dict: ``inputs`` and ``data_samples``; the latter hold each view as (C, H, W).

        Raises:
            ValueError: If a transform of a view changes the geometry or the labels.
        """
        seen = {name: self._apply(transforms, results, name)
                for name, transforms in self.views.items()}
        packed = self.pack(dict(results, img=self._apply(self.student, results, 'student')))
        for name, image in seen.items():
            # Like the packing transforms: contiguous with channels first.
            view = np.ascontiguousarray(np.atleast_3d(image).transpose(2, 0, 1))
            if view.dtype != np.uint8:
                view = view.astype(np.float32)
            packed['data_samples'].set_data({VIEW.format(name): torch.from_numpy(view)})
        return packed

    @staticmethod
    def _apply(transforms: List[Any], results: Dict[str, Any], name: str) -> np.ndarray:
        own = dict(results, img=results['img'].copy())
        before = {key: copy.deepcopy(own[key]) for key in GEOMETRY if key in own}
        for transform in transforms:
            own = transform(own)
            kind = type(transform).__name__
            if own is None:
                raise ValueError(f'{kind} of the view `{name}` returned None, but each view needs '
                                 'an image; put it before mmkd.PackViews, or leave it out')
            shape = own['img'].shape
            changed = [key for key, value in before.items() if not _equal(own.get(key), value)]
            if shape != results['img'].shape or changed:
                raise ValueError(
                    f'{kind} of the view `{name}` may only change colours, but it has changed '
                    f'{", ".join(changed) or f"the size, to {shape}"}; put it before '
                    'mmkd.PackViews, where it is applied to all views')
        return own['img']


def _built(transforms: Sequence[dict]) -> List[Any]:
    return [one if callable(one) else MMENGINE_TRANSFORMS.build(one) for one in transforms]


def _equal(one: Any, other: Any) -> bool:
    if hasattr(one, 'masks'):  # mmdet's instance masks
        one, other = one.masks, other.masks
    if hasattr(one, 'tensor'):  # mmdet's boxes
        one, other = one.tensor, other.tensor
    if isinstance(one, torch.Tensor):
        return bool(torch.equal(one, other))
    if isinstance(one, np.ndarray):
        return bool(np.array_equal(one, other))
    return bool(np.all(one == other))
