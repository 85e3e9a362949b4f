"""What does ``loss_weight='auto'`` of an entry mean?"""
from typing import Any, Dict, NamedTuple, Optional, Tuple

from torch import nn

from ..core.arguments import finite_number, whole_number
from ..core.build import closest
from ..points import Point

SHARE = 10.
"""Share of the gradient of the task losses that ``'auto'`` stands for. docs/auto.md has the
shares of methods that help."""
ITERS = 20
"""Number of iterations in which the gradients are measured."""

KEYS = ('share', 'iters')


class AutoWeight(NamedTuple):
    """Settings of a weight that is measured at the beginning of training.

    The weight is chosen so that the norm of the gradient of the term at shared features of the
    student (:func:`shared_paths`) is ``share`` times the norm of the gradient of its losses on
    labels.

    Example:
        >>> AutoWeight.of('auto')
        AutoWeight(share=10.0, iters=20)
        >>> AutoWeight.of(dict(share=0.1)).share
        0.1
    """
    share: float = SHARE
    """Norm of the gradient of the term, divided by that of the losses on labels."""
    iters: int = ITERS
    """Number of iterations over which both norms are averaged."""

    @staticmethod
    def of(written: Any) -> 'AutoWeight':
        """Parse ``loss_weight`` of an entry.

        Args:
            written (str | dict): 'auto', or a dict with ``share`` and ``iters``.

        Raises:
            TypeError: If it is another string, or a value is of the wrong type.
            ValueError: If a key is unknown, or a value is out of range.
        """
        if written == 'auto':
            return AutoWeight()
        if not isinstance(written, dict):
            raise TypeError("`loss_weight` must be a number, 'auto' or dict(share=...), but got "
                            f'{written!r}; write one of these')
        for key in written:
            if key not in KEYS:
                raise ValueError(f'`loss_weight` has no key {key!r}{closest(key, KEYS)}; the keys '
                                 f'are {", ".join(map(repr, KEYS))}; write one of these')
        share = finite_number('loss_weight.share', written.get('share', SHARE))
        if share <= 0:
            raise ValueError(f'`loss_weight.share` must be greater than 0, but got {share:g}; '
                             f'write a number such as {SHARE}')
        return AutoWeight(share, whole_number(
            'loss_weight.iters', written.get('iters', ITERS), least=1))


def shared_paths(point: Point, continued: str, student: nn.Module) -> Tuple[str, ...]:
    """Modules of the student at whose outputs the share of a term is measured, see
    :mod:`mmkd.training.shares`.

    For features these are the modules of the point. For predictions it is the neck, or the backbone
    of a model without one. At the logits themselves a norm says little: gradients of many positions
    cancel on the way to the shared features.

    Args:
        point (Point): The student's point.
        continued (str): Path of the module whose output continues through the teacher, '' if none.
        student (nn.Module): The student.

    Returns:
        tuple[str]: Dotted paths.
    """
    if point.is_prediction:
        for name in ('neck', 'backbone'):
            if isinstance(getattr(student, name, None), nn.Module):
                return (name, )
    return (continued, ) if continued else tuple(
        path for one in point.choices or [point] for path in one.paths)


def split_weight(loss: Dict[str, Any], name: str = 'an entry of `distill`', *,
                 learner: str = 'student', alpha: Optional[float] = None,
                 queries: Optional[str] = None, images: Optional[str] = None
                 ) -> Tuple[Dict[str, Any], Optional[AutoWeight]]:
    """Separate a ``loss_weight`` that is measured from the arguments of a loss.

    Args:
        loss (dict): Arguments of the loss.
        name (str): The entry, for messages.
        learner (str): Name of the network that learns.
        alpha (float, optional): See :func:`mmkd.compare.spec.read_entry`.
        queries (str, optional): See :func:`mmkd.compare.spec.read_entry`.
        images (str, optional): See :func:`mmkd.compare.spec.read_entry`.

    Returns:
        tuple[dict, AutoWeight | None]: The arguments without ``loss_weight``, so that the loss has
        its default weight, and the settings; the same arguments and None for a number.

    Raises:
        TypeError: See :meth:`AutoWeight.of`.
        ValueError: Likewise, or if the losses on labels cannot be measured at the same point.
    """
    if not isinstance(loss.get('loss_weight'), (str, dict)):
        return loss, None
    auto = AutoWeight.of(loss['loss_weight'])
    obstacle = (
        f'`{learner}` learns, and gradients are measured for the student alone'
        if learner != 'student' else
        '`alpha` already says what part the term has' if alpha is not None else
        'predictions for other `queries` have no loss on labels' if queries is not None else
        'unlabelled images have no loss on labels' if images == 'unlabelled' else '')
    if obstacle:
        raise ValueError(f'{name} has a `loss_weight` that is measured, but {obstacle}; write a '
                         'number')
    return {key: value for key, value in loss.items() if key != 'loss_weight'}, auto
