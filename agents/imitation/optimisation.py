"""AdamW, its schedule and its checkpoints, for everything here that learns from a fixed set of samples.

Three faults of the release of arXiv 2307.08927 cannot happen: weight decay is given by the kind of the layer, not by
matching names; the cosine ends where the training does, fine-tuning too; augmentation is drawn for each picture.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from cadenza.agents.imitation.config import cosine
from cadenza.agents.runs.metrics import Table
from cadenza.agents.runs.settings import write_bytes
from cadenza.envs.errors import CadenzaError

METRICS, CHECKPOINT = "metrics.csv", "checkpoint.safetensors"
"""Files of :func:`learn_in`."""
_DECAYED = (nn.Linear, nn.Conv2d)
_SEED_STRIDE = 1_000_003

Progress = Callable[[int, int, str], None]
"""Told the update, the number of updates, and a few words."""


def silent(step: int, steps: int, words: str) -> None:
    """Tells nobody."""


@dataclass(frozen=True)
class Schedule:
    """How a module is optimised."""

    steps: int
    """True number of updates: the cosine ends there."""
    learning_rate: float
    weight_decay: float = 0.0
    max_grad_norm: float = 10.0


def weight_groups(module: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Learned parameters that decay, the weights of linear and convolutional layers, and those that do not."""
    weights = [layer.get_parameter("weight") for layer in module.modules() if isinstance(layer, _DECAYED)]
    decayed = [weight for weight in weights if weight.requires_grad]
    ids = {id(weight) for weight in decayed}
    free = [weight for weight in module.parameters() if weight.requires_grad and id(weight) not in ids]
    return decayed, free


class Learner:
    """A module with its optimiser, at an update of a schedule.

    Args:
        module: what learns.
        schedule: how.
    """

    def __init__(self, module: nn.Module, schedule: Schedule):
        self.module, self.schedule, self.step = module, schedule, 0
        decayed, free = weight_groups(module)
        groups = [{"params": decayed, "weight_decay": schedule.weight_decay}, {"params": free, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=schedule.learning_rate)
        self._parameters = [*decayed, *free]
        self._names = {id(weight): name for name, weight in module.named_parameters()}

    def update(self, loss: Tensor) -> float:
        """One step down the gradient of ``loss``; the loss.

        Raises:
            CadenzaError: the loss is not finite; nothing was changed.
        """
        value = float(loss.detach())
        if value != value or value in (float("inf"), float("-inf")):
            raise CadenzaError(
                f"The loss of update {self.step} is not finite.", "Look for NaN in the demonstrations; lower the rate."
            )
        rate = cosine(self.step, self.schedule.steps, self.schedule.learning_rate)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self._parameters, self.schedule.max_grad_norm)
        self.optimizer.step()
        self.step += 1
        return value

    def save(self, path: Path) -> None:
        """Write module, moments and step into one file, renamed into place: a kill leaves the old one or the new."""
        tensors = {f"module.{name}": tensor for name, tensor in self.module.state_dict().items()}
        for weight in self._parameters:
            for key, value in self.optimizer.state.get(weight, {}).items():
                tensors[f"{key}.{self._names[id(weight)]}"] = value
        data = save({name: tensor.contiguous() for name, tensor in tensors.items()}, {"step": str(self.step)})
        write_bytes(path, data)

    def load(self, path: Path) -> None:
        """Go on from :meth:`save`.

        Raises:
            CadenzaError: there is no such file, or it is damaged or another network's.
        """
        try:
            with safe_open(path, "pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
                step = int(file.metadata()["step"])
            own = {name.removeprefix("module."): t for name, t in tensors.items() if name.startswith("module.")}
            self.module.load_state_dict(own)
            for weight in self._parameters:
                name = self._names[id(weight)]
                found = {key: tensors[f"{key}.{name}"] for key in ("step", "exp_avg", "exp_avg_sq")}
                self.optimizer.state[weight] = found
        except (OSError, SafetensorError, RuntimeError, KeyError, ValueError) as error:
            raise CadenzaError(f"The checkpoint {path} cannot be used: {error}.", "Start a new run.") from error
        self.step = step


def generator_of(seed: int, step: int) -> torch.Generator:
    """A generator for one update, the same in a resumed run."""
    return torch.Generator().manual_seed(seed * _SEED_STRIDE + step)


class StopFlag:
    """Set by Ctrl-C or SIGTERM, read between updates."""

    def __init__(self) -> None:
        self.asked = False


@contextmanager
def stop_in_order() -> Iterator[StopFlag]:
    """The first Ctrl-C or SIGTERM sets the flag; a second Ctrl-C stops at once."""
    flag = StopFlag()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return

    def ask(number: int, frame: Any) -> None:
        if flag.asked:
            raise KeyboardInterrupt
        flag.asked = True

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def learn(
    learner: Learner,
    loss_of: Callable[[int], Tensor],
    *,
    checkpoint: Path | None = None,
    checkpoint_every: int = 2_000,
    validate: Callable[[int, float], str] | None = None,
    validate_every: int = 1_000,
    progress: Progress = silent,
) -> bool:
    """Update until the schedule is over; whether it was interrupted (then the checkpoint is as of this moment).

    Args:
        learner: at any step.
        loss_of: loss of the update of that number.
        checkpoint: file to store in; None: nowhere.
        checkpoint_every: updates.
        validate: told the number of updates done and the mean loss since the last call; gives a few words to show.
        validate_every: updates; it is called after the last update too.
        progress: told after each update.
    """
    steps, losses, words = learner.schedule.steps, [], ""
    with stop_in_order() as flag:
        while learner.step < steps and not flag.asked:
            losses.append(learner.update(loss_of(learner.step)))
            done = learner.step
            if validate is not None and (done % validate_every == 0 or done == steps):
                words = validate(done, sum(losses) / len(losses))
                losses = []
            if checkpoint is not None and (done % checkpoint_every == 0 or done == steps):
                learner.save(checkpoint)
            progress(done, steps, words)
        if flag.asked and checkpoint is not None:
            learner.save(checkpoint)
    return flag.asked


@dataclass
class Learned:
    """What :func:`learn_in` gave."""

    rows: list[dict[str, float]]
    """Per validation: ``step``, ``loss`` (mean since the last), and what was measured."""
    interrupted: bool


class Rhythm(Protocol):
    """How often a training looks up, in updates."""

    @property
    def validate_every(self) -> int:
        """Updates between validations."""

    @property
    def checkpoint_every(self) -> int:
        """Updates between checkpoints."""


def learn_in(
    folder: Path | None,
    learner: Learner,
    loss_of: Callable[[int], Tensor],
    measure: Callable[[], dict[str, float]],
    words: Callable[[dict[str, float]], str],
    rhythm: Rhythm,
    progress: Progress = silent,
) -> Learned:
    """:func:`learn` with ``metrics.csv`` and ``checkpoint.safetensors`` in a run folder.

    Args:
        folder: that exists; None: keep nothing.
        learner: at any step; rows from there on are appended, later ones of before are cut.
        loss_of: loss of the update of that number.
        measure: a validation.
        words: what to show of its row.
        rhythm: how often.
        progress: told after each update.
    """
    rows: list[dict[str, float]] = []
    table = None if folder is None else Table(folder / METRICS, learner.step)

    def validate(step: int, loss: float) -> str:
        row = {"step": step, "loss": loss, **measure()}
        rows.append(row)
        if table is not None:
            table.append(row)
        return words(row)

    interrupted = learn(
        learner,
        loss_of,
        checkpoint=None if folder is None else folder / CHECKPOINT,
        checkpoint_every=rhythm.checkpoint_every,
        validate=validate,
        validate_every=rhythm.validate_every,
        progress=progress,
    )
    return Learned(rows, interrupted)
