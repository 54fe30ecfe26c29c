"""The blocks of Symphony's networks, with the feed-forward block's backward pass in closed form.

A block is Linear - LayerNorm - Linear - ReSine - Linear. Several blocks of one shape that read the same input (the
three critics) are one module with a leading ``heads`` axis, so their products are batched. The closed form reuses the
sine and the sigmoid of the forward pass, and skips the input gradients that nobody reads: autograd cannot know that
only the action columns of a critic's input need one. ``tests/agents/symphony/test_networks.py`` holds it to autograd.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

LAYER_NORM_EPS = 1e-5


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
        live_from: first input column whose gradient anybody needs; earlier columns get zeros.
    """

    def __init__(
        self,
        in_size: int,
        hidden_size: int,
        out_size: int,
        *,
        heads: int = 1,
        activation: str = "scaled",
        live_from: int = 0,
    ):
        super().__init__()
        self.in_size, self.hidden_size, self.out_size, self.heads = in_size, hidden_size, out_size, heads
        self.live_from = live_from
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
        return _FeedForwardFunction.apply(
            x,
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
            self.live_from,
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
    """Forward and closed-form backward of :class:`FeedForward`; notation t = x/s, q = sigmoid(c sin t), f = sin t q."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight1: Tensor,
        bias1: Tensor,
        norm_weight: Tensor,
        norm_bias: Tensor,
        weight2: Tensor,
        bias2: Tensor,
        raw_scale: Tensor | None,
        raw_width: Tensor | None,
        weight3: Tensor,
        bias3: Tensor,
        live_from: int,
    ) -> Tensor:
        heads, _, hidden = weight1.shape
        pre1 = torch.baddbmm(bias1.unsqueeze(1), x.unsqueeze(0).expand(heads, -1, -1), weight1)
        normed, mean, rstd = torch.native_layer_norm(pre1, (hidden,), None, None, LAYER_NORM_EPS)
        y1 = torch.addcmul(norm_bias.unsqueeze(1), normed, norm_weight.unsqueeze(1))
        angle = torch.baddbmm(bias2.unsqueeze(1), y1, weight2)
        scale = None if raw_scale is None else torch.sigmoid(raw_scale).unsqueeze(1)
        slope = None if raw_width is None else (1 + torch.exp(-raw_width)).unsqueeze(1)
        if scale is not None:
            angle.div_(scale)
        sine = torch.sin(angle)
        gate = (sine * (1.5 if slope is None else slope)).sigmoid_()
        y2 = sine * gate
        if scale is not None:
            y2.mul_(scale)
        out = torch.baddbmm(bias3.unsqueeze(1), y2, weight3)
        ctx.live_from = live_from
        ctx.save_for_backward(
            x, pre1, mean, rstd, normed, y1, angle, sine, gate, y2, scale, slope,
            weight1, norm_weight, weight2, weight3,
        )  # fmt: skip
        return out

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (grad_out,) = grad_outputs
        (x, pre1, mean, rstd, normed, y1, angle, sine, gate, y2, scale, slope,
         weight1, norm_weight, weight2, weight3) = ctx.saved_tensors  # fmt: skip
        learns = ctx.needs_input_grad[1]
        grad_weight1 = grad_bias1 = grad_norm_weight = grad_norm_bias = grad_weight2 = grad_bias2 = None
        grad_raw_scale = grad_raw_width = grad_weight3 = grad_bias3 = grad_x = None

        if learns:
            grad_weight3 = torch.bmm(y2.transpose(1, 2), grad_out)
            grad_bias3 = grad_out.sum(1)
        grad_y2 = torch.bmm(grad_out, weight3.transpose(1, 2))

        # dy/dx = cos t * q * (1 + c sin t (1 - q)); the bracket's second part also gives dy/dc.
        rest = 1 - gate
        turn = sine * rest
        bracket = torch.add(turn, 1 / 1.5).mul_(1.5) if slope is None else (turn * slope).add_(1)
        derivative = torch.cos(angle).mul_(gate).mul_(bracket)
        grad_pre2 = grad_y2 * derivative
        if learns:
            if slope is not None:
                # y = s f and df/dc = f sin t (1 - q), c = 1 + exp(-raw), dc/draw = -(c - 1).
                grad_raw_width = torch.mul(y2, turn).mul_(grad_y2).sum(1) * (1 - slope).squeeze(1)
            if scale is not None:
                # dy/ds = f - t f' and ds/draw = s (1 - s); y2 = s f saves a pass.
                scale_row = scale.squeeze(1)
                along = torch.mul(grad_y2, y2).sum(1) * (1 - scale_row)
                grad_raw_scale = along - torch.mul(grad_pre2, angle).sum(1) * (scale_row * (1 - scale_row))
            grad_weight2 = torch.bmm(y1.transpose(1, 2), grad_pre2)
            grad_bias2 = grad_pre2.sum(1)
        grad_y1 = torch.bmm(grad_pre2, weight2.transpose(1, 2))

        if learns:
            grad_norm_weight = torch.mul(grad_y1, normed).sum(1)
            grad_norm_bias = grad_y1.sum(1)
        grad_normed = grad_y1.mul_(norm_weight.unsqueeze(1))
        grad_pre1 = torch.ops.aten.native_layer_norm_backward(
            grad_normed, pre1, (pre1.shape[-1],), mean, rstd, None, None, (True, False, False)
        )[0]
        if learns:
            grad_weight1 = torch.matmul(x.t(), grad_pre1)
            grad_bias1 = grad_pre1.sum(1)
        if ctx.needs_input_grad[0]:
            first = ctx.live_from
            live = torch.bmm(grad_pre1, weight1[:, first:].transpose(1, 2)).sum(0)
            grad_x = nn.functional.pad(live, (first, 0)) if first else live
        return (
            grad_x, grad_weight1, grad_bias1, grad_norm_weight, grad_norm_bias, grad_weight2, grad_bias2,
            grad_raw_scale, grad_raw_width, grad_weight3, grad_bias3, None,
        )  # fmt: skip
