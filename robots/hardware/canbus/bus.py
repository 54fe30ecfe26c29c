"""Drives that obey the "MIT mode" tuple, as a :class:`cadenza.robots.hardware.bus.MotorBus` on one CAN channel.

One command frame a motor a tick; each is answered by one feedback frame, collected until a deadline. A reply serves one
:meth:`CanBus.read`: where it is younger than ``reuse_s``, that read costs no frame at all (a loop of 200 Hz moves 14
frames for 7 motors), else the motors are asked again (a loop of 50 Hz gets the state of this tick, not of the last).

Limits hold on the wire: after everything that is not finite was refused, q, dq and tau are clamped to the settings'
limits, in codes, so that no rounding passes them. What no frame can hold is the product kp (q - q_now): that is the
safety supervisor's.

A motor whose watchdog tripped is latched here too: it gets no further command until :meth:`CanBus.clear_fault`.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cadenza.robots.hardware.bus import MotorSettings
from cadenza.robots.hardware.canbus.codec import Codec, Feedback
from cadenza.robots.hardware.canbus.exchange import CanCounters, Exchange
from cadenza.robots.hardware.canbus.outgoing import Outgoing
from cadenza.robots.hardware.clock import Clock, RealClock
from cadenza.robots.hardware.errors import HardwareError
from cadenza.robots.hardware.transports.canport import CanPort, CanSpec, Frame
from cadenza.robots.hardware.types import Array, Capabilities, Fault, Identity, JointCommand, JointState, Mode, Sent

_EDGE_RAD = 0.02
"""A pose this far outside its limits is still inside: play, and the drive's own resolution."""
_PROOF_S = 0.05
"""A watchdog may trip this much later than its time."""
_TRIES = 3
_NOT_MEASURED = (Fault.SILENT | Fault.CORRUPT).value


@dataclass
class _Seen:
    """The last sample of one motor."""

    at_s: float = -math.inf
    q: float = math.nan
    dq: float = math.nan
    tau: float = math.nan
    temperature: float = math.nan
    voltage: float = math.nan
    fault: Fault = Fault.NONE
    unread: bool = False
    """It came as the answer to a command and has served no read yet."""


class CanBus:
    """See :class:`MotorBus` for its methods.

    Args:
        port: of the channel; a string as in :meth:`CanSpec.parse`.
        settings: the motors.
        codec: a maker's frames: ``DamiaoCodec()`` or ``RobStrideCodec(ranges)``.
        clock: for the age of samples; the machine's where none is given.
        margin_s: what answers may take beyond the time of the frames on the bus; what each silent motor costs a tick.
        reuse_s: a command's reply that is younger than this serves the next read.

    Raises:
        RefusedError: ids that alias, or a drive whose ranges nobody has named.
    """

    def __init__(
        self,
        port: CanPort | str,
        settings: Sequence[MotorSettings],
        codec: Codec,
        *,
        clock: Clock | None = None,
        margin_s: float = 0.004,
        reuse_s: float = 0.006,
    ):
        self.settings = tuple(settings)
        self.codec = codec
        codec.check(self.settings)
        self.port = CanPort(CanSpec.parse(port)) if isinstance(port, str) else port
        self.clock: Clock = clock or RealClock()
        self.counters = CanCounters()
        self.capabilities = Capabilities(
            modes=frozenset(Mode),
            device_watchdog=True,
            watchdog_step_s=codec.watchdog_step_s,
            reports=frozenset({"q", "dq", "tau", "temperature"}),
        )
        self._link = Exchange(self.port, codec, self.counters, margin_s)
        self._outgoing = Outgoing(codec, self.settings)
        self._reuse_s = reuse_s
        self._ids = [row.bus_id for row in self.settings]
        n = len(self._ids)
        self._seen = [_Seen() for _ in range(n)]
        self._on = [False] * n
        """Switched on by us, and not off again by anybody."""
        self._latched = [Fault.NONE] * n
        self._last: list[Frame | None] = [None] * n
        self._held: Array | None = None
        self._connected = self._configured = self._active = False

    # ------------------------------------------------------------------ lifecycle

    def connect(self) -> list[Identity]:
        """See :meth:`MotorBus.connect`."""
        self.port.open()
        self._outgoing.forget()
        found: list[Identity] = []
        wrong: list[str] = []
        for row in self.settings:
            spoilt = self.counters.error_frames
            try:
                identity = self._link_identify(row.bus_id, row)
            except HardwareError:
                self.port.close()
                raise
            if identity is not None:
                found.append(identity)
            elif self.counters.error_frames > spoilt:
                wrong.append(f"{row.name} (id {row.bus_id}) answers with errors on the bus: two motors with that id?")
            else:
                wrong.append(f"{row.name} (id {row.bus_id}) does not answer")
        if wrong:
            self.port.close()
            raise HardwareError(
                f"The bus on {self.port.name} is not as the joint table says: {'; '.join(wrong)}.",
                "Power on? Cable and termination? 1 Mbit/s? Ids as set with the maker's program?",
            )
        self._connected = True
        return found

    def configure(self, mode: Mode, watchdog_s: float) -> None:
        """See :meth:`MotorBus.configure`. All modes are the same mode of the drives, so ``mode`` is only checked."""
        self._require_connected()
        if mode not in self.capabilities.modes:
            raise HardwareError(f"These drives have no mode {mode!r}.")
        if not (math.isfinite(watchdog_s) and 2 * self.codec.watchdog_step_s <= watchdog_s <= 10.0):
            raise HardwareError(
                f"A device watchdog of {watchdog_s!r} s.", "Give it a few control periods: 0.1 s is usual."
            )
        if any(self._on):
            raise HardwareError("The motors have torque on; they are configured only with torque off.", "deactivate()")
        self._configured = False
        units = float(round(watchdog_s / self.codec.watchdog_step_s))
        for row in self.settings:
            feedback = self._state_before_torque(row)
            if feedback.enabled:
                raise HardwareError(
                    f"{row.name} has torque on; it is configured only with torque off.",
                    "Another program may be driving it. Support the joint, then switch it off.",
                )
            self.codec.prove_ranges(row, feedback, self._link)
            for name, value in {**self.codec.setup(row), self.codec.watchdog_register: units}.items():
                if self._link.read_register(row.bus_id, name) != self._link.register(name).holds(value):
                    self._link.write_register(row.bus_id, name, value)
        self._configured = True

    def _state_before_torque(self, row: MotorSettings) -> Feedback:
        """Feedback of a motor of which nobody knows whether it runs; changes nothing."""
        if self.codec.needs_query_write:
            name = self.codec.watchdog_register
            same = self._link.read_register(row.bus_id, name)
            feedback = self._link.write_feedback(row.bus_id, name, same)
        else:
            query = self.codec.query(row.bus_id, known_off=False)
            assert query is not None
            feedback = self._link.feedback_of(row.bus_id, query)
        if feedback is None:
            raise HardwareError(f"{row.name} (id {row.bus_id}) does not answer any more.", "Cable, or power?")
        return feedback

    def prove_watchdog(self) -> None:
        """See :meth:`MotorBus.prove_watchdog`. Torque is on with all gains 0 meanwhile: what hangs goes on hanging."""
        self._require_configured()
        if any(self._on):
            raise HardwareError("The motors have torque on; the watchdog is proved before that.", "deactivate()")
        longest = 0.0
        try:
            for index, row in enumerate(self.settings):
                units = self._link.read_register(row.bus_id, self.codec.watchdog_register)
                longest = max(longest, units * self.codec.watchdog_step_s)
                self._switch_on(index, limp=True)
            self.clock.sleep_until(self.clock.now() + longest + _PROOF_S)
            alive = []
            for index, row in enumerate(self.settings):
                feedback = self._link.feedback_of(row.bus_id, self._asking(index, known_off=False))
                if feedback is None or feedback.enabled:
                    alive.append(row.name)
            if alive:
                raise HardwareError(
                    f"The watchdog of {', '.join(alive)} did not trip within {longest:.3f} s of silence.",
                    "Do not run these motors: nothing would stop them if this program died.",
                )
        except HardwareError:
            with contextlib.suppress(HardwareError):
                self.deactivate()
            raise
        finally:
            self._on = [False] * len(self._ids)
        for row in self.settings:
            self.clear_fault(row.bus_id)

    def activate(self) -> None:
        """See :meth:`MotorBus.activate`."""
        self._require_configured()
        for index, row in enumerate(self.settings):
            if self._latched[index]:
                raise HardwareError(
                    f"{row.name} has tripped ({self._latched[index].name}) and was not cleared.",
                    "Find out why, then clear_fault(). Nothing was switched on.",
                )
        for _ in range(_TRIES):
            state = self.read()
            if not (state.fault & _NOT_MEASURED).any():
                break
        for row, raised, age, q in zip(self.settings, state.fault, state.age, state.q, strict=True):
            if raised or not math.isfinite(age):
                reason = Fault(int(raised)).name or "it has not answered yet"
                raise HardwareError(f"{row.name} is not fit to be switched on: {reason}.", "Nothing was switched on.")
            low, high = row.position_limits_rad
            if not low - _EDGE_RAD <= q <= high + _EDGE_RAD:
                raise HardwareError(
                    f"{row.name} stands at {math.degrees(q):.1f} deg, outside its limits; it would jump to them.",
                    "Move it by hand into its range. Nothing was switched on.",
                )
        try:
            for index in range(len(self._ids)):
                self._switch_on(index, limp=False)
        except HardwareError as error:
            with contextlib.suppress(HardwareError):
                self.deactivate()
            raise HardwareError(f"{error} All motors are switched off again.", error.advice) from error
        self._active, self._held = True, None

    def _switch_on(self, index: int, *, limp: bool) -> None:
        """Torque on at the measured position; ``limp``: with gains and torque 0."""
        row = self.settings[index]
        self._on[index] = True  # from here on it may have torque, whatever it answers
        feedback = self._link.feedback_of(row.bus_id, self.codec.enable(row.bus_id))
        if feedback is None or feedback.fault:
            reason = "it does not answer" if feedback is None else feedback.fault.name
            raise HardwareError(f"{row.name} did not switch on: {reason}.", "")
        kp, kd = (0.0, 0.0) if limp else (row.kp, row.kd)
        frame, _ = self._outgoing.frame(index, feedback.q, 0.0, 0.0, kp, kd)
        # Whether it is on counts after the first command: a drive may answer the order itself with the state before.
        feedback = self._link.feedback_of(row.bus_id, frame)
        if feedback is None or feedback.fault or not feedback.enabled:
            raise HardwareError(f"{row.name} did not switch on: it stays off.", "Is it in another mode or in fault?")
        self._last[index] = frame
        self._take(index, feedback)

    def deactivate(self) -> None:
        """See :meth:`MotorBus.deactivate`."""
        self._require_connected()
        self._active, self._held = False, None
        left, gone = [], None
        for index, row in enumerate(self.settings):
            try:
                feedback = self._link.feedback_of(row.bus_id, self.codec.disable(row.bus_id))
            except HardwareError as error:
                feedback, gone = None, error
            if feedback is None or feedback.enabled:
                left.append(row.name)
            else:
                self._on[index] = False
                self._last[index] = None
        if left:
            raise HardwareError(
                f"Could not confirm torque off: {', '.join(left)}.",
                "Cut the power of the bus before you touch the robot. Armed watchdogs stop motors that hear nothing.",
            ) from gone

    def close(self) -> None:
        """See :meth:`MotorBus.close`."""
        if any(self._on):
            with contextlib.suppress(HardwareError):
                self.deactivate()
        self._active = self._configured = self._connected = False
        self._on = [False] * len(self._ids)
        self.port.close()

    # ------------------------------------------------------------------ control loop

    def read(self) -> JointState:
        """See :meth:`MotorBus.read`."""
        self._require_connected()
        self.counters.reads += 1
        now = self.clock.now()
        frames: dict[int, Frame] = {}
        for index, bus_id in enumerate(self._ids):
            seen = self._seen[index]
            if seen.unread and now - seen.at_s < self._reuse_s:
                continue
            if self._may_query(index):
                frames[bus_id] = self._asking(index, known_off=not self._on[index])
            else:
                self._read_registers(index)
        if frames:
            self._take_all(self._link.round(frames), commanded=False)
        else:
            self._link.discard_late()
        for seen in self._seen:
            seen.unread = False
        now = self.clock.now()
        columns = {
            name: np.array([getattr(one, name) for one in self._seen])
            for name in ("q", "dq", "tau", "temperature", "voltage")
        }
        fault = [int(one.fault | latched) for one, latched in zip(self._seen, self._latched, strict=True)]
        return JointState(
            **columns,
            fault=np.array(fault, dtype=np.int64),
            age=np.array([now - one.at_s for one in self._seen]),
        )

    def _may_query(self, index: int) -> bool:
        return self._on[index] or self._configured or not self.codec.needs_query_write

    def _asking(self, index: int, *, known_off: bool) -> Frame:
        """What makes that motor tell its state.

        A running RobStride answers nothing but commands, so it gets its last one again; a tripped one is off, and may
        be told so.
        """
        bus_id = self._ids[index]
        query = self.codec.query(bus_id, known_off=known_off or bool(self._latched[index]))
        if query is not None:
            return query
        return self._last[index] or self.codec.disable(bus_id)

    def _read_registers(self, index: int) -> None:
        """State by register reads alone, for a motor that may be running and that we do not command."""
        seen, known = self._seen[index], self._seen[index].fault.value & ~_NOT_MEASURED
        spoilt = self.counters.error_frames
        bus_id, values = self._ids[index], {}
        for field, name in self.codec.state_registers().items():
            register = self._link.register(name)
            data = self._link.ask(
                self.codec.read_request(bus_id, register),
                lambda frame, register=register: self.codec.read_reply(bus_id, register, frame),  # type: ignore[misc]
                tries=1,
            )
            if data is None:
                seen.fault = Fault(known) | (Fault.CORRUPT if self.counters.error_frames > spoilt else Fault.SILENT)
                return
            values[field] = register.decode(data) if data else math.nan
        seen.at_s, seen.fault = self.clock.now(), Fault(known)
        seen.q, seen.dq, seen.voltage = (values.get(field, math.nan) for field in ("q", "dq", "voltage"))

    def _take_all(self, replies: dict[int, Feedback | Fault], *, commanded: bool) -> None:
        for index, bus_id in enumerate(self._ids):
            reply = replies.get(bus_id)
            if reply is None:
                continue
            if isinstance(reply, Fault):
                known = self._seen[index].fault.value & ~_NOT_MEASURED
                self._seen[index].fault = Fault(known) | reply
            else:
                self._take(index, reply)
                self._seen[index].unread = commanded

    def _take(self, index: int, feedback: Feedback) -> None:
        seen = self._seen[index]
        seen.at_s, seen.fault = self.clock.now(), feedback.fault
        seen.q, seen.dq, seen.tau = feedback.q, feedback.dq, feedback.tau
        seen.temperature = feedback.temperature
        if feedback.fault & Fault.COMMUNICATION_LOST:
            self._latched[index] |= Fault.COMMUNICATION_LOST
        elif self._on[index] and not feedback.enabled and not feedback.fault:
            # It is off and names no fault: a RobStride's watchdog, or a drive that has restarted.
            self._latched[index] |= Fault.COMMUNICATION_LOST if self.codec.needs_query_write else Fault.OTHER

    def write(self, command: JointCommand) -> Sent:
        """See :meth:`MotorBus.write`. Motors that have tripped get no frame; their part of what was sent is NaN."""
        if command.mode not in self.capabilities.modes:
            raise HardwareError(f"These drives have no mode {command.mode!r}.")
        n = len(self._ids)
        nothing = np.full((5, n), np.nan)
        if command.mode is Mode.OFF:
            self.deactivate()
            return Sent(_command(nothing, Mode.OFF), self.clock.now())
        if not command.finite():
            raise HardwareError("A command that is not finite was not sent.")
        fields = (command.q, command.dq, command.tau, command.kp, command.kd)
        if any(value.shape != (n,) for value in fields):
            raise HardwareError(f"A command for {command.q.shape} joints was not sent to {n} motors.")
        if not self._active:
            raise HardwareError("The motors are not active; nothing was sent.")
        hold = self._held if self._held is not None and command.mode is Mode.HOLD else self._measured()
        self._held = hold if command.mode is Mode.HOLD else None
        asked = self._outgoing.tuple_of(command, hold)
        frames: dict[int, Frame] = {}
        sent = nothing
        for index, bus_id in enumerate(self._ids):
            if self._latched[index] or not self._on[index]:
                frames[bus_id] = self._asking(index, known_off=True)
                continue
            frame, sent[:, index] = self._outgoing.frame(index, *(float(value[index]) for value in asked))
            frames[bus_id] = self._last[index] = frame
        self.counters.writes += 1
        at_s = self.clock.now()
        self._take_all(self._link.round(frames), commanded=True)
        return Sent(_command(sent, command.mode), at_s)

    def _measured(self) -> Array:
        q = np.array([seen.q for seen in self._seen])
        if not np.isfinite(q).all():
            raise HardwareError("There is no measured position to hold yet; nothing was sent.")
        return q

    # ------------------------------------------------------------------ one motor

    def ping(self, bus_id: int) -> Identity | None:
        """See :meth:`MotorBus.ping`. Drives do not say their model; those of the settings are called as there."""
        self.port.open()
        row = next((one for one in self.settings if one.bus_id == bus_id), None)
        return self._link_identify(bus_id, row)

    def _link_identify(self, bus_id: int, row: MotorSettings | None) -> Identity | None:
        return self.codec.identify(self._link, bus_id, row)

    def scan(self, ids: Sequence[int]) -> list[Identity]:
        """See :meth:`MotorBus.scan`."""
        return [found for bus_id in ids if (found := self.ping(bus_id)) is not None]

    def read_register(self, bus_id: int, name: str) -> float:
        """See :meth:`MotorBus.read_register`."""
        self.port.open()
        return self._link.read_register(bus_id, name)

    def write_register(self, bus_id: int, name: str, value: float) -> None:
        """See :meth:`MotorBus.write_register`. It lasts until power-off.

        Refused for a motor that this bus has switched on: drives change ids, modes and ranges while they run.
        """
        self.port.open()
        if bus_id in self._ids and self._on[self._ids.index(bus_id)]:
            raise HardwareError(f"{name} of id {bus_id} is not written while torque is on.", "deactivate() first.")
        self._link.write_register(bus_id, name, value)

    def reboot(self, bus_id: int) -> None:
        """Neither maker's protocol has such a frame."""
        raise HardwareError(f"Id {bus_id} cannot be restarted over CAN.", "Power-cycle it.")

    def clear_fault(self, bus_id: int) -> None:
        """See :meth:`MotorBus.clear_fault`. Its torque is off afterwards, until the next :meth:`activate`."""
        self.port.open()
        frame = self.codec.clear(bus_id)
        feedback = self._link.feedback_of(bus_id, frame)
        if feedback is None:
            raise HardwareError(f"Id {bus_id} does not answer; nothing was cleared.", "Cable, or power?")
        if feedback.fault:
            raise HardwareError(f"Id {bus_id} still reports {feedback.fault.name}.", "Remove the cause; then again.")
        if feedback.enabled:  # a Damiao drive that was not in fault ignores the order
            feedback = self._link.feedback_of(bus_id, self.codec.disable(bus_id))
            if feedback is None or feedback.enabled:
                raise HardwareError(f"Id {bus_id} could not be switched off.", "Cut its power.")
        if bus_id in self._ids:
            index = self._ids.index(bus_id)
            self._on[index], self._latched[index], self._last[index] = False, Fault.NONE, None
            self._take(index, feedback)
            if not any(self._on):
                self._active = False

    # ------------------------------------------------------------------ refusals

    def _require_connected(self) -> None:
        if not self._connected:
            raise HardwareError(f"The bus on {self.port.name} is not connected.", "Call connect() first.")

    def _require_configured(self) -> None:
        self._require_connected()
        if not self._configured:
            raise HardwareError("The motors are not configured yet; nothing was switched on.", "configure() first.")


def _command(fields: Array, mode: Mode) -> JointCommand:
    """q, dq, tau, kp, kd, (5, n), as a command."""
    q, dq, tau, kp, kd = fields
    return JointCommand(q, dq, tau, kp, kd, mode)
