"""Inverse-dynamics pre-training: which action lies between two observations?

Encoders and hidden layers learn to tell a_t from o_t and o_{t+1}, which takes neither a task nor success: failed
episodes and other primitives serve too. Behaviour cloning then begins with them. Whether that helps depends on how few
demonstrations there are, so :func:`compare` measures it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cadenza.agents.imitation.cloning import augments, clone
from cadenza.agents.imitation.config import CloningConfig
from cadenza.agents.imitation.distribution import log_prob
from cadenza.agents.imitation.networks import layers
from cadenza.agents.imitation.optimisation import Learner, Progress, Schedule, generator_of, learn, silent
from cadenza.agents.imitation.policy import Batch, ImitationPolicy, Inputs
from cadenza.agents.imitation.samples import Samples, batch_rows
from cadenza.envs.errors import CadenzaError

STEPS = 5_000
_HEAD = 256


class InverseDynamics(nn.Module):
    """p(a_t | o_t, o_{t+1}) on the encoders and hidden layers of a policy, with a head of its own.

    Args:
        policy: whose layers learn.
        seed: of the head.
    """

    def __init__(self, policy: ImitationPolicy, seed: int = 0):
        super().__init__()
        self.policy = policy
        width = policy.config.hidden[-1]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + 1)
            self.head = nn.Sequential(layers([2 * width, _HEAD]), nn.Linear(_HEAD, 2 * policy.inputs.actions))

    def loss(self, before: Batch, after: Batch, action: Tensor, augmentation: torch.Generator | None = None) -> Tensor:
        """Mean of -log p(a_t | o_t, o_{t+1})."""
        both = [self.policy.trunk(self.policy.embed(batch, augmentation)) for batch in (before, after)]
        mean, log_std = self.policy.split(self.head(torch.cat(both, 1)))
        return -log_prob(mean, log_std, action, self.policy.config.action_clip).mean()


def pretrain(
    samples: Samples, inputs: Inputs, config: CloningConfig, steps: int = STEPS, progress: Progress = silent
) -> ImitationPolicy:
    """A policy whose encoders and hidden layers know inverse dynamics; its action head is as it was drawn.

    ``policy.facts["inverse_dynamics"]["loss"]`` is the mean of the last tenth of the updates.

    Args:
        samples: of any quality, with the actions that were carried out
            (:func:`cadenza.agents.imitation.samples.everything`); only their sequence counts.
        inputs: what is read of them.
        config: batch, rate, decay, augmentation and seed are taken from it.
        steps: updates.
        progress: told after each.

    Raises:
        CadenzaError: no two steps follow one another.
        KeyboardInterrupt: Ctrl-C or SIGTERM came; nothing is kept.
    """
    pairs = samples.pairs()
    if not len(pairs):
        raise CadenzaError("No two steps of these demonstrations follow one another.")
    policy = ImitationPolicy(inputs, config, config.seed)
    if inputs.number_count:
        policy.normaliser.fit(policy.picked(samples.batch(np.arange(len(samples)))[0]).numpy())
    model = InverseDynamics(policy, config.seed)
    learner = Learner(model, Schedule(steps, config.learning_rate, config.weight_decay, config.max_grad_norm))

    def loss_of(step: int) -> Tensor:
        rows = pairs[batch_rows(len(pairs), config.batch_size, step, config.seed)]
        (before, action), (after, _) = samples.batch(rows), samples.batch(rows + 1)
        draws = generator_of(config.seed + 17, step) if augments(policy) else None
        return model.loss(before, after, action, draws)

    last: list[float] = []
    if learn(
        learner,
        loss_of,
        validate=lambda _, loss: _keep(last, loss),
        validate_every=max(1, steps // 10),
        progress=progress,
    ):
        raise KeyboardInterrupt
    policy.facts["inverse_dynamics"] = {"steps": steps, "pairs": len(pairs), "loss": last[-1]}
    return policy


def _keep(losses: list[float], loss: float) -> str:
    losses.append(loss)
    return f"inverse dynamics, loss {loss:.2f}"


@dataclass(frozen=True)
class Comparison:
    """One row: a number of demonstrations, with or without pre-training, one seed."""

    demonstrations: int
    pretrained: bool
    seed: int
    held_out_loss: float
    held_out_error: float
    """Root mean square of noise-free actions."""
    success: dict[str, Any] | None
    """What ``evaluate`` gave."""


def compare(
    samples: Samples,
    inputs: Inputs,
    config: CloningConfig,
    *,
    everything: Samples,
    counts: Sequence[int] = (10, 30, 100),
    seeds: Sequence[int] = (0,),
    pretrain_steps: int = STEPS,
    evaluate: Callable[[ImitationPolicy], dict[str, Any]] | None = None,
    tell: Callable[[Comparison], None] = lambda _: None,
    progress: Progress = silent,
) -> list[Comparison]:
    """Behaviour cloning from few demonstrations, from scratch and after inverse dynamics on all of them.

    The held-out layouts are the same for all rows, and in neither training. What is compared is one policy that saw the
    actions of ``n`` demonstrations with another that saw, before that, all transitions without knowing which were good.

    Args:
        samples: all demonstrations, of which cloning learns.
        inputs: what is read of them.
        config: of cloning; ``held_out`` and the first of ``seeds`` decide what is held out.
        everything: all steps with the actions that were carried out, of the same demonstrations; what is of a held-out
            layout is left out here.
        counts: of demonstrations; larger ones hold the smaller. Counts beyond what there is are left out.
        seeds: of weights, batches and choice of demonstrations.
        pretrain_steps: updates.
        evaluate: gives a success rate of a policy, JSON-able.
        tell: told each row.
        progress: told after each update.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM came; of the row in work nothing is kept.
    """
    training, held_out = samples.split(config.held_out, config.seed)
    if not len(held_out):
        raise CadenzaError("Nothing is held out to compare on.", "Leave out --set held_out=0.")
    transitions = everything.without(held_out.layout)
    available = len(training.episodes())
    rows = []
    for seed in seeds:
        seeded = replace(config, seed=seed)
        prior: dict[str, Tensor] | None = None
        for count in (one for one in counts if one <= available):
            few = training.first_episodes(count, seed)
            for pretrained in (False, True):
                initial = None
                if pretrained:
                    if prior is None:
                        made = pretrain(transitions, inputs, seeded, pretrain_steps, progress)
                        prior = {name: tensor.clone() for name, tensor in made.state_dict().items()}
                    initial = ImitationPolicy(inputs, seeded, seed)
                    initial.load_state_dict(prior)
                result = clone(few, inputs, seeded, held_out=held_out, initial=initial, progress=progress)
                if result.interrupted:
                    raise KeyboardInterrupt
                last = result.rows[-1]
                row = Comparison(
                    count, pretrained, seed, last["held_out_loss"], last["held_out_error"],
                    None if evaluate is None else evaluate(result.policy),
                )  # fmt: skip
                rows.append(row)
                tell(row)
    return rows
