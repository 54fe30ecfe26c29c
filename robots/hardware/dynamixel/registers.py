"""Registers by name, each read back after it was written: for connecting and configuring, not for a control loop."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from cadenza.robots.hardware.dynamixel.port import Answer, DynamixelPort
from cadenza.robots.hardware.dynamixel.table import Model, Register, model_of
from cadenza.robots.hardware.errors import HardwareError
from cadenza.robots.hardware.types import Identity

TRIES = 3
_CABLES = "Check cable and supply of that motor; `cadenza motors scan` shows who answers."


class Registers:
    """Motors at their ids, and the models that they turned out to be.

    Args:
        port: they hang on.
        names: bus id -> joint name, for messages.
    """

    def __init__(self, port: DynamixelPort, names: Mapping[int, str]):
        self.port, self._names = port, dict(names)
        self.models: dict[int, Model] = {}

    def say(self, bus_id: int) -> str:
        """A motor for a person."""
        name = self._names.get(bus_id)
        return f"{name} (id {bus_id})" if name else f"id {bus_id}"

    def identify(self, bus_id: int, tries: int = TRIES) -> tuple[Identity | None, Answer]:
        """Who answers a ping there, and the last answer; a silent one is asked again, a garbled one too."""
        answer = Answer(None)
        for _ in range(tries):
            answer = self.port.ping(bus_id)
            if answer.good and answer.data is not None:
                model = model_of(int.from_bytes(answer.data[:2], "little"))
                self.models[bus_id] = model
                return Identity(bus_id, model.name, str(answer.data[2])), answer
        return None, answer

    def item(self, bus_id: int, name: str) -> Register:
        """A motor's register of that name.

        Raises:
            HardwareError: the motor does not answer, or its table has none.
        """
        if bus_id not in self.models:
            identity, answer = self.identify(bus_id)
            if identity is None:
                raise HardwareError(f"{self.say(bus_id)} {answer.why()}.", _CABLES)
        return self.models[bus_id].register(name)

    # ------------------------------------------------------------------ one

    def get(self, bus_id: int, name: str) -> int:
        """A register, in counts.

        Raises:
            HardwareError: there is none of that name, or no answer came in three tries.
        """
        item = self.item(bus_id, name)
        answer = Answer(None)
        with self.port.patient():
            for _ in range(TRIES):
                answer = self.port.read(bus_id, item.address, item.size)
                if answer.good and answer.data is not None:
                    return item.decode(answer.data)
        raise HardwareError(f"{self.say(bus_id)} {answer.why()} when asked for {name}.", _CABLES)

    def put(self, bus_id: int, name: str, counts: int) -> None:
        """Write a register and read it back.

        Raises:
            HardwareError: refused, or it holds something else afterwards.
        """
        item = self.item(bus_id, name)
        if not item.writable:
            raise HardwareError(f"{name} of {self.say(bus_id)} can only be read.")
        data = item.encode(counts)
        answer = Answer(None)
        for _ in range(TRIES):
            with self.port.patient():
                answer = self.port.write(bus_id, item.address, data)
            if answer.refused:
                raise HardwareError(
                    f"{self.say(bus_id)} refuses {name} = {counts}: it {answer.why()}.",
                    "Switch its torque off first." if answer.refused == 7 and item.eeprom else "",
                )
            if answer.good:
                break
        found = self.get(bus_id, name)
        if found != item.decode(data):
            raise HardwareError(f"{self.say(bus_id)} has {name} = {found} after {counts} was written.", _CABLES)

    # ------------------------------------------------------------------ all

    def get_all(self, ids: Sequence[int], name: str) -> dict[int, int]:
        """The same register of several motors.

        Raises:
            HardwareError: it names those that did not answer in three tries.
        """
        return {number: values[name] for number, values in self.snapshot(ids, (name,)).items()}

    def snapshot(self, ids: Sequence[int], names: Iterable[str]) -> dict[int, dict[str, int]]:
        """Several registers of several motors, by as few requests as their addresses allow.

        Raises:
            HardwareError: it names those that did not answer in three tries.
        """
        names = tuple(names)
        found: dict[int, dict[str, int]] = {number: {} for number in ids}
        wanted = {number: [self.item(number, name) for name in names if self._has(number, name)] for number in ids}
        items = sorted({(item.address, item.size) for rows in wanted.values() for item in rows})
        for start, size in _spans(items):
            raw = self._block(ids, start, size)
            for number in ids:
                for item in wanted[number]:
                    if start <= item.address < start + size:
                        at = item.address - start
                        found[number][item.name] = item.decode(raw[number][at : at + item.size])
        return found

    def _has(self, bus_id: int, name: str) -> bool:
        model = self.models.get(bus_id)
        return model is None or any(item.name == name for item in model.registers)

    def _block(self, ids: Sequence[int], start: int, size: int) -> dict[int, bytes]:
        found: dict[int, bytes] = {}
        missing = list(ids)
        answers: dict[int, Answer] = {}
        # Before it is configured a motor may wait half a millisecond before it answers.
        with self.port.patient(0.02 + 0.001 * len(missing)):
            for _ in range(TRIES):
                answers = self.port.sync_read(missing, start, size)
                found |= {n: answer.data for n, answer in answers.items() if answer.good and answer.data is not None}
                missing = [number for number in missing if number not in found]
                if not missing:
                    return found
        who = "; ".join(f"{self.say(number)} {answers[number].why()}" for number in missing)
        raise HardwareError(f"{who}.", _CABLES)


def _spans(items: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Blocks (start, size) that cover sorted registers (address, size), with gaps of a few bytes read along."""
    spans: list[tuple[int, int]] = []
    for address, size in items:
        if spans and address - sum(spans[-1]) <= 16:
            start, _ = spans[-1]
            spans[-1] = (start, address + size - start)
        else:
            spans.append((address, size))
    return spans
