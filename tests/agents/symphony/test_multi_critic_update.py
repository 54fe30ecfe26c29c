"""One update with a critic triple for each reward group: against the scalar objective, autograd and torch's AdamW."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from gymnasium import spaces

from cadenza.agents.symphony.block import compiled
from cadenza.agents.symphony.branches import Pair
from cadenza.agents.symphony.fused import FusedUpdate, UpdateMemory, fusible
from cadenza.agents.symphony.fused_groups import GroupUpdateMemory
from cadenza.agents.symphony.losses import (
    group_advantages,
    group_errors,
    group_shares,
    rehae,
    rehse,
    temporal_advantage,
)
from cadenza.agents.symphony.objective import actor_branch, critic_forward, critic_loss, symphony_loss
from cadenza.agents.symphony.policy import SymphonyPolicy
from cadenza.agents.symphony.presets import resolve_config
from cadenza.agents.symphony.replay import Batch

OBS, ACT, ROWS = 13, 3, 32
GAMMAS = (0.99, 0.9, 0.5)
WEIGHTS = (0.5, 0.375, 0.125)  # exact in float32
GOLDEN = (math.sqrt(5) - 1) / 2
VARIANTS = [
    ("cpu", {}),
    ("cpu", {"group_advantage_scale": "trace"}),
    ("cpu", {"group_balance": "none"}),
    ("s3", {"value_trace": "mean", "critic_weights": "bell"}),
    ("s3", {"value_trace": "mean", "group_advantage_scale": "trace", "group_balance": "none"}),
    ("ed", {"noiseless": True}),
    ("cpu", {"smoothness_weight": 0.5, "actor_average": 0.0}),
    ("cpu", {"seen": 8}),
]
needs_numba = pytest.mark.skipif(compiled() is None, reason="numba is missing or switched off")


def make_policy(
    preset: str = "cpu", gammas: tuple[float, ...] | None = GAMMAS, seen: int | None = None, **overrides: object
) -> SymphonyPolicy:
    torch.manual_seed(3)
    config = resolve_config(preset, {"hidden_size": 24, "critic_nodes": 8, "batch_size": ROWS, **overrides})
    policy = SymphonyPolicy(
        spaces.Box(-np.inf, np.inf, (OBS,)), spaces.Box(-1, 1, (ACT,)), lambda _: config.learning_rate, config=config,
        actor_observation_size=seen, gammas=gammas,
    )  # fmt: skip
    policy.initialize_optimizer()
    groups = len(policy.attention)
    with torch.no_grad():
        for p in policy.critic_target.parameters():
            p.add_(0.05 * torch.randn_like(p))
        policy.actor.net.weight3.mul_(6)
        policy.value_trace.copy_(torch.tensor([0.7, -0.4, 0.2])[:groups].view_as(policy.value_trace))
        if config.normalize_observations:
            policy.normalizer.update(torch.randn(OBS), 0.2 + torch.rand(OBS))
    if groups > 1:
        policy.attention[:] = WEIGHTS
    return policy


def make_batch(seed: int = 9, groups: int = 3) -> tuple[Batch, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=g)  # noqa: E731
    terminals = (torch.arange(ROWS) % 5 == 0).float().unsqueeze(1)
    rewards = torch.tensor([1.0, -1.0, 0.0])[:groups] + draw(ROWS, groups)
    batch = Batch(3 * draw(ROWS, OBS), torch.tanh(draw(ROWS, ACT)), draw(ROWS, OBS), rewards, terminals)
    return batch, (draw(ROWS, ACT) / math.e).clamp(-1, 1)


def doubled(batch: Batch) -> Batch:
    return Batch(*(t.double() for t in batch))


def alone(policy: SymphonyPolicy, k: int) -> SymphonyPolicy:
    """A scalar policy with the actor of ``policy`` and the critics of its group ``k``."""
    config = policy.config
    settings = resolve_config(
        "s3", {**config.to_dict(), "gamma": GAMMAS[k], "advantage_scale": config.group_advantage_scale}
    )
    single = SymphonyPolicy(
        policy.observation_space, policy.action_space, lambda _: 1e-4, config=settings,
        actor_observation_size=policy.actor_observation_size,
    ).double()  # fmt: skip
    with torch.no_grad():
        own = dict(single.named_parameters()) | dict(single.named_buffers())
        for name, value in (*policy.named_parameters(), *policy.named_buffers()):
            part = value[3 * k : 3 * k + 3] if ".critics." in name else value
            own[name].copy_(part[k] if name == "value_trace" else part)
    return single


def advantage_alone(single: SymphonyPolicy, batch: Batch, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The advantage of a scalar policy, and the next action that it depends on."""
    obs = single.normalized(batch.next_observations)
    action, scale, _ = single.actor(single.actor_input(obs))
    played = torch.tanh(scale * action + noise)
    value = single.critic_target.value(single.critic_target.values(obs, played, None))
    fixed = value.detach()
    recent = fixed if single.config.value_trace == "sample" else fixed.mean()
    trace = GOLDEN * single.value_trace + (1 - GOLDEN) * recent
    return rehae(temporal_advantage(value, trace, single.config.advantage_scale)), played


@pytest.mark.parametrize(("preset", "overrides"), VARIANTS)
def test_each_group_learns_as_it_would_alone(preset: str, overrides: dict[str, object]) -> None:
    """Critics: each triple's gradient is that of plain Symphony on its reward. Actor: the weighted sum of theirs."""
    policy = make_policy(preset, **overrides).double()
    batch, noise = doubled(make_batch()[0]), make_batch()[1].double()
    loss = symphony_loss(policy, batch, noise)
    loss.total.backward()
    critics, pulls, advantages, rest = 0.0, [], [], []
    for k in range(3):
        single = alone(policy, k)
        parameters = list(single.actor.parameters())
        part = batch._replace(rewards=batch.rewards[:, k : k + 1])
        branch = actor_branch(single, part, noise)
        value = critic_loss(critic_forward(single, part), branch.target_value)
        critics += value.item()
        value.backward()
        for mine, theirs in zip(policy.critic.parameters(), single.critic.parameters(), strict=True):
            assert torch.allclose(mine.grad[3 * k : 3 * k + 3], theirs.grad, rtol=1e-9, atol=1e-12)
        assert loss.by_group[k].item() == pytest.approx(branch.advantage.item(), rel=1e-9)
        assert loss.value_trace[k].item() == pytest.approx(branch.value_trace.item(), rel=1e-9)
        advantage, played = advantage_alone(single, part, noise)
        pulls.append(torch.autograd.grad(advantage, played, retain_graph=True)[0].square().sum(1).mean().sqrt().item())
        advantages.append(torch.autograd.grad(advantage, parameters))
        # The loss of one is swaddling (+ smoothness) - advantage.
        whole = torch.autograd.grad(branch.loss, parameters)
        rest = [a + b for a, b in zip(whole, advantages[k], strict=True)]
    assert loss.critic.item() == pytest.approx(critics, rel=1e-9)
    shares = list(WEIGHTS)
    if policy.config.group_balance == "pull":
        mean = sum(w * n for w, n in zip(WEIGHTS, pulls, strict=True))
        shares = [w * mean / n for w, n in zip(WEIGHTS, pulls, strict=True)]
    for index, parameter in enumerate(policy.actor.parameters()):
        expected = rest[index] - sum(share * advantages[k][index] for k, share in enumerate(shares))
        # The shares are float32.
        assert torch.allclose(parameter.grad, expected, rtol=1e-5, atol=1e-6 * expected.abs().max().item())


@needs_numba
@pytest.mark.parametrize(("preset", "overrides"), VARIANTS)
def test_compiled_update_equals_autograd(preset: str, overrides: dict[str, object]) -> None:
    ours = make_policy(preset, **overrides)
    exact = copy.deepcopy(ours).double()
    batch, noise = make_batch()
    expected = symphony_loss(exact, doubled(batch), noise.double())
    assert fusible(ours)
    update = FusedUpdate(ours)
    update.step(batch, Pair("in_turn"), noise)
    got = update.loss()
    for name in ("total", "advantage", "critic", "swaddling"):
        assert getattr(got, name).item() == pytest.approx(getattr(expected, name).item(), rel=2e-5, abs=1e-6), name
    assert torch.allclose(got.value_trace.double(), expected.value_trace, atol=1e-6)
    assert torch.allclose(ours.value_trace.double(), expected.value_trace, atol=1e-6)
    assert torch.allclose(got.by_group.double(), expected.by_group, rtol=2e-5, atol=1e-6)
    exact.optimizer.zero_grad()
    expected.total.backward()
    # After one step from zero moments m = (1 - beta1) g: every gradient can be read off.
    beta1 = ours.optimizer.param_groups[0]["betas"][0]
    for (name, parameter), reference in zip(ours.named_parameters(), exact.parameters(), strict=True):
        if not parameter.requires_grad:
            continue
        gradient = ours.optimizer.state[parameter]["exp_avg"].double() / (1 - beta1)
        largest = reference.grad.abs().max().item()
        assert torch.allclose(gradient, reference.grad, rtol=1e-4, atol=1e-6 * max(1.0, largest)), name


@needs_numba
@pytest.mark.parametrize("scale", ["spread", "trace"])
def test_many_compiled_updates_stay_with_torch(scale: str) -> None:
    ours = make_policy(learning_rate=1e-4, group_advantage_scale=scale)
    theirs = copy.deepcopy(ours)
    update, pair = FusedUpdate(ours), Pair("in_turn")
    for seed in range(20):
        batch, noise = make_batch(seed)
        update.step(batch, pair, noise)
        loss = symphony_loss(theirs, batch, noise)
        theirs.optimizer.zero_grad()
        loss.total.backward()
        theirs.optimizer.step()
        theirs.update_target()
        theirs.update_average()
        theirs.value_trace.copy_(loss.value_trace)
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(p, q, atol=3e-4, rtol=1e-3), name


@needs_numba
@pytest.mark.parametrize("scale", ["spread", "trace"])
def test_with_one_group_the_general_pass_is_the_scalar_one(scale: str) -> None:
    """Learners with one group take the scalar pass, to the bit; this is the formula's own check, up to rounding."""
    policy = make_policy(gammas=None, advantage_scale=scale, group_advantage_scale=scale)
    policy.attention[:] = 1.0
    batch, noise = make_batch(groups=1)
    plain = UpdateMemory(policy, OBS, OBS, ROWS)
    general = GroupUpdateMemory(policy, OBS, OBS, ROWS)
    for memory in (plain, general):
        memory.value_next(batch, noise)
    assert np.allclose(general.grad_values[0], plain.grad_value, rtol=2e-5, atol=1e-7)
    for memory in (plain, general):
        memory.improve_actor()
    assert np.allclose(general.target.grad_x_np, plain.target.grad_x_np, rtol=2e-5, atol=1e-7)
    assert np.allclose(general.targets[0], plain.target_value, rtol=1e-6, atol=1e-6)
    assert np.allclose([general.advantages[0], general.traces[0]], plain.sums, rtol=1e-5, atol=1e-7)


def updated(policy: SymphonyPolicy, batch: Batch, noise: torch.Tensor) -> list[torch.Tensor]:
    """The actor's parameters after one update."""
    if compiled() is not None:
        FusedUpdate(policy).step(batch, Pair("in_turn"), noise)
        return [p.detach().clone() for p in policy.actor.parameters()]
    policy.step_actor(policy.actor_gradients(actor_branch(policy, batch, noise).loss))
    return [p.detach().clone() for p in policy.actor.parameters()]


def equal(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("scale", ["spread", "trace"])
def test_a_group_without_weight_changes_not_one_bit_of_the_actor(scale: str) -> None:
    batch, noise = make_batch()
    policies = [make_policy(group_advantage_scale=scale) for _ in range(3)]
    for policy in policies[:2]:
        policy.attention[:] = 0.6, 0.4, 0.0
    with torch.no_grad():
        for policy in policies[1:]:
            policy.critic_target.critics.weight3[6:].mul_(-3.0)
    silent, changed, heard = (updated(policy, batch, noise) for policy in policies)
    assert equal(silent, changed)
    assert not equal(silent, heard)


@pytest.mark.parametrize("scale", ["spread", "trace"])
def test_values_that_are_all_alike_contribute_nothing(scale: str) -> None:
    batch, noise = make_batch()
    flat, without = (make_policy(group_advantage_scale=scale) for _ in range(2))
    with torch.no_grad():
        for policy in (flat, without):
            policy.critic_target.critics.weight3[3:6] = 0.0
    without.attention[1] = 0.0
    assert equal(updated(flat, batch, noise), updated(without, batch, noise))


def test_advantages_do_not_depend_on_the_scale_of_a_groups_values() -> None:
    g = torch.Generator().manual_seed(0)
    values, trace = torch.randn(64, 2, generator=g), torch.randn(64, 2, generator=g)
    for scale in ("spread", "trace"):
        plain = group_advantages(values, trace, scale)
        doubled_values = torch.stack([values[:, 0], 1024 * values[:, 1]], 1)
        doubled_trace = torch.stack([trace[:, 0], 1024 * trace[:, 1]], 1)
        assert torch.equal(plain, group_advantages(doubled_values, doubled_trace, scale))
        for k in range(2):
            expected = rehae(temporal_advantage(values[:, k : k + 1], trace[:, k : k + 1], scale))
            assert plain[k].item() == pytest.approx(expected.item(), rel=1e-6)


def test_shares_give_each_group_a_pull_in_proportion_to_its_weight() -> None:
    weights, pulls = np.array([0.5, 0.3, 0.2]), np.array([2.0, 0.01, 30.0])
    shares = group_shares(weights, pulls)
    assert shares * pulls == pytest.approx(weights * (0.5 * 2 + 0.3 * 0.01 + 0.2 * 30))
    assert group_shares(weights, None) is weights
    assert group_shares(np.array([0.0, 1.0]), np.array([5.0, 3.0])) == pytest.approx([0.0, 1.0])  # one: as it is
    assert group_shares(np.array([0.5, 0.5]), np.array([0.0, 3.0]))[0] == 0.0
    assert group_shares(np.array([0.5, 0.5]), np.array([0.0, 3.0]))[1] == pytest.approx(0.5)
    assert not group_shares(np.zeros(2), np.array([1.0, 2.0])).any()


def test_errors_of_groups_are_rehse_of_each() -> None:
    error = torch.randn(16, 3, 8, generator=torch.Generator().manual_seed(1))
    for k in range(3):
        assert group_errors(error)[k].item() == pytest.approx(rehse(error[:, k]).item(), rel=1e-6)


@pytest.mark.parametrize("preset", ["saya", "saya_paper"])
def test_a_shared_feature_extractor_is_refused(preset: str) -> None:
    with pytest.raises(ValueError, match="3 reward groups"):
        make_policy(preset)


def test_gradient_dropout_works_with_groups() -> None:
    policy = make_policy("s2")
    assert not fusible(policy)
    policy.set_training_mode(True)
    batch, noise = make_batch()
    loss = symphony_loss(policy, batch, noise)
    loss.total.backward()
    assert all(torch.isfinite(p.grad).all() for p in policy.critic.parameters())
