"""Settings of ``cadenza/CableRouting-v0``, checked when they are made."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from numbers import Real
from typing import Any, Literal, TypeAlias

from cadenza.envs.cable.episodes import CONTROL_HZ as CONTROL_HZ
from cadenza.envs.cable.episodes import PRIMITIVE_S as PRIMITIVE_S
from cadenza.envs.cable.episodes import PRIMITIVES_PER_CLIP as PRIMITIVES_PER_CLIP
from cadenza.envs.cable.layouts import Layout, LayoutChoice, checked_layout
from cadenza.envs.errors import CadenzaError
from cadenza.envs.names import UnknownNameError, nearest, unknown_name

Observe: TypeAlias = Literal["state", "camera"]
Grasp: TypeAlias = Literal["assist", "friction"]

CAMERAS = ("wrist_left", "wrist_right", "side")
MOST_CLIPS = 3


def _number(value: Any) -> float:
    """As a float; NaN, which is within no range, where it is no number."""
    return float(value) if isinstance(value, Real) else math.nan


@dataclass(frozen=True)
class Disturbances:
    """What happens to the cable during an episode, beside the hand."""

    push_hz: float = 0.0
    """How often, on average, a part of the cable is pushed sideways or upward."""
    push_n: float = 0.4
    """Most force of a push, N; the whole cable weighs 0.43 N."""
    push_s: float = 0.3
    slip_hz: float = 0.0
    """How often, on average, a held cable slips out of the hand."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0.0 <= _number(value) < math.inf:
                raise CadenzaError(f"Disturbance {field.name} is {value!r}; it must be a number from 0 on.")


DISTURBANCES: dict[str, Disturbances] = {
    "none": Disturbances(),
    "pushes": Disturbances(push_hz=0.2),
    "slips": Disturbances(slip_hz=0.05),
    "all": Disturbances(push_hz=0.2, slip_hz=0.05),
}
"""Named settings: a push every 5 s, a slip in every 20 s of holding."""


@dataclass(frozen=True)
class CableConfig:
    """Everything that a user may set; the cable's own figures are the specification's."""

    clips: int = 1
    layout: LayoutChoice = "train"
    """A name in ``layouts.LAYOUTS``, or one (x, y, yaw) in m and rad a clip."""
    observe: Observe = "state"
    cameras: tuple[str, ...] = CAMERAS
    camera_size: int = 64
    grasp: Grasp = "assist"
    stiffness_range: float = 0.5
    """The cable's bending stiffness is drawn within this share of its nominal value; 0: always nominal."""
    stiffness_scale: float | None = None
    """A factor on the nominal stiffness instead of a draw."""
    disturbances: str | Disturbances | Mapping[str, float] = "none"
    physics_dt_s: float = 0.004
    visuals: bool = True
    """Whether the arm has the meshes that only show; pictures have them, numbers do not depend on them."""

    def __post_init__(self) -> None:
        if self.clips not in (1, 2, 3):
            raise CadenzaError(f"There are 1, 2 or 3 clips, not {self.clips!r}.")
        checked_layout(self.layout, self.clips)
        object.__setattr__(self, "disturbances", checked_disturbances(self.disturbances))
        names: Any = self.cameras  # one name may be given as it is
        object.__setattr__(self, "cameras", (names,) if isinstance(names, str) else tuple(names))
        if self.observe not in ("state", "camera"):
            raise unknown_name("kind of observation", str(self.observe), ("state", "camera"))
        if self.grasp not in ("assist", "friction"):
            raise unknown_name("grasp", str(self.grasp), ("assist", "friction"))
        for name in self.cameras:
            if name not in CAMERAS:
                raise unknown_name("camera", name, CAMERAS)
        if self.observe == "camera" and not self.cameras:
            raise CadenzaError("A camera observation has no camera.", f"There are: {', '.join(CAMERAS)}.")
        if not 64 <= _number(self.camera_size) <= 128 or self.camera_size != int(self.camera_size):
            raise CadenzaError(f"camera_size is {self.camera_size!r}; it is 64 to 128 pixels.")
        if not 0.0 <= _number(self.stiffness_range) < 1.0:
            raise CadenzaError(f"stiffness_range is {self.stiffness_range!r}; it is within 0 and 1, 1 excluded.")
        if self.stiffness_scale is not None and not 0.1 <= _number(self.stiffness_scale) <= 10.0:
            raise CadenzaError(f"stiffness_scale is {self.stiffness_scale!r}; it is a number within 0.1 and 10.")
        if self.physics_dt_s not in (0.002, 0.004):
            raise CadenzaError(f"physics_dt_s is {self.physics_dt_s!r}; 0.002 and 0.004 s are tried and stable.")

    @property
    def checked_layout(self) -> str | Layout:
        """The layout as a known name or as poses."""
        return checked_layout(self.layout, self.clips)

    @property
    def disturbance(self) -> Disturbances:
        """The disturbances as numbers."""
        assert isinstance(self.disturbances, Disturbances)
        return self.disturbances


def config_of(settings: Mapping[str, Any]) -> CableConfig:
    """A configuration of settings by name.

    Raises:
        UnknownNameError: a setting that does not exist; those that do are listed.
        CadenzaError: a value that cannot be.
    """
    names = [field.name for field in fields(CableConfig)]
    for name in settings:
        if name not in names:
            near = nearest(name, names)
            advice = (f"Did you mean {', '.join(near)}? " if near else "") + f"There are: {', '.join(names)}."
            raise UnknownNameError(f"There is no setting of cable routing named {name!r}.", advice)
    return CableConfig(**settings)


def checked_disturbances(value: str | Disturbances | Mapping[str, Any]) -> Disturbances:
    """Of a name, of numbers by name, or as they are.

    Raises:
        UnknownNameError: a name that does not exist.
        CadenzaError: a number that cannot be.
    """
    if isinstance(value, Disturbances):
        return value
    if isinstance(value, str):
        if value not in DISTURBANCES:
            raise unknown_name("disturbance", value, DISTURBANCES)
        return DISTURBANCES[value]
    names = [field.name for field in fields(Disturbances)]
    if not isinstance(value, Mapping):
        raise CadenzaError(
            f"The disturbances are {value!r}; they are a name or numbers by name.",
            f"Names: {', '.join(DISTURBANCES)}. Numbers: {', '.join(names)}.",
        )
    for name in value:
        if name not in names:
            raise unknown_name("disturbance's number", name, names)
    return Disturbances(**value)
