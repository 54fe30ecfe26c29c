"""Behaviour cloning: the policy under which the demonstrated actions are most likely, loss -log p.

A run folder holds ``config.json`` (what was asked, versions), ``metrics.csv`` (training and held-out loss),
``checkpoint.safetensors`` (for ``--resume``, the same bits as without the cut) and ``policy/``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cadenza.agents.imitation.config import FINE_TUNING, CloningConfig
from cadenza.agents.imitation.distribution import log_prob
from cadenza.agents.imitation.optimisation import (
    CHECKPOINT,
    Learner,
    Progress,
    Schedule,
    generator_of,
    learn_in,
    silent,
)
from cadenza.agents.imitation.policy import Batch, ImitationPolicy, Inputs
from cadenza.agents.imitation.samples import Samples, batch_rows
from cadenza.agents.imitation.tasks import check_same
from cadenza.agents.runs import run_record

RUN_FORMAT = "cadenza-imitation-run-1"
POLICY = "policy"
_VALIDATION_BATCH = 512
_VALIDATION_ROWS = 8_192
"""At most so many held-out steps are looked at in a validation."""


@dataclass
class CloneResult:
    """What a training gave."""

    policy: ImitationPolicy
    rows: list[dict[str, float]] = field(default_factory=list)
    """Per validation: ``step``, ``loss`` (mean since the last), ``held_out_loss``, ``held_out_error``."""
    step: int = 0
    interrupted: bool = False


def clone(
    samples: Samples,
    inputs: Inputs,
    config: CloningConfig,
    run: str | Path | None = None,
    *,
    held_out: Samples | None = None,
    initial: ImitationPolicy | None = None,
    facts: Mapping[str, Any] | None = None,
    resume: bool = False,
    progress: Progress = silent,
) -> CloneResult:
    """Learn a policy from ``samples``.

    Args:
        samples: training and held-out layouts together.
        inputs: what is read of them.
        config: how.
        run: folder to make; None: keep nothing.
        held_out: for validation, where ``samples`` are for training alone; None: a share of the layouts is split off.
        initial: begin with these weights and this normaliser (pre-trained, or to be tuned); it is changed.
        facts: JSON-able, for ``policy.json``.
        resume: go on from the checkpoint in ``run``.
        progress: told after each update.

    Raises:
        MismatchError: ``initial`` was made for another environment, rate or observation, or has other networks.
        CadenzaError: a run that exists (or, with ``resume``, does not), or a loss that is not finite.
    """
    if initial is not None:
        _check_initial(initial, inputs, config)
    training = samples
    if held_out is None:
        training, held_out = samples.split(config.held_out, config.seed)
    policy = initial or ImitationPolicy(inputs, config, config.seed)
    policy.inputs.check(training.observation)
    policy.config = config
    if initial is None and inputs.number_count:
        policy.normaliser.fit(policy.picked(training.batch(np.arange(len(training)))[0]).numpy())
    policy.facts = {
        **policy.facts,
        **(facts or {}),
        "steps_of_demonstrations": len(training),
        "episodes": len(training.episodes()),
    }
    policy.encoders.requires_grad_(not config.freeze_encoder)
    schedule = Schedule(config.steps, config.learning_rate, config.weight_decay, config.max_grad_norm)
    learner = Learner(policy, schedule)
    folder = None if run is None else Path(run)
    if folder is not None:
        record = {"format": RUN_FORMAT, "config": config.to_dict(), "facts": dict(facts or {})}
        if resume:
            run_record.check_resumed(folder, read_run(folder), record)
            learner.load(folder / CHECKPOINT)
        else:
            advice = f"Choose another with --run, or continue it:  cadenza imitate bc --resume {folder}"
            run_record.begin_run(folder, record, advice)
    policy.train()

    def loss_of(step: int) -> Tensor:
        batch, action = training.batch(batch_rows(len(training), config.batch_size, step, config.seed))
        draws = generator_of(config.seed, step) if augments(policy) else None
        return negative_log_likelihood(policy, batch, action, draws)

    learned = learn_in(
        folder, learner, loss_of, lambda: validation(policy, held_out),
        lambda row: f"loss {row['loss']:.2f}, held out {row.get('held_out_loss', float('nan')):.2f}", config, progress,
    )  # fmt: skip
    result = CloneResult(policy, learned.rows, learner.step, learned.interrupted)
    policy.eval()
    if folder is not None and not result.interrupted:
        policy.save(folder / POLICY)
    return result


def fine_tune(
    policy: ImitationPolicy,
    samples: Samples,
    *,
    progress: Progress = silent,
    run: str | Path | None = None,
    **overrides: Any,
) -> CloneResult:
    """Learn on: 1,000 updates from 3e-5, the cosine over these 1,000, unless ``overrides`` of the config say otherwise.

    The normaliser stays: to move it would change what every weight behind it means.
    """
    config = replace(policy.config, **{**FINE_TUNING, **overrides})
    return clone(samples, policy.inputs, config, run, initial=policy, progress=progress)


def negative_log_likelihood(
    policy: ImitationPolicy, batch: Batch, action: Tensor, augmentation: torch.Generator | None = None
) -> Tensor:
    """Mean of -log p(action)."""
    mean, log_std = policy.distribution(batch, augmentation)
    return -log_prob(mean, log_std, action, policy.config.action_clip).mean()


def augments(policy: ImitationPolicy) -> bool:
    """Whether anything is drawn in training."""
    return policy.config.jitter > 0.0 or (policy.config.augment and bool(policy.inputs.cameras))


@torch.no_grad()
def validation(policy: ImitationPolicy, samples: Samples) -> dict[str, float]:
    """Loss and root mean square error of noise-free actions on ``samples``; empty where there are none."""
    if not len(samples):
        return {}
    rows = np.linspace(0, len(samples) - 1, min(len(samples), _VALIDATION_ROWS)).astype(np.int64)
    loss = error = 0.0
    for start in range(0, len(rows), _VALIDATION_BATCH):
        batch, action = samples.batch(rows[start : start + _VALIDATION_BATCH])
        mean, log_std = policy.distribution(batch)
        loss -= float(log_prob(mean, log_std, action, policy.config.action_clip).sum())
        error += float(((torch.tanh(mean) - action) ** 2).mean(-1).sum())
    return {"held_out_loss": loss / len(rows), "held_out_error": (error / len(rows)) ** 0.5}


def _check_initial(initial: ImitationPolicy, inputs: Inputs, config: CloningConfig) -> None:
    networks = [
        f"{name}: {getattr(initial.config, name)} against {getattr(config, name)}"
        for name in ("encoder", "hidden", "features", "log_std_bounds")
        if getattr(initial.config, name) != getattr(config, name)
    ]
    check_same(initial.inputs, inputs, networks)


def read_run(folder: str | Path) -> dict[str, Any]:
    """``config.json`` of an imitation run.

    Raises:
        CadenzaError: no such run there.
    """
    return run_record.read_run(
        folder, RUN_FORMAT, "an imitation run", "`cadenza imitate bc DEMOS --run RUN` makes one."
    )
