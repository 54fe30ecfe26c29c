"""The blocks: ReSine's golden values, the closed-form backward against autograd, GradientDropout."""

import pytest
import torch

from cadenza.agents.symphony.networks import FeedForward, FourierSeries, GradientDropout, resine

POINTS = [-2.0, -1.0, 0.3, 1.0, 2.0]


def test_resine_scaled_golden_values() -> None:
    x = torch.tensor(POINTS, dtype=torch.float64)
    raw = torch.zeros(5, dtype=torch.float64)
    expected = [0.286373289430663, -0.09256634146815892, 0.19760505344226315, 0.3620823719446819, -0.09202795822330107]
    assert resine(x, raw, None).tolist() == pytest.approx(expected, rel=1e-12)


def test_resine_width_golden_values() -> None:
    x = torch.tensor(POINTS, dtype=torch.float64)
    raw = torch.zeros(5, dtype=torch.float64)
    expected = [-0.12694025296688796, -0.1318638016420509, 0.19019793661288603, 0.7096071831658457, 0.7823571738587938]
    assert resine(x, None, raw).tolist() == pytest.approx(expected, rel=1e-12)


def test_resine_paper_form_is_the_release_at_unit_scale_and_wide_scale_is_near_linear_gate() -> None:
    x = torch.tensor(POINTS, dtype=torch.float64)
    width = torch.full((5,), 0.3, dtype=torch.float64)
    almost_one = torch.full((5,), 40.0, dtype=torch.float64)  # sigmoid = 1 to machine precision
    assert torch.allclose(resine(x, almost_one, width), resine(x, None, width), atol=1e-12)


@pytest.mark.parametrize("activation", ["scaled", "width", "scaled_width"])
@pytest.mark.parametrize("heads", [1, 3])
def test_closed_form_equals_autograd(activation: str, heads: int) -> None:
    torch.manual_seed(1)
    block = FeedForward(7, 10, 4, heads=heads, activation=activation).double()
    with torch.no_grad():
        block.norm_weight.normal_(1, 0.3)
        block.norm_bias.normal_(0, 0.3)
    x = (2 * torch.randn(6, 7, dtype=torch.float64)).requires_grad_()
    weights = torch.randn(heads, 6, 4, dtype=torch.float64)
    results = []
    for forward in (block.forward, block.reference_forward):
        block.zero_grad()
        x.grad = None
        out = forward(x)
        (out * weights).sum().backward()
        results.append([out.detach(), x.grad.clone(), *(p.grad.clone() for p in block.parameters())])
    for closed, reference in zip(*results, strict=True):
        assert torch.allclose(closed, reference, rtol=1e-9, atol=1e-11)


def test_closed_form_equals_autograd_in_single_precision_at_training_size() -> None:
    torch.manual_seed(0)
    block = FeedForward(60, 128, 32, heads=3)
    x = torch.randn(64, 60, requires_grad=True)
    weights = torch.randn(3, 64, 32) / 64
    gradients = []
    for forward in (block.forward, block.reference_forward):
        block.zero_grad()
        x.grad = None
        (forward(x) * weights).sum().backward()
        gradients.append([x.grad.clone(), *(p.grad.clone() for p in block.parameters())])
    for closed, reference in zip(*gradients, strict=True):
        assert (closed - reference).norm() <= 1e-5 * reference.norm()


def test_live_columns_get_their_gradient_and_the_others_zeros() -> None:
    torch.manual_seed(2)
    block = FeedForward(9, 8, 2, heads=3, live=3).double()
    x = torch.randn(5, 9, dtype=torch.float64, requires_grad=True)
    block(x).sum().backward()
    live = x.grad.clone()
    x.grad = None
    block.reference_forward(x).sum().backward()
    assert torch.equal(live[:, 3:], torch.zeros(5, 6, dtype=torch.float64))
    assert torch.allclose(live[:, :3], x.grad[:, :3], rtol=1e-9)


def test_frozen_block_gives_input_gradients_and_no_weight_gradients() -> None:
    block = FeedForward(4, 8, 2).requires_grad_(False)
    x = torch.randn(3, 4, requires_grad=True)
    block(x).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    assert all(p.grad is None for p in block.parameters())


def test_gradient_dropout_matches_a_hand_mask() -> None:
    x = torch.arange(1.0, 9.0).requires_grad_()
    factors = torch.arange(8.0)
    dropout = GradientDropout(0.5, torch.Generator().manual_seed(3)).train()
    out = dropout(x)
    assert torch.equal(out, x)
    (out * factors).sum().backward()
    kept = torch.rand(8, generator=torch.Generator().manual_seed(3)) > 0.5
    assert 0 < kept.sum() < 8
    assert torch.equal(x.grad, factors * kept)


def test_gradient_dropout_is_off_in_eval_mode() -> None:
    x = torch.ones(100, requires_grad=True)
    GradientDropout(0.5).eval()(x).sum().backward()
    assert torch.equal(x.grad, torch.ones(100))


def test_gradient_dropout_with_drawn_probability_zeroes_about_half() -> None:
    x = torch.ones(20_000, requires_grad=True)
    GradientDropout(None, torch.Generator().manual_seed(0)).train()(x).sum().backward()
    assert 0.47 < x.grad.mean().item() < 0.53


def test_fourier_series_shape() -> None:
    assert FourierSeries(5, 16, 3, activation="width")(torch.zeros(2, 5)).shape == (2, 3)
