"""Augmentation of pictures: each picture of a batch gets a shift and a tint of its own.

The release of arXiv 2307.08927 drew once for a whole batch, which then teaches the network that shift and no other.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

SHIFT_SHARE = 0.06
"""Of the picture's side: how far it may be shifted."""
BRIGHTNESS, CONTRAST, TINT = 0.15, 0.15, 0.05


def augmented(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Shift and tint ``pictures`` (N, 3, H, W) in [0, 1]; what leaves one side is filled from the edge."""
    return tinted(shifted(pictures, generator), generator)


def shifted(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Each picture padded by its edge and cropped at a place of its own."""
    count, _, height, width = pictures.shape
    pad = max(1, round(SHIFT_SHARE * height))
    padded = functional.pad(pictures, (pad, pad, pad, pad), mode="replicate")
    top = torch.randint(0, 2 * pad + 1, (count,), generator=generator)
    left = torch.randint(0, 2 * pad + 1, (count,), generator=generator)
    rows = top[:, None] + torch.arange(height)
    columns = left[:, None] + torch.arange(width)
    which = torch.arange(count)[:, None, None]
    # Indexing with three arrays puts the channel last.
    return padded[which, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


def tinted(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Each picture with its own brightness, contrast and shade."""
    count = len(pictures)

    def draw(channels: int, spread: float) -> Tensor:
        return spread * (2.0 * torch.rand(count, channels, 1, 1, generator=generator) - 1.0)

    mean = pictures.mean((1, 2, 3), keepdim=True)
    contrasted = mean + (pictures - mean) * (1.0 + draw(1, CONTRAST))
    return (contrasted * (1.0 + draw(1, BRIGHTNESS)) + draw(3, TINT)).clamp(0.0, 1.0)
