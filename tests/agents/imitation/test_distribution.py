from __future__ import annotations

import math

import pytest
import torch

from cadenza.agents.imitation.distribution import inverse_tanh, log_prob


def test_log_prob_by_hand() -> None:
    # a = 0: u = 0, 1 - a² = 1; N(0; 0.5, 2) = exp(-0.03125) / (2 sqrt(2 pi)).
    found = log_prob(torch.tensor([[0.5]]), torch.tensor([[math.log(2.0)]]), torch.tensor([[0.0]]), 0.999)
    assert found.item() == pytest.approx(-0.03125 - math.log(2.0) - 0.5 * math.log(2 * math.pi), abs=1e-6)


def test_log_prob_agrees_with_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    mean, log_std = (torch.randn(64, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    action = 1.9 * torch.rand(64, 3, generator=generator, dtype=torch.float64) - 0.95
    normal = torch.distributions.Normal(mean, log_std.exp())
    theirs = torch.distributions.TransformedDistribution(normal, torch.distributions.TanhTransform())
    torch.testing.assert_close(log_prob(mean, log_std, action, 0.999), theirs.log_prob(action).sum(-1))


def test_density_integrates_to_one() -> None:
    action = torch.linspace(-0.99999, 0.99999, 200_001, dtype=torch.float64)[:, None]
    density = log_prob(torch.tensor(0.3), torch.tensor(-0.5), action, 0.999999).exp()
    assert torch.trapezoid(density, action[:, 0]).item() == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("value", [1.0, -1.0, 1.5])
def test_actions_at_the_ends_have_finite_loss_and_gradient(value: float) -> None:
    mean = torch.zeros(1, 2, requires_grad=True)
    loss = -log_prob(mean, torch.full((1, 2), -4.0), torch.full((1, 2), value), 0.999).mean()
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(mean.grad).all()  # type: ignore[union-attr,arg-type]


def test_inverse_tanh_keeps_small_digits() -> None:
    small = torch.tensor([1e-6, -1e-6])
    torch.testing.assert_close(inverse_tanh(small, 0.999), small, rtol=1e-6, atol=0.0)
