"""Which tasks there are for arms, and for which arms. Importing this loads neither MuJoCo nor Gymnasium."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, cast

from cadenza.robots.names import unknown_name

if TYPE_CHECKING:
    from cadenza.envs.tabletop.task import TableTask

ARMS = ("panda", "so101", "ur5e")
"""Those with a workspace in envs/tabletop/workspaces.py."""
EPISODE_STEPS = 100
"""5 s at 20 Hz."""


@dataclass(frozen=True)
class TableEntry:
    """A task as far as it must be known before anything heavy is loaded."""

    label: str
    """In the ids of its environments."""
    place: str
    """Module and class."""
    summary: str


TASKS: dict[str, TableEntry] = {
    "reach": TableEntry("Reach", "cadenza.envs.tabletop.goals:Reach", "brings its hand to a point"),
    "push": TableEntry("Push", "cadenza.envs.tabletop.goals:Push", "pushes a cube to a place on the table"),
    "pick_place": TableEntry("PickPlace", "cadenza.envs.tabletop.goals:PickPlace", "carries a cube to a point"),
    "play": TableEntry("Play", "cadenza.envs.tabletop.play:Play", "plays with a cube: no task, rewards as a vector"),
}
"""By the name that :func:`task_class` takes."""


def task_class(name: str) -> type[TableTask]:
    """The class of a task named in :data:`TASKS`.

    Raises:
        UnknownNameError: there is no such task.
    """
    if name not in TASKS:
        raise unknown_name("table-top task", name, TASKS)
    module, attribute = TASKS[name].place.split(":")
    return cast("type[TableTask]", getattr(import_module(module), attribute))
