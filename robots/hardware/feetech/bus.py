"""STS servos of Feetech as a :class:`cadenza.robots.hardware.bus.MotorBus`, over Feetech's own SDK.

What they cannot do: they have no communication watchdog. When the host dies they go on holding the last goal for ever,
with whatever torque their limit allows. Hence a torque limit of half and a gentle acceleration unless told otherwise;
docs/feetech.md says what else to do about it.

They take a position and nothing else; speed limit, torque limit and P coefficient are set once, in ``configure``.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cadenza.robots.hardware.bus import BusCounters, MotorSettings
from cadenza.robots.hardware.clock import Clock, RealClock
from cadenza.robots.hardware.errors import HardwareError
from cadenza.robots.hardware.feetech import table
from cadenza.robots.hardware.feetech.link import Link
from cadenza.robots.hardware.feetech.port import serial_port
from cadenza.robots.hardware.feetech.settings import Setup, configure_servo
from cadenza.robots.hardware.transports.serial import SerialPort
from cadenza.robots.hardware.types import Capabilities, Fault, Identity, JointCommand, JointState, Mode, Sent
from cadenza.robots.motors import MOTORS

_LOOK_EVERY = 10  # reads
_EDGE_TICKS = 8  # a servo's own play: a pose this far outside its limits is still inside


@dataclass
class _Seen:
    """The last sample of one servo."""

    at_s: float = -math.inf
    q: float = math.nan
    dq: float = math.nan
    tau: float = math.nan
    temperature: float = math.nan
    voltage: float = math.nan
    fault: Fault = Fault.NONE
    limp: bool = False
    """Its torque is off although nobody switched it off."""
    doubted: bool = False
    """The newest sample was impossible, so it was left out; a second one like it will be believed."""


class FeetechBus:
    """See :class:`MotorBus` for its methods.

    Args:
        port: of the adapter; the path of one stands for 1,000,000 bit/s, as delivered.
        settings: the servos, each an ``STS...`` motor.
        clock: for the age of samples; the machine's where none is given.
        setup: limits beyond the joint table's.
    """

    capabilities = Capabilities(
        modes=frozenset({Mode.OFF, Mode.POSITION, Mode.HOLD}),
        device_watchdog=False,
        reports=frozenset({"q", "dq", "tau", "temperature", "voltage"}),
    )

    def __init__(
        self,
        port: SerialPort | str,
        settings: Sequence[MotorSettings],
        *,
        clock: Clock | None = None,
        setup: Setup | None = None,
    ):
        for row in settings:
            if not row.motor.startswith("STS") or row.motor not in MOTORS:
                raise HardwareError(
                    f"{row.name}: a Feetech bus moves STS servos, not {row.motor!r}.",
                    f"Known: {', '.join(name for name in MOTORS if name.startswith('STS'))}.",
                )
        self.settings = tuple(settings)
        self.counters = BusCounters()
        self.setup = setup or Setup()
        self.clock: Clock = clock or RealClock()
        self.port = serial_port(port) if isinstance(port, str) else port
        self._link = Link(self.port, self.counters)
        self._ids = [row.bus_id for row in self.settings]
        self._seen = [_Seen() for _ in self.settings]
        self._speed_unit = np.full(len(self.settings), table.speed_unit_rad_s(table.PHASE_FINE_SPEED))
        self._goals = [table.CENTRE] * len(self.settings)
        motors = [MOTORS[row.motor] for row in self.settings]
        self._stall = np.array([motor.peak_torque_nm / motor.nominal_voltage_v for motor in motors])  # N m/V
        self._back_emf = np.array([motor.peak_torque_nm / motor.no_load_speed_rad_s for motor in motors])
        ends = [tick_limits(row) for row in self.settings]
        self._low, self._high = [first for first, _ in ends], [last for _, last in ends]
        self._configured = self._active = False

    # ------------------------------------------------------------------ lifecycle

    def connect(self) -> list[Identity]:
        """See :meth:`MotorBus.connect`."""
        self._link.open()
        found, wrong = [], []
        for row in self.settings:
            try:
                identity = self.ping(row.bus_id)
                if identity is None:
                    wrong.append(f"{row.name} (id {row.bus_id}) does not answer")
                elif self._link.another_answers(row.bus_id):
                    wrong.append(f"{row.name}: two servos answer at id {row.bus_id}")
                elif table.series_of(identity.model) != table.series_of(row.motor):
                    wrong.append(f"{row.name} (id {row.bus_id}) is a {identity.model}, not a {row.motor}")
                else:
                    found.append(Identity(row.bus_id, row.motor, identity.firmware, identity.serial))
            except HardwareError as error:
                wrong.append(f"{row.name} (id {row.bus_id}): {error}")
        if wrong:
            self._link.close()
            raise HardwareError(
                f"The bus on {self._link.device} is not as the joint table says: {'; '.join(wrong)}.",
                "Power on? Cable seated? Same baud rate? `cadenza motors scan feetech:PORT` lists who answers.",
            )
        for index, row in enumerate(self.settings):
            phase = round(self.read_register(row.bus_id, "phase"))
            self._speed_unit[index] = table.speed_unit_rad_s(phase)
            if phase & table.PHASE_REVERSED_FEEDBACK:
                self._link.close()
                raise HardwareError(
                    f"{row.name}: its feedback runs the other way round (phase bit 7).",
                    "Set the direction by `sign` in the joint table, and leave the phase as delivered.",
                )
        return found

    def configure(self, mode: Mode, watchdog_s: float) -> None:
        """See :meth:`MotorBus.configure`. ``watchdog_s`` is ignored: these servos have no such thing."""
        if mode not in (Mode.POSITION, Mode.HOLD):
            raise HardwareError(f"Feetech servos hold positions; they have no mode {mode.value!r}.")
        self._configured = False
        for row in self.settings:
            if self.read_register(row.bus_id, "torque_enable") != 0:
                raise HardwareError(
                    f"{row.name} has torque on; it is configured only with torque off.",
                    "Support the joint; then `cadenza motors reboot`, or power-cycle it.",
                )
        for index, (row, low, high) in enumerate(zip(self.settings, self._low, self._high, strict=True)):
            configure_servo(self, row, (low, high), float(self._speed_unit[index]), self.setup)
        self._configured = True

    def prove_watchdog(self) -> None:
        """Nothing to prove: there is none."""

    def activate(self) -> None:
        """See :meth:`MotorBus.activate`."""
        if not self._configured:
            raise HardwareError("The servos are not configured yet; nothing was switched on.")
        for seen in self._seen:
            seen.limp = False
        state = self._fresh()
        for row, fault, age, q, low, high in zip(
            self.settings, state.fault, state.age, state.q, self._low, self._high, strict=True
        ):
            if fault or not math.isfinite(age):
                reason = Fault(int(fault)).name or "it has not answered yet"
                raise HardwareError(f"{row.name} is not fit to be switched on: {reason}.", "Nothing was switched on.")
            if not low - _EDGE_TICKS <= table.to_ticks(q) <= high + _EDGE_TICKS:
                raise HardwareError(
                    f"{row.name} stands at {math.degrees(q):.1f} deg, outside its limits; it would jump to them.",
                    "Move it by hand into its range. Nothing was switched on.",
                )
        try:
            self._goals = self._clamp([table.to_ticks(q) for q in state.q])
            for row, tick in zip(self.settings, self._goals, strict=True):
                # One by one and read back: an old goal that was kept because a packet got lost would be a jump.
                self._link.write(row.bus_id, "goal_position", tick)
            self._active = True
            for row in self.settings:
                self._link.write(row.bus_id, "torque_enable", 1)
            now = self._fresh()
            bad = [row.name for row, fault in zip(self.settings, now.fault, strict=True) if fault]
            if bad:
                raise HardwareError(f"Faults after switching on: {', '.join(bad)}.")
        except HardwareError as error:
            with contextlib.suppress(HardwareError):
                self.deactivate()
            raise HardwareError(f"{error} All servos are switched off again.", error.advice) from error

    def _fresh(self) -> JointState:
        """A state with a sample of now of every servo, unless some stay silent."""
        for _ in range(3):
            state = self.read()
            if not np.any(state.fault & int(Fault.SILENT | Fault.CORRUPT)):
                break
        return state

    def deactivate(self) -> None:
        """See :meth:`MotorBus.deactivate`."""
        self._active = False
        left = []
        # One packet for all first: it also ends the torque of those that hear but do not answer.
        self._link.sync_write(table.REGISTERS["torque_enable"].address, {bus_id: [0] for bus_id in self._ids})
        for row in self.settings:
            try:
                self.write_register(row.bus_id, "torque_enable", 0)
            except HardwareError:
                left.append(row.name)
        if left:
            raise HardwareError(
                f"Could not confirm torque off: {', '.join(left)}.",
                "Cut the power of the bus before you touch the robot.",
            )

    def close(self) -> None:
        """See :meth:`MotorBus.close`."""
        if self._active:
            with contextlib.suppress(HardwareError):
                self.deactivate()
        self._active = self._configured = False
        self._link.close()

    # ------------------------------------------------------------------ control loop

    def read(self) -> JointState:
        """See :meth:`MotorBus.read`."""
        self.counters.reads += 1
        # A servo that restarted lies limp without a word; its torque switch is looked at every now and then.
        longer = self._active and self.counters.reads % _LOOK_EVERY == 0
        start = table.REGISTERS["torque_enable"].address if longer else table.STATE_START
        skip = table.STATE_START - start
        replies = self._link.sync_read(self._ids, start, skip + table.STATE_SIZE)
        now = self.clock.now()
        for index, bus_id in enumerate(self._ids):
            seen, reply = self._seen[index], replies[bus_id]
            known = seen.fault & ~(Fault.SILENT | Fault.CORRUPT)
            if isinstance(reply, Fault):
                seen.fault = known | reply
            elif not self._take(index, reply[skip:], now):
                self.counters.corrupt += 1
                seen.fault = known | Fault.CORRUPT
            else:
                if longer:
                    seen.limp = reply[0] == 0
                if seen.limp and self._active:
                    seen.fault |= Fault.OTHER
        columns = {
            name: np.array([getattr(one, name) for one in self._seen])
            for name in ("q", "dq", "tau", "temperature", "voltage")
        }
        return JointState(
            **columns,
            fault=np.array([int(one.fault) for one in self._seen], dtype=np.int64),
            age=np.array([now - one.at_s for one in self._seen]),
        )

    def _take(self, index: int, data: bytes, now: float) -> bool:
        """Decode registers 56..70; False where the sample cannot be true."""
        seen = self._seen[index]

        def value(name: str) -> int:
            entry = table.REGISTERS[name]
            start = entry.address - table.STATE_START
            return entry.decode(data[start : start + entry.size])

        q = table.to_rad(value("present_position"))
        # A checksum of one byte lets 1 in 256 garbled packets pass. A shaft cannot have turned further than this.
        fastest = 2 * MOTORS[self.settings[index].motor].no_load_speed_rad_s
        if abs(q - seen.q) > fastest * (now - seen.at_s) + 0.5 and not seen.doubted:
            seen.doubted = True
            return False
        seen.doubted = False
        seen.at_s, seen.q = now, q
        seen.dq = value("present_speed") * float(self._speed_unit[index])
        seen.voltage = value("present_voltage") / 10
        seen.temperature = float(value("present_temperature"))
        duty = value("present_load") / 1000
        seen.tau = duty * seen.voltage * float(self._stall[index]) - float(self._back_emf[index]) * seen.dq
        seen.fault = table.faults(value("status"))
        return True

    def write(self, command: JointCommand) -> Sent:
        """See :meth:`MotorBus.write`. Goals outside a servo's limits are sent as those limits."""
        if command.mode not in self.capabilities.modes:
            raise HardwareError(f"Feetech servos have no mode {command.mode.value!r}.")
        if command.mode is Mode.OFF:
            self._active = False
            self._link.sync_write(table.REGISTERS["torque_enable"].address, {bus_id: [0] for bus_id in self._ids})
            return self._sent(np.full(len(self._ids), np.nan), Mode.OFF)
        if not command.finite():
            raise HardwareError("A command that is not finite was not sent.")
        if not self._active:
            raise HardwareError("The servos are not active; nothing was sent.")
        if command.q.shape != (len(self._ids),):
            raise HardwareError(f"A command for {command.q.shape} joints was not sent to {len(self._ids)} servos.")
        if command.mode is Mode.HOLD:
            wanted = [one.q if math.isfinite(one.q) else math.nan for one in self._seen]
            if not np.isfinite(wanted).all():
                raise HardwareError("There is no measured position to hold yet; nothing was sent.")
            self._send_goals([table.to_ticks(q) for q in wanted])
        else:
            # Far beyond the encoder a tick no longer fits the wire; the clamp must come before rounding.
            self._send_goals([table.to_ticks(min(max(float(q), -math.tau), math.tau)) for q in command.q])
        return self._sent(np.array([table.to_rad(tick) for tick in self._goals]), command.mode)

    def _send_goals(self, ticks: Sequence[int]) -> None:
        self._goals = self._clamp(ticks)
        entry = table.REGISTERS["goal_position"]
        self._link.sync_write(
            entry.address, {bus_id: entry.encode(tick) for bus_id, tick in zip(self._ids, self._goals, strict=True)}
        )
        self.counters.writes += 1

    def _clamp(self, ticks: Sequence[int]) -> list[int]:
        return [min(max(tick, low), high) for tick, low, high in zip(ticks, self._low, self._high, strict=True)]

    def _sent(self, q: Any, mode: Mode) -> Sent:
        nothing = np.full(len(self._ids), np.nan)
        return Sent(
            JointCommand(q, nothing, nothing.copy(), nothing.copy(), nothing.copy(), mode), self.clock.now(), True
        )

    # ------------------------------------------------------------------ one servo

    def ping(self, bus_id: int) -> Identity | None:
        """See :meth:`MotorBus.ping`. The 7.4 V and the 12 V STS3215 have one model number; told apart are they by the
        highest voltage that they are set to allow.
        """
        self._link.open()
        number = self._link.ping(bus_id)
        if number is None:
            return None
        series = table.MODEL_NUMBERS.get(number, str(number))
        major, minor = (round(self.read_register(bus_id, f"firmware_{part}")) for part in ("major", "minor"))
        if series == "STS3215":
            series += "-7.4V" if self.read_register(bus_id, "max_voltage") < 100 else "-12V"
        return Identity(bus_id, series, f"{major}.{minor}")

    def scan(self, ids: Sequence[int]) -> list[Identity]:
        """See :meth:`MotorBus.scan`."""
        self._link.open()
        return [found for bus_id in ids if self._link.ping(bus_id, 2) is not None and (found := self.ping(bus_id))]

    def read_register(self, bus_id: int, name: str) -> float:
        """See :meth:`MotorBus.read_register`."""
        self._link.open()
        return float(self._link.read(bus_id, name))

    def write_register(self, bus_id: int, name: str, value: float) -> None:
        """See :meth:`MotorBus.write_register`. For EEPROM the lock is opened and closed again."""
        self._link.open()
        entry = self._link.entry(name)
        if entry.eeprom and self._link.read(bus_id, "torque_enable") != 0:
            raise HardwareError(f"{name} of id {bus_id} is in EEPROM; it is not written while torque is on.")
        if value != round(value):
            raise HardwareError(f"{name} takes whole numbers, got {value:g}.")
        if entry.eeprom:
            self._link.write_eeprom(bus_id, name, round(value))
        else:
            self._link.write(bus_id, name, round(value))

    def reboot(self, bus_id: int) -> None:
        """Torque off, restart instruction (0x08), and wait until it answers again, about a second."""
        self._link.open()
        self._link.write(bus_id, "torque_enable", 0)
        self._active = False
        self._link.restart(bus_id)
        start = self.clock.now()
        for tenth in range(10, 31):
            self.clock.sleep_until(start + tenth / 10)
            if self._link.ping(bus_id) is not None:
                return
        raise HardwareError(f"Id {bus_id} did not come back after a restart.", "Power-cycle it.")

    def clear_fault(self, bus_id: int) -> None:
        """Torque off: that ends an overload. A wrong voltage or heat ends by itself, not by being acknowledged."""
        self._link.open()
        self._link.write(bus_id, "torque_enable", 0)
        self._active = False
        left = table.faults(self._link.read(bus_id, "status"))
        if left:
            raise HardwareError(f"Id {bus_id} still reports {left.name}.", "Remove the cause; then try again.")


def tick_limits(row: MotorSettings) -> tuple[int, int]:
    """The position limits as ticks, rounded inward, within one turn.

    Raises:
        HardwareError: there is no tick between them.
    """
    low, high = row.position_limits_rad
    first = max(math.ceil(low / table.RAD_PER_TICK - 1e-6) + table.CENTRE, 0)
    last = min(math.floor(high / table.RAD_PER_TICK + 1e-6) + table.CENTRE, table.TICKS - 1)
    if not first < last:
        raise HardwareError(f"{row.name}: limits of {low:g} to {high:g} rad leave a Feetech servo no room to move.")
    return first, last
