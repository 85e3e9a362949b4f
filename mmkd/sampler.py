"""Which images does an epoch show, where some are to be seen more often than others?"""
import json
from typing import Any, Iterator, List, Sequence, Union

import torch
from mmengine.dist import get_dist_info, sync_random_seed

from .build import named_arguments
from .registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class WeightedSampler:
    """Draws images with replacement, each as often as its weight says, as many as there are.

    Boosting shows a new member of a committee what the members before it got wrong
    (``tools/boost.py`` writes the weights).

    Args:
        dataset (Sized): The data set.
        weights (str | Sequence[float]): One per image, 0 or more, not all 0; or a JSON file with
            ``{'weights': [...]}``.
        seed (int, optional): Of the draw. Defaults to None, one that all processes share.
        shuffle (bool): Must be True: what is drawn has no order. Defaults to True.

    Raises:
        ValueError: If there are not as many weights as images.
    """

    @named_arguments
    def __init__(self, dataset: Any, weights: Union[str, Sequence[float]],
                 seed: Any = None, shuffle: bool = True) -> None:
        if not shuffle:
            raise ValueError('mmkd.WeightedSampler draws at random; leave out `shuffle=False`')
        shown = '`weights`'
        if isinstance(weights, str):
            shown = weights
            with open(weights) as file:
                weights = json.load(file)['weights']
        values = torch.tensor(weights, dtype=torch.float64)
        if values.shape != (len(dataset), ) or values.min() < 0 or not values.sum() > 0:
            raise ValueError(
                f'{shown} must hold {len(dataset)} numbers of 0 or more, one for each image and '
                f'not all 0, but holds {values.numel()}; write them anew for this data set')
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
        """Draw others in another epoch."""
        self.epoch = epoch
