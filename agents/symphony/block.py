"""Forward and closed-form backward pass of the feed-forward block, Linear - LayerNorm - Linear - ReSine - Linear.

The backward pass reuses what the forward pass computed, and skips the input gradients that nobody reads: autograd
cannot know that only the action columns of a critic's input need one. What lies between the matrix products is compiled
(:mod:`cadenza.agents.symphony.kernels`) for float32 on the processor, and plain torch otherwise; notation t = x/s,
q = sigmoid(c sin t), f = sin t q. ``tests/agents/symphony/test_networks.py`` holds both to autograd.
"""

from __future__ import annotations

import os
import tempfile
from functools import cache
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

LAYER_NORM_EPS = 1e-5
_S3_SLOPE = 1.5


class BlockWeights(NamedTuple):
    """Parameters of ``heads`` parallel blocks, input first: ``weight1`` is (heads, in, hidden)."""

    weight1: Tensor
    bias1: Tensor
    norm_weight: Tensor
    norm_bias: Tensor
    weight2: Tensor
    bias2: Tensor
    raw_scale: Tensor | None
    raw_width: Tensor | None
    weight3: Tensor
    bias3: Tensor


class Saved(NamedTuple):
    """What the backward pass needs of the forward pass; (heads, batch, hidden) but as noted."""

    normed: Tensor
    rstd: Tensor
    """(heads, batch)."""
    y1: Tensor
    angle: Tensor
    y2: Tensor
    derivative: Tensor
    """dy/dx of ReSine."""
    scale: Tensor | None
    """s = sigmoid(raw_scale), (heads, hidden)."""
    slope: Tensor | None
    """c = 1/sigmoid(raw_width), (heads, hidden)."""
    slope_gradient: Tensor | None
    """dy/dc."""


@cache
def compiled() -> ModuleType | None:
    """The compiled kernels, or None where Numba is missing or ``CADENZA_KERNELS=torch`` asks for torch's."""
    if os.environ.get("CADENZA_KERNELS", "") == "torch":
        return None
    try:
        import numba
    except (ImportError, OSError):  # missing, or of another system
        return None
    try:
        from cadenza.agents.symphony import kernels
    except RuntimeError:  # neither the package's folder nor the user's can be written
        numba.config.CACHE_DIR = os.path.join(tempfile.gettempdir(), f"cadenza-kernels-{os.getuid()}")  # type: ignore[attr-defined]
        from cadenza.agents.symphony import kernels
    return kernels


def block_forward(block: BlockWeights, x: Tensor) -> tuple[Tensor, Saved]:
    """x: (batch, in) -> (heads, batch, out), and what :func:`block_backward` needs."""
    compute = _between_compiled if _compiles(x) else _between
    y2, saved = compute(block, _each_head(x, block.weight1))
    return torch.baddbmm(block.bias3.unsqueeze(1), y2, block.weight3), saved


def block_backward(
    block: BlockWeights,
    x: Tensor,
    saved: Saved,
    grad_out: Tensor,
    *,
    learns: bool = True,
    live: int | None = None,
) -> tuple[Tensor | None, tuple[Tensor | None, ...]]:
    """Gradients of the first ``live`` input columns (None: of no column), and of every parameter.

    Args:
        block: the parameters.
        x: as given to :func:`block_forward`.
        saved: its second result.
        grad_out: (heads, batch, out).
        learns: whether the parameters' gradients are wanted; they are all None otherwise.
        live: how many of the first input columns need a gradient.
    """
    grad_y2 = torch.bmm(grad_out, block.weight3.transpose(1, 2))
    backward = _back_between_compiled if _compiles(x) else _back_between
    grad_pre1, inner = backward(block, saved, grad_y2, learns)
    gradients: tuple[Tensor | None, ...] = (None,) * len(BlockWeights._fields)
    if learns:
        heads = len(block.weight1)
        grad_weight1 = x.t().mm(grad_pre1[0])[None] if heads == 1 else torch.matmul(x.t(), grad_pre1)
        grad_weight3 = torch.bmm(saved.y2.transpose(1, 2), grad_out)
        gradients = (grad_weight1, *inner, grad_weight3, grad_out.sum(1))
    grad_x = None
    if live is not None:
        grad_x = torch.bmm(grad_pre1, block.weight1[:, :live].transpose(1, 2)).sum(0)
    return grad_x, gradients


def _each_head(x: Tensor, weight: Tensor) -> Tensor:
    heads = len(weight)
    return torch.mm(x, weight[0])[None] if heads == 1 else torch.bmm(x.unsqueeze(0).expand(heads, -1, -1), weight)


def _compiles(x: Tensor) -> bool:
    return x.dtype == torch.float32 and x.device.type == "cpu" and compiled() is not None


# ---------------------------------------------------------------------- torch


def _between(block: BlockWeights, pre1: Tensor) -> tuple[Tensor, Saved]:
    pre1.add_(block.bias1.unsqueeze(1))
    normed, _, rstd = torch.native_layer_norm(pre1, (pre1.shape[-1],), None, None, LAYER_NORM_EPS)
    y1 = torch.addcmul(block.norm_bias.unsqueeze(1), normed, block.norm_weight.unsqueeze(1))
    angle = torch.baddbmm(block.bias2.unsqueeze(1), y1, block.weight2)
    scale, slope = _scale_and_slope(block)
    if scale is not None:
        angle.div_(scale.unsqueeze(1))
    sine = torch.sin(angle)
    wide = _S3_SLOPE if slope is None else slope.unsqueeze(1)
    gate = (sine * wide).sigmoid_()
    y2 = sine * gate
    # dy/dx = cos t * q * (1 + c sin t (1 - q)); its last part also gives dy/dc.
    turn = sine.mul_(1 - gate)
    derivative = torch.cos(angle).mul_(gate).mul_((turn * wide).add_(1))
    if scale is not None:
        y2.mul_(scale.unsqueeze(1))
    slope_gradient = None if slope is None else y2 * turn
    return y2, Saved(normed, rstd.squeeze(-1), y1, angle, y2, derivative, scale, slope, slope_gradient)


def _back_between(
    block: BlockWeights, saved: Saved, grad_y2: Tensor, learns: bool
) -> tuple[Tensor, tuple[Tensor | None, ...]]:
    grad_raw_scale = grad_raw_width = None
    grad_pre2 = grad_y2 * saved.derivative
    if learns:
        if saved.slope is not None:
            # c = 1 + exp(-raw), so dc/draw = 1 - c.
            grad_raw_width = torch.mul(saved.slope_gradient, grad_y2).sum(1) * (1 - saved.slope)  # type: ignore[arg-type]
        if saved.scale is not None:
            # dy/ds = f - t f' and ds/draw = s (1 - s); y2 = s f saves a pass.
            along = torch.mul(grad_y2, saved.y2).sum(1) - torch.mul(grad_pre2, saved.angle).sum(1) * saved.scale
            grad_raw_scale = along * (1 - saved.scale)
    grad_y1 = torch.bmm(grad_pre2, block.weight2.transpose(1, 2))
    inner: tuple[Tensor | None, ...] = ()
    if learns:
        grad_weight2, grad_bias2 = torch.bmm(saved.y1.transpose(1, 2), grad_pre2), grad_pre2.sum(1)
        grad_norm_weight, grad_norm_bias = torch.mul(grad_y1, saved.normed).sum(1), grad_y1.sum(1)
    grad_normed = grad_y1.mul_(block.norm_weight.unsqueeze(1))
    mean = grad_normed.mean(-1, keepdim=True)
    along = torch.mul(grad_normed, saved.normed).mean(-1, keepdim=True)
    grad_pre1 = (grad_normed - mean).sub_(saved.normed * along).mul_(saved.rstd.unsqueeze(-1))
    if learns:
        inner = (
            grad_pre1.sum(1), grad_norm_weight, grad_norm_bias, grad_weight2, grad_bias2,
            grad_raw_scale, grad_raw_width,
        )  # fmt: skip
    return grad_pre1, inner


def _scale_and_slope(block: BlockWeights) -> tuple[Tensor | None, Tensor | None]:
    scale = None if block.raw_scale is None else torch.sigmoid(block.raw_scale)
    slope = None if block.raw_width is None else 1 + torch.exp(-block.raw_width)
    return scale, slope


# ---------------------------------------------------------------------- compiled


def _between_compiled(block: BlockWeights, pre1: Tensor) -> tuple[Tensor, Saved]:
    k = _kernels()
    y1, normed, rstd = torch.empty_like(pre1), torch.empty_like(pre1), pre1.new_empty(pre1.shape[:2])
    k.norm_forward(
        _np(pre1), _np(block.bias1), _np(block.norm_weight), _np(block.norm_bias), LAYER_NORM_EPS,
        _np(y1), _np(normed), _np(rstd),
    )  # fmt: skip
    pre2 = torch.bmm(y1, block.weight2)
    scale, slope = _scale_and_slope(block)
    factor = torch.ones_like(block.bias2) if scale is None else scale
    # pre1 has been read: its memory takes the activation.
    y2, derivative, angle, slope_gradient = pre1, torch.empty_like(pre1), torch.empty_like(pre1), None
    arrays = _np(pre2), _np(block.bias2), _np(factor), _np(1 / factor)
    if slope is None:
        k.resine_forward(*arrays, _np(y2), _np(derivative), _np(angle))
    else:
        slope_gradient = torch.empty_like(pre1)
        k.resine_width_forward(*arrays, _np(slope), _np(y2), _np(derivative), _np(angle), _np(slope_gradient))
    return y2, Saved(normed, rstd, y1, angle, y2, derivative, scale, slope, slope_gradient)


def _back_between_compiled(
    block: BlockWeights, saved: Saved, grad_y2: Tensor, learns: bool
) -> tuple[Tensor, tuple[Tensor | None, ...]]:
    k = _kernels()
    grad_pre2 = torch.empty_like(grad_y2)
    grad_bias2, grad_raw_scale = torch.empty_like(block.bias2), torch.empty_like(block.bias2)
    factor = torch.ones_like(block.bias2) if saved.scale is None else saved.scale
    k.resine_backward(
        _np(grad_y2), _np(saved.y2), _np(saved.derivative), _np(saved.angle), _np(factor),
        _np(grad_pre2), _np(grad_bias2), _np(grad_raw_scale),
    )  # fmt: skip
    grad_raw_width = None
    if learns and saved.slope is not None and saved.slope_gradient is not None:
        grad_raw_width = torch.empty_like(saved.slope)
        k.weighted_column_sum(_np(grad_y2), _np(saved.slope_gradient), _np(grad_raw_width))
        grad_raw_width.mul_(1 - saved.slope)
    grad_y1 = torch.bmm(grad_pre2, block.weight2.transpose(1, 2))
    grad_pre1 = grad_y2  # read above, free now
    sums = [torch.empty_like(block.bias1) for _ in range(3)]
    k.norm_backward(
        _np(grad_y1), _np(saved.normed), _np(saved.rstd), _np(block.norm_weight),
        _np(grad_pre1), *(_np(total) for total in sums),
    )  # fmt: skip
    inner: tuple[Tensor | None, ...] = ()
    if learns:
        grad_norm_weight, grad_norm_bias, grad_bias1 = sums
        grad_weight2 = torch.bmm(saved.y1.transpose(1, 2), grad_pre2)
        inner = (
            grad_bias1, grad_norm_weight, grad_norm_bias, grad_weight2, grad_bias2,
            None if saved.scale is None else grad_raw_scale, grad_raw_width,
        )  # fmt: skip
    return grad_pre1, inner


def _kernels() -> ModuleType:
    found = compiled()
    assert found is not None
    return found


def _np(x: Tensor):  # type: ignore[no-untyped-def]
    return x.detach().numpy()
