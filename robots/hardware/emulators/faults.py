"""What goes wrong on purpose: a plan of faults in simulated time, from a file or live over the control socket.

A plan is JSON, ``{"seed": 0, "faults": [{"kind": "drop", "at_s": 2.0, "for_s": 1.0, "share": 0.05}]}`` or the bare
list. Who draws from it is the emulated wire and the emulated devices; random numbers come from the plan's own
generator, so the same plan on the same packets does the same again. docs/emulators.md lists the kinds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cadenza.robots.hardware.errors import HardwareError
from cadenza.robots.names import nearest

KINDS: dict[str, str] = {
    "drop": "packets are lost, each with probability `share`",
    "corrupt": "`amount` (1) bits of a packet are turned round, with probability `share`",
    "delay": "packets to the host arrive `amount` (0.005) s later, with probability `share`",
    "duplicate": "a packet to the host arrives twice, with probability `share`",
    "unplug": "devices lose cable and power; without `devices`: the host's adapter is pulled, motors keep their power",
    "mute": "devices hear and obey but do not answer",
    "brown_out": "the supply of devices falls to `amount` (5.0) V",
    "over_heat": "devices are held at `amount` (95) degC",
    "overload": "devices find themselves overloaded, whatever their shaft does",
    "stuck_encoder": "devices go on reporting the angle at which it began",
    "reboot": "devices restart, once",
    "id_clash": "a second device with the same id answers at the same time",
}
"""Kind of fault -> what it does."""
_DEFAULT_AMOUNT = {"corrupt": 1.0, "delay": 0.005, "brown_out": 5.0, "over_heat": 95.0}
_WAYS = ("both", "request", "reply")


@dataclass(frozen=True)
class FaultSpec:
    """One fault.

    Raises:
        HardwareError: a kind that does not exist, or a number out of range; the advice lists what there is.
    """

    kind: str
    at_s: float | None = None
    """Simulated time at which it begins; None: when it is added, for a plan in a file at 0."""
    for_s: float | None = None
    """How long; None: until it is cleared."""
    devices: tuple[int, ...] | None = None
    """Bus ids; None: all."""
    share: float = 1.0
    """Probability for each packet."""
    amount: float | None = None
    """See :data:`KINDS`."""
    way: str = "both"
    """Of drop and corrupt: ``request``, ``reply`` or ``both``."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            near = nearest(str(self.kind), KINDS)
            raise HardwareError(
                f"There is no kind of fault named {self.kind!r}.",
                (f"Did you mean {', '.join(near)}? " if near else "") + f"There are: {', '.join(KINDS)}.",
            )
        for name, least in (("at_s", 0.0), ("for_s", 0.0), ("amount", -math.inf)):
            value = getattr(self, name)
            if value is not None and not (_number(value) and value >= least):
                raise HardwareError(f"{name} of the fault {self.kind} is {value!r}.", "Give a number, not negative.")
        if not (_number(self.share) and 0.0 <= self.share <= 1.0):
            raise HardwareError(f"share of the fault {self.kind} is {self.share!r}.", "Give a number from 0 to 1.")
        if self.way not in _WAYS:
            raise HardwareError(f"way of the fault {self.kind} is {self.way!r}.", f"There are: {', '.join(_WAYS)}.")

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> FaultSpec:
        """A fault as it stands in a plan; ``device`` is another name for ``devices``, and one id needs no list.

        Raises:
            HardwareError: a field that does not exist, or a wrong value.
        """
        if not isinstance(record, Mapping) or "kind" not in record:
            raise HardwareError(f"A fault is an object with a kind, not {record!r}.", f"Kinds: {', '.join(KINDS)}.")
        values = dict(record)
        if "device" in values and "devices" not in values:
            values["devices"] = values.pop("device")
        known = [field.name for field in fields(cls)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise HardwareError(f"A fault has no field {', '.join(unknown)}.", f"There are: {', '.join(known)}.")
        devices = values.get("devices")
        if devices == "all":
            devices = None
        if devices is not None:
            devices = [devices] if isinstance(devices, int) else devices
            if not isinstance(devices, list | tuple) or not all(type(number) is int for number in devices):
                raise HardwareError(f"devices of a fault is {devices!r}.", 'Give bus ids, e.g. [3, 4], or "all".')
            devices = tuple(devices)
        return cls(**{**values, "devices": devices})

    @property
    def strength(self) -> float:
        """``amount``, or what is usual for the kind."""
        return self.amount if self.amount is not None else _DEFAULT_AMOUNT.get(self.kind, 0.0)

    def concerns(self, bus_id: int) -> bool:
        """Whether the device is among those it befalls."""
        return self.devices is None or bus_id in self.devices

    def active(self, now_s: float) -> bool:
        """Whether it holds at that time."""
        start = self.at_s or 0.0
        return start <= now_s and (self.for_s is None or now_s < start + self.for_s)


@dataclass(frozen=True)
class Heard:
    """What became of a request on its way to the devices."""

    data: bytes
    """As it arrives; may be corrupt."""
    missed_by: frozenset[int] | None
    """Devices it did not reach; None: it reached nobody."""

    def reaches(self, bus_id: int) -> bool:
        """Whether the device hears it."""
        return self.missed_by is not None and bus_id not in self.missed_by


class FaultPlan:
    """Faults in simulated time.

    Args:
        faults: those of a file; without ``at_s`` they hold from 0.
        seed: of the plan's generator.
    """

    def __init__(self, faults: Iterable[FaultSpec] = (), seed: int = 0):
        self._faults: list[FaultSpec] = list(faults)
        self._done: set[int] = set()
        self._rng = np.random.default_rng(seed)

    @classmethod
    def from_file(cls, path: Path) -> FaultPlan:
        """Read a plan.

        Raises:
            HardwareError: no such file, no JSON, or something in it that does not exist.
        """
        try:
            record = json.loads(Path(path).read_text())
        except (OSError, ValueError) as error:
            raise HardwareError(f"The fault plan {path} cannot be read: {error}.", "See docs/emulators.md.") from error
        return cls.from_json(record)

    @classmethod
    def from_json(cls, record: Any) -> FaultPlan:
        """A plan as in a file: a list of faults, or an object with ``faults`` and ``seed``."""
        if isinstance(record, list):
            record = {"faults": record}
        if (
            not isinstance(record, Mapping)
            or set(record) - {"seed", "faults"}
            or type(record.get("seed", 0)) is not int
        ):
            raise HardwareError(
                "A fault plan is a list of faults, or an object with the fields faults and seed.",
                '{"seed": 0, "faults": [{"kind": "drop", "share": 0.02}]}',
            )
        return cls([FaultSpec.from_json(one) for one in record.get("faults", [])], record.get("seed", 0))

    # ------------------------------------------------------------------ changes

    def add(self, fault: FaultSpec, now_s: float) -> None:
        """One more; without ``at_s`` it begins now."""
        if fault.at_s is None:
            fault = FaultSpec(**{**{f.name: getattr(fault, f.name) for f in fields(fault)}, "at_s": now_s})
        self._faults.append(fault)

    def clear(self, kind: str | None = None) -> int:
        """End all faults, or those of one kind; how many there were."""
        gone = [i for i, fault in enumerate(self._faults) if kind in (None, fault.kind) and fault.for_s != 0.0]
        for index in gone:
            # Kept in place, so that what was done once is not done again; ended before it began.
            old = self._faults[index]
            self._faults[index] = FaultSpec(old.kind, at_s=0.0, for_s=0.0)
        return len(gone)

    # ------------------------------------------------------------------ questions

    @property
    def any(self) -> bool:
        """Whether there ever was a fault in it: where not, nobody need ask further."""
        return bool(self._faults)

    def active(self, kind: str, now_s: float) -> list[FaultSpec]:
        """Those of a kind that hold now."""
        return [fault for fault in self._faults if fault.kind == kind and fault.active(now_s)]

    def holding(self, kind: str, bus_id: int, now_s: float) -> FaultSpec | None:
        """The last-added one of a kind that befalls a device now."""
        for fault in reversed(self._faults):
            if fault.kind == kind and fault.active(now_s) and fault.concerns(bus_id):
                return fault
        return None

    def mask(self, kind: str, bus_ids: Iterable[int], now_s: float) -> NDArray[np.bool_] | None:
        """Which of the devices one of a kind befalls now, (n,); None where it befalls nobody."""
        now = self.active(kind, now_s)
        return np.array([any(one.concerns(i) for one in now) for i in bus_ids]) if now else None

    def once(self, kind: str, now_s: float) -> list[FaultSpec]:
        """Those of a kind that have begun and were not handed out before: for what happens once."""
        if not self._faults:
            return []
        found = []
        for index, fault in enumerate(self._faults):
            if fault.kind == kind and index not in self._done and fault.active(now_s):
                self._done.add(index)
                found.append(fault)
        return found

    def port_gone(self, now_s: float) -> bool:
        """Whether the host's adapter is pulled."""
        return bool(self._faults) and any(fault.devices is None for fault in self.active("unplug", now_s))

    def unplugged(self, bus_id: int, now_s: float) -> bool:
        """Whether this one device has lost its cable and power."""
        if not self._faults:
            return False
        return any(fault.devices is not None and bus_id in fault.devices for fault in self.active("unplug", now_s))

    # ------------------------------------------------------------------ packets

    def request(self, data: bytes, now_s: float) -> Heard:
        """What the devices hear of a packet from the host."""
        if not self._faults:
            return Heard(data, frozenset())
        missed: set[int] = set()
        for fault in self._faults:
            if fault.kind not in ("drop", "corrupt") or fault.way == "reply" or not fault.active(now_s):
                continue
            if not self._happens(fault.share):
                continue
            if fault.devices is not None:
                missed |= set(fault.devices)
            elif fault.kind == "drop":
                return Heard(data, None)
            else:
                data = self.flip(data, int(fault.strength))
        missed |= {i for fault in self.active("unplug", now_s) for i in fault.devices or ()}
        return Heard(data, frozenset(missed))

    def reply(self, data: bytes, bus_id: int, now_s: float) -> list[tuple[bytes, float]]:
        """What the host hears of a device's packet: packets with how much later than usual, s; none if it is lost."""
        if not self._faults:
            return [(data, 0.0)]
        if self.holding("mute", bus_id, now_s) or self.unplugged(bus_id, now_s):
            return []
        copies, late_s = 1, 0.0
        for fault in self._faults:
            if not (fault.active(now_s) and fault.concerns(bus_id)):
                continue
            if fault.kind == "id_clash":
                data = self._collide(data)
            elif fault.way == "request" or not self._happens(fault.share):
                continue
            elif fault.kind == "drop":
                return []
            elif fault.kind == "corrupt":
                data = self.flip(data, int(fault.strength))
            elif fault.kind == "delay":
                late_s += fault.strength
            elif fault.kind == "duplicate":
                copies = 2
        return [(data, late_s)] * copies

    def part_of_reply(self, bus_id: int, now_s: float) -> tuple[bool, bool]:
        """Of a reply that several devices send together: whether this one sends its part, and whether the part is
        corrupt. Faults without ``devices`` befall the whole packet instead, in :meth:`reply`.
        """
        sends, spoiled = True, False
        for fault in self._faults:
            if fault.devices is None or bus_id not in fault.devices or not fault.active(now_s):
                continue
            if fault.kind in ("mute", "unplug"):
                sends = False
            elif fault.kind == "id_clash":
                spoiled = True
            elif fault.kind in ("drop", "corrupt") and fault.way != "request" and self._happens(fault.share):
                sends, spoiled = sends and fault.kind != "drop", spoiled or fault.kind == "corrupt"
        return sends, spoiled

    def flip(self, data: bytes, bits: int) -> bytes:
        """The packet with this many of its bits turned round, anywhere in it."""
        out = bytearray(data)
        for position in self._rng.integers(0, 8 * len(out), size=max(bits, 1)):
            out[int(position) // 8] ^= 1 << (int(position) % 8)
        return bytes(out)

    def _collide(self, data: bytes) -> bytes:
        """Two drivers on one open-collector line: a 0 wins. The other's payload is its own, its header the same."""
        other = self._rng.integers(0, 256, size=len(data), dtype=np.uint8)
        return bytes(a if index < 4 else a & int(b) for index, (a, b) in enumerate(zip(data, other, strict=True)))

    def _happens(self, share: float) -> bool:
        return share >= 1.0 or (share > 0.0 and float(self._rng.random()) < share)

    def to_json(self) -> list[dict[str, Any]]:
        """The faults that are not cleared."""
        return [
            {field.name: getattr(fault, field.name) for field in fields(fault)}
            for fault in self._faults
            if fault.for_s != 0.0
        ]


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)
