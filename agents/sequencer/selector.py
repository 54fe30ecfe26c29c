"""The learned choice: a frozen embedding of the observation and the last primitives -> one of the primitives.

Saved as plain data: ``selector.safetensors``, ``selector.json``, and ``embedding/``, the imitation policy whose
encoders (or, without cameras, whose normaliser) it sees through.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cadenza.agents.imitation.config import CloningConfig, config_from
from cadenza.agents.imitation.described_weights import UNREADABLE, WeightFiles
from cadenza.agents.imitation.features import Described, feature_set
from cadenza.agents.imitation.networks import Normaliser, layers
from cadenza.agents.imitation.policy import ImitationPolicy, Inputs
from cadenza.agents.imitation.samples import entries_of
from cadenza.agents.sequencer.config import SelectorConfig
from cadenza.agents.sequencer.decisions import Decisions, as_mapping, padded
from cadenza.agents.sequencer.machine import Decision
from cadenza.agents.sequencer.signals import FIRST_VERSION, SIGNAL_COUNT, SIGNALS_VERSION
from cadenza.agents.sequencer.task import SequenceTask
from cadenza.envs.errors import CadenzaError

FORMAT = "cadenza-selector-1"
WEIGHTS, DESCRIPTION, EMBEDDING = "selector.safetensors", "selector.json", "embedding"
FILES = WeightFiles(WEIGHTS, DESCRIPTION, FORMAT)
_EMBED_BATCH = 256


class SelectorNet(nn.Module):
    """Embedding -> 256, ids -> 256, both -> 256 -> a logit for each primitive.

    Args:
        embedding_size: entries of the frozen embedding.
        primitives: how many there are.
        config: its sizes.
    """

    def __init__(self, embedding_size: int, primitives: int, config: SelectorConfig):
        super().__init__()
        self.signals = config.signals
        self.normaliser = Normaliser(embedding_size)
        self.seen = layers([embedding_size, config.hidden])
        self.ids = nn.Embedding(primitives + 1, config.id_size)  # the last is that of the padding
        remembered = config.history * config.id_size + (SIGNAL_COUNT if config.signals else 0)
        self.remembered = layers([remembered, config.hidden])
        self.both = layers([2 * config.hidden, config.hidden])
        self.logits = nn.Linear(config.hidden, primitives)

    def forward(self, embedding: Tensor, history: Tensor, signals: Tensor) -> Tensor:
        """Logits (N, primitives) of embeddings (N, size), padded ids (N, history) and signals (N, 3)."""
        past = self.ids(history).flatten(1)
        if self.signals:
            past = torch.cat([past, signals], 1)
        seen = self.seen(self.normaliser(embedding))
        out: Tensor = self.logits(self.both(torch.cat([seen, self.remembered(past)], 1)))
        return out


class LearnedSelector:
    """A chooser that was learned.

    Args:
        names: primitives, by id.
        embedding: frozen; its encoders and normaliser are used.
        config: of the network.
    """

    name = "learned"

    def __init__(self, names: Sequence[str], embedding: ImitationPolicy, config: SelectorConfig):
        self.names, self.embedding, self.config = tuple(names), embedding, config
        self.facts: dict[str, Any] = {}
        """What it was made from."""
        self.signals_version = SIGNALS_VERSION
        """Definition of the struggle signals it learned with (:mod:`cadenza.agents.sequencer.signals`)."""
        embedding.requires_grad_(False).eval()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.net = SelectorNet(embedding.embedding_size, len(self.names), config)

    @torch.no_grad()
    def embed(self, observation: Mapping[str, NDArray[Any]]) -> Tensor:
        """Of a batch of observations, (N, size)."""
        count = len(next(iter(observation.values())))
        parts = []
        for start in range(0, count, _EMBED_BATCH):
            rows = {name: array[start : start + _EMBED_BATCH] for name, array in observation.items()}
            parts.append(self.embedding.embed(self.embedding.to_batch(rows)[0]))
        return torch.cat(parts)

    def inputs_of(self, decisions: Decisions) -> tuple[Tensor, Tensor, Tensor]:
        """Embeddings, ids and signals of ``decisions``, as the network takes them."""
        return (
            self.embed(decisions.observation),
            torch.from_numpy(decisions.history[:, -self.config.history :].copy()),
            torch.from_numpy(decisions.signals),
        )

    # ------------------------------------------------------------------ choosing

    def begin(self, task: SequenceTask, seed: int) -> None:
        """Check that it knows the task's primitives."""
        if tuple(task.primitives) != self.names:
            raise CadenzaError(
                f"This sequencer chooses among {', '.join(self.names)}; {task.name} has {', '.join(task.primitives)}."
            )

    def choose(self, decision: Decision) -> str:
        """The likeliest primitive."""
        return self.names[int(np.argmax(self.probabilities(decision)))]

    @torch.no_grad()
    def probabilities(self, decision: Decision) -> NDArray[np.float32]:
        """Of each primitive, (primitives,)."""
        embedding = self.embed({name: array[None] for name, array in as_mapping(decision.observation).items()})
        history = torch.tensor([padded(decision.history, self.config.history, len(self.names))])
        signals = decision.signals_of(self.signals_version).vector()
        logits = self.net(embedding, history, torch.from_numpy(signals)[None])
        found: NDArray[np.float32] = logits.softmax(-1)[0].numpy()
        return found

    # ------------------------------------------------------------------ files

    def save(self, folder: str | Path) -> Path:
        """Write it into ``folder``."""
        folder = Path(folder)
        self.embedding.save(folder / EMBEDDING)
        FILES.write(
            folder,
            self.net.state_dict(),
            {
                "names": self.names,
                "config": self.config.to_dict(),
                "signals_version": self.signals_version,
                "facts": self.facts,
            },
        )
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Open the sequencer in ``folder``.

        Raises:
            CadenzaError: there is none, or its files are damaged or of another format.
        """
        folder = Path(folder)
        if not (folder / DESCRIPTION).is_file():
            raise CadenzaError(
                f"{folder} holds no sequencer: there is no {DESCRIPTION} in it.",
                "`cadenza sequence train` makes one.",
            )
        try:
            description, weights = FILES.read(folder)
            embedding = ImitationPolicy.load(folder / EMBEDDING)
            selector = cls(description["names"], embedding, config_from(SelectorConfig, description["config"]))
            selector.net.load_state_dict(weights)
            selector.facts = description["facts"]
            selector.signals_version = int(description.get("signals_version", FIRST_VERSION))
        except UNREADABLE as error:
            raise CadenzaError(f"The sequencer in {folder} cannot be read: {error}.", "Train it again.") from error
        selector.net.eval()
        return selector


def plain_embedding(decisions: Decisions, features: str | None = None, parts: Sequence[str] = ()) -> ImitationPolicy:
    """The normalised vectors of the observation as an embedding, for where there are no cameras to look through.

    Args:
        decisions: give the vectors and their moments.
        features: see through this feature set instead (:mod:`cadenza.agents.imitation.features`).
        parts: only the entries of these names of it; none: all.

    Raises:
        CadenzaError: ``parts`` without a feature set, or names that it does not have.
    """
    sizes = {name: array.shape[1] for name, array in decisions.observation.items() if array.ndim == 2}
    rows = {name: decisions.observation[name] for name in sizes}
    if features is not None:
        added = feature_set(features)
        sizes = {added.key: len(added.names)}
    numbers = {name: tuple(range(size)) for name, size in sizes.items()}
    if parts:
        if features is None:
            raise CadenzaError("parts chooses entries of a feature set; name it: features=NAME.")
        numbers = {added.key: entries_of(added.key, Described((len(added.names),), added.names), parts)}
        if not numbers[added.key]:
            known = sorted({name.rpartition("_")[0] for name in added.names})
            raise CadenzaError(
                f"No entry of {features} belongs to {', '.join(parts)}.", f"There are: {', '.join(known)}."
            )
    config = CloningConfig(numbers=tuple(numbers), features=features, parts=tuple(parts), hidden=(1,))
    policy = ImitationPolicy(Inputs(numbers, {}, 1, sizes), config)
    policy.normaliser.fit(policy.picked(policy.to_batch(rows)[0]).numpy())
    return policy
