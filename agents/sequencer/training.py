"""Learning which primitive to choose: cross-entropy against the expert's choice.

A run folder holds ``config.json`` (what was asked, of which decisions, versions), ``metrics.csv``,
``checkpoint.safetensors`` (for ``--resume``) and, when it is done, the sequencer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from cadenza.agents.imitation.optimisation import CHECKPOINT, Learner, Progress, Schedule, learn_in, silent
from cadenza.agents.imitation.policy import ImitationPolicy
from cadenza.agents.imitation.samples import batch_rows
from cadenza.agents.runs.run_record import begin_run, check_resumed, read_run
from cadenza.agents.sequencer.config import SelectorConfig
from cadenza.agents.sequencer.decisions import NO_SIGNALS, Decisions
from cadenza.agents.sequencer.selector import LearnedSelector, plain_embedding
from cadenza.envs.errors import CadenzaError

RUN_FORMAT = "cadenza-selector-run-1"
_HOW = "`cadenza sequence train DECISIONS --run RUN` makes one."


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
        CadenzaError: inputs that cannot be learned from, a run that exists (or, with ``resume``, does not, or was begun
            with other settings, decisions or another embedding), a loss that is not finite.
    """
    _check_inputs(decisions, config, embedding)
    if config.history > decisions.history.shape[1]:
        raise CadenzaError(f"history={config.history}, but only {decisions.history.shape[1]} primitives were recorded.")
    folder = None if run is None else Path(run)
    if folder is not None:
        record = _record(decisions, config, embedding, facts or {})
        if resume:
            check_resumed(folder, read_selector_run(folder), record, ("decisions", "embedding"))
        else:
            begin_run(folder, record, "Choose another with --run, or go on with it: the same command with --resume.")
    training, held_out = decisions.split(config.held_out, config.seed)
    selector = LearnedSelector(
        decisions.names, embedding or plain_embedding(training, config.features, config.parts), config
    )
    selector.signals_version = decisions.signals_version
    selector.facts = {**(facts or {}), "decisions": len(training), "layouts": len(np.unique(training.layout))}
    inputs, labels = selector.inputs_of(training), torch.from_numpy(training.label)
    selector.net.normaliser.fit(inputs[0].numpy())
    learner = Learner(selector.net, Schedule(config.steps, config.learning_rate, config.weight_decay))
    if folder is not None and resume:
        learner.load(folder / CHECKPOINT)
    checked = (
        (inputs, labels) if not len(held_out) else (selector.inputs_of(held_out), torch.from_numpy(held_out.label))
    )

    def loss_of(step: int) -> Tensor:
        rows = torch.from_numpy(batch_rows(len(training), config.batch_size, step, config.seed))
        return functional.cross_entropy(selector.net(*(part[rows] for part in inputs)), labels[rows])

    def measure() -> dict[str, float]:
        row = {"accuracy": _score(selector, inputs, labels)[1]}
        if len(held_out):
            row["held_out_loss"], row["held_out_accuracy"] = _score(selector, *checked)
        return row

    def words(row: dict[str, float]) -> str:
        right = row.get("held_out_accuracy", float("nan"))
        return f"loss {row['loss']:.3f}, right on held-out layouts {right:.1%}"

    learned = learn_in(folder, learner, loss_of, measure, words, config, progress)
    result = SelectorResult(selector, learned.rows, learner.step, learned.interrupted)
    selector.net.eval()
    if folder is not None and not result.interrupted:
        selector.save(folder)
    return result


def read_selector_run(folder: str | Path) -> dict[str, Any]:
    """``config.json`` of a training of a sequencer.

    Raises:
        CadenzaError: no such run there, or one of before runs noted their settings.
    """
    return read_run(folder, RUN_FORMAT, "a run of `cadenza sequence train` that can go on", _HOW)


def _check_inputs(decisions: Decisions, config: SelectorConfig, embedding: ImitationPolicy | None) -> None:
    """Whether what is asked for can be seen, and is not asked for in vain."""
    cameras = [name for name, array in decisions.observation.items() if array.ndim == 4]
    if embedding is None and cameras:
        raise CadenzaError(
            f"These decisions have pictures ({', '.join(cameras)}), and nothing to see them through.",
            "Give --embedding POLICY, an imitation policy with cameras (`cadenza imitate bc` makes one), or collect "
            "decisions without pictures (observe=state).",
        )
    if embedding is not None and (config.features is not None or config.parts):
        given = " and ".join(name for name in ("features", "parts") if getattr(config, name))
        raise CadenzaError(
            f"{given} would not be read: the embedding looks at what its policy was trained with.",
            "Leave them out, or leave out --embedding.",
        )
    if config.signals and decisions.signals_version == NO_SIGNALS:
        raise CadenzaError(
            "signals=True, but these decisions have no struggle signals, or signals of several definitions.",
            "Demonstrations do not record how an attempt ended, and decisions of earlier versions have other signals: "
            "collect them anew with `cadenza sequence collect`, or train without signals.",
        )


def _record(
    decisions: Decisions, config: SelectorConfig, embedding: ImitationPolicy | None, facts: Mapping[str, Any]
) -> dict[str, Any]:
    """What ``config.json`` says of a run; what it learns from by its content."""
    data = hashlib.sha256(repr((decisions.names, decisions.signals_version)).encode())
    arrays = {name: getattr(decisions, name) for name in ("history", "signals", "label", "layout")}
    for name, array in sorted({**decisions.observation, **arrays}.items()):
        data.update(repr((name, str(array.dtype), array.shape)).encode())
        data.update(np.ascontiguousarray(array).data)
    eyes = None
    if embedding is not None:
        seen = hashlib.sha256()
        for name, tensor in sorted(embedding.state_dict().items()):
            seen.update(name.encode())
            seen.update(np.ascontiguousarray(tensor.numpy()).data)
        eyes = seen.hexdigest()
    return {
        "format": RUN_FORMAT,
        "config": config.to_dict(),
        "decisions": data.hexdigest(),
        "embedding": eyes,
        "facts": dict(facts),
    }


@torch.no_grad()
def _score(selector: LearnedSelector, inputs: tuple[Tensor, Tensor, Tensor], labels: Tensor) -> tuple[float, float]:
    """Cross-entropy, and the share of decisions as the expert's."""
    logits = selector.net(*inputs)
    right = (logits.argmax(-1) == labels).float().mean()
    return float(functional.cross_entropy(logits, labels)), float(right)
