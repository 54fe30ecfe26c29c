"""Domain randomisation and disturbances, as a table of declared events.

An event changes one property of the simulated robot, its sensors or the ground, or disturbs it. ``startup`` events
happen once, when an environment is made; ``reset`` events before every episode; ``interval`` events again and again
within one. In a nominal simulation none happens. A task with ``randomised=True`` draws each from its range;
``conditions`` fixes or widens single ones, also in a nominal simulation: ``conditions={"friction": 0.4}`` is a
slippery floor and nothing else.

The ranges are common practice, not measurements, where no source is named: see docs/randomisation.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from cadenza.robots.names import unknown_name

When = Literal["startup", "reset", "interval"]
Range = tuple[float, float]


@dataclass(frozen=True)
class Event:
    """One property and where it is drawn from."""

    name: str
    when: When
    low: float
    high: float
    nominal: float
    """Its value where it is not randomised; an event that stays there does nothing."""
    per: Literal["robot", "joint", "body", "axis"]
    """One draw for the robot, or one for each joint, body or axis (3)."""
    meaning: str
    whole: bool = False
    """Drawn among whole numbers."""

    @property
    def idle(self) -> bool:
        """Whether it never changes anything."""
        return self.low == self.high == self.nominal

    def at(self, low: float, high: float) -> Event:
        """The same event over another range."""
        return replace(self, low=low, high=high)


EVENTS: tuple[Event, ...] = (
    Event("mass", "reset", 0.9, 1.1, 1.0, "body", "factor on a body's mass and inertia"),
    Event("payload", "reset", 0.0, 0.05, 0.0, "robot", "mass added to the base, as a share of the robot's"),
    Event("com", "reset", -0.02, 0.02, 0.0, "axis", "shift of the base's mass, as a share of the home height"),
    Event("friction", "reset", 0.5, 1.2, 0.8, "robot", "sliding friction of the soles on the ground"),
    Event("kp", "reset", 0.9, 1.1, 1.0, "joint", "factor on the proportional gain"),
    Event("kd", "reset", 0.9, 1.1, 1.0, "joint", "factor on the damping gain, or on a servo's back-EMF"),
    Event("strength", "reset", 0.95, 1.0, 1.0, "joint", "factor on the torque limit"),
    Event("weak_knee", "reset", 1.0, 1.0, 1.0, "robot", "factor on the torque limit of the right knee"),
    Event("armature", "reset", 0.8, 1.2, 1.0, "joint", "factor on the rotor's inertia"),
    Event("friction_loss", "reset", 0.5, 2.0, 1.0, "joint", "factor on the dry friction of the gear"),
    Event("voltage", "reset", 0.9, 1.1, 1.0, "robot", "supply over its nominal: a servo's gain and stall torque"),
    Event("command_delay", "reset", 0, 4, 0, "robot", "physics steps between a command and its motor", True),
    Event("observation_delay", "reset", 0, 2, 0, "robot", "physics steps between a sensor and the policy", True),
    Event("encoder_offset", "reset", -0.0175, 0.0175, 0.0, "joint", "constant error of an encoder, rad"),
    Event("imu_tilt", "reset", -0.035, 0.035, 0.0, "axis", "mounting error of the IMU about each axis, rad"),
    Event("sensor_noise", "reset", 1.0, 1.0, 0.0, "robot", "factor on the noise that each observation term declares"),
    Event("push", "interval", 0.0, 0.8, 0.0, "robot", "kick of the base, as a share of the easy walking speed"),
)  # fmt: skip
"""In the order in which they are drawn."""

PUSH_EVERY_S: Range = (4.0, 8.0)
"""Time between two pushes, drawn evenly."""

Conditions = Mapping[str, float | Range | list[float]]


def planned(randomised: bool, conditions: Conditions | None = None) -> dict[str, Event]:
    """The events of an environment, by name, in order; those that do nothing are there too.

    Args:
        randomised: whether every event has its range, or its nominal value.
        conditions: values or (low, high) ranges that go before both.

    Raises:
        UnknownNameError: a condition that is no event; the message names the nearest that are.
        ValueError: a range whose ends are the wrong way round.
    """
    events = {event.name: event if randomised else event.at(event.nominal, event.nominal) for event in EVENTS}
    for name, value in (conditions or {}).items():
        if name not in events:
            raise unknown_name("condition", name, events)
        low, high = (value, value) if isinstance(value, int | float) else (float(value[0]), float(value[1]))
        if low > high:
            raise ValueError(f"The condition {name} goes from {low:g} to {high:g}: the lower end comes first.")
        events[name] = events[name].at(float(low), float(high))
    return events


def describe(events: Mapping[str, Event]) -> dict[str, dict[str, object]]:
    """What a run folder says about them: those that do something, with range and meaning."""
    return {
        name: {"when": event.when, "low": event.low, "high": event.high, "per": event.per, "meaning": event.meaning}
        for name, event in events.items()
        if not event.idle
    }
