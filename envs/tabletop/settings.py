"""What all table-top tasks have in common in their configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from cadenza.envs.errors import CadenzaError
from cadenza.envs.setting_types import wrong_type
from cadenza.envs.tabletop.tasks import EPISODE_STEPS
from cadenza.robots.arm_building import Contacts
from cadenza.robots.names import unknown_name

ACTIONS = ("hand", "joints")
CONTROLS = ("ik", "osc")
REWARDS = ("sparse", "dense", "shaped")
CAMERAS = ("scene", "top")
CAMERA_SIZES = (16, 512)
MOST_PHYSICS_S = 0.005
"""Beyond it the stiff drives of the arms are no longer stable."""
_NAMED = ("actions", "control", "reward", "camera")
"""Settings whose unknown values are answered with the nearest."""


@dataclass(frozen=True)
class TableConfig:
    """Settings of a task; each can be given to ``make_env`` by name."""

    actions: Literal["hand", "joints"] = "hand"
    """Changes of the hand's pose, or of the joints' targets; both with the gripper."""
    control: Literal["ik", "osc"] = "ik"
    """``ik``: joint targets by inverse kinematics once a control step, for position actuators; ``osc``: torques by
    operational-space control every physics step. Both take the actions ``hand``."""
    reward: Literal["sparse", "dense", "shaped"] = "sparse"
    """Of tasks with a goal. ``sparse``: 0 at the goal, -1 elsewhere; ``dense``: minus the distance, m; ``shaped``: for
    learners without hindsight, 0 to 1, for the hand's way to the cube too, and the observation is one vector."""
    threshold_m: float | None = None
    """Distance from the goal that counts as success; None: the workspace's."""
    start_noise_m: float | None = None
    """Half width of the square in which the cube starts; None: the task's own."""
    start_yaw_rad: float = 0.785
    goal_noise_m: float | None = None
    """Half width of the square in which goals lie; None: the task's own."""
    bounds: bool | None = None
    """Keep the hand's target over the table and its rotation near home's; None: in tasks with a goal."""
    weights: Mapping[str, float] = field(default_factory=lambda: {"reach": 0.5, "safety": 0.5})
    """Of Play's reward groups in its scalar reward; together 1."""
    force_limit_n: float = 10.0
    """Contact force of the arm with the table or itself above which safety is violated."""
    object_limit_n: float | None = None
    """Of Play: force between cube and table above which safety is violated too; None: what the hand presses on the
    table through the cube counts for nothing."""
    camera: tuple[str, ...] = ()
    """Pictures in the observation: ``scene``, ``top``."""
    camera_size: int = 96
    """Width and height of these, px."""
    contacts: Contacts = "all"
    """``hand``: links but for the hand pass through everything, a third faster; their contacts are then not seen."""
    control_hz: float = 20.0
    physics_dt_s: float = 0.0025
    """Twenty to a control step. 0.005 is stable and half as dear, but drives of limited torque then overshoot: joints
    of a Panda run at twice their speed for single steps (docs/tabletop.md)."""
    episode_steps: int = EPISODE_STEPS
    """The time limit truncates."""
    visuals: bool = True
    """Keep the meshes that only show."""


def configured(settings: Mapping[str, Any]) -> TableConfig:
    """The configuration with settings by name.

    Raises:
        UnknownNameError: no such setting, camera or choice.
        CadenzaError: a value that cannot be.
    """
    known = TableConfig.__dataclass_fields__
    for name in settings:
        if name not in known:
            raise unknown_name("setting of this task", name, known)
    values = dict(settings)
    if isinstance(values.get("camera"), str):
        values["camera"] = (values["camera"],)
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    if wrong := wrong_type(TableConfig, {k: v for k, v in values.items() if k not in _NAMED}):
        raise CadenzaError(f"{wrong}.", "docs/tabletop.md has the settings.")
    config = replace(TableConfig(), **values)
    for what, found, choices in (
        ("kind of actions", config.actions, ACTIONS),
        ("controller", config.control, CONTROLS),
        ("kind of reward", config.reward, REWARDS),
        *(("camera", name, CAMERAS) for name in config.camera),
    ):
        if found not in choices:
            raise unknown_name(what, str(found), choices)
    if config.actions == "joints" and config.control == "osc":
        raise CadenzaError(
            "Operational-space control moves the hand; it cannot take the actions 'joints'.",
            'Leave out control="osc", or use actions="hand".',
        )
    if not CAMERA_SIZES[0] <= config.camera_size <= CAMERA_SIZES[1]:
        raise CadenzaError(f"camera_size is {CAMERA_SIZES[0]} to {CAMERA_SIZES[1]} px, not {config.camera_size}.")
    for name in ("threshold_m", "physics_dt_s", "control_hz", "force_limit_n", "object_limit_n", "episode_steps"):
        value = getattr(config, name)
        if value is not None and not value > 0:
            raise CadenzaError(f"{name} must be above 0, got {value}.")
    for name in ("start_noise_m", "goal_noise_m", "start_yaw_rad"):
        value = getattr(config, name)
        if value is not None and not value >= 0:
            raise CadenzaError(f"{name} must not be below 0, got {value}.")
    if config.physics_dt_s > MOST_PHYSICS_S + 1e-12:
        raise CadenzaError(f"physics_dt_s may be up to {MOST_PHYSICS_S:g} s, got {config.physics_dt_s:g}.")
    steps = 1.0 / config.control_hz / config.physics_dt_s
    if abs(steps - round(steps)) > 1e-6:
        raise CadenzaError(
            f"A control step of {1.0 / config.control_hz:g} s is no whole number of physics steps of "
            f"{config.physics_dt_s:g} s.",
            "At 20 Hz: 0.005, 0.0025, 0.002 or 0.001 s.",
        )
    return config
