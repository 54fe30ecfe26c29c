"""One whole update against an independent float64 rewrite of the formulas: loss, gradients, optimiser, target.

The rewrite below shares no code with the package: it reads the parameters by name and does the paper's sums with plain
torch operations and torch's autograd, one head at a time.
"""

import copy
import math

import numpy as np
import pytest
import torch
from gymnasium import spaces

from cadenza.agents.symphony.objective import symphony_loss
from cadenza.agents.symphony.policy import SETTLED_STEP, SymphonyPolicy
from cadenza.agents.symphony.presets import PRESETS, SymphonyConfig, resolve_config
from cadenza.agents.symphony.replay import Batch

OBS, ACT, ROWS = 11, 3, 16
SMALL = {"hidden_size": 24, "critic_nodes": 8, "batch_size": ROWS, "gradient_dropout": "none"}
GOLDEN = (math.sqrt(5) - 1) / 2


def make_policy(preset: str, seen: int | None = None, **overrides: object) -> SymphonyPolicy:
    torch.manual_seed(5)
    config = resolve_config(preset, {**SMALL, **overrides})
    policy = SymphonyPolicy(
        spaces.Box(-np.inf, np.inf, (OBS,)), spaces.Box(-1, 1, (ACT,)), lambda _: config.learning_rate, config=config,
        actor_observation_size=seen,
    ).double()  # fmt: skip
    policy.initialize_optimizer()
    with torch.no_grad():
        for p in policy.critic_target.parameters():
            p.add_(0.05 * torch.randn_like(p))
        policy.value_trace.fill_(0.7)
        if config.normalize_observations:
            policy.normalizer.update(torch.randn(OBS).double(), 0.5 + torch.rand(OBS).double())
    policy.set_training_mode(True)
    return policy


def make_batch() -> tuple[Batch, torch.Tensor]:
    g = torch.Generator().manual_seed(9)
    draw = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)  # noqa: E731
    terminals = (torch.arange(ROWS) % 5 == 0).double().unsqueeze(1)
    batch = Batch(draw(ROWS, OBS), torch.tanh(draw(ROWS, ACT)), draw(ROWS, OBS), 1 + draw(ROWS, 1), terminals)
    return batch, (draw(ROWS, ACT) / math.e).clamp(-1, 1)


class Rewrite:
    """Symphony's formulas once more, from the specification."""

    def __init__(self, policy: SymphonyPolicy, config: SymphonyConfig, seen: int | None = None):
        self.seen = seen
        self.p = {k: v.detach().clone() for k, v in policy.state_dict().items()}
        self.trained = [k for k, v in policy.named_parameters() if v.requires_grad]
        for k in self.trained:
            self.p[k].requires_grad_()
        self.c = config

    def activation(self, x, prefix, head):
        s = torch.sigmoid(self.p[prefix + "raw_scale"][head]) if prefix + "raw_scale" in self.p else None
        w = torch.sigmoid(self.p[prefix + "raw_width"][head]) if prefix + "raw_width" in self.p else None
        if w is None:
            u = s * torch.sin(x / s)
            return u / (1 + torch.exp(-1.5 * u / s))
        if s is None:
            u = torch.sin(x)
            return u / (1 + torch.exp(-u / w))
        u = s * torch.sin(x / s)
        return u / (1 + torch.exp(-u / (w * s)))

    def block(self, x, prefix, head=0):
        p = self.p
        y = x @ p[prefix + "weight1"][head] + p[prefix + "bias1"][head]
        y = (y - y.mean(-1, keepdim=True)) / (y.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        y = y * p[prefix + "norm_weight"][head] + p[prefix + "norm_bias"][head]
        y = self.activation(y @ p[prefix + "weight2"][head] + p[prefix + "bias2"][head], prefix, head)
        return y @ p[prefix + "weight3"][head] + p[prefix + "bias3"][head]

    def rms(self, x, name):
        return x / (x.pow(2).mean(-1, keepdim=True) + torch.finfo(x.dtype).eps).sqrt() * self.p[name + ".weight"]

    def z(self, s, stack):
        if not self.c.feature_extractor:
            return s
        e = stack + ".extractor."
        hidden = self.activation(s @ self.p[e + "inner.weight"].T + self.p[e + "inner.bias"], e, 0)
        return self.rms(
            torch.cat([s, hidden @ self.p[e + "outer.weight"].T + self.p[e + "outer.bias"]], 1), stack + ".z_norm"
        )

    def latent(self, z, a, stack):
        return self.block(torch.cat([a, z], 1), stack + ".reward_net.")

    def q(self, z, a, stack):
        x = torch.cat([a, z], 1)
        if self.c.feature_extractor:
            x = self.rms(torch.cat([a, z, self.latent(z, a, stack).detach()], 1), stack + ".za_norm")
        return torch.cat([self.block(x, stack + ".critics.", head) for head in range(3)], 1)

    def normalize(self, s):
        if not self.c.normalize_observations:
            return s
        return ((s - self.p["normalizer.mean"]) * self.p["normalizer.inverse_std"]).clamp(-10, 10)

    def loss(self, batch: Batch, noise: torch.Tensor) -> torch.Tensor:
        c = self.c
        s, s2 = self.normalize(batch.observations), self.normalize(batch.next_observations)
        a, scale, b = torch.tanh(self.block(self.z(s2, "critic")[:, : self.seen], "actor.net.") / 2).chunk(3, 1)
        scale, b = scale.abs(), b.abs()
        if c.clamp == "actor":
            scale, b = scale.clamp(1e-3, 1 - 1e-3), b.clamp(1e-3, 1 - 1e-3)
        a2 = torch.tanh(scale * a + noise)
        values = self.q(self.z(s2, "critic_target"), a2, "critic_target").sort(1)[0]
        i = torch.arange(values.shape[1]) / values.shape[1]
        phi = (1 + math.sqrt(5)) / 2
        if c.critic_weights == "tanh":
            w = torch.tanh((math.pi * (1 - i.double())) ** math.e)
        else:
            w = torch.exp(-(((1 - phi / 2 - i.double()).abs() * phi) ** (2 * math.e)))
        w = (w / w.sum()).float().double()  # the package keeps the weights in single precision
        q2 = (values * w).sum(1, keepdim=True)
        past = self.p["value_trace"]
        trace = GOLDEN * past + (1 - GOLDEN) * (q2.detach() if c.value_trace == "sample" else q2.detach().mean())
        if c.clamp == "swaddling":
            scale, b_loss = scale.clamp(1e-8, 1 - 1e-8), b.clamp(1e-8, 1 - 1e-8)
        else:
            b_loss = b
        omega = lambda x: torch.log((1 + x) / (1 - x))  # noqa: E731
        reduce = (lambda x: x.mean(1, keepdim=True)) if c.swaddling_reduction == "mean" else (lambda x: x.sum(1, True))
        h = reduce(omega(scale ** (1 / b_loss.detach())) + b_loss * (scale * torch.log(scale)))
        r = batch.rewards * (b.detach().mean(1, keepdim=True) if c.noiseless else 1.0)
        y = r + 0.99 * (1 - batch.terminals) * (q2.detach() - (h.detach() if c.swaddling_in_target else 0.0))
        z = self.z(s, "critic")
        e = self.q(z, batch.actions, "critic") - y
        advantage = (q2 - trace) / trace.abs()
        loss = (e * torch.tanh(e / 2)).mean() - (advantage.abs() * torch.tanh(advantage / 2)).mean()
        loss = loss + h.mean() + reduce(omega(b_loss**2)).mean()
        if c.feature_extractor:
            out = self.latent(z, batch.actions, "critic")
            predicted = out @ self.p["critic.reward_out.weight"].T + self.p["critic.reward_out.bias"]
            e = predicted - batch.rewards
            loss = loss + (e * torch.tanh(e / 2)).mean()
        return loss


VARIANTS = [
    ("s3", {}),
    ("s2_paper", {}),
    ("saya", {}),
    ("saya_paper", {}),
    ("cpu", {}),
    ("s3", {"noiseless": True}),
    ("saya", {"feature_extractor": False, "normalize_observations": True}),
    # The actor sees the first 5 of the 11 entries.
    ("cpu", {"seen": 5}),
    ("s3", {"seen": 5}),
]


@pytest.mark.parametrize(
    ("preset", "overrides"), VARIANTS, ids=lambda v: v if isinstance(v, str) else "-".join(v) or "as_is"
)
def test_loss_and_every_gradient_equal_the_rewrite(preset: str, overrides: dict[str, object]) -> None:
    policy = make_policy(preset, **overrides)
    batch, noise = make_batch()
    ours = symphony_loss(policy, batch, noise)
    policy.optimizer.zero_grad()
    ours.total.backward()
    rewrite = Rewrite(policy, policy.config, overrides.get("seen"))
    theirs = rewrite.loss(batch, noise)
    theirs.backward()
    assert ours.total.item() == pytest.approx(theirs.item(), rel=1e-9)
    for name, parameter in policy.named_parameters():
        if not parameter.requires_grad:
            continue
        expected = rewrite.p[name].grad
        assert parameter.grad is not None, name
        assert torch.allclose(parameter.grad, expected, rtol=1e-5, atol=1e-12), name


def test_target_critics_get_no_gradient() -> None:
    policy = make_policy("saya")
    batch, noise = make_batch()
    symphony_loss(policy, batch, noise).total.backward()
    assert all(p.grad is None for p in policy.critic_target.parameters())
    assert all(p.grad is not None for p in policy.actor.parameters())


def hand_adamw(theta, gradients, lr, beta2, epsilon, annealed):
    m = v = 0.0
    for g in gradients:
        epsilon = epsilon * beta2 + 1e-8 * (1 - beta2) if annealed else epsilon
        m, v = GOLDEN * m + (1 - GOLDEN) * g, beta2 * v + (1 - beta2) * g * g
        theta = (1 - lr * 0.01) * theta - lr * m / (math.sqrt(v) + epsilon)
        yield theta


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("s3", [0.9994588186393109, 0.9993482287051061, 0.9991814114956094]),
        ("saya", [0.9999801804430158, 0.9999750780153951, 0.9999677750210918]),
    ],
)
def test_optimizer_golden_values(preset: str, expected: list[float]) -> None:
    policy = make_policy(preset)
    parameter = policy.actor.net.bias3
    with torch.no_grad():
        parameter.fill_(1.0)
    seen = []
    for gradient in (0.5, -0.2, 0.1):
        policy.optimizer.zero_grad()
        parameter.grad = torch.full_like(parameter, gradient)
        policy.anneal_epsilon()
        policy.optimizer.step()
        seen.append(parameter[0, 0].item())
    assert seen == pytest.approx(expected, rel=1e-12)
    assert policy.optimizer.state[parameter]["step"].item() == SETTLED_STEP


def test_whole_step_moves_weights_and_target_as_the_formulas_say() -> None:
    policy = make_policy("s3")
    batch, noise = make_batch()
    before = {k: v.clone() for k, v in policy.state_dict().items()}
    rewrite = Rewrite(policy, policy.config)
    rewrite.loss(batch, noise).backward()
    loss = symphony_loss(policy, batch, noise)
    policy.optimizer.zero_grad()
    loss.total.backward()
    policy.optimizer.step()
    policy.update_target()
    after = policy.state_dict()
    name = "critic.critics.weight2"
    gradient = rewrite.p[name].grad
    for index in [(0, 1, 2), (1, 5, 7), (2, 23, 0)]:
        moved = next(iter(hand_adamw(before[name][index].item(), [gradient[index].item()], 1e-4, 0.995, 1e-8, False)))
        assert after[name][index].item() == pytest.approx(moved, rel=1e-10)
        target = before["critic_target" + name[6:]][index].item()
        expected = 0.995 * target + 0.005 * moved
        assert after["critic_target" + name[6:]][index].item() == pytest.approx(expected, rel=1e-10)


def test_value_trace_is_carried() -> None:
    policy = make_policy("s3")
    batch, noise = make_batch()
    loss = symphony_loss(policy, batch, noise)
    with torch.no_grad():
        policy.value_trace.fill_(loss.value_trace.item())
    again = symphony_loss(policy, batch, noise)
    mean_value = (loss.value_trace.item() - GOLDEN * 0.7) / (1 - GOLDEN)
    assert again.value_trace.item() == pytest.approx(GOLDEN * loss.value_trace.item() + (1 - GOLDEN) * mean_value)


def test_single_precision_agrees_with_double() -> None:
    policy = make_policy("cpu")
    single = copy.deepcopy(policy).float()
    batch, noise = make_batch()
    expected = symphony_loss(policy, batch, noise).total.item()
    got = symphony_loss(single, Batch(*(t.float() for t in batch)), noise.float()).total.item()
    assert got == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("preset", list(PRESETS))
def test_every_preset_builds_and_updates(preset: str) -> None:
    policy = make_policy(preset, gradient_dropout=PRESETS[preset].gradient_dropout)
    batch, noise = make_batch()
    loss = symphony_loss(policy, batch, noise)
    loss.total.backward()
    assert math.isfinite(loss.total.item())
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in policy.actor.parameters())
