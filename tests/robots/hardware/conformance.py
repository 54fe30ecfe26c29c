"""What every motor bus must do, as a class that the test of each kind of bus subclasses.

    from conformance import BusConformance      # tests/robots/hardware/conftest.py puts this folder on sys.path

    class TestDynamixel(BusConformance):
        persistent = "temperature_limit"   # survives power-off and refuses writes under torque; or None
        harmless = ("led", 1.0)            # may be written at any time, and a value other than its own; or None

        @pytest.fixture
        def rig(self, tmp_path) -> Iterator[Rig]:
            ... start the emulator in another process, make the bus ...
            yield rig
            ... bus.close(), stop the emulator ...

A rig has three motors or more, none of which carries a load that moves it (a bench), in lockstep: time passes in
:meth:`Rig.advance` alone, which also moves the clock of the bus. The bus is new and not yet connected. The margin
of its port should be generous (0.2 s): these tests are about what happens, not when.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
import pytest

from cadenza.robots.hardware.bus import MotorBus
from cadenza.robots.hardware.errors import HardwareError
from cadenza.robots.hardware.types import Array, Fault, JointCommand, Mode


class Rig(Protocol):
    """A bus and the hands of an experimenter on its emulated motors. Arrays (n,) in the order of ``bus.settings``."""

    bus: MotorBus
    resolution_rad: float
    """Of the positions on this wire."""

    def shafts(self) -> Array:
        """True angles, rad, in the motor's direction about its centre."""

    def turn(self, index: int, q_rad: float) -> None:
        """Put a free shaft elsewhere by hand, at rest."""

    def powered(self) -> list[bool]:
        """Whose torque is on."""

    def registers(self) -> Any:
        """Everything that can be set in the motors, comparable with ==; without what a motor measures or counts."""

    def advance(self, seconds: float) -> None:
        """Let time pass for the emulator and for the clock of the bus, without a byte on the bus."""

    def fault(self, kind: str, index: int | None = None) -> None:
        """From now on ``mute`` one motor; ``corrupt`` every answer of one (None: all) motors; ``unplug`` the port."""

    def heal(self) -> None:
        """Take all faults back."""


WATCHDOG_S = 0.2


def ready(rig: Rig) -> None:
    """Connected, configured and torque on."""
    rig.bus.connect()
    rig.bus.configure(Mode.POSITION if Mode.POSITION in rig.bus.capabilities.modes else Mode.IMPEDANCE, WATCHDOG_S)
    rig.bus.activate()


def command(rig: Rig, q: Array | float) -> JointCommand:
    """A position for every motor, with the gains of the settings."""
    settings = rig.bus.settings
    kp, kd = np.array([row.kp for row in settings]), np.array([row.kd for row in settings])
    made = JointCommand.hold(np.zeros(len(settings)) + q, kp, kd)
    modes = rig.bus.capabilities.modes
    made.mode = Mode.POSITION if Mode.POSITION in modes else Mode.IMPEDANCE
    return made


def follow(rig: Rig, q: Array | float, seconds: float = 1.0, period: float = 0.02) -> None:
    """A control loop that asks for one position; how the shafts get there is the motors' business."""
    for _ in range(round(seconds / period)):
        rig.bus.read()
        rig.bus.write(command(rig, q))
        rig.advance(period)


class BusConformance:
    """Subclass it, name it ``Test...`` and give it a fixture ``rig``."""

    persistent: str | None = None
    harmless: tuple[str, float] | None = None
    accuracy_rad: float = 0.05
    """How near a shaft comes to its goal, with the friction of its motor."""
    can_reboot: bool = True

    @pytest.fixture
    def rig(self) -> Iterator[Rig]:
        raise NotImplementedError("the subclass makes the rig")

    # ------------------------------------------------------------------ connect

    def test_connect_identifies_every_motor_in_order(self, rig: Rig) -> None:
        found = rig.bus.connect()
        assert [one.bus_id for one in found] == [row.bus_id for row in rig.bus.settings]
        assert all(one.model for one in found)

    def test_connecting_and_reading_change_nothing(self, rig: Rig) -> None:
        before = rig.registers()
        rig.bus.connect()
        for _ in range(30):
            rig.bus.read()
            rig.advance(0.02)
        assert rig.registers() == before
        assert rig.powered() == [False] * len(rig.bus.settings)

    def test_connect_names_the_motor_that_is_missing(self, rig: Rig) -> None:
        rig.fault("mute", 1)
        with pytest.raises(HardwareError) as caught:
            rig.bus.connect()
        text = f"{caught.value} {caught.value.advice}"
        assert rig.bus.settings[1].name in text
        assert str(rig.bus.settings[1].bus_id) in text
        assert rig.bus.settings[0].name not in text

    def test_nothing_is_read_or_written_before_connect(self, rig: Rig) -> None:
        for call in (rig.bus.read, lambda: rig.bus.write(command(rig, 0.0))):
            with pytest.raises(HardwareError):
                call()

    # ------------------------------------------------------------------ configure

    def test_configure_twice_is_configure_once(self, rig: Rig) -> None:
        rig.bus.connect()
        rig.bus.configure(command(rig, 0.0).mode, WATCHDOG_S)
        once = rig.registers()
        rig.bus.configure(command(rig, 0.0).mode, WATCHDOG_S)
        assert rig.registers() == once
        assert rig.powered() == [False] * len(rig.bus.settings)

    def test_configure_is_refused_under_torque(self, rig: Rig) -> None:
        ready(rig)
        before = rig.registers()
        with pytest.raises(HardwareError, match="torque"):
            rig.bus.configure(command(rig, 0.0).mode, WATCHDOG_S)
        assert rig.registers() == before

    def test_a_mode_that_the_bus_lacks_is_refused(self, rig: Rig) -> None:
        lacking = [mode for mode in Mode if mode not in rig.bus.capabilities.modes]
        ready(rig)
        for mode in lacking:
            wrong = command(rig, 0.0)
            wrong.mode = mode
            with pytest.raises(HardwareError):
                rig.bus.write(wrong)

    # ------------------------------------------------------------------ read

    def test_read_tells_where_the_shafts_are(self, rig: Rig) -> None:
        angles = np.linspace(-0.8, 0.9, len(rig.bus.settings))
        for index, angle in enumerate(angles):
            rig.turn(index, float(angle))
        rig.bus.connect()
        state = rig.bus.read()
        np.testing.assert_allclose(state.q, angles, atol=rig.resolution_rad)
        assert np.all(state.fault == 0)
        assert np.all(state.age >= 0)
        assert np.all(state.age < 1.0)

    def test_each_state_is_its_own(self, rig: Rig) -> None:
        rig.bus.connect()
        first = rig.bus.read()
        kept = first.q.copy()
        rig.turn(0, 0.5)
        rig.bus.read()
        np.testing.assert_array_equal(first.q, kept)

    # ------------------------------------------------------------------ activate, write

    def test_nothing_is_written_before_activate(self, rig: Rig) -> None:
        rig.bus.connect()
        rig.bus.configure(command(rig, 0.0).mode, WATCHDOG_S)
        before = rig.registers()
        with pytest.raises(HardwareError):
            rig.bus.write(command(rig, 0.5))
        assert rig.registers() == before

    def test_activate_moves_nothing(self, rig: Rig) -> None:
        for index in range(len(rig.bus.settings)):
            rig.turn(index, 0.3 + 0.1 * index)
        at = rig.shafts()
        ready(rig)
        assert all(rig.powered())
        rig.advance(WATCHDOG_S / 2)
        np.testing.assert_allclose(rig.shafts(), at, atol=2 * rig.resolution_rad + 1e-3)

    def test_write_moves_and_tells_what_was_sent(self, rig: Rig) -> None:
        ready(rig)
        asked = np.linspace(-0.4, 0.5, len(rig.bus.settings))
        sent = rig.bus.write(command(rig, asked))
        assert sent.delivered
        np.testing.assert_allclose(sent.command.q, asked, atol=rig.resolution_rad)
        follow(rig, asked)
        np.testing.assert_allclose(rig.shafts(), asked, atol=self.accuracy_rad)
        np.testing.assert_allclose(rig.bus.read().q, rig.shafts(), atol=2 * rig.resolution_rad)

    def test_what_is_not_finite_never_goes_out(self, rig: Rig) -> None:
        ready(rig)
        before = rig.registers()
        for field in ("q", "dq", "tau", "kp", "kd"):
            for poison in (np.nan, np.inf, -np.inf):
                bad = command(rig, 0.4)
                getattr(bad, field)[1] = poison
                with pytest.raises(HardwareError, match="finite"):
                    rig.bus.write(bad)
        assert rig.registers() == before

    def test_a_command_of_the_wrong_length_is_refused(self, rig: Rig) -> None:
        ready(rig)
        before = rig.registers()
        short = JointCommand.hold(np.zeros(len(rig.bus.settings) - 1))
        short.mode = command(rig, 0.0).mode
        with pytest.raises(HardwareError):
            rig.bus.write(short)
        assert rig.registers() == before

    # ------------------------------------------------------------------ faults

    def test_a_mute_motor_keeps_its_last_sample_which_ages(self, rig: Rig) -> None:
        rig.turn(1, 0.6)
        rig.bus.connect()
        rig.bus.read()
        rig.fault("mute", 1)
        rig.turn(1, -0.6)
        rig.advance(0.1)
        state = rig.bus.read()
        assert state.fault[1] & Fault.SILENT
        assert state.age[1] >= 0.1 - 1e-6
        assert abs(state.q[1] - 0.6) <= 2 * rig.resolution_rad
        others = [index for index in range(len(rig.bus.settings)) if index != 1]
        assert not np.any(state.fault[others] & (Fault.SILENT | Fault.CORRUPT))
        assert np.all(state.age[others] < state.age[1])
        rig.heal()
        rig.bus.read()
        back = rig.bus.read()
        assert back.fault[1] == 0
        assert abs(back.q[1] + 0.6) <= 2 * rig.resolution_rad

    def test_garbled_answers_never_become_numbers(self, rig: Rig) -> None:
        for index in range(len(rig.bus.settings)):
            rig.turn(index, 0.2)
        rig.bus.connect()
        rig.bus.read()
        rig.fault("corrupt")
        for _ in range(5):
            state = rig.bus.read()
            np.testing.assert_allclose(state.q, 0.2, atol=2 * rig.resolution_rad)
            rig.advance(0.02)
        assert np.all(state.fault & (Fault.CORRUPT | Fault.SILENT))
        assert rig.bus.counters.corrupt + rig.bus.counters.timeouts > 0
        rig.heal()
        rig.bus.read()
        assert np.all(rig.bus.read().fault == 0)

    def test_a_port_that_is_gone_is_an_error_and_closing_is_not(self, rig: Rig) -> None:
        ready(rig)
        rig.fault("unplug")

        def until_it_is_noticed(call: Callable[[], object]) -> None:
            for _ in range(20):
                call()

        with pytest.raises(HardwareError):
            until_it_is_noticed(rig.bus.read)
        with pytest.raises(HardwareError):
            until_it_is_noticed(lambda: rig.bus.write(command(rig, 0.1)))
        rig.bus.close()
        rig.bus.close()

    # ------------------------------------------------------------------ off

    def test_deactivate_switches_all_off(self, rig: Rig) -> None:
        ready(rig)
        rig.bus.deactivate()
        assert not any(rig.powered())
        with pytest.raises(HardwareError):
            rig.bus.write(command(rig, 0.2))

    def test_deactivate_switches_the_others_off_when_one_is_mute(self, rig: Rig) -> None:
        ready(rig)
        rig.fault("mute", 0)
        with pytest.raises(HardwareError) as caught:
            rig.bus.deactivate()
        assert rig.bus.settings[0].name in f"{caught.value} {caught.value.advice}"
        assert not any(rig.powered()[1:])

    def test_close_switches_off_what_this_bus_switched_on(self, rig: Rig) -> None:
        ready(rig)
        rig.bus.close()
        assert not any(rig.powered())
        rig.bus.close()

    # ------------------------------------------------------------------ watchdog

    def test_the_watchdog_is_proved_and_left_armed(self, rig: Rig) -> None:
        self._needs_watchdog(rig)
        rig.bus.connect()
        rig.bus.configure(command(rig, 0.0).mode, WATCHDOG_S)
        at = rig.shafts()
        rig.bus.prove_watchdog()
        assert not any(rig.powered())
        np.testing.assert_allclose(rig.shafts(), at, atol=2 * rig.resolution_rad + 1e-3)
        rig.bus.activate()
        assert all(rig.powered())
        follow(rig, 0.2, 0.5)
        assert np.all(rig.bus.read().fault == 0)

    def test_a_silent_host_trips_it_and_nothing_but_an_order_clears_it(self, rig: Rig) -> None:
        self._needs_watchdog(rig)
        ready(rig)
        follow(rig, 0.1, 0.5)
        rig.advance(3 * WATCHDOG_S)
        at = rig.shafts()
        seen = np.zeros(len(rig.bus.settings), dtype=np.int64)
        for _ in range(30):
            seen |= rig.bus.read().fault
            try:
                rig.bus.write(command(rig, 0.9))
            except HardwareError:
                break
            rig.advance(0.02)
        assert np.all(seen & Fault.COMMUNICATION_LOST)
        assert np.all(np.abs(rig.shafts() - 0.9) > 0.5), "a tripped motor moved on a new goal"
        np.testing.assert_allclose(rig.shafts(), at, atol=self.accuracy_rad)
        with pytest.raises(HardwareError):
            rig.bus.activate()
        for row in rig.bus.settings:
            rig.bus.clear_fault(row.bus_id)
        assert np.all(np.abs(rig.shafts() - 0.9) > 0.5), "clearing a fault moved a motor"

    def _needs_watchdog(self, rig: Rig) -> None:
        if not rig.bus.capabilities.device_watchdog:
            pytest.skip("these motors have no watchdog of their own")

    # ------------------------------------------------------------------ one motor

    def test_ping_and_scan(self, rig: Rig) -> None:
        found = rig.bus.connect()
        ids = [row.bus_id for row in rig.bus.settings]
        free = next(number for number in range(100, 0, -1) if number not in ids)
        assert rig.bus.ping(ids[0]) == found[0]
        assert rig.bus.ping(free) is None
        assert [one.bus_id for one in rig.bus.scan([*ids, free])] == ids

    def test_registers_by_name(self, rig: Rig) -> None:
        rig.bus.connect()
        number = rig.bus.settings[0].bus_id
        with pytest.raises(HardwareError, match="no_such_register"):
            rig.bus.read_register(number, "no_such_register")
        if self.harmless is not None:
            name, value = self.harmless
            assert rig.bus.read_register(number, name) != value
            rig.bus.write_register(number, name, value)
            assert rig.bus.read_register(number, name) == value

    def test_persistent_registers_are_refused_under_torque(self, rig: Rig) -> None:
        if self.persistent is None:
            pytest.skip("these motors have no such register")
        ready(rig)
        number = rig.bus.settings[0].bus_id
        now = rig.bus.read_register(number, self.persistent)
        with pytest.raises(HardwareError):
            rig.bus.write_register(number, self.persistent, now - 1)
        assert rig.bus.read_register(number, self.persistent) == now

    def test_reboot_leaves_torque_off(self, rig: Rig) -> None:
        ready(rig)
        if not self.can_reboot:
            with pytest.raises(HardwareError):
                rig.bus.reboot(rig.bus.settings[0].bus_id)
            return
        rig.bus.reboot(rig.bus.settings[0].bus_id)
        rig.advance(1.0)
        assert not rig.powered()[0]
