"""The modules of Symphony's networks.

A feed-forward block is Linear - LayerNorm - Linear - ReSine - Linear. Several blocks of one shape that read the same
input (the three critics) are one module with a leading ``heads`` axis, so their products are batched. Its forward and
backward passes are in :mod:`cadenza.agents.symphony.block`.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from cadenza.agents.symphony.block import LAYER_NORM_EPS, BlockWeights, Saved, block_backward, block_forward


def resine(x: Tensor, raw_scale: Tensor | None, raw_width: Tensor | None) -> Tensor:
    """ReSine: u = s sin(x/s), y = u sigmoid(c u/s), with s = sigmoid(raw_scale), c = 1/sigmoid(raw_width).

    Without ``raw_width`` c = 1.5 (S3); without ``raw_scale`` s = 1 (Saya release); both given: Saya's paper form.
    ``x``: (..., units); raw parameters broadcast against it.
    """
    if raw_scale is None:
        sine = torch.sin(x)
        return sine * torch.sigmoid(_gate(sine, raw_width))
    scale = torch.sigmoid(raw_scale)
    sine = torch.sin(x / scale)
    return scale * sine * torch.sigmoid(_gate(sine, raw_width))


def _gate(sine: Tensor, raw_width: Tensor | None) -> Tensor:
    return 1.5 * sine if raw_width is None else sine / torch.sigmoid(raw_width)


class GradientDropout(nn.Module):
    """Identity forward; backward zeroes a random share of the entries. Off in eval mode.

    Args:
        p: share of zeroed entries; None draws p ~ sigmoid(N(0, 1)) per entry and call (Saya paper).
        generator: source of the masks; None uses torch's default one.
    """

    def __init__(self, p: float | None = 0.5, generator: torch.Generator | None = None):
        super().__init__()
        self.p = p
        self.generator = generator

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and torch.is_grad_enabled()):
            return x
        drop: Tensor | float
        if self.p is None:
            drop = torch.sigmoid(torch.randn(x.shape, generator=self.generator, device=x.device, dtype=x.dtype))
        else:
            drop = self.p
        draws = torch.rand(x.shape, generator=self.generator, device=x.device, dtype=x.dtype)
        mask = (draws > drop).to(x.dtype)
        return mask * x + (1 - mask) * x.detach()


class FeedForward(nn.Module):
    """``heads`` parallel blocks Linear(i,h) - LayerNorm(h) - Linear(h,h) - ReSine(h) - Linear(h,o) on one input.

    Weights are stored input-first, e.g. ``weight1`` has shape (heads, in, hidden), so ``x @ weight1[k]``.

    Args:
        in_size, hidden_size, out_size: i, h, o.
        heads: number of parallel blocks.
        activation: ``scaled``, ``width`` or ``scaled_width`` ReSine.
        live: how many of the first input columns need a gradient (None: all); the others get zeros.
    """

    def __init__(
        self,
        in_size: int,
        hidden_size: int,
        out_size: int,
        *,
        heads: int = 1,
        activation: str = "scaled",
        live: int | None = None,
    ):
        super().__init__()
        self.in_size, self.hidden_size, self.out_size, self.heads = in_size, hidden_size, out_size, heads
        self.live = in_size if live is None else live
        self.weight1, self.bias1 = _linear_parameters(heads, in_size, hidden_size)
        self.norm_weight = nn.Parameter(torch.ones(heads, hidden_size))
        self.norm_bias = nn.Parameter(torch.zeros(heads, hidden_size))
        self.weight2, self.bias2 = _linear_parameters(heads, hidden_size, hidden_size)
        self.raw_scale = _resine_parameter(heads, hidden_size) if "scaled" in activation else None
        self.raw_width = _resine_parameter(heads, hidden_size) if "width" in activation else None
        self.weight3, self.bias3 = _linear_parameters(heads, hidden_size, out_size)

    def forward(self, x: Tensor) -> Tensor:
        """x: (batch, in) -> (heads, batch, out)."""
        if not torch.is_grad_enabled():
            return self.reference_forward(x)
        return _FeedForwardFunction.apply(x, self.live, *self.weights())

    def weights(self) -> BlockWeights:
        """The parameters, in the order of their creation."""
        return BlockWeights(
            self.weight1,
            self.bias1,
            self.norm_weight,
            self.norm_bias,
            self.weight2,
            self.bias2,
            self.raw_scale,
            self.raw_width,
            self.weight3,
            self.bias3,
        )

    def reference_forward(self, x: Tensor) -> Tensor:
        """The same values from plain torch operations: used without gradients, for export, and by the tests."""
        y = torch.matmul(x, self.weight1) + self.bias1.unsqueeze(1)
        y = nn.functional.layer_norm(y, (self.hidden_size,), eps=LAYER_NORM_EPS)
        y = y * self.norm_weight.unsqueeze(1) + self.norm_bias.unsqueeze(1)
        y = torch.matmul(y, self.weight2) + self.bias2.unsqueeze(1)
        y = resine(y, _row(self.raw_scale), _row(self.raw_width))
        return torch.matmul(y, self.weight3) + self.bias3.unsqueeze(1)


class FourierSeries(nn.Module):
    """F = Linear(i,h) - ReSine - Linear(h,k), the trunk of Saya's feature extractor."""

    def __init__(self, in_size: int, hidden_size: int, out_size: int, *, activation: str = "scaled"):
        super().__init__()
        self.inner = nn.Linear(in_size, hidden_size)
        self.raw_scale = _resine_parameter(1, hidden_size) if "scaled" in activation else None
        self.raw_width = _resine_parameter(1, hidden_size) if "width" in activation else None
        self.outer = nn.Linear(hidden_size, out_size)

    def forward(self, x: Tensor) -> Tensor:
        """x: (batch, in) -> (batch, out)."""
        return self.outer(resine(self.inner(x), self.raw_scale, self.raw_width))


def _linear_parameters(heads: int, in_size: int, out_size: int) -> tuple[nn.Parameter, nn.Parameter]:
    """Weights and biases with torch's default Linear initialisation, U(-1/sqrt(in), 1/sqrt(in))."""
    bound = 1.0 / math.sqrt(in_size)
    weight = torch.empty(heads, in_size, out_size).uniform_(-bound, bound)
    bias = torch.empty(heads, out_size).uniform_(-bound, bound)
    return nn.Parameter(weight), nn.Parameter(bias)


def _resine_parameter(heads: int, units: int) -> nn.Parameter:
    bound = 1.0 / math.sqrt(units)
    return nn.Parameter(torch.empty(heads, units).uniform_(-bound, bound))


def _row(parameter: Tensor | None) -> Tensor | None:
    """(heads, units) -> (heads, 1, units), to broadcast over the batch."""
    return None if parameter is None else parameter.unsqueeze(1)


class _FeedForwardFunction(torch.autograd.Function):
    """:mod:`cadenza.agents.symphony.block` as one node of torch's graph."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, live: int, *weights: Tensor | None) -> Tensor:
        block = BlockWeights(*weights)  # type: ignore[arg-type]
        out, saved = block_forward(block, x)
        ctx.live = live
        ctx.save_for_backward(x, *saved, *weights)
        return out

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        x, *rest = ctx.saved_tensors
        saved, block = Saved(*rest[: len(Saved._fields)]), BlockWeights(*rest[len(Saved._fields) :])
        learns = ctx.needs_input_grad[2]
        live = ctx.live if ctx.needs_input_grad[0] else None
        grad_x, gradients = block_backward(block, x, saved, grad_outputs[0], learns=learns, live=live)
        if grad_x is not None and live < x.shape[1]:
            grad_x = nn.functional.pad(grad_x, (0, x.shape[1] - live))
        return (grad_x, None, *gradients)
