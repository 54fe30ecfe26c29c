"""``cadenza deploy``: run a trained policy on a robot's motors, real, emulated or simulated."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from cadenza.envs.errors import CadenzaError
from cadenza.scripts.console import err, escape, out, write_result
from cadenza.scripts.parse import parse

if TYPE_CHECKING:
    from cadenza.controllers.bundle import PolicyBundle
    from cadenza.controllers.loop import ControlLoop, LoopReport
    from cadenza.controllers.policy_runner import PolicyRunner
    from cadenza.controllers.rigs import Rig
    from cadenza.robots.description import LeggedRobot
    from cadenza.robots.hardware.limits import JointLimits

STOPPED_BY_SAFETY, INTERRUPTED = 3, 130


@dataclass(frozen=True)
class Deploy:
    """Run a policy bundle on motors: the same loop for a simulation, an emulated robot and a real one.

    cadenza deploy op3-walk --bus sim --command 0.2 0 0 --seconds 10 --yes
    cadenza deploy bundle --bus emulated --seconds 10 --yes --log walk.mcap
    cadenza deploy bundle --bus emulated --faults faults.json --seconds 30 --yes --log faults.mcap
    cadenza deploy bundle --bus dynamixel:/dev/ttyUSB0 --calibration op3.json --log first.mcap

    What happens, in this order: the bundle is compared with robot, calibration and motors, and refused with every
    difference; motors are configured with torque off, their watchdogs are proven; torque goes on at the measured pose;
    the robot goes to its home pose in 2.5 s; it waits for you (Enter); the policy drives. In the end, by --seconds or
    Ctrl-C, it is told to stand, goes to its home pose, and its torque goes off: hold it, or it falls then. Space or q
    stop it where it is; either, or Ctrl-C, a second time takes the torque away at once.

    None of these stops is an emergency stop. That is a switch in the supply of the motors; keep a hand on it.

    Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 stopped by the safety layer or a stop key, 130 Ctrl-C.
    """

    bundle: Annotated[str, tyro.conf.Positional]
    """folder of a policy bundle or of a sequence of two (docs/sequencer.md), or the name of a shipped policy"""
    robot: str = "op3"
    """whose motors: a name of `cadenza list robots`"""
    bus: str = "sim"
    """sim, emulated, or a real bus: dynamixel:/dev/ttyUSB0@2000000, feetech:/dev/ttyACM0, damiao:can0"""
    command: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """forward and left velocity [m/s] and yaw rate [rad/s]"""
    seconds: float | None = None
    """how long the policy drives; without, until it is stopped"""
    torque_share: float = 1.0
    """share of every joint's torque limit; 0.5 for a first try on a robot that hangs"""
    speed_share: float = 1.0
    """share of every joint's speed limit, and of how fast targets may change"""
    calibration: Path | None = None
    """file of this very robot; a real bus needs it"""
    log: Path | None = None
    """write every tick to this .mcap (`cadenza log summary FILE` reads it)"""
    video: Path | None = None
    """sim and emulated: film the shafts' simulation as H.264 to this .mp4, drawn after the run"""
    hold_at_end: bool = False
    """hold the home pose with power at the end until you press Enter; on a real bus it does so unless --yes is given"""
    yes: bool = False
    """let the policy drive without asking; simulated and emulated motors only, unless with the next"""
    i_am_at_the_stop: bool = False
    """with --yes on a real bus: somebody stands at the switch of the motors' supply"""
    lockstep: bool = False
    """sim and emulated: time passes only as the loop says; the same numbers in every run"""
    hung_up: bool = False
    """sim and emulated: the base is fixed in the air; otherwise a gantry holds it until the robot is at home"""
    faults: Path | None = None
    """emulated: a fault plan (docs/emulators.md)"""
    stop_socket: str | None = None
    """any byte that arrives there stops: path of a Unix socket, or HOST:PORT"""
    hold_to_run: bool = False
    """with --stop-socket: somebody must be connected, and the robot stops when the last one goes"""
    gamepad: Path | None = None
    """any button stops: /dev/input/js0"""
    json: Path | None = None
    """write the figures of the run to this file"""


def main(arguments: list[str]) -> int:
    """Parse, check, drive, report."""
    options = parse(Deploy, "deploy", arguments)
    real = options.bus not in ("sim", "emulated")
    _check(options, real)
    if options.video is not None:
        from cadenza.envs.rendering.gl import ensure_gl_backend

        ensure_gl_backend()  # before anything imports MuJoCo
    from cadenza.controllers.bundle import PolicyBundle
    from cadenza.controllers.deployment import check_command, check_deployment
    from cadenza.controllers.policy_runner import PolicyRunner
    from cadenza.controllers.rigs import open_rig
    from cadenza.controllers.sequenced_runner import SequencedRunner, is_sequence
    from cadenza.controllers.shipped import locate, naming_advice
    from cadenza.robots import load_humanoid
    from cadenza.robots.hardware.limits import JointLimits, lowered

    folder, shipped = locate(options.bundle)
    if not folder.exists():
        raise CadenzaError(f"There is no policy bundle {options.bundle!r}.", naming_advice(options.bundle))
    robot = load_humanoid(options.robot)
    limits = lowered(JointLimits.for_robot(robot), torque_share=options.torque_share, speed_share=options.speed_share)
    runner = SequencedRunner.load(folder) if is_sequence(folder) else PolicyRunner(PolicyBundle.load(folder))
    bundle = runner.bundle
    facts = check_deployment(bundle.manifest, robot)
    if isinstance(runner, SequencedRunner):
        check_deployment(runner.standing.bundle.manifest, robot)
    check_command(facts, options.command)
    with open_rig(
        options.bus, robot, lockstep=options.lockstep, hung_up=options.hung_up, faults=options.faults,
        calibration=options.calibration,
    ) as rig:  # fmt: skip
        check_deployment(
            bundle.manifest, robot, joint_names=rig.port.joint_names, capabilities=rig.port.capabilities, imu=rig.imu,
            period_s=runner.period_s, calibration_joints=[row.name for row in rig.calibration.joints],
            calibration_robot=rig.calibration.robot,
        )  # fmt: skip
        return _drive(options, robot, limits, bundle, runner, rig, shipped or folder.name)


def _check(options: Deploy, real: bool) -> None:
    if options.seconds is not None and not options.seconds > 0:
        raise CadenzaError(f"--seconds must be above 0, got {options.seconds:g}.")
    if options.hold_to_run and options.stop_socket is None:
        raise CadenzaError("--hold-to-run needs a socket to hold.", "Add --stop-socket PATH.")
    if options.log is not None and options.log.suffix != ".mcap":
        raise CadenzaError(f"--log writes a .mcap, got {options.log}.")
    if options.video is not None:
        if real:
            raise CadenzaError("--video draws a simulation; these motors are real.", "Film it with a camera.")
        if options.video.suffix.lower() != ".mp4":
            raise CadenzaError(f"--video writes an .mp4, got {options.video}.")
    if real and options.yes and not options.i_am_at_the_stop:
        raise CadenzaError(
            "--yes lets real motors move without asking anybody.",
            "Leave it away and press Enter when all is clear; or add --i-am-at-the-stop if somebody stands at the "
            "switch of the motors' supply.",
        )
    if not options.yes and not sys.stdin.isatty():
        raise CadenzaError(
            "Nobody can press Enter to let the policy drive: the input is no terminal.",
            "Run it in a terminal, or add --yes (simulated and emulated motors).",
        )


def _drive(
    options: Deploy, robot: LeggedRobot, limits: JointLimits, bundle: PolicyBundle, runner: PolicyRunner, rig: Rig,
    name: str,
) -> int:  # fmt: skip
    """Set up, run the loop, tell how it went."""
    from cadenza.controllers.live_status import LiveStatus
    from cadenza.controllers.loop import ControlLoop
    from cadenza.robots.hardware.estop import EStop
    from cadenza.robots.hardware.robot import RobotHardware

    start, let_go = Word(options.yes), Word()
    real = options.bus not in ("sim", "emulated")
    loops: list[ControlLoop] = []
    estop = EStop()
    hardware = RobotHardware(rig.port, robot, period_s=runner.period_s, limits=limits, estop=estop)
    with contextlib.ExitStack() as stack:
        for source in _stops(options, estop, (start, let_go), lambda name: any(loop.end(name) for loop in loops)):
            stack.enter_context(source)
        stack.enter_context(hardware)
        telemetry = None
        if options.log is not None:
            telemetry = stack.enter_context(_telemetry(options, robot, bundle, runner, rig, name))
        out.print(f"{escape(name)} on {escape(rig.label)}: connecting")
        hardware.connect()
        out.print("configuring the motors, torque off; proving that their watchdogs trip")
        hardware.configure()
        keeper = None
        if options.video is not None:
            from cadenza.scripts.deployed_film import PoseKeeper

            keeper = stack.enter_context(PoseKeeper(rig, options.lockstep, lambda: hardware.lifecycle.value))
        loop = ControlLoop(
            hardware, runner, telemetry=telemetry, confirmed=start, at_home=rig.put_down,
            command=_array(options.command), punctual=not options.lockstep,
            at_tick=None if keeper is None else keeper.at_tick,
            let_go=let_go if options.hold_at_end or (real and not options.yes) else None,
        )  # fmt: skip
        loops.append(loop)
        title = f"{name} on {rig.label}"
        with LiveStatus(out, loop, title):
            rig.hurry(True)
            try:
                report = loop.run(options.seconds)
            finally:
                rig.hurry(False)
    _tell(report, loop, options)
    write_result(options.json, _figures(options, report, loop, rig))
    if keeper is not None and options.video is not None:
        from cadenza.scripts.deployed_film import FilmProgress, write_film

        if keeper.failure:
            err.print(f"the film has gaps: {escape(keeper.failure)}")
        with FilmProgress(options.video) as progress:
            write_film(options.video, keeper.poses, robot, bundle.manifest.env_id, title, progress)
        out.print(f"film: {escape(str(options.video))}")
    return _code(report)


class Word:
    """The operator's Enter. It counts only once it is waited for: one pressed before says nothing.

    Args:
        given: it need not be waited for.
    """

    def __init__(self, given: bool = False):
        self._given, self._asked = given, False
        self._pressed = threading.Event()

    def __call__(self) -> bool:
        """Whether it was said; the first call is the question."""
        if not self._asked:
            self._asked = True
            self._pressed.clear()
        return self._given or self._pressed.is_set()

    def pressed(self) -> None:
        """Somebody pressed Enter."""
        self._pressed.set()


def _stops(options: Deploy, estop: Any, words: tuple[Word, ...], end: Callable[[str], bool]) -> Iterator[Any]:
    """Everything that may stop the robot, each a context manager."""
    from cadenza.robots.hardware.estop import GamepadStop, KeyboardStop, SignalStop, SocketStop

    yield SignalStop(estop, end)
    if sys.stdin.isatty():
        yield KeyboardStop(estop, on_key=_saying(words))
    if options.stop_socket is not None:
        host, colon, port = options.stop_socket.rpartition(":")
        address: Any = (host, int(port)) if colon and port.isdecimal() else options.stop_socket
        yield SocketStop(estop, address, hold_to_run=options.hold_to_run)
    if options.gamepad is not None:
        yield GamepadStop(estop, options.gamepad)


def _saying(words: tuple[Word, ...]) -> Callable[[str], None]:
    def pressed(key: str) -> None:
        if key in "\r\n":
            for word in words:
                word.pressed()

    return pressed


def _telemetry(
    options: Deploy, robot: LeggedRobot, bundle: PolicyBundle, runner: PolicyRunner, rig: Rig, name: str
) -> Any:
    from cadenza.agents.runs.settings import provenance
    from cadenza.controllers.bundle import MANIFEST_FILE, ONNX_FILE
    from cadenza.controllers.telemetry import Telemetry

    assert options.log is not None
    origin = provenance()
    metadata = {
        "bundle": name,
        "bundle_sha256": bundle.manifest.sha256[ONNX_FILE],
        "deployment_sha256": runner.facts.sha256,
        "env_id": bundle.manifest.env_id,
        "robot": robot.name,
        "bus": rig.label,
        "lockstep": str(options.lockstep).lower(),
        "calibration": f"{rig.calibration.unit or 'nominal'} of {rig.calibration.date}",
        "command": json.dumps(options.command),
        "torque_nm": json.dumps([row.torque_nm for row in robot.joints]),
        "limit_shares": json.dumps({"torque": options.torque_share, "speed": options.speed_share}),
        "versions": json.dumps(origin["versions"]),
        "git_commit": str(origin["git_commit"]),
        "machine": json.dumps(origin["machine"]),
    }
    attachments = {
        MANIFEST_FILE: (bundle.path / MANIFEST_FILE).read_bytes(),
        "calibration.json": json.dumps(asdict(rig.calibration)).encode(),
    }
    # In lockstep a second may pass in milliseconds: the ring must hold what the writer has not got to yet.
    slots_s = 120.0 if options.lockstep else 5.0
    return Telemetry(
        options.log, robot.joint_names, runner.period_s, metadata, attachments, slots_s=slots_s, clock=rig.clock.now
    )


def _tell(report: LoopReport, loop: ControlLoop, options: Deploy) -> None:
    """The end of a run, for a person."""
    from rich.table import Table

    period = loop.period_s
    colour = "green" if report.lifecycle == "inactive" else "red"
    out.print(f"[bold {colour}]{report.lifecycle}[/]: {escape(report.reason or 'done')}")
    for cause in report.then:
        out.print(f"  then: {escape(cause)}")
    table = Table()
    for heading in ("", "p50", "p99", "max"):
        table.add_column(heading, justify="left" if not heading else "right")
    names = {"period_ms": "period", "late_ms": "begun late", "read_ms": "read", "policy_ms": "policy",
             "write_ms": "limits + write"}  # fmt: skip
    for key, label in names.items():
        table.add_row(label + ", ms", *(f"{value:.3f}" for value in report.timings_ms[key]))
    table.add_row("bus, ms", *(f"{value:.3f}" for value in loop.bus_ms()))
    if report.active_ticks:
        out.print(table)
        aside = ", ".join(f"{value:.3f}" for value in loop.aside_ms())
        out.print(f"bus is reading, limits and writing; after it, temperatures and watchdogs took {aside} ms")
    out.print(
        f"{report.active_ticks} ticks driven ({report.active_ticks * period:.1f} s), {report.missed_ticks} missed; "
        f"{report.odd_ticks} observations unlike training"
    )
    if report.limited_ticks:
        limits = ", ".join(f"{name} in {count}" for name, count in report.limited_ticks.items())
        out.print(f"ticks in which limits held a joint back: {limits}")
    if loop.telemetry is not None:
        dropped = f", {loop.telemetry.dropped} ticks were not logged" if loop.telemetry.dropped else ""
        out.print(
            f"log: {escape(str(loop.telemetry.path))}{dropped}   (cadenza log summary {escape(str(options.log))})"
        )
        if loop.telemetry.failure:
            err.print(f"[bold red]error:[/] the log is incomplete: {escape(loop.telemetry.failure)}")
    if report.error:
        err.print(f"[bold red]error:[/] {escape(report.error)}")


def _figures(options: Deploy, report: LoopReport, loop: ControlLoop, rig: Rig) -> dict[str, Any]:
    from cadenza.agents.runs.settings import provenance

    figures: dict[str, Any] = {
        "bundle": options.bundle, "bus": rig.label, "lockstep": options.lockstep,
        "torque_share": options.torque_share, "speed_share": options.speed_share, **asdict(report),
        "bus_ms": loop.bus_ms(), "aside_ms": loop.aside_ms(),
    }  # fmt: skip
    if rig.emulator is not None:
        truth = rig.emulator.control.state()
        figures["truth"] = {key: truth[key] for key in ("base_height_m", "uprightness") if key in truth}
    elif rig.plant is not None:
        figures["truth"] = {"uprightness": -float(rig.plant.imu()[1][2])}
    return {**_finite(figures), **provenance()}


def _finite(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and value != value else value


def _code(report: LoopReport) -> int:
    if report.interrupted:
        return INTERRUPTED
    if report.error:
        return 1
    return 0 if report.lifecycle == "inactive" else STOPPED_BY_SAFETY


def _array(values: tuple[float, ...]) -> Any:
    import numpy as np

    return np.array(values, dtype=np.float64)
