"""The reading half of a DYNAMIXEL bus: samples of all motors at a loop's rate, each with its own age.

Every read asks for current, velocity and position (registers 126 to 135) in one Fast Sync Read; the first one takes the
block 124 to 146, with voltage and temperature. These and the watchdog's state are asked of a few motors after each
read, or, by a control loop that asks for :meth:`Sampler.housekeep`, once its goals are on their way, so that once in so
many reads all have been asked. Who did not answer is asked once more if there is time: where the port says how much
there is (:meth:`SerialPort.within`), the first request may take at most a part of it. One
that stays silent is left out of the common request, which its silence would spoil for all, and asked alone now and
then. The Alert bit of an answer leads to a read of Hardware Error Status(70) of that motor.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Sequence

import numpy as np

from cadenza.robots.hardware.bus import BusCounters, MotorSettings
from cadenza.robots.hardware.clock import Clock
from cadenza.robots.hardware.dynamixel.port import Answer
from cadenza.robots.hardware.dynamixel.registers import Registers
from cadenza.robots.hardware.dynamixel.settings import DynamixelOptions, faults_of, say_faults
from cadenza.robots.hardware.dynamixel.table import RAD_S_PER_COUNT, WATCHDOG_TRIPPED, to_rad
from cadenza.robots.hardware.types import Fault, JointState

log = logging.getLogger(__name__)

_FULL, _SHORT, _SUPPLY = (124, 23), (126, 10), (144, 3)
_HARDWARE_ERROR, _WATCHDOG = 70, 98
_SILENT_READS = 3
"""After so many reads without an answer a motor is left out of the common request."""
_ALONE_EVERY = 5
_FIRST_SHARE = 0.55
"""Of the time that there is, which the first request may take; the rest is for asking again."""
_LEAST_WAIT_S = 0.0005
"""Less than this beyond its time on the wire is no time to answer."""
_FAST_AGAIN = 50
"""Reads after which fast reading is tried again once it has failed three times running."""


class Sampler:
    """Reads motors, in the order of ``settings``.

    Args:
        registers: of a bus that is connected.
        settings: the motors.
        options: of the bus.
        clock: on which samples age.
        counters: of the bus.
    """

    def __init__(
        self,
        registers: Registers,
        settings: Sequence[MotorSettings],
        options: DynamixelOptions,
        clock: Clock,
        counters: BusCounters,
    ):
        self._registers, self._port = registers, registers.port
        self._options, self._clock, self._counters = options, clock, counters
        self.ids = [row.bus_id for row in settings]
        self._place = {number: index for index, number in enumerate(self.ids)}
        self._per_nm = [registers.models[number].counts_per_nm for number in self.ids]
        n = len(self.ids)
        self._state = JointState.unknown(n)
        self._taken_s = np.full(n, -np.inf)
        self.tripped = np.zeros(n, dtype=bool)
        """Whose watchdog was seen tripped; only :meth:`forget_trip` takes it back."""
        self._restarted = np.zeros(n, dtype=bool)
        self._errors = np.zeros(n, dtype=np.int64)
        self._alerting: list[int] = []
        self._missed = np.zeros(n, dtype=np.int64)
        self._left_out: set[int] = set()
        self._garbled: set[int] = set()
        self._reads = 0
        self._fast_fails = 0
        self._plain_until = 0
        self._slow_due = False
        self._watchdog: int | None = None

    def forget_trip(self, bus_id: int | None = None) -> None:
        """A watchdog was cleared: that of one motor, or of all."""
        which = slice(None) if bus_id is None else self._place[bus_id]
        self.tripped[which] = False
        self._restarted[which] = False

    def read(self, watchdog: int | None) -> JointState:
        """One read.

        Args:
            watchdog: what each Bus Watchdog(98) must hold, to be checked now and then; None: not checked.

        Raises:
            HardwareError: the port is gone.
        """
        began, asked_s = time.monotonic(), self._clock.now()
        number = self._reads
        self._reads += 1
        self._counters.reads += 1
        group = [one for one in self.ids if one not in self._left_out]
        news = number % self._options.slow_every == 0 and bool(np.isnan(self._state.voltage).any())
        start, size = _FULL if news else _SHORT
        answers = self._group(group, start, size, began)
        if self._left_out and number % _ALONE_EVERY == 0:
            alone = sorted(self._left_out)[(number // _ALONE_EVERY) % len(self._left_out)]
            answers |= self._port.sync_read([alone], start, size)
        for one, answer in answers.items():
            self._take(one, answer, size, asked_s)
        self._leave_out(answers)
        self._ask_alerting(began)
        self._watchdog = watchdog
        if self._slow_due:  # nobody keeps house between reads
            self.housekeep()
        self._slow_due = True
        return self._copy()

    def housekeep(self) -> None:
        """Ask a few motors for voltage and temperature, or for the watchdog's state, in turn; once after each read.

        Raises:
            HardwareError: the port is gone.
        """
        self._slow_due = False
        group = [one for one in self.ids if one not in self._left_out]
        if self._reads and self._enough(3 * len(group)):
            self._ask_slow(group, self._reads - 1, self._watchdog)

    # ------------------------------------------------------------------ asking

    def _group(self, group: list[int], start: int, size: int, began: float) -> dict[int, Answer]:
        fast = self._options.fast and len(group) > 1 and self._reads > self._plain_until
        left_s = self._port.serial.left_s()
        limited: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
        if math.isfinite(left_s):
            limited = self._port.serial.within(_FIRST_SHARE * left_s)
        with limited:
            answers = self._port.sync_read(group, start, size, fast=fast)
        missing = [one for one in group if not answers[one].good]
        if fast:
            self._fast_fails = self._fast_fails + 1 if missing else 0
            if self._fast_fails >= 3:
                self._fast_fails, self._plain_until = 0, self._reads + _FAST_AGAIN
                log.debug("no answer to fast reads; reading motor by motor for %d reads", _FAST_AGAIN)
        if missing and self._time_left(began, (size + 11) * len(missing)):
            self._counters.retries += 1
            for one, answer in self._port.sync_read(missing, start, size).items():
                if answer.good or answer.corrupt:
                    answers[one] = answer
                elif fast:  # a garbled common packet says nothing about one motor
                    answers[one] = Answer(None)
        return answers

    def _time_left(self, began: float, reply_bytes: int) -> bool:
        serial, budget_s = self._port.serial, self._options.read_budget_s
        if not self._enough(reply_bytes):
            return False
        budget_s = 2 * serial.margin_s if budget_s is None else budget_s
        return time.monotonic() - began + reply_bytes * 10 / serial.baud <= budget_s

    def _enough(self, reply_bytes: int) -> bool:
        """Whether so many bytes could come within the time that the port allows."""
        serial = self._port.serial
        return reply_bytes * 10 / serial.baud + _LEAST_WAIT_S <= serial.left_s()

    def _ask_alerting(self, began: float) -> None:
        """One of those that report a hardware error is asked which, if there is time."""
        if not self._alerting or not self._time_left(began, 12):
            return
        one = self._alerting.pop(0)
        answer = self._port.read(one, _HARDWARE_ERROR, 1)
        if answer.good and answer.data is not None:
            place, status = self._place[one], answer.data[0]
            if status and status != self._errors[place]:
                log.warning("%s reports: %s", self._registers.say(one), say_faults(status))
            self._errors[place] = status

    def _ask_slow(self, group: list[int], number: int, watchdog: int | None) -> None:
        """Of a part of the motors, so that no read is much longer than another: voltage and temperature after one read,
        the watchdog after the next.
        """
        every = self._options.slow_every
        phase, parts = number % every, max(every // 2, 1)
        some = group[phase // 2 :: parts]
        fast = self._options.fast and len(some) > 1 and self._reads > self._plain_until
        if some and (phase % 2 == 0 or every == 1):
            for one, answer in self._port.sync_read(some, *_SUPPLY, fast=fast).items():
                if answer.good and answer.data is not None:
                    self._take_supply(self._place[one], answer.data)
        if some and watchdog is not None and (phase % 2 == 1 or every == 1):
            for one, answer in self._port.sync_read(some, _WATCHDOG, 1, fast=fast).items():
                if answer.good and answer.data is not None:
                    self._take_watchdog(one, int.from_bytes(answer.data, "little", signed=True), watchdog)

    def _take_supply(self, place: int, data: bytes) -> None:
        self._state.voltage[place] = 0.1 * int.from_bytes(data[:2], "little")
        self._state.temperature[place] = data[2]

    def _take_watchdog(self, one: int, value: int, expected: int) -> None:
        place = self._place[one]
        if value == WATCHDOG_TRIPPED:
            self.tripped[place] = True
        elif value != expected and not self._restarted[place]:
            self._restarted[place] = True
            log.warning("%s has lost its settings: it restarted.", self._registers.say(one))

    # ------------------------------------------------------------------ keeping

    def _take(self, one: int, answer: Answer, size: int, asked_s: float) -> None:
        place, data = self._place[one], answer.data
        if not answer.good or data is None:
            (self._garbled.add if answer.corrupt else self._garbled.discard)(one)
            self._missed[place] += 1
            return
        self._missed[place] = 0
        self._garbled.discard(one)
        self._left_out.discard(one)
        at, state = 126 - (_FULL[0] if size == _FULL[1] else _SHORT[0]), self._state
        current = int.from_bytes(data[at : at + 2], "little", signed=True)
        velocity = int.from_bytes(data[at + 2 : at + 6], "little", signed=True)
        position = int.from_bytes(data[at + 6 : at + 10], "little", signed=True)
        per_nm = self._per_nm[place]
        state.q[place] = to_rad(position)
        state.dq[place] = velocity * RAD_S_PER_COUNT
        state.tau[place] = current / per_nm if per_nm else np.nan
        if size == _FULL[1]:
            self._take_supply(place, data[20:23])
        self._taken_s[place] = asked_s
        if not answer.alert:
            self._errors[place] = 0
            if one in self._alerting:
                self._alerting.remove(one)
        elif one not in self._alerting:
            self._alerting.append(one)
            self._errors[place] = self._errors[place] or -1  # something, not yet known what

    def _leave_out(self, answers: dict[int, Answer]) -> None:
        """Who is mute; where many are missing, the fault is not one motor's and all are asked as before."""
        if not any(answer.good for answer in answers.values()):
            return
        mute = {one for one in self.ids if self._missed[self._place[one]] >= _SILENT_READS}
        self._left_out = mute if len(mute) <= max(len(self.ids) // 8, 1) else set()

    def _copy(self) -> JointState:
        state, faults = self._state, np.zeros(len(self.ids), dtype=np.int64)
        for place, one in enumerate(self.ids):
            error = int(self._errors[place])
            fault = Fault.OTHER if error < 0 else faults_of(error)
            if self._missed[place]:
                fault |= Fault.CORRUPT if one in self._garbled else Fault.SILENT
            if self.tripped[place]:
                fault |= Fault.COMMUNICATION_LOST
            if self._restarted[place]:
                fault |= Fault.OTHER
            faults[place] = int(fault)
        return JointState(
            q=state.q.copy(), dq=state.dq.copy(), tau=state.tau.copy(), temperature=state.temperature.copy(),
            voltage=state.voltage.copy(), fault=faults, age=self._clock.now() - self._taken_s,
        )  # fmt: skip
