"""Heads of mmdet, mmseg and mmpretrain whose classifier is a soft decision tree."""
from functools import cache
from typing import Any, Dict, Optional, Tuple

from mmengine.registry import MODELS as MMENGINE_MODELS
from torch import nn

from ..registry import MODELS
from .soft_tree import SoftTree

LAYERS = ('conv_seg', 'fc_cls', 'fc', 'layers.head', 'head')
"""Classifier of segmentors, of RoI heads, and of heads for images: linear ones, those of ViT and of
EfficientFormer."""


MODELS.register_module(module=SoftTree)


@MODELS.register_module(name='SoftTreeHead')
def soft_tree_head(head: str, tree: Optional[Dict[str, Any]] = None, layer: Optional[str] = None,
                   **arguments: Any) -> nn.Module:
    """Build a head, and put a :class:`SoftTree` in the place of its classifier.

    The regulariser of the tree joins the losses of the head as 'loss_tree'. In a config, write
    ``type='mmkd.SoftTreeHead', head='FCNHead'`` where the type of the head stands, for instance
    ``decode_head=dict(type='mmkd.SoftTreeHead', head='FCNHead', tree=dict(depth=4))`` beside what
    ``FCNHead`` takes, or ``bbox_head=dict(type='mmkd.SoftTreeHead', head='Shared2FCBBoxHead')``.

    Args:
        head (str): Type of the head, one with a softmax over its classes.
        tree (dict, optional): ``depth`` and ``penalty`` of the tree. Defaults to None, those of
            :class:`SoftTree`.
        layer (str, optional): Dotted path of the classifier in the head, a linear layer or a 1x1
            convolution. Defaults to None, the first of :data:`LAYERS` that the head has.
        **arguments: Arguments of the head.

    Returns:
        nn.Module: The head, of a class derived from ``head``.

    Raises:
        TypeError: If the classifier is not a linear layer.
        ValueError: If there is no such head, if it has no classifier, or no softmax.

    Example:
        >>> soft_tree_head('NoSuchHead')  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ValueError: `head` of mmkd.SoftTreeHead must be the type of a head, but got ...
    """
    with MODELS.switch_scope_and_registry(None) as registry:
        base = registry.get(head) or MMENGINE_MODELS.get(head)
    if not isinstance(base, type):
        raise ValueError(f'`head` of mmkd.SoftTreeHead must be the type of a head, but got '
                         f'{head!r}; write one, such as FCNHead, or, with its package, '
                         'mmseg.FCNHead')
    built: nn.Module = _with_tree(base)(**arguments)
    modules = dict(built.named_modules())
    stack = getattr(built, 'layers', None)  # of StackedLinearClsHead, whose last block is linear
    last = [f'layers.{len(stack) - 1}.fc'] if isinstance(stack, nn.ModuleList) else []
    name = layer or next((one for one in (*LAYERS, *last) if one in modules), None)
    old = modules.get(name) if name else None
    if name is None or old is None:
        raise ValueError(f'{head} has no classifier {layer or ", ".join(LAYERS)} to replace by a '
                         'tree; set `layer` to the name of its classifier')
    _check_softmax(head, built)
    setattr(built, 'tree_layer', name)  # noqa: B010
    where, _, child = name.rpartition('.')
    setattr(built.get_submodule(where), child, SoftTree(*_sizes(head, name, old), **(tree or {})))
    return built


class _TreeLoss:
    """Adds the regulariser to what ``loss`` of a head returns."""

    tree_layer: str

    def loss(self, *args: Any, **kwargs: Any) -> Dict[str, Any]:
        losses: Dict[str, Any] = super().loss(*args, **kwargs)  # type: ignore[misc]
        return dict(losses, loss_tree=_tree_of(self).penalty())


def _tree_of(head: Any) -> Any:
    return head.get_submodule(head.tree_layer)


@cache
def _with_tree(base: type) -> type:
    return type(f'SoftTree{base.__name__}', (_TreeLoss, base), {'__doc__': base.__doc__})


def _sizes(head: str, name: str, layer: Any) -> Tuple[int, int]:
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    if isinstance(layer, nn.Conv2d) and set(layer.kernel_size) == {1} and layer.groups == 1:
        return layer.in_channels, layer.out_channels
    raise TypeError(f'`{name}` of {head} must be a linear layer or a 1x1 convolution, but is '
                    f'{type(layer).__name__}; set another `layer`, or use another head')


def _check_softmax(head: str, built: Any) -> None:
    losses = next((getattr(built, name) for name in ('loss_cls', 'loss_decode', 'loss_module')
                   if getattr(built, name, None) is not None), None)
    for one in losses if isinstance(losses, nn.ModuleList) else [losses]:
        if getattr(one, 'use_sigmoid', False) or getattr(one, 'custom_activation', False):
            raise ValueError('a soft tree predicts log-probabilities, so it needs a softmax, but '
                             f'{type(one).__name__} of {head} has none; use CrossEntropyLoss with '
                             'use_sigmoid=False')
