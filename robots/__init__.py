"""Robots as data. Importing this loads no MuJoCo.

Humanoids and arms that exist are one file each in ``robots/humanoids/`` and ``robots/arms/`` and are found there;
Gymnasium's humanoid, which does not exist, is the module ``gym_humanoid``.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Protocol, cast

from cadenza.robots.arm_description import ArmRobot
from cadenza.robots.description import LeggedRobot
from cadenza.robots.errors import CadenzaError
from cadenza.robots.names import unknown_name

if TYPE_CHECKING:
    import mujoco

    from cadenza.robots.gym_humanoid import Joint

ROBOTS: dict[str, str] = {
    "gym_humanoid": "Gymnasium's humanoid: 17 torque motors, 42 kg, capsules and spheres",
}
"""Benchmark robots: name -> one-line summary; the name is that of the module in this package."""


class Robot(Protocol):
    """What a benchmark robot's module offers."""

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


def humanoid_names() -> tuple[str, ...]:
    """Names of the humanoids: those of the files in ``robots/humanoids/``, sorted. Imports none of them.

    A folder elsewhere that is appended to ``cadenza.robots.humanoids.__path__`` is searched too.
    """
    from cadenza.robots import humanoids

    return tuple(sorted(found.name for found in iter_modules(humanoids.__path__) if not found.name.startswith("_")))


@cache
def load_humanoid(name: str) -> LeggedRobot:
    """The humanoid of that name, e.g. ``op3``. Loads no MuJoCo.

    Raises:
        UnknownNameError: there is none; the advice names the nearest.
        CadenzaError: its file defines no ``ROBOT``, or one of another name.
    """
    if name not in humanoid_names():
        raise unknown_name("robot", name, humanoid_names(), see="cadenza list robots")
    robot = getattr(import_module(f"cadenza.robots.humanoids.{name}"), "ROBOT", None)
    if not isinstance(robot, LeggedRobot) or robot.name != name:
        raise CadenzaError(
            f"robots/humanoids/{name}.py does not define ROBOT, a LeggedRobot named {name!r}.",
            "docs/add-a-robot.md shows a complete file.",
        )
    return robot


def arm_names() -> tuple[str, ...]:
    """Names of the arms: those of the files in ``robots/arms/``, sorted. Imports none of them."""
    from cadenza.robots import arms

    return tuple(sorted(found.name for found in iter_modules(arms.__path__) if not found.name.startswith("_")))


@cache
def load_arm(name: str) -> ArmRobot:
    """The arm of that name, e.g. ``panda``. Loads no MuJoCo.

    Raises:
        UnknownNameError: there is none; the advice names the nearest.
        CadenzaError: its file defines no ``ROBOT``, or one of another name.
    """
    if name not in arm_names():
        raise unknown_name("arm", name, arm_names(), see="cadenza list robots")
    robot = getattr(import_module(f"cadenza.robots.arms.{name}"), "ROBOT", None)
    if not isinstance(robot, ArmRobot) or robot.name != name:
        raise CadenzaError(
            f"robots/arms/{name}.py does not define ROBOT, an ArmRobot named {name!r}.",
            "docs/arms.md says what stands in such a file.",
        )
    return robot


def robot_names() -> tuple[str, ...]:
    """Names of all robots with a joint table: humanoids, then arms."""
    return (*humanoid_names(), *arm_names())


def load_robot(name: str) -> LeggedRobot | ArmRobot:
    """The humanoid or arm of that name. Loads no MuJoCo.

    Raises:
        UnknownNameError: there is none; the advice names the nearest.
        CadenzaError: its file defines no robot of that name.
    """
    if name not in robot_names():
        raise unknown_name("robot", name, robot_names(), see="cadenza list robots")
    return load_arm(name) if name in arm_names() else load_humanoid(name)
