"""Which points does a model have, by name or by dotted module path?"""
from abc import ABCMeta, abstractmethod
from difflib import get_close_matches
from typing import Any, ContextManager, Dict, Iterable, List, Optional, Sequence, Tuple

from torch import Tensor, nn

from ..registry import FAMILIES
from .batches import AsGiven
from .point import Point, tensors_of
from .relabel import relabelled


class ModelFamily(metaclass=ABCMeta):
    """Base class of families of models: their points, and how they run.

    Attributes:
        family (str): Name of these models for users of mmdet and mmseg, for messages.
        kind (str): Short name, by which a :class:`mmkd.losses.Method` selects its entries.
        truth (tuple[str]): Names of the ground truth in its data, which losses may request.
        has_background (bool): Whether a position may be of no class. Defaults to True.
        batches (AsGiven): Reads images and samples from what its models are given. Defaults to one
            for models that are given these.

    A subclass is registered by ``@mmkd.FAMILIES.register_module()``. The family of a model is the
    one that fits it and was registered last.

    Example:
        >>> class Ours(ModelFamily):  # with points() and predict(), and registered
        ...     family, kind = 'our detectors', 'dense'
        ...     @staticmethod
        ...     def fits(model):
        ...         return type(model).__name__ == 'OurDetector'
    """

    family: str
    kind: str = ''
    truth: Tuple[str, ...] = ('boxes', 'box_labels', 'ignored_boxes', 'instance_masks')
    has_background: bool = True
    batches: AsGiven = AsGiven()

    @staticmethod
    @abstractmethod
    def fits(model: nn.Module) -> bool:
        """Whether the model belongs to this family. It must not raise an error for other models."""

    @staticmethod
    @abstractmethod
    def points(model: nn.Module) -> Dict[str, Point]:
        """All points of the head, by name. 'backbone' and 'neck' are added for all families that
        have none of their own."""

    @staticmethod
    def heads(model: nn.Module) -> Tuple[str, ...]:
        """Class names of the head, the most derived one first, by which a
        :class:`mmkd.losses.Method` may select its entries before :attr:`kind`."""
        return ()

    @staticmethod
    def modules(model: nn.Module) -> Dict[str, str]:
        """Paths that are allowed in ``on``, and their dotted paths in the model."""
        return {path: path for path, _ in model.named_modules() if path}

    @staticmethod
    def about(model: nn.Module, path: str) -> Dict[str, Any]:
        """Fields of :class:`Point` for a module of the model, as far as they are known."""
        return {}

    @staticmethod
    def missing(model: nn.Module, name: str) -> str:
        """Why a model of this family lacks a point of other families, and the remedy; '' if the
        list of its points is sufficient."""
        return ''

    @staticmethod
    def extract(model: Any, inputs: Tensor) -> Any:
        """Run the model without its heads.

        Args:
            model (nn.Module): The model, in eval mode.
            inputs (Tensor): Float (N, C, H, W), normalised.

        Returns:
            Any: The features, the input of the heads.
        """
        return model.extract_feat(inputs)

    @staticmethod
    @abstractmethod
    def predict(model: nn.Module, features: Any, paths: Iterable[str],
                at: Optional[Tensor] = None, data_samples: Optional[Sequence] = None) -> None:
        """Run the heads on features, as far as their modules are recorded: no losses, no NMS.

        Args:
            model (nn.Module): The model, in eval mode.
            features (Any): From :meth:`extract`.
            paths (Iterable[str]): Paths of the modules that must run.
            at (Tensor, optional): Places to predict for, for points with ``asked_at``; or queries
                (Q, D), if the family has :meth:`queries`. Defaults to None.
            data_samples (Sequence, optional): The N samples; None for a blank image.
        """

    @staticmethod
    def predict_images(model: Any, inputs: Tensor, data_samples: Sequence[Any]) -> List[Any]:
        """Predict a batch by the model's own ``predict``.

        Args:
            model (nn.Module): The model, in eval mode.
            inputs (Tensor): Float (N, C, H, W), normalised.
            data_samples (Sequence): The N samples; they are changed.

        Returns:
            list: N samples with predictions in pixels of the input.
        """
        return list(model.predict(inputs, data_samples, rescale=False))

    @staticmethod
    def made_up(inputs: Tensor) -> Optional[Tensor]:
        """Generated places, to find the shapes of predictions; None if the family needs none."""
        return None

    @staticmethod
    def queries(model: nn.Module) -> Tensor:
        """The learned queries of a model, (Q, D), in place of which it can be given others.

        Raises:
            ValueError: If it has none. The message is the beginning of a sentence.
        """
        raise ValueError(f'{type(model).__name__} has no learned queries to share')

    @staticmethod
    def remembering(model: nn.Module, features: Dict[str, Any]) -> ContextManager[None]:
        """Keep in ``features``, inside the block, what :meth:`predict` needs to predict again for
        other queries. Only called for families with :meth:`queries`."""
        raise NotImplementedError

    @staticmethod
    def ignored_label(model: nn.Module) -> int:
        """The label in a label map that the loss ignores."""
        return 255

    @staticmethod
    def priors(model: nn.Module, sizes: Sequence[Tuple[int, int]], like: Tensor) -> List[Tensor]:
        """The priors of all levels.

        Args:
            model (nn.Module): The student.
            sizes (Sequence[tuple[int, int]]): Height and width of each level.
            like (Tensor): A tensor on the device of the result.

        Returns:
            list[Tensor]: Boxes (H·W·anchors, 4) or points (H·W, 2), in pixels of the input. [] if
            the family has no priors, the default.
        """
        return []

    @staticmethod
    def relabel(prediction: Any, columns: Optional[Sequence[Any]]) -> Any:
        """Convert a prediction to the classes of another model.

        Args:
            prediction (DetDataSample | SegDataSample): The prediction, changed in place.
            columns (Sequence[int | tuple[int]], optional): Class of this model for each class of
                the other model; a tuple of several, or of none. None if the classes are equal.
        """
        return relabelled(prediction, columns)


def family_of(model: nn.Module, side: str = 'model') -> ModelFamily:
    """The family of a model.

    Args:
        model (nn.Module): Student or teacher.
        side (str): Role of the model, for the message. Defaults to 'model'.

    Raises:
        ValueError: If no family fits.
    """
    for family in reversed(list(FAMILIES.module_dict.values())):
        if family.fits(model):
            missing = sorted(getattr(family, '__abstractmethods__', ()))
            if missing:
                raise ValueError(f'{family.__name__} fits the {side}, but does not define '
                                 f'{", ".join(f"`{name}`" for name in missing)}; define it, see '
                                 'docs/your_own.md')
            return family()
    raise ValueError(
        f'mmkd does not know the points of the {side}, a {type(model).__name__}; it supports '
        f'{", ".join(family.family for family in FAMILIES.module_dict.values())}; register a '
        'family of your own with `@mmkd.FAMILIES.register_module()`, see docs/your_own.md')


def kinds_of(model: nn.Module) -> Tuple[str, ...]:
    """Names by which a :class:`mmkd.losses.Method` selects its entries, the most specific one
    first."""
    family = family_of(model)
    return (*family.heads(model), family.kind)


def points_of(model: nn.Module, side: str = 'model') -> Dict[str, Point]:
    """All named points of a model: the points of its head, 'neck' and 'backbone'."""
    points = family_of(model, side).points(model)
    for part in ('neck', 'backbone'):
        if part not in points and isinstance(getattr(model, part, None), nn.Module):
            points[part] = Point(part, (part, ), tensors_of, is_map=True)
    return points


def find_point(model: nn.Module, name: str, side: str = 'model') -> Point:
    """Find a point by its name in the family or by a dotted module path.

    Args:
        model (nn.Module): Student or teacher.
        name (str): For instance 'cls' or 'bbox_head.retina_cls'.
        side (str): 'student' or 'teacher', for the message. Defaults to 'model'.

    Returns:
        Point: The point.

    Raises:
        ValueError: If there is no such point or module; the message has the closest names.
    """
    points = points_of(model, side)
    if name in points:
        return points[name]
    modules = family_of(model, side).modules(model)
    if name in modules:
        about: Dict[str, Any] = dict(paths=(modules[name], ), read=tensors_of, is_map=True)
        about.update(family_of(model, side).about(model, modules[name]))
        return Point(name, **about)
    missing = family_of(model, side).missing(model, name)
    if missing:
        raise ValueError(f'no point `{name}` in the {side}: {missing}')
    known = dict.fromkeys([*points, *modules])  # a point may have the name of its module
    nearest = get_close_matches(name, known, n=3, cutoff=0.4)
    raise ValueError(
        f'no point `{name}` in the {side} ({type(model).__name__}); ' +
        (f'closest: {", ".join(f"`{near}`" for near in nearest)}; ' if nearest else '') +
        f'its points are {", ".join(f"`{point}`" for point in points)}, and every dotted path '
        'of its `named_modules()`; write one of these')


def criteria_of(model: nn.Module, head: str, name: str = 'loss_cls') -> Tuple[str, ...]:
    """Paths of the loss modules that train the logits of a head on labels."""
    loss = getattr(model.get_submodule(head), name, None)
    if isinstance(loss, nn.ModuleList):
        return tuple(f'{head}.{name}.{i}' for i in range(len(loss)))
    return (f'{head}.{name}', ) if isinstance(loss, nn.Module) else ()
