"""Compiled passes against torch in double precision; their errors must be those of float32, not larger."""

import numpy as np
import pytest
import torch

from cadenza.agents.symphony.block import BlockWeights, block_backward, block_forward, compiled
from cadenza.agents.symphony.networks import FeedForward

pytestmark = pytest.mark.skipif(compiled() is None, reason="numba is missing or switched off")


@pytest.mark.parametrize("activation", ["scaled", "width", "scaled_width"])
@pytest.mark.parametrize(("heads", "hidden"), [(1, 33), (3, 64)])
@pytest.mark.parametrize("wild", [1.0, 30.0])
def test_block_is_no_worse_than_torch_in_float32(activation: str, heads: int, hidden: int, wild: float) -> None:
    torch.manual_seed(0)
    block = FeedForward(21, hidden, 5, heads=heads, activation=activation)
    with torch.no_grad():
        block.bias2.mul_(wild * 10)  # angles of many turns
        if block.raw_width is not None:
            block.raw_width.mul_(wild)
    x, grad = torch.randn(40, 21), torch.randn(heads, 40, 5)

    def run(dtype: torch.dtype, use: bool) -> list[torch.Tensor]:
        weights = BlockWeights(*(None if w is None else w.detach().to(dtype) for w in block.weights()))
        if use:
            out, saved = block_forward(weights, x.to(dtype))
            grad_x, gradients = block_backward(weights, x.to(dtype), saved, grad.to(dtype), live=21)
        else:
            live = [None if w is None else w.clone().requires_grad_() for w in weights]
            inputs = x.to(dtype).requires_grad_()
            block_copy = FeedForward(21, hidden, 5, heads=heads, activation=activation).to(dtype)
            for name, value in zip(BlockWeights._fields, live, strict=True):
                if value is not None:
                    del block_copy._parameters[name]
                    setattr(block_copy, name, value)
            out = block_copy.reference_forward(inputs)
            grad_x, *gradients = torch.autograd.grad(out, [inputs, *(w for w in live if w is not None)], grad.to(dtype))
        return [t.detach().double() for t in (out, grad_x, *gradients) if t is not None]

    exact, plain, ours = run(torch.float64, False), run(torch.float32, False), run(torch.float32, True)
    for reference, theirs, mine in zip(exact, plain, ours, strict=True):
        size = reference.abs().max().item()
        theirs_error, my_error = (theirs - reference).abs().max().item(), (mine - reference).abs().max().item()
        assert my_error <= 4 * theirs_error + 2e-6 * size


def test_weighted_column_sum() -> None:
    kernels = compiled()
    assert kernels is not None
    x = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    total = np.empty((2, 2), np.float32)
    kernels.weighted_column_sum(x, 2 * x, total)
    assert np.array_equal(total, (2 * x * x).sum(1))
