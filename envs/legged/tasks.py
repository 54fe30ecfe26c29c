"""Which tasks there are for legged robots. Importing this loads neither MuJoCo nor Gymnasium."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast

from cadenza.robots.names import unknown_name

if TYPE_CHECKING:
    from cadenza.envs.legged.task import LeggedTask

TASKS: dict[str, tuple[str, str, str]] = {
    "stand": ("Stand", "cadenza.envs.stand:Stand", "stands still and takes pushes"),
    "walk": ("Walk", "cadenza.envs.walk:Walk", "walks as commanded: forward, sideways, turning, and stands"),
    "run": ("Run", "cadenza.envs.run:Run", "runs forward as fast as commanded"),
    "get_up": ("GetUp", "cadenza.envs.get_up:GetUp", "gets up from where it fell and stands"),
}
"""Name -> what stands in an environment's id, where the class is, one line about it."""


def task_class(name: str) -> type[LeggedTask]:
    """The class of a task named in :data:`TASKS`.

    Raises:
        UnknownNameError: there is no such task.
    """
    if name not in TASKS:
        raise unknown_name("task", name, TASKS)
    module, attribute = TASKS[name][1].split(":")
    return cast("type[LeggedTask]", getattr(import_module(module), attribute))
