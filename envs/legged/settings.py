"""What all legged tasks have in common in their configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from cadenza.envs.legged.events import PUSH_EVERY_S, Conditions, Range
from cadenza.envs.legged.ground import Terrain
from cadenza.robots.building import Contacts
from cadenza.robots.description import LeggedRobot


@dataclass(frozen=True)
class LeggedConfig:
    """Settings of a task; each can be given to ``make_env`` by name.

    Defaults that depend on the robot (ranges of speeds, widths) are shares of its own figures.
    """

    weights: Mapping[str, float] = field(default_factory=dict)
    """Of the reward terms by name; those not named keep the task's own."""
    history: int = 1
    """Samples of every actor term in an observation."""
    privileged: bool = False
    """Append what only the simulation knows, for critics that may see more than the actor."""
    control_dt_s: float = 0.02
    episode_s: float = 20.0
    """The time limit truncates."""
    action_scale_rad: float | None = None
    """How far an action of 1 moves a target from home; None takes the robot's own."""
    terrain: Terrain = "flat"
    terrain_seed: int = 0
    contacts: Contacts = "feet"
    """``feet``: only soles collide, which is fast; ``all``: the whole body."""
    visuals: bool = True
    """Keep the meshes that only show. Without them a model compiles in milliseconds and moves the same; there is little
    to see in its pictures."""
    backlash: bool = False
    """Give every gear the free play of its motor's data sheet."""
    randomised: bool = False
    """Draw every event of envs/legged/events.py from its range."""
    conditions: Conditions = field(default_factory=dict)
    """Values or ranges of single events, also without randomisation."""
    push_every_s: Range = PUSH_EVERY_S
    """Time between two pushes, where there are any, drawn evenly."""
    start_noise_rad: float = 0.05
    """Half width of the uniform noise on joint angles at reset."""
    fall_up: float = 0.7
    """Cosine of the base's tilt below which an episode terminates."""
    fall_height_share: float = 0.6
    """Of the home height, below which it terminates."""

    @classmethod
    def of(cls, robot: LeggedRobot) -> Self:
        """The defaults for a robot."""
        return cls()
