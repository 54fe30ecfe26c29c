"""Starts emulators: in this process, or as one of their own.

What is wanted is an :class:`Order`. Each kind of emulator has a builder, ``build(order) -> World`` with all devices
added and at least one wire attached, in the module that :data:`BUILDERS` names; :func:`plant_for` makes the plant
that the order describes. The first wire's address is what clients open.

    emulator = spawn(Order("dynamixel", robot="op3", lockstep=True))
    ... dynamixel_sdk.PortHandler(emulator.port) ...; emulator.control.advance(0.02)
    emulator.stop()
"""

from __future__ import annotations

import dataclasses
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from cadenza.robots import load_humanoid
from cadenza.robots.description import Joint, LeggedRobot
from cadenza.robots.hardware.emulators.control import ControlServer, EmulatorControl
from cadenza.robots.hardware.emulators.faults import FaultPlan
from cadenza.robots.hardware.emulators.world import World
from cadenza.robots.hardware.errors import HardwareError
from cadenza.robots.hardware.plant import Plant
from cadenza.robots.names import unknown_name

BUILDERS: dict[str, str] = {
    "dynamixel": "cadenza.robots.hardware.emulators.dynamixel",
    "feetech": "cadenza.robots.hardware.emulators.feetech",
    "damiao": "cadenza.robots.hardware.emulators.damiao",
    "robstride": "cadenza.robots.hardware.emulators.robstride",
}
"""Kind of emulator -> the module with its ``build(order)``; imported when it is asked for."""


@dataclass(frozen=True)
class Order:
    """What is to be emulated."""

    kind: str
    """A key of :data:`BUILDERS`."""
    robot: str | None = None
    """A robot with a joint table, by its name; None: motors on a bench."""
    joint: str | None = None
    """Only this joint of the robot, on a bench with a lever on its shaft."""
    motor: str | None = None
    """Model of the motors of a bench; None: what is usual for the kind."""
    ids: tuple[int, ...] = ()
    """Bus ids of the motors of a bench; empty: 1, or that of the robot's joint."""
    hung_up: bool = False
    """The robot's base is fixed in the air."""
    held: bool = False
    """A gantry holds the robot over the floor until it is released over the control socket."""
    lockstep: bool = False
    """Time passes only over the control socket."""
    faults: str | None = None
    """File with a fault plan."""
    baud: int | None = None
    """Rate in the devices' registers; bit rate of a CAN bus; None: what is usual for the kind."""
    seed: int = 0
    """Of what is drawn at random."""
    link: str | None = None
    """Symbolic link to make to the serial port."""
    control: str | None = None
    """Path of the control socket; None: in a folder of its own below /tmp."""
    arm_kg_m: float = 0.0
    """Of a bench: mass times distance of the lever's centre from the shaft."""
    inertia_kg_m2: float = 0.002
    """Of a bench: of the lever."""
    plant: Mapping[str, float] = field(default_factory=dict)
    """Of a bench: ``armature``, ``friction_nm``, ``kd``, ``torque_nm`` unlike the motor's, to be identified."""
    interface: str | None = None
    """Of a CAN bus: python-can's interface."""
    channel: str | None = None
    """Of a CAN bus."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """What only one kind knows."""
    end_with_stdin: bool = False
    """End when standard input is closed, so that an emulator does not outlive whoever started it."""

    def to_json(self) -> str:
        """The inverse of :meth:`from_json`."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Order:
        """An order as another process wrote it."""
        record = json.loads(text)
        return cls(**{**record, "ids": tuple(record.get("ids", ()))})


def build(order: Order) -> World:
    """The world that is ordered, not yet started.

    Raises:
        HardwareError: it cannot be made, with the reason.
    """
    if order.kind not in BUILDERS:
        raise unknown_name("kind of emulator", order.kind, BUILDERS)
    make: Callable[[Order], World] = import_module(BUILDERS[order.kind]).build
    return make(order)


def fault_plan(order: Order) -> FaultPlan:
    """The plan in the ordered file, or an empty one."""
    return FaultPlan.from_file(Path(order.faults)) if order.faults else FaultPlan(seed=order.seed)


def robot_for(order: Order) -> LeggedRobot | None:
    """The ordered robot.

    Raises:
        HardwareError: there is none of that name.
    """
    if order.robot is None:
        return None
    return load_humanoid(order.robot)


def plant_for(order: Order, bench_row: Callable[[str, int], Joint], usual_motor: str) -> Plant:
    """The ordered robot, one of its joints on a bench, or motors on a bench.

    Args:
        order: what is wanted.
        bench_row: a row of a joint table for a motor's model and a bus id, for benches without a robot.
        usual_motor: where the order names none.
    """
    robot = robot_for(order)
    if robot is not None and order.joint is None:
        if order.motor is not None or order.ids:
            raise HardwareError("--motor and --ids describe a bench; a robot has its own motors.", "Leave them away.")
        return Plant.of_robot(robot, hung_up=order.hung_up)
    if order.hung_up or order.held:
        raise HardwareError("Only a whole robot can be hung up or held.", "Add --robot op3, without --joint.")
    if robot is not None:
        assert order.joint is not None
        if order.joint not in robot.joint_names:
            raise unknown_name("joint", order.joint, robot.joint_names)
        row = robot.joint(order.joint)
        rows = [dataclasses.replace(row, bus_id=order.ids[0]) if order.ids else row]
    else:
        rows = [bench_row(order.motor or usual_motor, bus_id) for bus_id in order.ids or (1,)]
    known = ("armature", "friction_nm", "kd", "torque_nm")
    for name in order.plant:
        if name not in known:
            raise unknown_name("quantity of a bench", name, known)
    changes: dict[str, Any] = dict(order.plant)
    rows = [dataclasses.replace(row, **changes) for row in rows]
    return Plant.of_bench(rows, inertia_kg_m2=order.inertia_kg_m2, arm_kg_m=order.arm_kg_m)


# ---------------------------------------------------------------------- in this process


def run(order: Order, ready: Callable[[World, Path], None] = lambda world, control: None) -> int:
    """Emulate until SIGINT, SIGTERM, ``shutdown`` over the control socket or, if ordered, the end of standard input.

    Prints one line of JSON, ``{"port": ..., "control": ..., "kind": ..., "pid": ...}``, when clients may come.

    Args:
        order: what to emulate.
        ready: called then too, to tell a person.
    """
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    world = build(order)
    with tempfile.TemporaryDirectory(prefix="cadenza-emulator-") as folder:
        server = ControlServer(world, Path(order.control or f"{folder}/control"), on_shutdown=ended.set)
        try:
            server.start()
            world.start()
            line = {
                "port": world.wires[0].address, "control": str(server.path), "kind": order.kind, "pid": os.getpid(),
            }  # fmt: skip
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()
            ready(world, server.path)
            if order.end_with_stdin:
                threading.Thread(target=_when_stdin_ends, args=(ended,), daemon=True).start()
            told_s = 0.0
            while not ended.wait(1.0):
                if world.behind_s > told_s:
                    told_s = world.behind_s
                    sys.stderr.write(f"too slow for real time: {told_s:.2f} s of simulated time given up so far\n")
        finally:
            server.stop()
            world.stop()
    return 0


def _when_stdin_ends(ended: threading.Event) -> None:
    sys.stdin.read()
    ended.set()


# ---------------------------------------------------------------------- in a process of its own


@dataclass
class Spawned:
    """An emulator in a process of its own; use it in a ``with`` or call :meth:`stop`."""

    process: subprocess.Popen[str]
    port: str
    """What a client opens."""
    control: EmulatorControl

    def stop(self) -> None:
        """End it and wait until it is gone; may be called twice."""
        self.control.shutdown()
        if self.process.stdin is not None and not self.process.stdin.closed:
            self.process.stdin.close()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    def __enter__(self) -> Spawned:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def spawn(order: Order, *, timeout_s: float = 60.0, env: Mapping[str, str] | None = None) -> Spawned:
    """Start an emulator in another process; it ends with this one.

    Args:
        order: what to emulate.
        timeout_s: for it to be ready.
        env: environment variables to add.

    Raises:
        HardwareError: it ended or was not ready in time; the message has what it wrote.
    """
    order = dataclasses.replace(order, end_with_stdin=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "cadenza.robots.hardware.emulators.launch", order.to_json()],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, **(env or {})},
    )  # fmt: skip
    assert process.stdout is not None
    line = _first_line(process.stdout, timeout_s)
    if not line:
        process.kill()
        _, wrote = process.communicate()
        raise HardwareError(f"The emulator did not start: {wrote.strip() or 'no word from it'}", "")
    record = json.loads(line)
    # Nobody reads what it writes from now on; a full pipe would stop it.
    for stream in (process.stdout, process.stderr):
        threading.Thread(target=_swallow, args=(stream,), daemon=True).start()
    return Spawned(process, record["port"], EmulatorControl(record["control"]))


def _first_line(stream: IO[str], timeout_s: float) -> str:
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=lambda: lines.put(stream.readline()), daemon=True).start()
    try:
        return lines.get(timeout=timeout_s)
    except queue.Empty:
        return ""


def _swallow(stream: IO[str] | None) -> None:
    try:
        while stream is not None and stream.readline():
            pass
    except ValueError:  # closed
        pass


def main() -> int:
    """``python -m cadenza.robots.hardware.emulators.launch ORDER``, for :func:`spawn`."""
    from cadenza.robots.errors import CadenzaError

    try:
        return run(Order.from_json(sys.argv[1]))
    except CadenzaError as error:
        sys.stderr.write(f"{error} {error.advice}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
