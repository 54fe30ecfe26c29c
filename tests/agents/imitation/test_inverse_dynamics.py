from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from cadenza.agents.imitation.cloning import clone
from cadenza.agents.imitation.config import CloningConfig
from cadenza.agents.imitation.inverse_dynamics import InverseDynamics, compare, pretrain
from cadenza.agents.imitation.policy import ImitationPolicy
from cadenza.agents.imitation.samples import everything, load_samples
from cadenza.envs.errors import CadenzaError

SMALL = CloningConfig(steps=30, batch_size=32, hidden=(32, 32), validate_every=30, held_out=0.2, learning_rate=3e-3)


def test_it_learns_which_action_lies_between(demos: Callable[..., Any]) -> None:
    """In the toy the place moves by 0.1 a: what lies between two observations says a exactly."""
    config = dataclasses.replace(SMALL, parts=("tcp",))
    samples, inputs = load_samples(demos(episodes=40), config)
    losses = [pretrain(samples, inputs, config, steps=n).facts["inverse_dynamics"]["loss"] for n in (5, 200)]
    assert losses[1] < 0.2 * losses[0]


def test_cloning_begins_with_what_was_pretrained(demos: Callable[..., Any]) -> None:
    samples, inputs = load_samples(demos(), SMALL)
    policy = pretrain(samples, inputs, SMALL, steps=20)
    fresh = ImitationPolicy(inputs, SMALL, SMALL.seed)
    assert not torch.equal(policy.trunk[0].weight, fresh.trunk[0].weight)
    assert torch.equal(policy.head.weight, fresh.head.weight)  # the action head has not learned yet
    mean = policy.normaliser.mean.clone()
    tuned = clone(samples, inputs, SMALL, initial=policy).policy
    assert torch.equal(tuned.normaliser.mean, mean)


def test_a_frozen_encoder_stays(demos: Callable[..., Any]) -> None:
    config = dataclasses.replace(SMALL, cameras=("wrist",), parts=("tcp",), steps=2, batch_size=8, validate_every=2)
    samples, inputs = load_samples(demos(), config)
    policy = pretrain(samples, inputs, config, steps=2)
    before = {name: tensor.clone() for name, tensor in policy.encoders.state_dict().items()}
    frozen = dataclasses.replace(config, freeze_encoder=True)
    clone(samples, inputs, frozen, initial=policy)
    assert all(torch.equal(before[name], tensor) for name, tensor in policy.encoders.state_dict().items())
    clone(samples, inputs, config, initial=policy)
    assert not all(torch.equal(before[name], tensor) for name, tensor in policy.encoders.state_dict().items())


def test_pairs_do_not_reach_over_episodes(demos: Callable[..., Any]) -> None:
    samples, inputs = load_samples(demos(episodes=3), SMALL)
    with pytest.raises(CadenzaError, match="follow one another"):
        pretrain(samples.rows(np.array([0, 20, 40])), inputs, SMALL, steps=1)


def test_a_row_for_each_count_with_and_without(demos: Callable[..., Any]) -> None:
    samples, inputs = load_samples(demos(episodes=12), SMALL)
    seen: list[ImitationPolicy] = []

    def evaluate(policy: ImitationPolicy) -> dict[str, Any]:
        seen.append(policy)
        return {"share": 0.5}

    rows = compare(samples, inputs, SMALL, everything=samples, counts=(2, 6, 100), pretrain_steps=3, evaluate=evaluate)
    assert [(row.demonstrations, row.pretrained) for row in rows] == [(2, False), (2, True), (6, False), (6, True)]
    assert len({row.held_out_loss for row in rows}) == 4
    assert [policy.facts["episodes"] for policy in seen] == [2, 2, 6, 6]
    few, many = samples.first_episodes(2, 0), samples.first_episodes(6, 0)
    assert set(few.episodes()) < set(many.episodes())


def test_the_head_of_inverse_dynamics_sees_both(demos: Callable[..., Any]) -> None:
    samples, inputs = load_samples(demos(), SMALL)
    model = InverseDynamics(ImitationPolicy(inputs, SMALL, 0))
    (one, action), (two, _) = samples.batch(np.arange(8)), samples.batch(np.arange(8) + 40)
    with torch.no_grad():
        assert model.loss(one, two, action) != model.loss(two, one, action)


def test_a_comparison_pretrains_on_no_held_out_layout(
    demos: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from cadenza.agents.imitation import inverse_dynamics

    config = dataclasses.replace(SMALL, primitive="stay", steps=2, validate_every=2)
    made = demos(episodes=12, failures=4)
    samples, inputs = load_samples(made, config, ("go", "stay"))
    whole, _ = load_samples(made, everything(config), ("go", "stay"))
    assert len(whole) == 12 * 20
    _, held_out = samples.split(config.held_out, config.seed)
    seen: list[Any] = []
    real = inverse_dynamics.pretrain
    monkeypatch.setattr(
        inverse_dynamics, "pretrain", lambda *given, **more: seen.append(given[0]) or real(*given, **more)
    )
    compare(samples, inputs, config, everything=whole, counts=(2,), pretrain_steps=1)
    assert set(seen[0].layout) == set(whole.layout) - set(held_out.layout)
    assert len(seen[0]) == 20 * len(seen[0].episodes())


def test_transitions_have_what_was_done(demos: Callable[..., Any]) -> None:
    made = demos(episodes=2)
    for info in made.episodes:
        made.load(info.index).meant = np.full((20, 2), 0.25, np.float32)
    assert not np.any(load_samples(made, everything(SMALL))[0].action == 0.25)


def test_an_interrupt_before_the_first_loss_is_an_interrupt(demos: Callable[..., Any]) -> None:
    def stop(step: int, steps: int, words: str) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    samples, inputs = load_samples(demos(), SMALL)
    with pytest.raises(KeyboardInterrupt):
        pretrain(samples, inputs, SMALL, steps=100, progress=stop)
    told: list[Any] = []
    with pytest.raises(KeyboardInterrupt):
        compare(samples, inputs, SMALL, everything=samples, counts=(2,), tell=told.append, progress=stop)
    assert told == []
