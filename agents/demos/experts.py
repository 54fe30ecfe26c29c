"""Who demonstrates: experts by name, so that every task may bring its own.

An expert looks at what it likes, also at privileged state; only its observations and actions are recorded. One is made
for each episode, with that episode's seed, so that an episode is the same whoever collects it and in whatever order.
The environment is reset with the same number: an expert that draws makes its generator of ``[seed, 5]``, as of ``seed``
alone it would be the environment's own, and noise and layout would share their draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

from numpy.typing import ArrayLike

from cadenza.agents.demos.errors import DemoError
from cadenza.envs.names import unknown_name


class Expert(Protocol):
    """What collecting asks of an expert. Five further members are used where they exist:

    * ``success() -> bool``: whether the task was done; else ``info["is_success"]`` (or ``info["success"]``) decides,
    * ``done``: True ends the episode after this step, e.g. because nothing is left to be shown,
    * ``intended``: the last action without the noise, to learn from (:attr:`Episode.intended`),
    * ``extras``: more numbers of the step by name, e.g. ``attempt``, which tells two attempts in a row apart,
    * ``metadata() -> dict``: JSON-able facts to be kept with the episode, e.g. which failures were injected.
    """

    def reset(self, env: Any, observation: Any, info: dict[str, Any]) -> None:
        """A new episode has begun; ``env`` is the environment as ``gymnasium.make`` gave it."""

    def act(self, observation: Any) -> ArrayLike:
        """The action of this step."""

    def label(self) -> int:
        """Id of the primitive that chose the last action; -1 where there are no primitives."""


@dataclass(frozen=True)
class ExpertEntry:
    """One line of :data:`EXPERTS`."""

    maker: str
    """``module:function``, called as ``function(seed=..., **settings)``."""
    env_ids: tuple[str, ...]
    """Whose expert it is where nobody names one."""
    task: str
    """What it does, in words, as a task description of the data set."""
    summary: str


EXPERTS: dict[str, ExpertEntry] = {
    "cable": ExpertEntry(
        "cadenza.agents.demos.cable_expert:make_expert",
        ("cadenza/CableRouting-v0",),
        "route the cable through the clips",
        "a script that sees the cable and recovers from failures, which it may inject",
    ),
    "reacher": ExpertEntry(
        "cadenza.agents.demos.reaching:make_expert",
        ("Reacher-v5",),
        "bring the fingertip to the target",
        "inverse kinematics and a PD controller, with noise",
    ),
}
"""Experts: name -> where it is made. A task joins with one line here."""


def expert_for(env_id: str, name: str | None = None) -> str:
    """The name of the expert to use.

    Args:
        env_id: the environment.
        name: an expert that was asked for; None for the environment's own.

    Raises:
        CadenzaError: no such expert, or none for this environment.
    """
    if name is not None:
        if name not in EXPERTS:
            raise unknown_name("expert", name, EXPERTS)
        return name
    for found, entry in EXPERTS.items():
        if env_id in entry.env_ids:
            return found
    known = "; ".join(f"{found}: {', '.join(entry.env_ids)}" for found, entry in EXPERTS.items())
    raise DemoError(
        f"There is no expert for {env_id}.",
        f"There are: {known}.\nAnother joins with a line in agents/demos/experts.py (docs/demonstrations.md).",
    )


def make_expert(name: str, seed: int, settings: Mapping[str, Any]) -> Expert:
    """An expert for one episode.

    Args:
        name: one of :data:`EXPERTS`.
        seed: of the episode.
        settings: of the expert.

    Raises:
        DemoError: it cannot be imported, or has no such setting.
    """
    module, _, function = EXPERTS[name].maker.partition(":")
    try:
        maker = getattr(import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise DemoError(f"The expert {name!r} cannot be made: {error}.") from error
    try:
        expert: Expert = maker(seed=seed, **settings)
    except (TypeError, ValueError) as error:
        raise DemoError(f"The expert {name!r} cannot be made: {error}.", "See --expert-set.") from error
    return expert
