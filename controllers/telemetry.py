"""What a control loop did, tick by tick, into an MCAP file: the loop fills a ring, a thread of its own writes.

MCAP (mcap.dev) is a log format of robotics that Foxglove and others open. Here it holds JSON messages, each channel
with its JSON schema, in chunks of at most a second: of a process that was killed, all but the last chunk can be read.
A full ring drops ticks and counts them; it never makes the loop wait.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from cadenza.robots.errors import CadenzaError
from cadenza.robots.hardware.errors import MissingSdkError
from cadenza.robots.hardware.safety import Applied, Limit
from cadenza.robots.hardware.types import RobotState

Array = NDArray[np.float64]
LOG_FORMAT = "cadenza-run-1"
METADATA = "cadenza"
CHUNK_S = 0.5
_PER_JOINT = (
    "requested_q", "requested_kp", "requested_kd",
    "applied_q", "applied_kp", "applied_kd", "sent_q",
    "q", "dq", "tau", "temperature", "voltage", "age", "action",
)  # fmt: skip
_ROW = {name: row for row, name in enumerate(_PER_JOINT)}
TIMINGS = ("read_ms", "policy_ms", "write_ms", "sleep_ms", "late_ms", "period_ms")
"""Of one tick: reading, the policy, limits and writing, sleep before it, how late it began, since the last began."""


class TelemetryError(CadenzaError):
    """A log that cannot be written or read."""


class Tick:
    """One tick, in arrays that are used again and again."""

    __slots__ = ("at_s", "command", "fault", "gravity", "gyro", "imu_age", "joints", "limited_by", "mode", "number",
                 "odd", "phase", "reasons", "skipped", "state", "timings")  # fmt: skip

    def __init__(self, joints: int):
        self.joints = np.full((len(_PER_JOINT), joints), np.nan)
        self.fault, self.limited_by = np.zeros(joints, dtype=np.int64), np.zeros(joints, dtype=np.int64)
        self.gyro, self.gravity, self.command = np.full(3, np.nan), np.full(3, np.nan), np.zeros(3)
        self.timings = np.zeros(len(TIMINGS))
        self.at_s = self.imu_age = self.phase = self.odd = 0.0
        self.number = self.skipped = 0
        self.state = self.mode = ""
        self.reasons: tuple[str, ...] = ()

    def fill(
        self,
        number: int,
        at_s: float,
        lifecycle: str,
        state: RobotState,
        applied: Applied | None,
        action: Array,
        command: Array,
        phase: float,
        odd: float,
        timings: Array,
        skipped: int,
    ) -> None:
        """Copy everything; keeps no reference to an array that somebody may write to."""
        self.number, self.at_s, self.state, self.skipped = number, at_s, lifecycle, skipped
        self.phase, self.odd = phase, odd
        rows, joints = self.joints, state.joints
        for name, values in (
            ("q", joints.q), ("dq", joints.dq), ("tau", joints.tau), ("temperature", joints.temperature),
            ("voltage", joints.voltage), ("age", joints.age), ("action", action),
        ):  # fmt: skip
            rows[_ROW[name]] = values
        self.fault[:] = joints.fault
        rows[: _ROW["q"]] = np.nan
        self.limited_by[:] = 0
        self.mode, self.reasons = "", ()
        if applied is not None:
            if applied.requested is not None:
                for name, value in (
                    ("requested_q", applied.requested.q),
                    ("requested_kp", applied.requested.kp),
                    ("requested_kd", applied.requested.kd),
                ):
                    if np.shape(value) == (rows.shape[1],):
                        rows[_ROW[name]] = value
            if applied.applied is not None:
                rows[_ROW["applied_q"]] = applied.applied.q
                rows[_ROW["applied_kp"]], rows[_ROW["applied_kd"]] = applied.applied.kp, applied.applied.kd
                self.mode = applied.applied.mode.value
            if applied.sent is not None and applied.sent.delivered:
                rows[_ROW["sent_q"]] = applied.sent.command.q
            self.limited_by[:] = applied.limited_by
            self.reasons = applied.reasons
        self.command[:], self.timings[:] = command, timings
        if state.imu is not None:
            self.gyro[:], self.gravity[:], self.imu_age = state.imu.gyro, state.imu.gravity, state.imu.age

    def messages(self) -> list[tuple[str, dict[str, Any]]]:
        """Topic and content, as JSON values: numbers that are not known become null."""
        rows = {name: _plain(self.joints[row]) for name, row in _ROW.items()}
        time_s, number = round(self.at_s, 6), self.number
        start: dict[str, Any] = {"time_s": time_s, "tick": number}
        found = [
            (
                "/command/requested",
                {**start, "q": rows["requested_q"], "kp": rows["requested_kp"], "kd": rows["requested_kd"]},
            ),
            (
                "/command/applied",
                {
                    **start, "q": rows["applied_q"], "kp": rows["applied_kp"], "kd": rows["applied_kd"],
                    "sent_q": rows["sent_q"], "mode": self.mode, "limited_by": self.limited_by.tolist(),
                    "reasons": list(self.reasons),
                },
            ),
            (
                "/joints",
                {
                    **start, **{name: rows[name] for name in ("q", "dq", "tau", "temperature", "voltage", "age")},
                    "fault": self.fault.tolist(),
                },
            ),
            (
                "/policy",
                {
                    **start, "command": _plain(self.command), "action": rows["action"], "phase": round(self.phase, 6),
                    "beyond_bounds": _plain(np.array([self.odd]))[0],
                },
            ),
            (
                "/loop",
                {
                    **start, "state": self.state, "skipped": self.skipped,
                    **dict(zip(TIMINGS, _plain(self.timings), strict=True)),
                },
            ),
        ]  # fmt: skip
        if np.isfinite(self.gravity).all():
            imu = {**start, "gyro": _plain(self.gyro), "gravity": _plain(self.gravity), "age": round(self.imu_age, 6)}
            found.append(("/imu", imu))
        return found


class Ring:
    """Ticks between one producer and one consumer; neither waits for the other.

    The two counters are each written by one side only; reading a Python int is atomic.
    """

    def __init__(self, joints: int, slots: int):
        self._ticks = [Tick(joints) for _ in range(slots)]
        self._put = self._taken = 0
        self.dropped = 0
        """Ticks for which there was no room."""

    def free(self) -> Tick | None:
        """A tick to fill, to be handed over with :meth:`put`; None, and counted, where the ring is full."""
        if self._put - self._taken >= len(self._ticks):
            self.dropped += 1
            return None
        return self._ticks[self._put % len(self._ticks)]

    def put(self) -> None:
        """Hand over the tick that :meth:`free` gave."""
        self._put += 1

    def oldest(self) -> Tick | None:
        """The next one to write, to be given back with :meth:`took`; None where there is none."""
        return self._ticks[self._taken % len(self._ticks)] if self._taken < self._put else None

    def took(self) -> None:
        """Give back the tick that :meth:`oldest` gave."""
        self._taken += 1


class Telemetry:
    """A log that a control loop writes to.

    Args:
        path: of the file, ``.mcap``.
        joint_names: in table order.
        period_s: of the loop.
        metadata: what the run is of, e.g. ``bundle_sha256``, ``robot``, ``git_commit``; one flat record.
        attachments: file name -> content, e.g. the calibration.
        slots_s: how much time the ring holds.
        clock: gives the time in the loop's seconds.

    Raises:
        TelemetryError: the file cannot be made.
        MissingSdkError: the package ``mcap`` is not installed.
    """

    def __init__(
        self,
        path: str | Path,
        joint_names: Sequence[str],
        period_s: float,
        metadata: Mapping[str, str],
        attachments: Mapping[str, bytes] | None = None,
        slots_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.path = Path(path)
        self.ring = Ring(len(joint_names), max(round(slots_s / period_s), 8))
        self._events: deque[tuple[float, str, str]] = deque(maxlen=1_000)
        self.failure = ""
        """Why nothing more is written, e.g. a full disk; empty while all is well."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file: IO[bytes] = open(self.path, "wb")  # noqa: SIM115 - closed by close()
        except OSError as error:
            raise TelemetryError(f"Cannot write the log {self.path}: {error.strerror}.", "Choose another --log.") from (
                error
            )
        self._zero_ns, self._zero_s = time.time_ns(), clock()
        self._clock = clock
        try:
            self._writer = self._begin(joint_names, period_s, metadata, attachments or {})
        except OSError as error:
            raise TelemetryError(f"Cannot write the log {self.path}: {error.strerror}.", "Choose another --log.") from (
                error
            )
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)
        self._thread.start()

    # ------------------------------------------------------------------ from the loop

    def event(self, level: str, message: str) -> None:
        """Something that happened: ``info``, ``warning`` or ``error``; at most a thousand wait to be written."""
        self._events.append((self._clock(), level, message))

    @property
    def dropped(self) -> int:
        """Ticks that were not logged."""
        return self.ring.dropped

    # ------------------------------------------------------------------ the writer

    def _begin(
        self, joint_names: Sequence[str], period_s: float, metadata: Mapping[str, str], attachments: Mapping[str, bytes]
    ) -> Any:
        try:
            from mcap.writer import CompressionType, Writer
        except ImportError as error:
            raise MissingSdkError("mcap", "deploy") from error
        a_tick = Tick(len(joint_names))
        a_tick.joints[:] = 1.234567
        a_second = sum(len(_json(content)) + 31 for _, content in a_tick.messages()) / period_s
        writer = Writer(self._file, chunk_size=max(int(CHUNK_S * a_second), 256), compression=CompressionType.ZSTD)
        writer.start(profile="", library="cadenza")
        facts = {
            "format": LOG_FORMAT, "joint_names": json.dumps(list(joint_names)), "period_s": repr(period_s),
            "limit_bits": json.dumps({limit.name: int(limit) for limit in Limit}),
        }  # fmt: skip
        writer.add_metadata(METADATA, {**facts, **metadata})
        for name, content in attachments.items():
            media = "application/json" if name.endswith(".json") else "application/octet-stream"
            writer.add_attachment(self._zero_ns, self._zero_ns, name, media, content)
        self._channels = {}
        for topic, schema in SCHEMAS.items():
            number = writer.register_schema("cadenza" + topic.replace("/", "."), "jsonschema", _json(schema))
            self._channels[topic] = writer.register_channel(topic, "json", number)
        self._file.flush()
        return writer

    def _run(self) -> None:
        while True:
            ended = self._ended.wait(0.05)
            try:
                self._drain()
            except Exception as error:  # whatever it is, the loop goes on, and its end says so
                self.failure = f"{type(error).__name__}: {error}"
            if ended or self.failure:
                return

    def _drain(self) -> None:
        while (tick := self.ring.oldest()) is not None:
            for topic, content in tick.messages():
                self._write(topic, tick.at_s, content, tick.number)
            self.ring.took()
        while self._events:
            at_s, level, message = self._events.popleft()
            self._write("/events", at_s, {"time_s": round(at_s, 6), "level": level, "message": message}, 0)
        self._file.flush()

    def _write(self, topic: str, at_s: float, content: dict[str, Any], number: int) -> None:
        ns = self._zero_ns + round(1e9 * (at_s - self._zero_s))
        self._writer.add_message(self._channels[topic], ns, _json(content), ns, number)

    def close(self) -> None:
        """Write what is left, the index and the end; may be called twice."""
        if self._file.closed:
            return
        self._ended.set()
        self._thread.join()
        try:
            if not self.failure:
                if self.dropped:
                    self.event("warning", f"{self.dropped} ticks were not logged: the disk was too slow")
                    self._drain()
                self._writer.finish()
        except OSError as error:
            self.failure = f"{type(error).__name__}: {error}"
        finally:
            with contextlib.suppress(OSError):
                self._file.close()

    def __enter__(self) -> Telemetry:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _plain(values: Array) -> list[float | None]:
    return [value if value - value == 0.0 else None for value in np.round(values, 7).tolist()]


def _json(content: Any) -> bytes:
    return json.dumps(content, separators=(",", ":"), allow_nan=False).encode()


def _schema(**fields: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"time_s": _NUMBER, **fields}}


_NUMBER, _WHOLE, _WORD = {"type": "number"}, {"type": "integer"}, {"type": "string"}
_NUMBERS = {"type": "array", "items": {"type": ["number", "null"]}}
_WHOLES = {"type": "array", "items": _WHOLE}
SCHEMAS: Mapping[str, dict[str, Any]] = {
    "/command/requested": _schema(tick=_WHOLE, q=_NUMBERS, kp=_NUMBERS, kd=_NUMBERS),
    "/command/applied": _schema(
        tick=_WHOLE, q=_NUMBERS, kp=_NUMBERS, kd=_NUMBERS, sent_q=_NUMBERS, mode=_WORD, limited_by=_WHOLES,
        reasons={"type": "array", "items": _WORD},
    ),
    "/joints": _schema(
        tick=_WHOLE, q=_NUMBERS, dq=_NUMBERS, tau=_NUMBERS, temperature=_NUMBERS, voltage=_NUMBERS, age=_NUMBERS,
        fault=_WHOLES,
    ),
    "/imu": _schema(tick=_WHOLE, gyro=_NUMBERS, gravity=_NUMBERS, age=_NUMBER),
    "/policy": _schema(
        tick=_WHOLE, command=_NUMBERS, action=_NUMBERS, phase=_NUMBER, beyond_bounds={"type": ["number", "null"]}
    ),
    "/loop": _schema(
        tick=_WHOLE, state=_WORD, skipped=_WHOLE,
        **{name: {"type": ["number", "null"]} for name in TIMINGS},
    ),
    "/events": _schema(level=_WORD, message=_WORD),
}  # fmt: skip
"""JSON schema of each topic; SI units, joints in the order of the metadata's ``joint_names``."""
