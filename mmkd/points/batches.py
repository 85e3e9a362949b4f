"""What is a model given for a batch: images and samples, or something else?"""
from typing import Any, Optional, Sequence

from torch import Tensor


class AsGiven:
    """Reads images and samples from what a model is given. Here it is given exactly these.

    Example:
        >>> AsGiven().samples(torch.zeros(2, 3, 8, 8), ['first', 'second'])
        ['first', 'second']
    """

    def images(self, inputs: Any) -> Tensor:
        """The images, float (N, C, H, W), normalised.

        Args:
            inputs (Any): The inputs of the model.
        """
        return inputs  # type: ignore[no-any-return]

    def samples(self, inputs: Tensor, data_samples: Any) -> Optional[Sequence[Any]]:
        """The N samples; None if there are no labels.

        Args:
            inputs (Tensor): The images.
            data_samples (Any): What the model is given with them.
        """
        return data_samples  # type: ignore[no-any-return]
