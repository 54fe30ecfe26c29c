"""Which tasks there are for legged robots. Importing this loads neither MuJoCo nor Gymnasium."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, cast

from cadenza.robots.names import unknown_name

if TYPE_CHECKING:
    from cadenza.envs.legged.task import LeggedTask


@dataclass(frozen=True)
class TaskEntry:
    """A task as far as it must be known before anything heavy is loaded."""

    label: str
    """In the ids of its environments."""
    place: str
    """Module and class."""
    summary: str
    episode_s: float = 20.0


TASKS: dict[str, TaskEntry] = {
    "stand": TaskEntry("Stand", "cadenza.envs.stand:Stand", "stands still and takes pushes"),
    "walk": TaskEntry("Walk", "cadenza.envs.walk:Walk", "walks as commanded: forward, sideways, turning, and stands"),
    "run": TaskEntry("Run", "cadenza.envs.run:Run", "runs forward as fast as commanded"),
    "get_up": TaskEntry("GetUp", "cadenza.envs.get_up:GetUp", "gets up from where it fell and stands", 10.0),
}
"""By the name that :func:`task_class` takes."""


def task_class(name: str) -> type[LeggedTask]:
    """The class of a task named in :data:`TASKS`.

    Raises:
        UnknownNameError: there is no such task.
    """
    if name not in TASKS:
        raise unknown_name("task", name, TASKS)
    module, attribute = TASKS[name].place.split(":")
    return cast("type[LeggedTask]", getattr(import_module(module), attribute))
