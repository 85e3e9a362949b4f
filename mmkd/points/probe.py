"""Blank images for the trial before training: number of channels, and size.

Most networks accept images of any size, and a small image is sufficient. Some accept only one size,
such as BEiT because of its position embeddings: this size is found in the model or the config.
"""
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple, TypeVar

import torch
from torch import Tensor, nn

from . import family_of
from .image_sizes import Size, TrainedAt, shown_size, sizes_of_model
from .recorder import evaluating, replaced_forward

Look = TypeVar('Look')

SIZES: Sequence[Size] = ((128, 128), (320, 320), (512, 512))
"""Heights and widths, in pixels, that are tried first."""


class DoesNotRun(Exception):
    """A network cannot process a blank image.

    Args:
        side (str): The name of the network.
        size (tuple[int, int]): Height and width of the image.
        error (Exception): The error of the network.
    """

    def __init__(self, side: str, size: Size, error: Exception) -> None:
        super().__init__(f'the {side} does not run on a blank image of {shown_size(size)} pixels: '
                         f'{type(error).__name__}: {error}')
        self.side, self.size, self.error = side, size, error


def blank_image(model: nn.Module, size: Size) -> Tensor:
    """Zeros, float (1, C, H, W), with the channels, device and precision of a model."""
    return next(model.parameters()).new_zeros(1, channels_of(model), *size)


def on_blank(model: nn.Module, run: Callable[[Tensor], Look]) -> Look:
    """Call a function with the smallest blank image that it accepts.

    Args:
        model (nn.Module): The model, with the number of channels, and the size if it is fixed.
        run (Callable): Called with the image.

    Raises:
        Exception: The error for the last image, if it accepts none.
    """
    sizes = list(dict.fromkeys([*SIZES, *sizes_of_model(model)]))
    for size in sizes[:-1]:
        with suppress(Exception):
            return run(blank_image(model, size))
    return run(blank_image(model, sizes[-1]))


def channels_of(model: Any, side: str = 'model') -> int:
    """Number of channels of a model's images after its data preprocessor.

    It is the number of means of the preprocessor, or, with one mean or none, the number of input
    channels of the first layer.

    Args:
        model (nn.Module): A model of mmdet or mmseg.
        side (str): Role of the model, for the message. Defaults to 'model'.

    Raises:
        ValueError: If the numbers of means and of input channels of the first layer differ.
    """
    mean = getattr(getattr(model, 'data_preprocessor', None), 'mean', None)
    means = mean.numel() if isinstance(mean, Tensor) else 1
    tried = means if means > 1 else 3
    taken = _taken_by_first_layer(model, tried)
    if means > 1 and taken not in (None, means):
        raise ValueError(
            f'`mean` in the `data_preprocessor` of the {side} has {means} values, but its first '
            f'layer takes images of {channels(taken or 0)}; write one value of `mean` and `std` '
            'for each channel, or one for all')
    return taken or tried


def channels(count: int) -> str:
    """'1 channel', '3 channels'."""
    return f'{count} channel' + ('' if count == 1 else 's')


def _taken_by_first_layer(model: nn.Module, tried: int) -> Optional[int]:
    """Number of image channels that the first layer can process; None if it is not found.

    The model is called with an image of ``tried`` channels. The input of its first layer may have
    more: YOLOX first stacks 4 pixels of each channel. The result is ``tried`` times the ratio of
    the channels that the layer expects to those of its input.
    """
    found: List[Tuple[int, int]] = []

    def stop(layer: Any, forward: Callable) -> Callable:
        def reached(inputs: Tensor, *args: Any, **kwargs: Any) -> Any:
            found.append((inputs.shape[1], layer.in_channels) if isinstance(layer, nn.Conv2d) else
                         (inputs.shape[-1], layer.in_features))
            raise _Reached

        return reached

    with ExitStack() as stack:
        for layer in model.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                stack.enter_context(replaced_forward(layer, partial(stop, layer)))
        with suppress(Exception), torch.no_grad(), evaluating(model):
            family_of(model).extract(
                model, next(model.parameters()).new_zeros(1, tried, *SIZES[0]))
    if not found:
        return None
    given, takes = found[0]
    return takes * tried // given if given and takes * tried % given == 0 else None


class _Reached(Exception):
    """Raised when the image reaches the first layer."""


def first_look(look: Callable[[Size], Look], is_ambiguous: Callable[[Look], bool],
               made_for: Dict[str, List[Size]],
               trained: TrainedAt) -> Tuple[Look, Size, Dict[str, Size]]:
    """Try blank images of one size after another, until one is sufficient.

    Args:
        look (Callable): Runs all networks on an image of a size; raises :class:`DoesNotRun`.
        is_ambiguous (Callable): Whether its result requires a larger image.
        made_for (dict[str, list[tuple[int, int]]]): Sizes that the networks were built for, by name
            of the network. They are tried if none of :data:`SIZES` is sufficient.
        trained (TrainedAt): The sizes in training. They are tried last.

    Returns:
        tuple[Any, tuple[int, int], dict[str, tuple[int, int]]]: The result of ``look``; the size of
        its image; for each network that may not run on every size, a size on which it runs.

    Raises:
        ValueError: If no size is sufficient, or a network does not run on the size of training.
    """
    found: Optional[Tuple[Look, Size]] = None
    failures: List[DoesNotRun] = []
    named = [*(size for sizes in made_for.values() for size in sizes),
             *filter(None, [trained.exact]), *trained.others]
    for size in dict.fromkeys([*SIZES, *named]):
        if found is not None and size not in SIZES:
            break
        try:
            found = look(size), size
        except DoesNotRun as failure:  # the image may be too small for the network
            failures.append(failure)
            continue
        if not is_ambiguous(found[0]):
            break
    if found is None:
        raise _none_will_do(failures, made_for) from failures[-1].error
    result, size = found
    # Networks that do not, or may not, accept every size: the size they were built for is tried
    # first.
    picky = dict.fromkeys([*(failure.side for failure in failures), *(
        name for name, sizes in made_for.items() if size in sizes)])
    if picky and trained.exact and trained.exact != size:
        try:
            result = look(trained.exact)
        except DoesNotRun as failure:
            raise ValueError(
                f'the {failure.side} runs on images of {shown_size(size)}, but fails on the '
                f'training images of {shown_size(trained.exact)}: {type(failure.error).__name__}: '
                f'{failure.error}; '
                f'{_one_size(failure.side, size, trained.exact)}') from failure.error
        size = trained.exact
    return result, size, dict.fromkeys(picky, size)


@contextmanager
def size_explained(name: str, inputs: Tensor, runs_on: Optional[Size]) -> Iterator[None]:
    """Explain errors of a network that runs on a batch inside the block, by the size of images.

    Args:
        name (str): Name of the network.
        inputs (Tensor): The batch, (N, C, H, W).
        runs_on (tuple[int, int], optional): For a network that may not run on every size: a size on
            which it runs, from :func:`first_look`.

    Raises:
        ValueError: Instead of the network's error at another size.
    """
    size = inputs.shape[2], inputs.shape[3]
    try:
        yield
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as error:
        if runs_on in (None, size):
            raise
        assert runs_on is not None
        raise ValueError(
            f'the {name} runs on images of {shown_size(runs_on)}, but fails on those of the batch, '
            f'{shown_size(size)}: {type(error).__name__}: {error}; '
            f'{_one_size(name, runs_on, size)}') from error


def _none_will_do(failures: Sequence[DoesNotRun],
                  made_for: Dict[str, List[Size]]) -> ValueError:
    """The error for networks without a size that all accept."""
    for failure in sorted(failures, key=lambda failure: failure.side == 'student'):
        alone = made_for.get(failure.side, [])
        if alone and failure.size not in alone and any(
                failure.size in sizes for name, sizes in made_for.items() if name != failure.side):
            others = [name for name, sizes in made_for.items() if failure.size in sizes]
            return ValueError(
                f'the {failure.side} needs images of {shown_size(alone[0])}, but the {others[0]} '
                f'needs images of {shown_size(failure.size)}, on which the {failure.side} fails: '
                f'{type(failure.error).__name__}: {failure.error}; '
                f'{_one_size(failure.side, alone[0], failure.size)}')
    usual = [failure for failure in failures if failure.size == SIZES[-1]]
    tried = ', '.join(dict.fromkeys(shown_size(failure.size) for failure in failures))
    return ValueError(
        f'{(usual or failures)[-1]}; it also fails at the other sizes {tried}; check that the '
        'parts of its config fit together, and that `on` is a point of its family')


def _one_size(side: str, one: Size, other: Size) -> str:
    whose = side.split('.')[0]
    return (f'train at {shown_size(one)}, or use a {whose} that supports images of '
            f'{shown_size(other)}')
