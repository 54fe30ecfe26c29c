"""Learning which primitive to choose: cross-entropy against the expert's choice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from cadenza.agents.imitation.optimisation import Learner, Progress, Schedule, learn, silent
from cadenza.agents.imitation.policy import ImitationPolicy
from cadenza.agents.imitation.samples import batch_rows
from cadenza.agents.runs.metrics import Table
from cadenza.agents.sequencer.config import SelectorConfig
from cadenza.agents.sequencer.decisions import Decisions
from cadenza.agents.sequencer.selector import LearnedSelector, plain_embedding
from cadenza.envs.errors import CadenzaError

METRICS, CHECKPOINT = "metrics.csv", "checkpoint.safetensors"


@dataclass
class SelectorResult:
    """What a training gave."""

    selector: LearnedSelector
    rows: list[dict[str, float]] = field(default_factory=list)
    """Per validation: ``step``, ``loss``, ``accuracy``, ``held_out_loss``, ``held_out_accuracy``."""
    step: int = 0
    interrupted: bool = False


def train_selector(
    decisions: Decisions,
    config: SelectorConfig,
    *,
    embedding: ImitationPolicy | None = None,
    run: str | Path | None = None,
    facts: Mapping[str, Any] | None = None,
    resume: bool = False,
    progress: Progress = silent,
) -> SelectorResult:
    """Learn a sequencer from ``decisions``.

    Args:
        decisions: training and held-out layouts together.
        config: how.
        embedding: what it looks through, left as it is; None: the normalised vectors of the observation.
        run: folder to make; None: keep nothing.
        facts: JSON-able, for ``selector.json``.
        resume: go on from the checkpoint in ``run``.
        progress: told after each update.

    Raises:
        CadenzaError: a history that is longer than was recorded, a run that exists, a loss that is not finite.
    """
    if config.history > decisions.history.shape[1]:
        raise CadenzaError(f"history={config.history}, but only {decisions.history.shape[1]} primitives were recorded.")
    folder = None if run is None else Path(run)
    if folder is not None and not resume and folder.is_dir() and any(folder.iterdir()):
        raise CadenzaError(
            f"The run folder {folder} exists already; nothing was changed.", "Choose another with --run."
        )
    training, held_out = decisions.split(config.held_out, config.seed)
    selector = LearnedSelector(
        decisions.names, embedding or plain_embedding(training, config.features, config.parts), config
    )
    selector.facts = {**(facts or {}), "decisions": len(training), "layouts": len(np.unique(training.layout))}
    inputs, labels = selector.inputs_of(training), torch.from_numpy(training.label)
    selector.net.normaliser.fit(inputs[0].numpy())
    learner = Learner(selector.net, Schedule(config.steps, config.learning_rate, config.weight_decay))
    table = None
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        if resume:
            learner.load(folder / CHECKPOINT)
        table = Table(folder / METRICS, learner.step)
    result = SelectorResult(selector)
    checked = (
        (inputs, labels) if not len(held_out) else (selector.inputs_of(held_out), torch.from_numpy(held_out.label))
    )

    def loss_of(step: int) -> Tensor:
        rows = torch.from_numpy(batch_rows(len(training), config.batch_size, step, config.seed))
        return functional.cross_entropy(selector.net(*(part[rows] for part in inputs)), labels[rows])

    def validate(step: int, loss: float) -> str:
        row = {"step": step, "loss": loss, "accuracy": _score(selector, inputs, labels)[1]}
        if len(held_out):
            row["held_out_loss"], row["held_out_accuracy"] = _score(selector, *checked)
        result.rows.append(row)
        if table is not None:
            table.append(row)
        return f"loss {loss:.3f}, right on held-out layouts {row.get('held_out_accuracy', float('nan')):.1%}"

    result.interrupted = learn(
        learner,
        loss_of,
        checkpoint=None if folder is None else folder / CHECKPOINT,
        checkpoint_every=config.checkpoint_every,
        validate=validate,
        validate_every=config.validate_every,
        progress=progress,
    )
    result.step = learner.step
    selector.net.eval()
    if folder is not None and not result.interrupted:
        selector.save(folder)
    return result


@torch.no_grad()
def _score(selector: LearnedSelector, inputs: tuple[Tensor, Tensor, Tensor], labels: Tensor) -> tuple[float, float]:
    """Cross-entropy, and the share of decisions as the expert's."""
    logits = selector.net(*inputs)
    right = (logits.argmax(-1) == labels).float().mean()
    return float(functional.cross_entropy(logits, labels)), float(right)
