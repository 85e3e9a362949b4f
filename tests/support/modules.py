"""Small modules like those of other libraries. They do not use mmkd."""
from collections import OrderedDict
from typing import Any

import torch
from torch import nn
from torch.nn.functional import interpolate


class Block(nn.Module):
    """Mixes tokens by their mean, and channels by a layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.mlp(self.norm(x) + x.mean(1, keepdim=True))


class TinyViT(nn.Module):
    """A class token and patches, with position embeddings that are interpolated or fixed."""

    def __init__(self, width: int = 12, patch: int = 16, size: int = 64, depth: int = 2,
                 any_size: bool = True) -> None:
        super().__init__()
        self.any_size, self.size = any_size, size
        self.patch_embed = nn.Conv2d(3, width, patch, patch)
        self.cls_token = nn.Parameter(torch.randn(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, width, size // patch, size // patch))
        self.blocks = nn.Sequential(*(Block(width) for _ in range(depth)))
        self.head = nn.Linear(width, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.any_size and tuple(x.shape[2:]) != (self.size, self.size):
            raise ValueError(f'images of {self.size} pixels alone, not {tuple(x.shape[2:])}')
        x = self.patch_embed(x)
        x = (x + interpolate(self.positions, x.shape[2:], mode='bilinear')).flatten(2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x.transpose(1, 2)], 1)
        return self.head(self.blocks(x)[:, 0])


class TinyFPN(nn.Module):
    """Levels of strides 8, 16 and 32 in a dict by name, and a stage with channels last."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, 8, 1)
        self.norm = nn.BatchNorm2d(width)
        self.down = nn.ModuleList(nn.Conv2d(width, width, 3, 2, 1) for _ in range(2))
        self.last = ChannelsLast()
        self.unused = nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> Any:
        levels = [self.norm(self.stem(x))]
        for down in self.down:
            levels.append(down(levels[-1].relu()))
        self.last(levels[-1])
        return OrderedDict((str(number), level) for number, level in enumerate(levels))


class ChannelsLast(nn.Module):
    """Permutes (N, C, H, W) to (N, H, W, C)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.permute(0, 2, 3, 1)


class Detector(nn.Module):
    """Takes a list of images, like torchvision's detectors; its backbone takes a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = TinyFPN()

    def forward(self, images: Any) -> Any:
        assert isinstance(images, list)
        return self.backbone(torch.stack(images))


def not_a_module(width: int = 3) -> int:
    """A function that does not return a module."""
    return width




class Wordy(nn.Module):
    """Returns a list of a map and a string, which cannot be compared."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, 8, 1)

    def forward(self, x: torch.Tensor) -> Any:
        return [self.stem(x), 'words']
