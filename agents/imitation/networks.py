"""Networks of imitation: a normaliser of numbers, encoders of pictures, fully connected layers.

Each camera has an encoder of its own: what a wrist sees has little in common with what a fixed camera sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

_LEAST_STD = 1e-5
"""Entries that vary less count as constant and are not blown up."""


class Normaliser(nn.Module):
    """(x - mean) / std, clipped to +- ``limit``; the moments are those of the demonstrations and part of the policy."""

    mean: Tensor
    std: Tensor

    def __init__(self, size: int, limit: float = 10.0):
        super().__init__()
        self.limit = limit
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("std", torch.ones(size))

    def fit(self, rows: NDArray[Any]) -> None:
        """Take the moments of ``rows`` (N, size)."""
        std = rows.std(axis=0, dtype=np.float64)
        self.mean.copy_(torch.as_tensor(rows.mean(axis=0, dtype=np.float64), dtype=torch.float32))
        self.std.copy_(torch.as_tensor(np.where(std < _LEAST_STD, 1.0, std), dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        return ((x - self.mean) / self.std).clamp(-self.limit, self.limit)


def layers(sizes: Sequence[int]) -> nn.Sequential:
    """Linear and ReLU, in turn, through ``sizes``; a ReLU at the end too."""
    parts: list[nn.Module] = []
    for before, after in pairwise(sizes):
        parts += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*parts)


class SmallEncoder(nn.Module):
    """A picture (N, 3, H, W) in [0, 1] -> (N, 64): four convolutions, each halving; where features are, is kept.

    The last map is read by a spatial soft-argmax (Levine, Finn, Darrell, Abbeel, arXiv 1504.00702): 32 channels, each
    with the place it lights up at. 2.8 million multiplications at 64 x 64, where a ResNet-18 takes 150.
    """

    size = 64

    def __init__(self) -> None:
        super().__init__()
        channels = (3, 16, 32, 32, 32)
        parts: list[nn.Module] = []
        for index, (before, after) in enumerate(pairwise(channels)):
            stride = 2 if index < 3 else 1
            parts += [nn.Conv2d(before, after, 3, stride, 1), nn.GroupNorm(4, after), nn.ReLU()]
        self.body = nn.Sequential(*parts)

    def forward(self, picture: Tensor) -> Tensor:
        maps = self.body(picture)
        _, _, height, width = maps.shape
        attention = maps.flatten(2).softmax(-1).view_as(maps)
        x = torch.linspace(-1.0, 1.0, width, device=maps.device)
        y = torch.linspace(-1.0, 1.0, height, device=maps.device)
        return torch.cat([(attention.sum(2) * x).sum(-1), (attention.sum(3) * y).sum(-1)], dim=1)


class _Block(nn.Module):
    """Two 3 x 3 convolutions with GroupNorm and a shortcut (He et al., arXiv 1512.03385)."""

    def __init__(self, before: int, after: int, stride: int):
        super().__init__()
        self.convolution_1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.norm_1 = nn.GroupNorm(after // 16, after)
        self.convolution_2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.norm_2 = nn.GroupNorm(after // 16, after)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(
                nn.Conv2d(before, after, 1, stride, bias=False), nn.GroupNorm(after // 16, after)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.norm_1(self.convolution_1(x)))
        return torch.relu(self.norm_2(self.convolution_2(y)) + self.shortcut(x))


class ResNet18(nn.Module):
    """A picture (N, 3, H, W) in [0, 1] -> (N, 512): ResNet-18 with GroupNorm of 16 channels a group, pooled.

    Written out, since that is shorter than what it takes to need torchvision, whose wheel must match torch's build.
    GroupNorm (Wu, He, arXiv 1803.08494) does not depend on what else is in the batch.
    """

    size = 512

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.GroupNorm(4, 64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
        )
        blocks = [_Block(64, 64, 1), _Block(64, 64, 1)]
        for before, after in ((64, 128), (128, 256), (256, 512)):
            blocks += [_Block(before, after, 2), _Block(after, after, 1)]
        self.blocks = nn.Sequential(*blocks)

    def forward(self, picture: Tensor) -> Tensor:
        features: Tensor = self.blocks(self.stem(2.0 * picture - 1.0))
        return features.mean((2, 3))


def make_encoder(kind: str) -> SmallEncoder | ResNet18:
    """``small`` or ``resnet18``."""
    return ResNet18() if kind == "resnet18" else SmallEncoder()
