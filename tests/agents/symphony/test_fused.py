"""The compiled update against torch's autograd and AdamW, and the branches against themselves in turn."""

import copy
import math

import numpy as np
import pytest
import torch
from gymnasium import spaces

from cadenza.agents.symphony.block import compiled
from cadenza.agents.symphony.branches import Pair
from cadenza.agents.symphony.fused import FusedUpdate, fusible
from cadenza.agents.symphony.objective import actor_branch, symphony_loss
from cadenza.agents.symphony.policy import SymphonyPolicy
from cadenza.agents.symphony.presets import PRESETS, resolve_config
from cadenza.agents.symphony.replay import Batch

OBS, ACT, ROWS = 19, 4, 32
VARIANTS = [
    ("cpu", {}),
    ("s3", {}),
    ("se", {"swaddling_reduction": "sum"}),
    ("ed", {"noiseless": True}),
    ("s3", {"value_trace": "mean", "critic_weights": "bell"}),
    ("cpu", {"advantage_scale": "spread"}),
    ("cpu", {"smoothness_weight": 0.5}),
    # The actor sees the first 12 entries only.
    ("cpu", {"seen": 12}),
    ("s3", {"seen": 12}),
    ("cpu", {"seen": 12, "smoothness_weight": 0.5, "actor_average": 0.0}),
]

pytestmark = pytest.mark.skipif(compiled() is None, reason="numba is missing or switched off")


def make_policy(preset: str, seen: int | None = None, **overrides: object) -> SymphonyPolicy:
    torch.manual_seed(3)
    config = resolve_config(preset, {"hidden_size": 40, "critic_nodes": 8, "batch_size": ROWS, **overrides})
    policy = SymphonyPolicy(
        spaces.Box(-np.inf, np.inf, (OBS,)), spaces.Box(-1, 1, (ACT,)), lambda _: config.learning_rate, config=config,
        actor_observation_size=seen,
    )  # fmt: skip
    policy.initialize_optimizer()
    with torch.no_grad():
        for p in policy.critic_target.parameters():
            p.add_(0.05 * torch.randn_like(p))
        # Wide enough that scale and resistance reach their clamps in some samples.
        policy.actor.net.weight3.mul_(12)
        policy.value_trace.fill_(0.7)
        if config.normalize_observations:
            policy.normalizer.update(torch.randn(OBS), 0.2 + torch.rand(OBS))
    return policy


def make_batch(seed: int = 9) -> tuple[Batch, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=g)  # noqa: E731
    terminals = (torch.arange(ROWS) % 5 == 0).float().unsqueeze(1)
    batch = Batch(3 * draw(ROWS, OBS), torch.tanh(draw(ROWS, ACT)), draw(ROWS, OBS), 1 + draw(ROWS, 1), terminals)
    return batch, (draw(ROWS, ACT) / math.e).clamp(-1, 1)


def torch_update(policy: SymphonyPolicy, batch: Batch, noise: torch.Tensor) -> None:
    loss = symphony_loss(policy, batch, noise)
    policy.optimizer.zero_grad()
    loss.total.backward()
    policy.optimizer.step()
    policy.update_target()
    policy.update_average()
    policy.value_trace.copy_(loss.value_trace)


@pytest.mark.parametrize(("preset", "overrides"), VARIANTS)
def test_one_update_equals_autograd_and_torchs_adamw(preset: str, overrides: dict[str, object]) -> None:
    ours = make_policy(preset, **overrides)
    exact = copy.deepcopy(ours).double()
    batch, noise = make_batch()
    expected = symphony_loss(exact, Batch(*(t.double() for t in batch)), noise.double())
    assert fusible(ours)
    update = FusedUpdate(ours)
    update.step(batch, Pair("in_turn"), noise)
    got = update.loss()
    for name in ("total", "advantage", "critic", "swaddling", "value_trace"):
        assert getattr(got, name).item() == pytest.approx(getattr(expected, name).item(), rel=2e-5, abs=1e-6), name
    assert torch.allclose(got.next_scale.double(), expected.next_scale, atol=1e-6)
    assert torch.allclose(got.next_resistance.double(), expected.next_resistance, atol=1e-6)

    # After one step from zero moments m = (1 - beta1) g: every gradient can be read off, free of the optimiser's root.
    exact.optimizer.zero_grad()
    expected.total.backward()
    beta1 = ours.optimizer.param_groups[0]["betas"][0]
    for (name, parameter), reference in zip(ours.named_parameters(), exact.parameters(), strict=True):
        if not parameter.requires_grad:
            continue
        gradient = ours.optimizer.state[parameter]["exp_avg"].double() / (1 - beta1)
        largest = reference.grad.abs().max()
        assert torch.allclose(gradient, reference.grad, rtol=1e-4, atol=1e-6 * max(1.0, largest.item())), name


@pytest.mark.parametrize(("preset", "overrides"), VARIANTS)
def test_many_updates_stay_with_torch(preset: str, overrides: dict[str, object]) -> None:
    ours = make_policy(preset, **{"learning_rate": 1e-4, **overrides})
    theirs = copy.deepcopy(ours)
    update, pair = FusedUpdate(ours), Pair("in_turn")
    for seed in range(20):
        batch, noise = make_batch(seed)
        update.step(batch, pair, noise)
        torch_update(theirs, batch, noise)
    for (name, p), q in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        # A parameter moves by about the rate per step whatever its gradient: rounding decides where that is tiny.
        assert torch.allclose(p, q[1], atol=3 * ours.config.learning_rate, rtol=1e-3), name
    assert torch.allclose(ours.value_trace, theirs.value_trace, rtol=1e-4)


@pytest.mark.parametrize("preset", ["cpu", "s3"])
@pytest.mark.parametrize("envs", [1, 3])
@pytest.mark.parametrize("seen", [None, 12])
def test_acting_equals_the_policys(preset: str, envs: int, seen: int | None) -> None:
    policies = []
    for _ in range(2):
        policy = make_policy(preset, seen)
        policy.generator = torch.Generator().manual_seed(4)
        policies.append(policy)
    ours, theirs = policies
    update = FusedUpdate(ours)
    obs = make_batch()[0].observations[:envs].double()
    active = torch.tensor([[0.0], [1.0], [1.0]])[:envs]
    for noise_std, flags in ((0.0, None), (0.3, None), (0.3, active)):
        expected = theirs.act(obs, noise_std, flags).detach().numpy()
        got = update.act(obs.numpy(), noise_std, None if flags is None else flags.numpy())
        assert got.dtype == np.float32
        assert np.allclose(got, expected, atol=1e-6)


@pytest.mark.parametrize("seen", [None, 9, 16])  # of 13 that are live
def test_trailing_constant_observations_cost_nothing_and_change_nothing(seen: int | None) -> None:
    ours, theirs = make_policy("cpu", seen), make_policy("cpu", seen)
    for policy in (ours, theirs):
        std = torch.ones(OBS)
        std[-6:] = 0.0
        std[3] = 0.0  # not trailing: stays in
        policy.normalizer.update(torch.zeros(OBS), std)
    update = FusedUpdate(ours)
    assert update.live == OBS - 6
    assert update.actor_live == min(seen or OBS, OBS - 6)
    before = ours.actor.net.weight1.clone()
    for seed in range(5):
        batch, noise = make_batch(seed)
        update.step(batch, Pair("in_turn"), noise)
        torch_update(theirs, batch, noise)
    assert torch.equal(ours.actor.net.weight1[:, OBS - 6 :], before[:, OBS - 6 :])
    obs = make_batch(7)[0].observations
    assert torch.allclose(ours.act(obs, 0.0), theirs.act(obs, 0.0), atol=1e-4)


@pytest.mark.parametrize("noiseless", [False, True])
def test_noise_is_drawn_scaled_and_clipped_as_the_policy_does(noiseless: bool) -> None:
    ours, theirs = make_policy("cpu", noiseless=noiseless), make_policy("cpu", noiseless=noiseless)
    for policy in (ours, theirs):
        policy.generator = torch.Generator().manual_seed(8)
    batch, _ = make_batch()
    update = FusedUpdate(ours)
    update.step(batch, Pair("in_turn"))
    assert update.loss().total.item() == pytest.approx(symphony_loss(theirs, batch).total.item(), rel=2e-5)


def test_a_diverged_update_shows() -> None:
    policy = make_policy("cpu")
    batch, noise = make_batch()
    batch.rewards[3] = math.nan
    update = FusedUpdate(policy)
    update.step(batch, Pair("in_turn"), noise)
    assert math.isnan(update.loss().total.item())


def test_branches_beside_each_other_give_the_same_bits() -> None:
    alone, beside = make_policy("cpu"), make_policy("cpu")
    first, second = FusedUpdate(alone), FusedUpdate(beside)
    in_turn, together = Pair("in_turn"), Pair("together")
    for seed in range(30):
        batch, noise = make_batch(seed)
        first.step(batch, in_turn, noise)
        second.step(batch, together, noise)
    for p, q in zip(alone.state_dict().values(), beside.state_dict().values(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_what_has_no_compiled_update_is_known(preset: str) -> None:
    small = {"hidden_size": 16, "critic_nodes": 8}
    policy = make_policy(preset, **small)
    plain = policy.config.gradient_dropout == "none" and not policy.config.feature_extractor
    assert fusible(policy) == plain
    assert not fusible(policy.double())


def test_a_branch_that_fails_is_not_waited_for_forever() -> None:
    policy = make_policy("cpu")
    batch, noise = make_batch()
    wrong = batch._replace(observations=batch.observations[:, :-1])
    pair = Pair("together")
    with pytest.raises(RuntimeError):
        FusedUpdate(policy).step(wrong, pair, noise)
    FusedUpdate(policy).step(batch, pair, noise)
    assert math.isfinite(actor_branch(policy, batch, noise).loss.item())
