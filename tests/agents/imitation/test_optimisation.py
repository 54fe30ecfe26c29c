"""The release's faults, each tested not to be here, and what a checkpoint must hold."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from cadenza.agents.imitation.config import cosine
from cadenza.agents.imitation.optimisation import Learner, Schedule, learn, weight_groups
from cadenza.envs.errors import CadenzaError


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(16, 3), nn.Embedding(5, 4))


def zero_loss(module: nn.Module) -> torch.Tensor:
    return sum((0.0 * weight).sum() for weight in module.parameters())  # type: ignore[return-value]


def test_weight_decay_acts_on_weights_and_on_nothing_else() -> None:
    """With a gradient of 0 AdamW moves by its decay alone: w <- w (1 - lr wd)."""
    module = network()
    before = {name: weight.detach().clone() for name, weight in module.named_parameters()}
    learner = Learner(module, Schedule(steps=10, learning_rate=0.1, weight_decay=0.5))
    learner.update(zero_loss(module))
    for name, weight in module.named_parameters():
        factor = 1.0 - 0.1 * 0.5 if name in ("0.weight", "3.weight") else 1.0
        torch.testing.assert_close(weight.detach(), before[name] * factor)


def test_every_parameter_is_in_one_group() -> None:
    module = network()
    decayed, free = weight_groups(module)
    assert {id(w) for w in [*decayed, *free]} == {id(w) for w in module.parameters()}
    assert len(decayed) == 2


@pytest.mark.parametrize("steps", [1_000, 20_000])
def test_the_cosine_ends_where_training_ends(steps: int) -> None:
    assert cosine(0, steps, 3e-5) == 3e-5
    assert cosine(steps // 2, steps, 3e-5) == pytest.approx(1.5e-5)
    assert cosine(steps, steps, 3e-5) == pytest.approx(0.0, abs=1e-12)


def test_the_schedule_reaches_the_optimizer() -> None:
    module = network()
    learner = Learner(module, Schedule(steps=4, learning_rate=1.0))
    rates = []
    for _ in range(4):
        learner.update(zero_loss(module))
        rates.append(learner.optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([1.0, 0.853553, 0.5, 0.146447], abs=1e-6)


def test_a_checkpoint_goes_on_bit_for_bit(tmp_path: Path) -> None:
    def run(cut: int | None) -> nn.Module:
        module = nn.Linear(3, 2)
        with torch.no_grad():
            module.weight.fill_(0.3)
            module.bias.fill_(0.1)
        learner = Learner(module, Schedule(6, 0.05, 0.1))

        def loss(step: int) -> torch.Tensor:
            return module(torch.full((4, 3), float(step + 1))).square().mean()

        for step in range(cut or 6):
            learner.update(loss(step))
        if cut is not None:
            learner.save(tmp_path / "c.safetensors")
            module = nn.Linear(3, 2)
            learner = Learner(module, Schedule(6, 0.05, 0.1))
            learner.load(tmp_path / "c.safetensors")
            assert not learn(learner, loss)
        return module

    whole, cut = run(None), run(3)
    assert torch.equal(whole.weight, cut.weight)  # type: ignore[arg-type]
    assert torch.equal(whole.bias, cut.bias)  # type: ignore[arg-type]


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    learner = Learner(nn.Linear(3, 2), Schedule(6, 0.05))
    learner.update(zero_loss(learner.module))
    learner.save(tmp_path / "c.safetensors")
    data = (tmp_path / "c.safetensors").read_bytes()
    (tmp_path / "c.safetensors").write_bytes(data[:-20])
    with pytest.raises(CadenzaError, match="cannot be used"):
        learner.load(tmp_path / "c.safetensors")


def test_a_loss_that_is_not_finite_changes_nothing() -> None:
    module = nn.Linear(3, 2)
    learner = Learner(module, Schedule(6, 0.05))
    before = module.weight.detach().clone()
    with pytest.raises(CadenzaError, match="not finite"):
        learner.update(module.weight.sum() * float("nan"))
    assert torch.equal(module.weight, before)
