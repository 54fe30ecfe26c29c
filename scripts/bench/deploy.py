"""``cadenza bench deploy``: the timing of control loops against emulated motors in another process."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cadenza.envs.errors import CadenzaError
from cadenza.scripts.bench.timing import Record
from cadenza.scripts.console import out

if TYPE_CHECKING:
    from cadenza.controllers.policy_runner import PolicyRunner

SERVO_RATE_HZ, CAN_RATE_HZ, CAN_MOTORS = 50.0, 200.0, 7


@dataclass(frozen=True)
class Deploy:
    """Time control loops on the real clock, against emulated motors in another process.

    20 Dynamixels of an OP3 at 50 Hz with a policy, through dynamixel-sdk and a pseudo-terminal that takes as long as a
    2 Mbit/s wire; then 7 Damiao drives at 200 Hz through python-can, without a policy. The robot hangs in the air.
    Other programs on the same cores show in the tails. Bus: reading, limits, writing; aside: what is asked after that,
    temperatures, supply and watchdogs of some servos.
    """

    bundle: str = "op3-walk"
    """policy bundle for OP3, or the name of a shipped policy"""
    seconds: float = 60.0
    """of each of the two"""
    only: str = "both"
    """both, dynamixel or can"""
    json: Path | None = None
    """write the figures to this file"""


def measure_deploy(options: Deploy) -> Record:
    """Milliseconds of bus and period, microseconds of the policy, ticks and missed ones."""
    if not options.seconds > 0:
        raise CadenzaError(f"--seconds must be above 0, got {options.seconds:g}.")
    if options.only not in ("both", "dynamixel", "can"):
        raise CadenzaError(f"--only takes both, dynamixel or can, got {options.only!r}.")
    record: Record = {"seconds": options.seconds}
    if options.only != "can":
        record |= measure_servos(_runner(options.bundle), options.seconds)
        _tell("20 Dynamixels, 50 Hz, with the policy", record)
    if options.only != "dynamixel":
        record["can"] = measure_can(options.seconds)
        _tell("7 Damiao drives on CAN, 200 Hz", record["can"])
    return record


def measure_servos(runner: PolicyRunner, seconds: float) -> Record:
    """An OP3 in the air, driven by its policy.

    Raises:
        CadenzaError: the safety layer stopped it, e.g. because this machine was too busy.
    """
    import numpy as np

    from cadenza.controllers.loop import ControlLoop
    from cadenza.controllers.rigs import EMULATED, open_rig
    from cadenza.robots import load_humanoid
    from cadenza.robots.hardware.robot import RobotHardware

    robot = load_humanoid("op3")
    command = np.array([0.2, 0.0, 0.0]) if any(term.name == "command" for term in runner.facts.terms) else None
    with open_rig(EMULATED, robot, hung_up=True) as rig, RobotHardware(rig.port, robot) as hardware:
        hardware.connect()
        hardware.configure()
        loop = ControlLoop(hardware, runner, command=command, punctual=True)
        rig.hurry(True)
        try:
            report = loop.run(seconds)
        finally:
            rig.hurry(False)
        counters = rig.port.buses[0].counters  # type: ignore[attr-defined]
        state = rig.emulator.control.state() if rig.emulator is not None else {}
    if not report.active_ticks:
        raise CadenzaError(f"The loop was stopped before the policy drove: {report.reason}.", "Is the machine busy?")
    if report.lifecycle != "inactive":
        out.print(f"  [yellow]stopped by the safety layer after {report.active_ticks} ticks: {report.reason}[/]")
    bus, policy, period = loop.bus_ms(), report.timings_ms["policy_ms"], report.timings_ms["period_ms"]
    aside = loop.aside_ms()
    return {
        "bundle": str(runner.bundle.path.name),
        "bus_ms_p50": round(bus[0], 4), "bus_ms_p99": round(bus[1], 4), "bus_ms_max": round(bus[2], 4),
        "aside_ms_p50": round(aside[0], 4), "aside_ms_p99": round(aside[1], 4), "aside_ms_max": round(aside[2], 4),
        "policy_us_p50": round(1e3 * policy[0], 1), "policy_us_p99": round(1e3 * policy[1], 1),
        "policy_us_max": round(1e3 * policy[2], 1),
        "period_ms_p50": round(period[0], 4), "period_ms_p99": round(period[1], 4),
        "period_ms_max": round(period[2], 4),
        "missed_ticks": report.missed_ticks, "ticks": report.active_ticks, "rate_hz": SERVO_RATE_HZ,
        "timeouts": counters.timeouts, "retries": counters.retries, "ended": report.lifecycle,
        "warnings": [text for _, level, text in loop.events if level == "warning" and "permitted" in text],
        "emulator_behind_s": state.get("behind_s"),
    }  # fmt: skip


def measure_can(seconds: float) -> Record:
    """Drives on one CAN bus that hold their pose."""
    import numpy as np

    from cadenza.controllers.log_summary import percentiles
    from cadenza.controllers.loop import next_deadline
    from cadenza.controllers.realtime import realtime
    from cadenza.controllers.rigs import as_punctual_as_a_motor
    from cadenza.robots.hardware import can_motors  # noqa: F401 - adds the drives to MOTORS
    from cadenza.robots.hardware.bus import MotorSettings
    from cadenza.robots.hardware.clock import RealClock
    from cadenza.robots.hardware.emulators.launch import Order, spawn
    from cadenza.robots.hardware.opening import open_bus
    from cadenza.robots.hardware.types import JointCommand, Mode

    ids = tuple(range(1, CAN_MOTORS + 1))
    settings = [MotorSettings(f"joint_{n}", n, "DM4310", 6.0, 15.0, (-2.5, 2.5), 20.0, 1.0) for n in ids]
    period, clock = 1.0 / CAN_RATE_HZ, RealClock()
    rows: list[tuple[float, float]] = []
    missed = silent = 0
    with spawn(Order("damiao", motor="DM4310", ids=ids, channel=_free_channel())) as emulator:
        as_punctual_as_a_motor(emulator.process.pid)
        bus = open_bus(f"damiao:{emulator.port}", settings, clock)
        try:
            bus.connect()
            bus.configure(Mode.IMPEDANCE, 0.2)
            bus.activate()
            hold = JointCommand.hold(bus.read().q, 20.0, 1.0)
            hold.mode = Mode.IMPEDANCE
            with realtime() as warnings:
                deadline, before = clock.now(), float("nan")
                end = deadline + seconds
                while clock.now() < end:
                    began = time.perf_counter()
                    state = bus.read()
                    bus.write(hold)
                    rows.append((1e3 * (time.perf_counter() - began), 1e3 * (began - before)))
                    before = began
                    silent += int(np.count_nonzero(state.age > period))
                    deadline, skipped = next_deadline(deadline, period, clock.now())
                    missed += skipped
                    clock.sleep_until(deadline)
            bus.deactivate()
        finally:
            bus.close()
    found = np.array(rows)
    (p50, p99, most), periods = percentiles(found[:, 0]), percentiles(found[:, 1])
    return {
        "bus_ms_p50": round(p50, 4), "bus_ms_p99": round(p99, 4), "bus_ms_max": round(most, 4),
        "period_ms_p50": round(periods[0], 4), "period_ms_p99": round(periods[1], 4),
        "period_ms_max": round(periods[2], 4),
        "missed_ticks": missed, "ticks": len(rows), "rate_hz": CAN_RATE_HZ, "stale_samples": silent,
        "timeouts": bus.counters.timeouts, "warnings": warnings,
    }  # fmt: skip


def _runner(name: str) -> PolicyRunner:
    """A policy to run; one of an older bundle gets its facts from its task, for this measurement."""
    import tempfile

    from cadenza.controllers.bundle import PolicyBundle
    from cadenza.controllers.policy_runner import PolicyRunner
    from cadenza.controllers.shipped import locate, naming_advice

    folder, _ = locate(name)
    if not folder.exists():
        raise CadenzaError(f"There is no policy bundle {name!r}.", naming_advice(name))
    bundle = PolicyBundle.load(folder)
    if bundle.manifest.deployment is not None:
        return PolicyRunner(bundle)
    from cadenza.agents.export_facts import export_facts

    with tempfile.TemporaryDirectory() as temporary:
        return PolicyRunner(PolicyBundle.load(export_facts(folder, Path(temporary) / folder.name)))


def _free_channel() -> str:
    """A multicast group and a UDP port that nobody else uses."""
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("", 0))
        return f"239.74.163.2:{probe.getsockname()[1]}"


def _tell(title: str, record: dict[str, Any]) -> None:
    from cadenza.scripts.console import escape

    out.print(f"[bold]deploy[/] {title}: {record['ticks']} ticks, {record['missed_ticks']} missed")
    out.print(f"  {'':10}{'p50':>10}{'p99':>10}{'max':>10}")
    labels = {"bus_ms": "bus, ms", "aside_ms": "aside, ms", "policy_us": "policy, us", "period_ms": "period, ms"}
    for key, label in labels.items():
        if f"{key}_p50" in record:
            values = (record[f"{key}_{name}"] for name in ("p50", "p99", "max"))
            out.print(f"  {label:10}" + "".join(f"{value:10.2f}" for value in values))
    for warning in record["warnings"]:
        out.print(f"  [yellow]{escape(warning)}[/]")
