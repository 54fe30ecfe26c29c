"""Golden values of the formulas (float64)."""

import math

import numpy as np
import pytest
import torch

from cadenza.agents.symphony.losses import (
    QT_FLOOR,
    age_probabilities,
    fading_weights,
    rehae,
    rehse,
    resistance_loss,
    swaddling,
    temporal_advantage,
)

ERRORS = [-3.0, -0.5, 0.0, 0.5, 3.0]
TERMS = [2.715444760934599, 0.12245933120185457, 0.0, 0.12245933120185457, 2.715444760934599]


def scalar(value: float) -> torch.Tensor:
    return torch.tensor([value], dtype=torch.float64)


@pytest.mark.parametrize(("error", "term"), list(zip(ERRORS, TERMS, strict=True)))
def test_rehse_and_rehae_terms(error: float, term: float) -> None:
    assert rehse(scalar(error)).item() == pytest.approx(term, rel=1e-12)
    assert rehae(scalar(error)).item() == pytest.approx(math.copysign(term, error) if error else 0.0, rel=1e-12)


def test_rehse_and_rehae_are_means() -> None:
    errors = torch.tensor(ERRORS, dtype=torch.float64)
    assert rehse(errors).item() == pytest.approx(np.mean(TERMS))
    assert rehae(errors).item() == pytest.approx(0.0, abs=1e-15)


SCALE = torch.tensor([[1 / math.e, 0.5, 0.9]], dtype=torch.float64)
RESISTANCE = torch.tensor([[0.05, 0.08, 0.5]], dtype=torch.float64)


def test_swaddling_golden_values() -> None:
    mean = swaddling(SCALE, RESISTANCE).mean()
    assert mean.item() == pytest.approx(0.7202904106270441, rel=1e-12)
    assert (mean + resistance_loss(RESISTANCE).mean()).item() == pytest.approx(0.8964990136102634, rel=1e-12)


def test_sum_reduction_is_three_times_the_mean_here() -> None:
    assert swaddling(SCALE, RESISTANCE, "sum").item() == pytest.approx(3 * 0.7202904106270441, rel=1e-12)
    assert resistance_loss(RESISTANCE, "sum").item() == pytest.approx(3 * resistance_loss(RESISTANCE).item(), rel=1e-12)


def test_swaddling_exponent_stops_the_gradient_of_the_resistance() -> None:
    resistance = RESISTANCE.clone().requires_grad_()
    swaddling(SCALE, resistance, "sum").sum().backward()
    assert torch.allclose(resistance.grad, SCALE * torch.log(SCALE))  # only b * s ln s is left


@pytest.mark.parametrize(
    ("law", "expected"),
    [
        (
            "tanh",
            [.15459036781, .15459036781, .15459036744, .15458923716, .15425506851, .14154806709,
             .07367956019, .01215696391],
        ),
        (
            "bell",
            [.15184898276, .15210465737, .15210501868, .15189586050, .14863351610, .13139425921,
             .08520832818, .02680937723],
        ),
    ],
)  # fmt: skip
def test_critic_weights(law: str, expected: list[float]) -> None:
    assert fading_weights(law, 8).tolist() == pytest.approx(expected, rel=1e-9)
    assert fading_weights(law, 384).sum() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("law", "expected"),
    [
        ("tanh", [0, .01437996854, .08715249671, .16743133944, .18246192453, .18285719886, .18285853574, .18285853618]),
        (
            "bell",
            [.00237249604, .03153420976, .10022527830, .15455092805, .17482839808, .17866569171,
             .17891171153, .17891128653],
        ),
        ("power_law", [i / 28 for i in range(8)]),
        ("uniform", [1 / 8] * 8),
    ],
)  # fmt: skip
def test_replay_weights(law: str, expected: list[float]) -> None:
    assert age_probabilities(law, 8).tolist() == pytest.approx(expected, rel=1e-7, abs=1e-12)


def test_advantage_survives_a_zero_trace() -> None:
    value, trace = torch.tensor([[0.5]]), torch.tensor([[0.0]])
    assert temporal_advantage(value, trace).item() == pytest.approx(0.5 / QT_FLOOR)
