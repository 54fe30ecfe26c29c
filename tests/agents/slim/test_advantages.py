"""The numbers of multi-critic PPO: advantages per group, their sum, the surrogates; by hand and by property."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cadenza.agents.slim.multi_critic_buffer import (
    AdvantageScale,
    RewardScaler,
    normalized_columns,
    silent_groups,
    vector_gae,
)
from cadenza.agents.slim.surrogates import (
    adapted_rate,
    approximate_kl,
    minibatch_normalized,
    per_critic_surrogate,
    summed_surrogate,
    value_loss,
)


def row(*steps: tuple[float, float]) -> np.ndarray:
    """Numbers of three steps, one environment, two groups: (3, 1, 2)."""
    return np.array(steps, dtype=np.float32)[:, None]


REWARDS, VALUES = row((1, 10), (2, 20), (3, 30)), row((0, 1), (0, 2), (0, 3))


def gae(starts: tuple[float, float, float] = (0, 0, 0), bootstraps: np.ndarray | None = None) -> np.ndarray:
    nothing = np.zeros_like(REWARDS) if bootstraps is None else bootstraps
    episode_starts = np.array(starts, dtype=np.float32)[:, None]
    last, gammas = np.array([[4.0, 4.0]], dtype=np.float32), np.array([0.5, 0.0])
    return vector_gae(REWARDS, VALUES, nothing, episode_starts, last, np.array([False]), gammas, 0.5)[:, 0]


def test_each_group_has_its_own_discount() -> None:
    # Group 0: delta = (1, 2, 3 + .5*4); A_t = delta_t + .25 A_(t+1). Group 1 looks no further than r - V.
    np.testing.assert_array_equal(gae(), [(1.8125, 9), (3.25, 18), (5, 27)])


def test_after_a_termination_nothing_follows() -> None:
    np.testing.assert_array_equal(gae((0, 0, 1)), [(1.5, 9), (2, 18), (5, 27)])


def test_after_a_time_out_each_critic_is_asked_for_what_would_have_followed() -> None:
    # A_1 = 2 + .5*8 = 6, A_0 = 1 + .25*6; group 1 does not care, and step 2 is of another episode.
    bootstraps = row((0, 0), (8, 8), (0, 0))
    np.testing.assert_array_equal(gae((0, 0, 1), bootstraps), [(2.5, 9), (6, 18), (5, 27)])


def test_a_done_at_the_end_of_the_rollout_hides_the_last_value() -> None:
    ended = vector_gae(
        REWARDS,
        VALUES,
        np.zeros_like(REWARDS),
        np.zeros((3, 1), np.float32),
        np.full((1, 2), 4, np.float32),
        np.array([True]),
        np.array([0.5, 0.0]),
        0.5,
    )
    np.testing.assert_array_equal(ended[2, 0], (3, 27))


@pytest.mark.parametrize("scale", [1000.0, 1e-3])
def test_scaling_a_reward_leaves_the_combined_advantage_unchanged(scale: float) -> None:
    draw = np.random.default_rng(0)
    advantages = draw.normal(size=(64, 16, 3)).astype(np.float32) * [1, 5, 0.2] + [0, 3, -1]
    weights = np.array([0.2, 0.5, 0.3])
    before = (normalized_columns(advantages.astype(np.float32)) * weights).sum(-1)
    scaled = (advantages * [1, scale, 1]).astype(np.float32)
    after = (normalized_columns(scaled) * weights).sum(-1)
    np.testing.assert_allclose(after, before, atol=2e-6)
    assert before.std() > 0.5


def test_a_normalised_column_has_mean_0_and_deviation_1_over_the_whole_rollout() -> None:
    advantages = np.random.default_rng(1).normal(3.0, 7.0, size=(64, 16, 2)).astype(np.float32)
    normalized = normalized_columns(advantages)
    np.testing.assert_allclose(normalized.mean((0, 1)), 0, atol=1e-6)
    np.testing.assert_allclose(normalized.std((0, 1)), 1, atol=1e-5)
    by_hand = normalized_columns(np.array([[[1.0]], [[3.0]]], dtype=np.float32))
    np.testing.assert_array_equal(by_hand.ravel(), [-1, 1])


def test_a_column_without_spread_is_exactly_zero() -> None:
    advantages = np.zeros((10, 4, 3), dtype=np.float32)
    advantages[..., 0] = np.random.default_rng(2).normal(size=(10, 4))
    advantages[..., 1] = 123.456  # constant
    advantages[..., 2] = 5e-7 * np.sign(advantages[..., 0])  # below the threshold
    normalized = normalized_columns(advantages)
    assert (normalized[..., 1:] == 0).all()
    assert (normalized[..., 0] != 0).all()


def test_a_rollout_in_which_little_happens_is_not_made_loud() -> None:
    draw = np.random.default_rng(4).normal(size=(3, 64, 16, 2))
    draw[1, ..., 1] *= 0.01  # nobody touched the cube
    scale, heard = AdvantageScale(2), np.zeros(2, dtype=bool)
    found = [scale.scaled(one.astype(np.float32), heard) for one in draw]
    np.testing.assert_allclose(found[0].std((0, 1)), 1.0, atol=1e-5)
    assert found[1][..., 1].std() == pytest.approx(0.01 * np.sqrt(2), rel=0.05)
    whole = np.sqrt((draw - draw.mean((1, 2), keepdims=True)).var((1, 2)).mean(0))
    np.testing.assert_allclose(found[2], (draw[2] - draw[2].mean((0, 1))) / whole, rtol=1e-5, atol=1e-6)


def test_silent_rollouts_do_not_count_in_the_running_deviation() -> None:
    one = np.random.default_rng(5).normal(size=(8, 2, 1)).astype(np.float32)
    scale = AdvantageScale(1)
    assert (scale.scaled(np.zeros((8, 2, 1), np.float32), np.array([True])) == 0).all()
    assert scale.scaled(one, np.array([False])).std() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9])
def test_what_is_silent_does_not_depend_on_the_unit(unit: float) -> None:
    rewards = np.zeros((8, 2, 3), dtype=np.float32)
    rewards[..., 0] = unit * np.random.default_rng(3).normal(size=(8, 2))
    rewards[..., 1] = unit
    np.testing.assert_array_equal(silent_groups(rewards, False), [False, True, True])


@pytest.mark.parametrize(("ended", "silent"), [(False, [True, True, False]), (True, [True, False, False])])
def test_a_constant_reward_says_nothing_unless_an_episode_can_lose_it(ended: bool, silent: list[bool]) -> None:
    rewards = np.zeros((8, 2, 3), dtype=np.float32)
    rewards[..., 1] = 1.0  # alive
    rewards[3, 1, 2] = -1.0  # one violation
    np.testing.assert_array_equal(silent_groups(rewards, ended), silent)


def test_the_clipped_sum_and_the_sum_of_clips_by_hand() -> None:
    advantages, ratio = torch.tensor([[1.0, -1.0]]), torch.tensor([1.5])
    assert float(summed_surrogate(advantages, ratio, 0.2)) == 0.0
    assert float(per_critic_surrogate(advantages, ratio, 0.2)) == pytest.approx(1.2 - 1.5)


def test_the_sum_of_minima_is_never_above_the_minimum_of_sums() -> None:
    draw = torch.Generator().manual_seed(0)
    gaps = []
    for _ in range(50):
        advantages = torch.randn(32, 3, generator=draw, dtype=torch.float64)
        ratio = torch.exp(0.5 * torch.randn(32, generator=draw, dtype=torch.float64))
        each = [float(mode(advantages, ratio, 0.2)) for mode in (per_critic_surrogate, summed_surrogate)]
        assert each[0] <= each[1] + 1e-12
        gaps.append(each[1] - each[0])
        one = advantages[:, :1]
        assert float(per_critic_surrogate(one, ratio, 0.2)) == pytest.approx(float(summed_surrogate(one, ratio, 0.2)))
    assert min(gaps) > 0.01


def test_minibatch_normalisation_is_stable_baselines3s_for_each_column() -> None:
    advantages = torch.tensor([[1.0, 10.0], [3.0, 10.0]])
    found = minibatch_normalized(advantages, torch.tensor([0.25, 0.75]))
    # Deviation with n - 1 is sqrt(2) for (1, 3); the constant column is 0/(0 + 1e-8).
    torch.testing.assert_close(found, torch.tensor([[-(0.5**0.5), 0.0], [0.5**0.5, 0.0]]) * torch.tensor([0.25, 0.75]))
    single = torch.tensor([[5.0, 7.0]])
    assert torch.equal(minibatch_normalized(single, torch.tensor([0.5, 1.0])), torch.tensor([[2.5, 7.0]]))


def test_each_critics_error_counts_in_its_own_units() -> None:
    returns, values = torch.tensor([[1.0, 0.0], [3.0, 0.0]]), torch.tensor([[0.0, 10.0], [0.0, 30.0]])
    assert float(value_loss(returns, values, None)) == 5 + 500
    assert float(value_loss(returns, values, torch.tensor([1.0, 10.0]))) == 5 + 5


def test_the_learning_rate_follows_the_size_of_the_update() -> None:
    assert adapted_rate(3e-4, 0.021, 0.01) == pytest.approx(2e-4)
    assert adapted_rate(3e-4, 0.0049, 0.01) == pytest.approx(4.5e-4)
    assert adapted_rate(3e-4, 0.01, 0.01) == 3e-4
    assert adapted_rate(1.1e-5, 1.0, 0.01) == 1e-5
    assert adapted_rate(9e-3, 0.0, 0.01) == 1e-2


def test_the_estimate_of_the_divergence_by_hand() -> None:
    old = torch.zeros(2)
    new = torch.log(torch.tensor([2.0, 0.5]))
    assert approximate_kl(new, old) == pytest.approx((1 - np.log(2) + -0.5 + np.log(2)) / 2)
    assert approximate_kl(old, old) == 0.0


def test_the_reward_scaler_divides_by_the_deviation_of_all_it_has_seen() -> None:
    scaler, draw = RewardScaler(2), np.random.default_rng(3)
    batches = [draw.normal([5, 0], [3, 0], size=(4, 2)).astype(np.float32) for _ in range(6)]
    for batch in batches:
        scaled = scaler.scaled(batch)
    np.testing.assert_allclose(scaled[:, 0], batches[-1][:, 0] / np.concatenate(batches)[:, 0].std(), rtol=1e-5)
    np.testing.assert_array_equal(scaled[:, 1], 0)
