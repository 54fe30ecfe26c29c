"""DYNAMIXEL X servos on one wire, Protocol 2.0, through dynamixel-sdk: see :mod:`cadenza.robots.hardware.bus`.

What a position servo makes of a command: q becomes Goal Position(116) of all motors in one Sync Write; kp becomes
Position P Gain(84), sent where it changed (and to all once in a while, since nobody confirms a Sync Write); dq, tau and
kd have no register and come back as NaN in what was sent.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence

import numpy as np

from cadenza.robots.hardware.bus import BusCounters, MotorSettings
from cadenza.robots.hardware.clock import Clock, RealClock
from cadenza.robots.hardware.dynamixel.port import DynamixelPort
from cadenza.robots.hardware.dynamixel.registers import Registers
from cadenza.robots.hardware.dynamixel.sampling import Sampler
from cadenza.robots.hardware.dynamixel.settings import (
    EFFORT_REGISTER,
    POSITION_MODES,
    DynamixelOptions,
    eeprom_for,
    effort,
    kp_per_p_gain,
    limits_in_counts,
    modes_of,
    p_gain,
    ram_for,
    say_faults,
    watchdog_counts,
)
from cadenza.robots.hardware.dynamixel.table import (
    OPENCR,
    WATCHDOG_STEP_S,
    WATCHDOG_TRIPPED,
    Register,
    model_of,
    to_counts,
    to_rad,
)
from cadenza.robots.hardware.errors import HardwareError
from cadenza.robots.hardware.transports.serial import SerialPort
from cadenza.robots.hardware.types import Array, Capabilities, Identity, JointCommand, JointState, Mode, Sent

log = logging.getLogger(__name__)

_RESTART_S = 3.0
"""A servo answers again within this after a reboot."""


class DynamixelBus:
    """See :class:`cadenza.robots.hardware.bus.MotorBus`.

    Args:
        settings: the motors; none for a bus that only scans and sets up.
        port: the wire, or the path of a serial port.
        clock: on which samples age.
        options: what goes beyond the joint table.
    """

    def __init__(
        self,
        settings: Sequence[MotorSettings],
        port: SerialPort | str,
        clock: Clock | None = None,
        options: DynamixelOptions | None = None,
    ):
        self.settings: Sequence[MotorSettings] = tuple(settings)
        self.options = options or DynamixelOptions()
        self.clock: Clock = clock or RealClock()
        self.counters = BusCounters()
        self.capabilities = Capabilities(
            modes_of(self.options.operating), True, WATCHDOG_STEP_S,
            frozenset({"q", "dq", "tau", "temperature", "voltage"}),
        )  # fmt: skip
        self.port = DynamixelPort(SerialPort(port) if isinstance(port, str) else port, self.counters)
        """Shared with an OpenCR on the same wire."""
        self._ids = [row.bus_id for row in self.settings]
        self._registers = Registers(self.port, {row.bus_id: row.name for row in self.settings})
        self._sampler: Sampler | None = None
        self._watchdog: int | None = None  # as configured; None before
        self._active = self._switched_on = False
        self._limits = np.array([limits_in_counts(row) for row in self.settings]).reshape(-1, 2)
        self._kp_unit = np.array([kp_per_p_gain(row.motor) for row in self.settings])
        self._gains = np.full(len(self._ids), -1)  # P gains as last sent

    # ------------------------------------------------------------------ connect

    def connect(self) -> list[Identity]:
        """See :meth:`MotorBus.connect`. Broadcast ping first, which shows doubled ids, then one by one."""
        self.port.open()
        heard, doubled = self.port.broadcast_ping(self.options.broadcast_up_to)
        found, wrong = [], []
        for row in self.settings:
            who = self._registers.say(row.bus_id)
            with self.port.patient():
                identity, answer = self._registers.identify(row.bus_id)
            if row.bus_id in doubled or (identity is None and answer.corrupt):
                wrong.append(f"{who} answers garbled or twice: two motors seem to have this id")
            elif identity is None:
                wrong.append(f"{who} {answer.why()}")
            elif identity.model != row.motor:
                wrong.append(f"{who} is a {identity.model}, not a {row.motor}")
            else:
                found.append(identity)
        if wrong:
            advice = self._advice(heard, len(found))
            self.port.close()
            raise HardwareError("; ".join(wrong) + ".", advice)
        self._sampler = Sampler(self._registers, self.settings, self.options, self.clock, self.counters)
        return found

    def _advice(self, heard: dict[int, bytes], known: int) -> str:
        numbers = {number: int.from_bytes(data[:2], "little") for number, data in heard.items()}
        if OPENCR.number in numbers.values() and len(numbers) == 1:
            return "Only the OpenCR answers: the servos have no supply. `cadenza motors power BUS on` gives it to them."
        if not heard and not known:
            return (
                f"Nothing at all answers at {self.port.serial.baud} bit/s: supply on? Another speed? "
                "`cadenza motors scan BUS` tries them all."
            )
        others = [f"{n} ({model_of(m).name})" for n, m in sorted(numbers.items()) if n not in self._ids]
        more = f" Other ids that answer: {', '.join(others)}." if others else ""
        return f"Check cables and supply from the first motor that is missing on.{more}"

    # ------------------------------------------------------------------ configure

    def configure(self, mode: Mode, watchdog_s: float) -> None:
        """See :meth:`MotorBus.configure`."""
        self._require_connected()
        if mode not in self.capabilities.modes or mode is Mode.OFF:
            raise HardwareError(f"DYNAMIXEL servos as configured here do not take {mode.value}.", self._modes())
        watchdog = watchdog_counts(watchdog_s)
        level = self._item("status_return_level")
        for number in self._ids:  # one that is told not to answer would look dead from here on
            if not self.port.read(number, level.address, level.size).good:
                self.port.write(number, level.address, level.encode(2))
        self._refuse("torque_enable", lambda value: value != 0, "torque is on", "Switch it off: bus.deactivate().")
        self._refuse_tripped()
        self._watchdog, self._active = None, False
        for wanted_of in (self._eeprom, lambda: self._ram(watchdog)):
            wanted = wanted_of()
            names = {name for values in wanted.values() for name in values}
            now = self._registers.snapshot(self._ids, names)
            for number, values in wanted.items():
                for name, value in values.items():
                    if now[number].get(name) != value:
                        self._registers.put(number, name, value)
        self._verify({**self._eeprom()}, "configured")
        self._verify(self._ram(watchdog), "configured")
        self._gains[:] = [p_gain(row.motor, row.kp) for row in self.settings]
        self._watchdog = watchdog

    def _eeprom(self) -> dict[int, dict[str, int]]:
        models = self._registers.models
        return {row.bus_id: eeprom_for(models[row.bus_id], row, self.options) for row in self.settings}

    def _ram(self, watchdog: int) -> dict[int, dict[str, int]]:
        models = self._registers.models
        return {row.bus_id: ram_for(models[row.bus_id], row, self.options, watchdog) for row in self.settings}

    def _verify(self, wanted: dict[int, dict[str, int]], when: str) -> None:
        names = {name for values in wanted.values() for name in values}
        now = self._registers.snapshot(list(wanted), names)
        wrong = [
            f"{self._registers.say(number)}: {name} is {now[number].get(name)}, not {value}"
            for number, values in wanted.items()
            for name, value in values.items()
            if now[number].get(name) != value
        ]
        if wrong:
            raise HardwareError(f"Not {when} as asked: {'; '.join(wrong)}.", "Check the cables, then try again.")

    # ------------------------------------------------------------------ torque

    def prove_watchdog(self) -> None:
        """See :meth:`MotorBus.prove_watchdog`. Torque is on at the measured position with a P gain of 0: a motor whose
        watchdog is dead is not stiff meanwhile either. All torque is off afterwards.
        """
        watchdog = self._require_configured()
        if self._active:
            raise HardwareError("The watchdog is proved before torque goes on.", "Call deactivate() first.")
        self._refuse_tripped()
        limp = dict.fromkeys(self._ids, 0)
        try:
            self._set_all("position_p_gain", limp)
            self._goal_at_measured()
            self._set_all("bus_watchdog", dict.fromkeys(self._ids, watchdog))
            self._torque_on()
            self.clock.sleep_until(self.clock.now() + (watchdog + 2) * WATCHDOG_STEP_S)
            state = self._registers.get_all(self._ids, "bus_watchdog")
        finally:
            self.deactivate()
        alive = [self._registers.say(number) for number, value in state.items() if value != WATCHDOG_TRIPPED]
        if alive:
            raise HardwareError(
                f"The watchdog did not trip after {watchdog * WATCHDOG_STEP_S:.2f} s of silence: {', '.join(alive)}.",
                "Do not use this robot: its motors would go on when this program dies. Is something else on the bus?",
            )
        self._set_all("bus_watchdog", limp)
        self._set_all("bus_watchdog", dict.fromkeys(self._ids, watchdog))
        self._set_gains()
        if self._sampler is not None:
            self._sampler.forget_trip()

    def activate(self) -> None:
        """See :meth:`MotorBus.activate`."""
        watchdog = self._require_configured()
        self._refuse_tripped()
        self._refuse("hardware_error_status", lambda value: value != 0, "reports", "`cadenza motors reboot` clears it.")
        try:
            self._set_gains()
            self._goal_at_measured()
            self._set_all("bus_watchdog", dict.fromkeys(self._ids, watchdog))
            self._torque_on()
        except HardwareError:
            self._off_whatever_happens()
            raise
        if self._sampler is not None:
            self._sampler.forget_trip()
        self._active = True

    def _set_gains(self) -> None:
        """Those of the joint table, whatever was sent last."""
        gains = {row.bus_id: p_gain(row.motor, row.kp) for row in self.settings}
        self._set_all("position_p_gain", gains)
        self._gains[:] = list(gains.values())

    def _torque_on(self) -> None:
        self._switched_on = True
        for number in self._ids:
            self._registers.put(number, "torque_enable", 1)
        self._refuse("torque_enable", lambda value: value != 1, "did not switch torque on", "")

    def _goal_at_measured(self) -> None:
        """So that torque holds every motor where it is. Only position modes have such a goal."""
        if self.options.operating not in POSITION_MODES:
            return
        measured = self._registers.get_all(self._ids, "present_position")
        outside = [
            f"{self._registers.say(number)} is at {math.degrees(to_rad(at)):.1f} deg, its limits are "
            f"{math.degrees(to_rad(low)):.1f} to {math.degrees(to_rad(high)):.1f}"
            for (number, at), (low, high) in zip(measured.items(), self._limits, strict=True)
            if not low <= at <= high
        ]
        if outside:
            raise HardwareError(
                f"Outside the limits, where a motor would jump to them: {'; '.join(outside)}.",
                "Turn it inside by hand, with torque off.",
            )
        self._set_all("goal_position", measured)

    def deactivate(self) -> None:
        """See :meth:`MotorBus.deactivate`. All at once, then one by one until each has confirmed; all of that twice."""
        self._active = False
        self._require_connected()
        torque, waiting = self._item("torque_enable"), list(self._ids)
        why: dict[int, str] = {}
        for _ in range(2):
            self.port.sync_write(torque.address, dict.fromkeys(waiting, b"\0"))
            for number in list(waiting):
                with self.port.patient():
                    answer = self.port.write(number, torque.address, b"\0")
                if answer.good:
                    waiting.remove(number)
                why[number] = answer.why()
        if waiting:
            who = "; ".join(f"{self._registers.say(number)} {why[number]}" for number in waiting)
            raise HardwareError(f"Torque may still be on: {who}.", "Cut the motors' supply.")
        self._switched_on = False

    def _off_whatever_happens(self) -> None:
        try:
            self.deactivate()
        except HardwareError as error:
            log.error("%s", error)

    # ------------------------------------------------------------------ read, write

    def read(self) -> JointState:
        """See :meth:`MotorBus.read`."""
        self._require_connected()
        assert self._sampler is not None
        return self._sampler.read(self._watchdog if self._active else None)

    def housekeep(self) -> None:
        """What need not be known within the tick: some motors' temperature and supply, or their watchdog's state.

        A control loop calls it once its goals are sent; where nobody does, :meth:`read` asks.
        """
        if self._sampler is not None:
            self._sampler.housekeep()

    def write(self, command: JointCommand) -> Sent:
        """See :meth:`MotorBus.write`."""
        self._require_connected()
        if not self._active:
            raise HardwareError("The motors are not active; nothing was sent.", "Call activate() first.")
        shape = (len(self._ids),)
        if any(np.shape(value) != shape for value in (command.q, command.dq, command.tau, command.kp, command.kd)):
            raise HardwareError(f"A command for this bus has {shape[0]} values of each kind; nothing was sent.")
        if not command.finite():
            raise HardwareError("A command that is not finite; nothing was sent.")
        if command.mode not in self.capabilities.modes:
            raise HardwareError(f"This bus does not take {command.mode.value}; nothing was sent.", self._modes())
        self.counters.writes += 1
        blank = np.full(shape, np.nan)
        sent = JointCommand(blank, blank.copy(), blank.copy(), blank.copy(), blank.copy(), command.mode)
        if command.mode is Mode.OFF:
            self._active = False
            self.port.sync_write(self._item("torque_enable").address, dict.fromkeys(self._ids, b"\0"))
        elif self.options.operating in POSITION_MODES:
            sent.kp = self._send_gains(command.kp)
            sent.q = self._send_goals(command.q)
        else:
            self._send_efforts(command, sent)
        return Sent(sent, self.clock.now())

    def _send_gains(self, kp: Array) -> Array:
        wanted = np.array([p_gain(row.motor, value) for row, value in zip(self.settings, kp, strict=True)])
        everyone = self.counters.writes % self.options.slow_every == 0
        changed = np.ones(len(wanted), dtype=bool) if everyone else wanted != self._gains
        if changed.any():
            item = self._item("position_p_gain")
            values = {self._ids[i]: item.encode(int(wanted[i])) for i in np.flatnonzero(changed)}
            self.port.sync_write(item.address, values)
            self._gains = wanted
        return wanted * self._kp_unit

    def _send_goals(self, q: Array) -> Array:
        counts = [
            min(max(to_counts(float(value)), int(low)), int(high))
            for value, (low, high) in zip(q, self._limits, strict=True)
        ]
        item = self._item("goal_position")
        self.port.sync_write(item.address, {n: item.encode(c) for n, c in zip(self._ids, counts, strict=True)})
        return np.array([to_rad(value) for value in counts])

    def _send_efforts(self, command: JointCommand, sent: JointCommand) -> None:
        if np.any(command.kp != 0) or np.any(command.kd != 0):
            raise HardwareError(
                f"In operating mode {self.options.operating} these servos have no gains: kp and kd must be 0.",
                "Nothing was sent.",
            )
        item = self._item(EFFORT_REGISTER[self.options.operating])
        values, back = {}, np.full(len(self._ids), np.nan)
        for i, row in enumerate(self.settings):
            model = self._registers.models[row.bus_id]
            asked = command.dq[i] if self.options.operating == "velocity" else command.tau[i]
            counts, back[i] = effort(model, row, self.options.operating, float(asked))
            values[row.bus_id] = item.encode(counts)
        self.port.sync_write(item.address, values)
        if self.options.operating == "velocity":
            sent.dq = back
        else:
            sent.tau = back

    # ------------------------------------------------------------------ one motor

    def ping(self, bus_id: int) -> Identity | None:
        """See :meth:`MotorBus.ping`."""
        self.port.open()
        return self._registers.identify(bus_id, tries=2)[0]

    def scan(self, ids: Sequence[int]) -> list[Identity]:
        """See :meth:`MotorBus.scan`."""
        found = (self.ping(number) for number in ids)
        return [identity for identity in found if identity is not None]

    def sweep(self) -> tuple[list[Identity], set[int]]:
        """All that answer a broadcast ping, and the ids at which more than one does."""
        self.port.open()
        heard, doubled = self.port.broadcast_ping(self.options.broadcast_up_to)
        known = [
            Identity(number, model_of(int.from_bytes(data[:2], "little")).name, str(data[2]))
            for number, data in sorted(heard.items())
        ]
        return known, doubled

    def read_register(self, bus_id: int, name: str) -> float:
        """See :meth:`MotorBus.read_register`; in counts."""
        self.port.open()
        return float(self._registers.get(bus_id, name))

    def write_register(self, bus_id: int, name: str, value: float) -> None:
        """See :meth:`MotorBus.write_register`; in counts."""
        if not float(value).is_integer():
            raise HardwareError(f"{name} takes whole counts, not {value!r}.")
        self.port.open()
        self._registers.put(bus_id, name, int(value))

    def registers(self, bus_id: int) -> tuple[Register, ...]:
        """The control table of the motor at an id."""
        self.port.open()
        self._registers.item(bus_id, "id")
        return self._registers.models[bus_id].registers

    def reboot(self, bus_id: int) -> None:
        """See :meth:`MotorBus.reboot`. It has lost its settings afterwards: configure again."""
        self.port.open()
        answer = self.port.reboot(bus_id)
        if answer.refused:
            raise HardwareError(f"{self._registers.say(bus_id)} does not restart: it {answer.why()}.")
        if bus_id in self._ids:
            self._active, self._watchdog = False, None
        until = self.clock.now() + _RESTART_S
        while self.clock.now() < until:
            self.clock.sleep_until(self.clock.now() + 0.1)
            if self.port.ping(bus_id).good:
                return
        raise HardwareError(f"{self._registers.say(bus_id)} does not answer after its restart.", "Check its supply.")

    def clear_fault(self, bus_id: int) -> None:
        """See :meth:`MotorBus.clear_fault`. Its torque goes off first; what only a restart clears is restarted."""
        self.port.open()
        if bus_id in self._ids:
            self._active = False
        self._registers.put(bus_id, "torque_enable", 0)
        if self._registers.get(bus_id, "bus_watchdog") == WATCHDOG_TRIPPED:
            self._registers.put(bus_id, "bus_watchdog", 0)
        if self._registers.get(bus_id, "hardware_error_status"):
            self.reboot(bus_id)
        if self._sampler is not None and bus_id in self._ids:
            self._sampler.forget_trip(bus_id)

    def close(self) -> None:
        """See :meth:`MotorBus.close`."""
        if self._switched_on and self.port.serial.is_open:
            self._off_whatever_happens()
        self._active, self._sampler, self._watchdog = False, None, None
        self.port.close()

    # ------------------------------------------------------------------ inside

    def _item(self, name: str) -> Register:
        return self._registers.models[self._ids[0]].register(name)

    def _set_all(self, name: str, values: dict[int, int]) -> None:
        """One Sync Write, which nobody confirms, then one read; who has another value is written to alone."""
        item = self._item(name)
        self.port.sync_write(item.address, {number: item.encode(value) for number, value in values.items()})
        now = self._registers.get_all(list(values), name)
        for number, value in values.items():
            if now[number] != item.decode(item.encode(value)):
                self._registers.put(number, name, value)

    def _refuse(self, name: str, wrong: Callable[[int], bool], what: str, advice: str) -> None:
        values = self._registers.get_all(self._ids, name)
        found = [
            f"{self._registers.say(number)} {what}"
            + (f" {say_faults(value)}" if name == "hardware_error_status" else "")
            for number, value in values.items()
            if wrong(value)
        ]
        if found:
            raise HardwareError(f"{'; '.join(found)}.", advice)

    def _refuse_tripped(self) -> None:
        self._refuse(
            "bus_watchdog", lambda value: value == WATCHDOG_TRIPPED, "has a watchdog that tripped",
            "Find out why this program or its predecessor fell silent, then clear it: `cadenza motors clear BUS ID`.",
        )  # fmt: skip

    def _require_connected(self) -> None:
        if self._sampler is None or not self.port.serial.is_open:
            raise HardwareError("The bus is not connected.", "Call connect() first.")

    def _require_configured(self) -> int:
        self._require_connected()
        if self._watchdog is None:
            raise HardwareError("The motors are not configured.", "Call configure() first, also after a restart.")
        return self._watchdog

    def _modes(self) -> str:
        return f"It takes: {', '.join(sorted(mode.value for mode in self.capabilities.modes))}."
