"""Robots as data: each is a module with one joint table and ``build_spec()``. Importing this loads no MuJoCo."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    import mujoco

    from cadenza.robots.gym_humanoid import Joint

ROBOTS: dict[str, str] = {
    "gym_humanoid": "Gymnasium's humanoid: 17 torque motors, 42 kg, capsules and spheres",
}
"""Name -> one-line summary; the name is that of the module in this package."""


class Robot(Protocol):
    """What a robot's module offers."""

    @property
    def JOINTS(self) -> tuple[Joint, ...]:
        """The joint table, in the order of the model's joints."""

    @property
    def ACTUATORS(self) -> tuple[str, ...]:
        """Joint names in the order of ``ctrl``."""

    def build_spec(self) -> mujoco.MjSpec:
        """The MuJoCo model, ready to be changed or compiled."""


def load(name: str) -> Robot:
    """The module of a robot named in :data:`ROBOTS`.

    Raises:
        ValueError: there is no such robot; the message lists those that exist.
    """
    if name not in ROBOTS:
        raise ValueError(f"There is no robot named {name!r}; there are: {', '.join(ROBOTS)}.")
    return cast(Robot, import_module(f"cadenza.robots.{name}"))
