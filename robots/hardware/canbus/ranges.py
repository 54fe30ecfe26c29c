"""How SI units become the whole numbers of an "MIT mode" frame, and which ranges sources give for which drive.

The frame carries shares of a range that both ends must agree on; nothing in it says which range was meant. With 60 N m
believed and 17 N m true, a command for 5 N m is obeyed as 1.4 N m, silently. A Damiao drive answers with its ranges
(registers 21 to 23). A RobStride drive or a CyberGear does not, and published tables contradict each other, so
:data:`CANDIDATES` is for looking things up only: the bus takes no default from it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from cadenza.robots.hardware.errors import HardwareError, RefusedError
from cadenza.robots.names import unknown_name


@dataclass(frozen=True)
class Scale:
    """A range of a quantity on so many bits: ``code = trunc((x - low) / (high - low) * (2^bits - 1))``."""

    low: float
    high: float
    bits: int

    @property
    def top(self) -> int:
        """Largest code."""
        return (1 << self.bits) - 1

    @property
    def step(self) -> float:
        """What one code is worth."""
        return (self.high - self.low) / self.top

    def encode(self, value: float) -> int:
        """Clamped to the range, then truncated, as the drives' own sample code does.

        Raises:
            HardwareError: the value is not finite. A clamp alone would turn NaN into an end of the range.
        """
        if not math.isfinite(value):
            raise HardwareError(f"{value!r} is not finite and was not sent.")
        value = min(max(value, self.low), self.high)
        return int((value - self.low) * self.top / (self.high - self.low))

    def decode(self, code: int) -> float:
        """The inverse, at the lower edge of the code."""
        return code * (self.high - self.low) / self.top + self.low

    def inward(self, low: float, high: float) -> tuple[int, int]:
        """Least and greatest code whose values lie in [low, high].

        Raises:
            HardwareError: there is none.
        """
        first = min(max(math.ceil((low - self.low) / self.step - 1e-9), 0), self.top)
        last = min(max(math.floor((high - self.low) / self.step + 1e-9), 0), self.top)
        # Rounding of the division must not let a code slip over a limit.
        while first <= self.top and self.decode(first) < low:
            first += 1
        while last >= 0 and self.decode(last) > high:
            last -= 1
        if first > last:
            raise HardwareError(f"No code of {self.low:g} to {self.high:g} lies between {low:g} and {high:g}.")
        return first, last


@dataclass(frozen=True)
class RangeSet:
    """Ranges of one drive: +-``p_rad``, +-``v_rad_s``, +-``t_nm``, 0 to ``kp`` and 0 to ``kd``.

    Raises:
        RefusedError: a range that is not positive and finite, or no word on where it is from.
    """

    p_rad: float
    v_rad_s: float
    t_nm: float
    kp: float
    """N m/rad."""
    kd: float
    """N m s/rad."""
    source: str
    """Where it is from: the page of the unit's own manual, or the drive's registers."""

    def __post_init__(self) -> None:
        for name in ("p_rad", "v_rad_s", "t_nm", "kp", "kd"):
            value = getattr(self, name)
            if not (isinstance(value, int | float) and math.isfinite(value) and value > 0):
                raise RefusedError(f"The range {name} is {value!r}.", "Ranges are positive numbers.")
        if not self.source.strip():
            raise RefusedError("A range without a source is a guess.", "Say where it is from: the unit's manual, page.")

    @classmethod
    def parse(cls, text: str, source: str = "given by hand") -> RangeSet:
        """``p,v,t,kp,kd``, e.g. ``12.566,44,17,500,5``.

        Raises:
            RefusedError: not five positive numbers.
        """
        try:
            p_rad, v_rad_s, t_nm, kp, kd = (float(part) for part in text.split(","))
        except ValueError as error:
            raise RefusedError(f"{text!r} are no ranges.", "Give p,v,t,kp,kd, e.g. 12.566,44,17,500,5.") from error
        return cls(p_rad, v_rad_s, t_nm, kp, kd, source)

    def __str__(self) -> str:
        return (
            f"+-{self.p_rad:g} rad, +-{self.v_rad_s:g} rad/s, +-{self.t_nm:g} N m, kp {self.kp:g}, kd {self.kd:g} "
            f"({self.source})"
        )


@dataclass(frozen=True)
class Codes:
    """The scales of a drive's five quantities."""

    p: Scale
    v: Scale
    kp: Scale
    kd: Scale
    t: Scale

    @classmethod
    def of(cls, ranges: RangeSet, p_bits: int, other_bits: int) -> Codes:
        """From its ranges; ``other_bits`` for all but the position."""
        return cls(
            Scale(-ranges.p_rad, ranges.p_rad, p_bits),
            Scale(-ranges.v_rad_s, ranges.v_rad_s, other_bits),
            Scale(0.0, ranges.kp, other_bits),
            Scale(0.0, ranges.kd, other_bits),
            Scale(-ranges.t_nm, ranges.t_nm, other_bits),
        )


_FOUR_PI = 4 * math.pi


def _both(
    name: str, sdk: tuple[float, float, float, float], lerobot: tuple[float, float] | None = None
) -> dict[str, RangeSet]:
    found = {"robstride-sdk": RangeSet(_FOUR_PI, *sdk, source=f"RobStride sample program, {name}")}
    if lerobot is not None:
        found["lerobot"] = RangeSet(112.5, *lerobot, sdk[2], sdk[3], f"lerobot motors/robstride tables, {name}")
    return found


CANDIDATES: Mapping[str, Mapping[str, RangeSet]] = {
    "CyberGear": {
        "manual": RangeSet(_FOUR_PI, 30, 12, 500, 5, "CyberGear manual, sections 4.1.2 and 4.1.3"),
        "manual-sample-code": RangeSet(12.5, 30, 12, 500, 5, "CyberGear manual, section 4.2.1: contradicts 4.1.2"),
    },
    "RS-00": _both("rs-00", (50, 17, 500, 5), (33, 14)),
    "RS-01": _both("rs-01", (44, 17, 500, 5), (44, 17)),
    "RS-02": _both("rs-02", (44, 17, 500, 5), (33, 20)),
    "RS-03": _both("rs-03", (50, 60, 5000, 100), (33, 60)),
    "RS-04": _both("rs-04", (15, 120, 5000, 100), (33, 120)),
    "RS-05": _both("rs-05", (33, 17, 500, 5), (50, 5.5)),
    "RS-06": _both("rs-06", (20, 60, 5000, 100), (50, 36)),
}
"""Model -> source -> ranges. The sources disagree on all but the torque of rs-01, on p throughout: read the manual of
your unit. lerobot's tables have no gains of their own; those of RobStride's sample program stand in."""


def candidate(model: str, source: str) -> RangeSet:
    """One row of :data:`CANDIDATES`, chosen by name.

    Raises:
        UnknownNameError: no such model, or no such source for it.
    """
    if model not in CANDIDATES:
        raise unknown_name("model with known ranges", model, CANDIDATES)
    if source not in CANDIDATES[model]:
        raise unknown_name(f"source of ranges for {model}", source, CANDIDATES[model])
    return CANDIDATES[model][source]


def parse_ranges(text: str) -> dict[str, RangeSet]:
    """``RS-02=robstride-sdk;left_knee=12.566,44,17,500,5``: by model or joint, a named source or five numbers.

    Raises:
        RefusedError: it is no such list.
        UnknownNameError: no such model or source.
    """
    found: dict[str, RangeSet] = {}
    for part in filter(None, (one.strip() for one in text.split(";"))):
        name, equals, value = (one.strip() for one in part.partition("="))
        if not equals or not name or not value:
            raise RefusedError(f"{part!r} names no ranges.", "RS-02=robstride-sdk or RS-02=12.566,44,17,500,5")
        found[name] = RangeSet.parse(value) if "," in value else candidate(name, value)
    return found


def no_choice(joint: str, model: str) -> RefusedError:
    """The refusal where nobody has said which ranges a drive has; lists what sources say."""
    known = CANDIDATES.get(model, {})
    lines = [f"  {name}: {ranges}" for name, ranges in known.items()]
    advice = "Take the ranges from the manual of your very unit and give them as RangeSet(..., source='manual, page')."
    if lines:
        advice += f" Published for {model}:\n" + "\n".join(lines)
    return RefusedError(f"{joint}: nobody has said which ranges its {model} uses on the wire.", advice)
