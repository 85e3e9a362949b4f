"""Which images are drawn in an epoch, if each has a weight?"""
import json
import math
import os
from typing import Any, Iterator, List, Sequence, Union

import torch
from mmengine.dist import get_dist_info, sync_random_seed
from torch import Tensor

from ..core.build import named_arguments
from ..core.missing import looked_for
from ..registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class WeightedSampler:
    """Draws images with replacement in proportion to their weights; an epoch has as many draws as
    the data set has images.

    In boosting, a new member of a committee is shown more often what the earlier members got wrong
    (``tools/boost.py`` writes the weights).

    Args:
        dataset (Sized): The data set.
        weights (str | Sequence[float]): One finite number of 0 or more per image, not all 0; or
            the path of a JSON file with ``{"weights": [...]}``.
        seed (int, optional): Random seed. Defaults to None, a seed shared by all processes.
        shuffle (bool): Must be True, because images are drawn at random. Defaults to True.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file cannot be read, or the number of weights differs from the number of
            images.

    Example:
        >>> sorted(set(WeightedSampler(range(4), weights=[0, 1, 0, 1], seed=0)))
        [1, 3]
    """

    @named_arguments
    def __init__(self, dataset: Any, weights: Union[str, Sequence[float]],
                 seed: Any = None, shuffle: bool = True) -> None:
        if not shuffle:
            raise ValueError('mmkd.WeightedSampler draws at random; leave out `shuffle=False`')
        values = weights_of(weights, len(dataset))
        self.weights = values
        self.rank, self.world_size = get_dist_info()
        self.seed = sync_random_seed() if seed is None else seed
        self.epoch = 0
        self.num_samples = -(-len(dataset) // self.world_size)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        drawn: List[int] = torch.multinomial(
            self.weights, self.num_samples * self.world_size, replacement=True,
            generator=generator).tolist()
        return iter(drawn[self.rank::self.world_size])

    def __len__(self) -> int:
        return self.num_samples

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, which changes the draw."""
        self.epoch = epoch


def weights_of(weights: Any, count: int) -> Tensor:
    """Check the weights of a :class:`WeightedSampler`, and convert them to a tensor.

    Args:
        weights (str | Sequence[float] | Tensor): The numbers, or the path of a JSON file.
        count (int): Number of images.

    Returns:
        Tensor: float64 (count, ).

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the weights are not valid; the message names the first wrong one.
    """
    shown = '`weights` of mmkd.WeightedSampler'
    remedy = f'give {count} finite numbers of 0 or more, one for each image and not all 0'
    if isinstance(weights, str):
        shown = f'{shown}, `{weights}`,'
        if not os.path.isfile(weights):
            raise FileNotFoundError(f'{shown} must be numbers or a JSON file, but there is no such '
                                    f'file {looked_for(weights)}; {remedy}, or the path of such '
                                    'a file')
        try:
            with open(weights, encoding='utf-8') as file:
                content = json.load(file)
        except (ValueError, RecursionError) as error:
            raise ValueError(f'{shown} cannot be read as JSON: {error}; write '
                             f'{{"weights": [...]}} into it: {remedy}') from error
        if not isinstance(content, dict) or not isinstance(content.get('weights'), list):
            kind = list(content)[:5] if isinstance(content, dict) else type(content).__name__
            raise ValueError(f'{shown} must contain {{"weights": [...]}}, but contains {kind}; '
                             f'{remedy}')
        weights = content['weights']
    if hasattr(weights, 'tolist'):
        weights = weights.tolist()
    if not isinstance(weights, (list, tuple)):
        raise ValueError(f'{shown} must be a list of numbers or the path of a JSON file, but got '
                         f'{weights!r:.100}; {remedy}')
    for number, weight in enumerate(weights):
        is_number = isinstance(weight, (int, float)) and not isinstance(weight, bool)
        if not is_number or not 0 <= weight < math.inf:
            raise ValueError(f'{shown} must contain {count} numbers of 0 or more, but number '
                             f'{number} is {weight!r:.100}; {remedy}')
    if len(weights) != count or not sum(weights):
        raise ValueError(
            f'{shown} must contain {count} numbers of 0 or more, one for each image and not all 0, '
            f'but contains {len(weights)}{"" if any(weights) else ", all of them 0"}; compute the '
            'weights for this data set')
    return torch.tensor(weights, dtype=torch.float64)
