"""How is a batch split among several networks by image, and how are their answers joined?"""
from typing import Any, List, NamedTuple, Sequence

import torch
from torch import Tensor

from ..points import Answer, Point
from ..points.queries import Queries


class Part(NamedTuple):
    """The images of a batch that one teacher predicts for."""
    teacher: int
    """Number of the teacher."""
    images: List[int]
    """Numbers of the images in the batch."""
    weights: List[float]
    """Weight of its answer for each of these images."""


class Places(NamedTuple):
    """The RoIs in some images of a batch."""
    places: Tensor
    """(R', 5), numbers of the images among these images, and boxes."""
    rows: Tensor
    """(R', ), numbers of these RoIs among all."""
    images: Tensor
    """(R', ), numbers of the images among these images."""


def places_of(at: Tensor, images: Sequence[int], count: int) -> Places:
    """The RoIs in some images of a batch. On a GPU the CPU waits for their number.

    Args:
        at (Tensor): Float (R, 5), number of the image and box.
        images (Sequence[int]): Numbers of the images.
        count (int): Number of images of the batch.

    Example:
        >>> at = torch.tensor([[0., 1, 1, 2, 2], [2., 3, 3, 4, 4]])
        >>> places_of(at, [1, 2], 3).places.tolist()
        [[1.0, 3.0, 3.0, 4.0, 4.0]]
    """
    if at.dim() != 2 or at.shape[1] != 5:
        raise ValueError('mmkd.CrossFit splits RoIs (R, 5) by image, but the places of the student '
                         f'are {tuple(at.shape)}; compare another point')
    table = torch.full((count, ), -1)
    table[list(images)] = torch.arange(len(images))
    own = table.to(at.device)[at[:, 0].long()]
    rows = (own >= 0).nonzero().squeeze(1)
    own = own[rows]
    return Places(torch.cat([own[:, None].to(at), at[rows, 1:]], 1), rows, own)


def by_image(answers: Sequence[Answer], parts: Sequence[Part], count: int, point: Point
             ) -> Answer:
    """Put answers for maps or queries together, in the order of the batch.

    Args:
        answers (Sequence[Answer]): The answers of the parts.
        parts (Sequence[Part]): The parts.
        count (int): Number of images of the batch.
        point (Point): The point.

    Raises:
        ValueError: If an answer does not have one value for each image, or features or queries
            of several teachers would be averaged.
    """
    for answer, part in zip(answers, parts):
        for one in answer.tensors():
            if len(one) != len(part.images):
                raise ValueError(f'`{point.name}` of mmkd.CrossFit must have one value for each of '
                                 f'{len(part.images)} images, but has {tuple(one.shape)}; compare '
                                 'another point')
        if all(weight == 1 for weight in part.weights):
            continue
        if not point.is_prediction:
            raise ValueError(f'`{point.name}` is a feature, and the channels of different '
                             "teachers have no common order, so unseen='mean' has no meaning; "
                             "write unseen='one'")
        if point.queries is not None:
            raise ValueError(f'`{point.name}` is a set of queries, and the queries of different '
                             "teachers have no common order, so unseen='mean' has no meaning; "
                             "write unseen='one'")

    def together(same: Sequence[Tensor]) -> Tensor:
        rows: List[Any] = [None] * count
        for tensor, part in zip(same, parts):
            for row, number, weight in zip(tensor.unbind(), part.images, part.weights):
                row = row if weight == 1 else row * weight
                rows[number] = row if rows[number] is None else rows[number] + row
        return torch.stack(rows)

    is_mean = any(weight != 1 for part in parts for weight in part.weights)
    queries = [] if is_mean else [  # the mean of maps is that of the levels
        Queries(together([one.logits for one in same]), together([one.where for one in same]),
                *same[0][2:]) for same in zip(*(answer.queries for answer in answers))]
    return Answer([together(same) for same in zip(*(answer.levels for answer in answers))], queries)


def by_place(answers: Sequence[Answer], parts: Sequence[Part], places: Sequence[Places],
             count: int) -> Answer:
    """Put answers for RoIs together, in the order of the RoIs.

    Args:
        answers (Sequence[Answer]): The answers of the parts.
        parts (Sequence[Part]): The parts.
        places (Sequence[Places]): The RoIs of the parts.
        count (int): Number of RoIs of the batch.
    """
    levels = []
    for same in zip(*(answer.levels for answer in answers)):
        level = same[0].new_zeros(count, *same[0].shape[1:])
        for tensor, part, its in zip(same, parts, places):
            weights = tensor.new_tensor(part.weights)[its.images]
            level.index_add_(0, its.rows, tensor * weights.view(-1, *[1] * (tensor.dim() - 1)))
        levels.append(level)
    return Answer(levels)
