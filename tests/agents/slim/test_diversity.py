"""The objectives: their formulas by hand, their bounds, and that they learn to tell skills apart."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cadenza.agents.slim import DIAYN, LSD, METRA, SkillPrior
from cadenza.agents.slim.diversity import DiversityObjective, SpectralLinear, objective_class
from cadenza.agents.slim.skills import Transitions
from cadenza.envs.errors import CadenzaError
from cadenza.envs.names import UnknownNameError

SMALL: dict[str, Any] = {"hidden": (32, 32), "learning_rate": 3e-3, "batch_size": 128}


def moves(prior: SkillPrior, count: int = 512, size: int = 3, seed: int = 0, length: float = 0.1) -> Transitions:
    """Skills that move the first features along z."""
    draw = np.random.default_rng(seed)
    skills = prior.sample(count, draw)
    before = draw.uniform(-1, 1, (count, size)).astype(np.float32)
    after = before.copy()
    after[:, : prior.size] += length * skills[:, :size]
    return Transitions(before, after, skills)


def tensors(transitions: Transitions) -> list[torch.Tensor]:
    return [torch.as_tensor(array) for array in transitions]


# ------------------------------------------------------------------ LSD


def test_a_spectral_layer_divides_by_its_largest_singular_value() -> None:
    layer = SpectralLinear(2, 2).eval()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[3.0, 0.0], [0.0, -0.5]]))
        layer.bias.zero_()
        layer.settle()
    torch.testing.assert_close(layer(torch.tensor([[1.0, 0.0], [0.0, 6.0]])), torch.tensor([[1.0, 0.0], [0.0, -1.0]]))


@pytest.mark.parametrize("prior", [SkillPrior(), SkillPrior("sphere", 3), SkillPrior("one_hot", 5)])
def test_phi_never_makes_a_distance_longer(prior: SkillPrior) -> None:
    """On random pairs near and far, before and after updates that pull at the bound."""
    objective = LSD(6, prior, **SMALL)
    draw = torch.Generator().manual_seed(0)
    for rounds in range(4):
        for spread in (1e-2, 1.0, 30.0):
            x = spread * torch.randn(400, 6, generator=draw)
            y = x + torch.randn(400, 6, generator=draw) * spread * 10 ** -(3 * torch.rand(400, 1, generator=draw))
            with torch.no_grad():
                ratio = (objective.phi(x) - objective.phi(y)).norm(dim=1) / (x - y).norm(dim=1)
            assert float(ratio.max()) <= 1 + 1e-4
        objective.update(moves(prior, size=6, seed=rounds, length=1.0))
    for module in objective.modules():
        if isinstance(module, SpectralLinear):
            normalised = module.weight / (module.left @ module.weight @ module.right)
            assert float(torch.linalg.matrix_norm(normalised, 2)) == pytest.approx(1, abs=1e-5)


def test_lsd_rewards_phis_step_along_the_skill() -> None:
    prior = SkillPrior()
    objective = LSD(3, prior, **SMALL)
    batch = moves(prior, 5)
    with torch.no_grad():
        steps = (objective.phi(torch.as_tensor(batch.after)) - objective.phi(torch.as_tensor(batch.before))).numpy()
    np.testing.assert_allclose(objective.reward(*batch), (steps * batch.skills).sum(1), atol=1e-6)
    loss, _ = objective.loss(*tensors(batch))
    assert float(loss.detach()) == pytest.approx(-objective.reward(*batch).mean(), abs=1e-6)


def test_lsd_learns_the_direction_up_to_its_bound() -> None:
    prior, bound = SkillPrior(), 0.1
    objective = LSD(3, prior, **SMALL)
    before = objective.reward(*moves(prior, seed=99)).mean()
    for seed in range(30):
        objective.update(moves(prior, seed=seed))
    after = objective.reward(*moves(prior, seed=99))
    assert before < 0.5 * bound
    assert 0.8 * bound < after.mean() < bound
    assert after.max() <= bound + 1e-6


def test_one_hot_skills_are_centred_in_the_reward() -> None:
    prior = SkillPrior("one_hot", 3)
    objective = LSD(3, prior, **SMALL)
    batch = moves(prior, 4)
    total = sum(
        objective.reward(batch.before, batch.after, np.tile(np.eye(3, dtype=np.float32)[k], (4, 1))) for k in range(3)
    )
    np.testing.assert_allclose(total, 0, atol=1e-6)


def test_a_goal_gives_the_skill_that_leads_there() -> None:
    for prior in (SkillPrior(), SkillPrior("one_hot", 3)):
        objective = LSD(3, prior, **SMALL)
        for seed in range(15):
            objective.update(moves(prior, seed=seed))
        goal = np.array([0.0, 0.4, 0.0])
        z = prior.check(objective.goal_skill(np.zeros(3), goal))
        assert z[1] > 0.9
        with pytest.raises(CadenzaError, match="No skill leads there"):
            objective.goal_skill(goal, goal)
        with pytest.raises(CadenzaError, match="must be finite"):
            objective.goal_skill(goal, np.full(3, np.nan))


# ------------------------------------------------------------------ METRA


def identity_metra() -> METRA:
    """phi(s) = s."""
    objective = METRA(2, SkillPrior(), **SMALL)
    objective.phi = nn.Sequential(nn.Identity())
    return objective


def test_metras_loss_by_hand() -> None:
    # Steps (2, 0) and (0.1, 0.1): c = 1 - mean(4, 0) = -1 and min(1 - .01, 1e-3) = 1e-3; r = 2 and 0.1.
    before, after = torch.zeros(2, 2), torch.tensor([[2.0, 0.0], [0.1, 0.1]])
    skills = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    objective = identity_metra()
    loss, notes = objective.loss(before, after, skills)
    room = (-1 + 1e-3) / 2
    assert notes == {"lambda": pytest.approx(30), "constraint": pytest.approx(room)}
    expected = -((2 + 0.1) / 2 + 30 * room) + math.log(30) * room
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)
    (slope,) = torch.autograd.grad(loss, objective.log_lambda)
    assert float(slope) == pytest.approx(room)  # negative: descending it makes lambda larger


@pytest.mark.parametrize(("length", "grows"), [(5.0, True), (0.01, False)])
def test_the_dual_variable_follows_the_constraint(length: float, grows: bool) -> None:
    objective = identity_metra()
    objective.update(moves(SkillPrior(), size=2, length=length))
    assert (float(objective.log_lambda.detach().exp()) > 30) == grows


def test_metra_stretches_a_step_to_the_length_that_the_constraint_allows() -> None:
    """mean_dim dphi^2 = 1: in two dimensions a length of sqrt(2), however short the step was."""
    prior = SkillPrior()
    objective = METRA(3, prior, **SMALL)
    for seed in range(60):
        objective.update(moves(prior, seed=seed))
    batch = moves(prior, seed=99)
    with torch.no_grad():
        length = objective.steps(*tensors(batch)[:2]).norm(dim=1)
    assert float(length.mean()) == pytest.approx(math.sqrt(2), rel=0.15)
    assert objective.reward(*batch).mean() > 0.9 * math.sqrt(2) * 0.85


# ------------------------------------------------------------------ DIAYN


def undecided(prior: SkillPrior) -> DIAYN:
    objective = DIAYN(3, prior, **SMALL)
    last = objective.discriminator[-1]
    assert isinstance(last, nn.Linear)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return objective


def test_a_discriminator_that_knows_nothing_rewards_nothing() -> None:
    discrete = SkillPrior("one_hot", 4)
    batch = moves(discrete, 6)
    np.testing.assert_allclose(undecided(discrete).reward(*batch), 0, atol=1e-6)
    # N(0, 1) in the plane at length 1: log q = -1/2 - log 2pi, and log p = -log 2pi.
    np.testing.assert_allclose(undecided(SkillPrior()).reward(*moves(SkillPrior(), 6)), -0.5, atol=1e-6)


def test_diayn_learns_which_skill_it_was() -> None:
    prior = SkillPrior("one_hot", 3)
    objective = DIAYN(3, prior, **SMALL)
    for seed in range(20):
        objective.update(moves(prior, seed=seed, length=3.0))
    reward = objective.reward(*moves(prior, seed=99, length=3.0))
    assert reward.mean() > 0.9 * math.log(3)
    assert reward.max() <= math.log(3) + 1e-6


def test_the_gaussians_sharpness_is_bounded() -> None:
    prior = SkillPrior()
    objective = DIAYN(2, prior, **SMALL)
    skills = prior.sample(512, np.random.default_rng(0))
    for _ in range(40):
        objective.update(Transitions(skills, skills, skills))  # the state gives the skill away
    reward = objective.reward(skills, skills, skills)
    ceiling = 2 * (2.0 - 0.5 * math.log(2 * math.pi)) + math.log(2 * math.pi)  # both deviations at e^-2
    assert reward.max() <= ceiling + 1e-5
    assert reward.mean() > 0.5 * ceiling


# ------------------------------------------------------------------ all of them


@pytest.mark.parametrize("cls", [LSD, METRA, DIAYN])
def test_an_objective_is_decided_by_its_seed_and_goes_on_from_its_state(cls: type[DiversityObjective]) -> None:
    prior = SkillPrior()
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first, second = (cls(3, prior, seed=4, **SMALL) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)  # nobody else's numbers are used up
    for objective in (first, second):
        objective.update(moves(prior))
    third = cls(3, prior, seed=4, **SMALL)
    third.load_state_dict(second.state_dict())
    third.optimizer.load_state_dict(second.optimizer.state_dict())
    for objective in (first, third):
        objective.update(moves(prior, seed=1))
        assert not objective.training
    a, b = first.state_dict(), third.state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a)
    other = cls(3, prior, seed=5, **SMALL).state_dict()
    assert any(not torch.equal(a[name], other[name]) for name in a)


def test_sizes_that_do_not_fit_are_refused() -> None:
    objective = LSD(3, SkillPrior(), **SMALL)
    batch = moves(SkillPrior(), 4)
    with pytest.raises(CadenzaError, match="sees 3 features; 2 were given"):
        objective.reward(batch.before[:, :2], batch.after, batch.skills)
    with pytest.raises(CadenzaError, match="has 2 entries"):
        objective.update(batch._replace(skills=np.ones((4, 3), dtype=np.float32)))
    with pytest.raises(UnknownNameError, match="no diversity objective named 'lst'"):
        objective_class("lst")
