"""The runs of docs/results/deploy-op3.md: a policy on twenty emulated DYNAMIXELs, undisturbed and disturbed.

    python docs/results/deploy_op3.py --out docs/results

Each scenario starts an emulated OP3 (20 servos and its OpenCR) in a process of its own, and the host that drives it in
another. This third process looks at what the shafts really do, over the emulator's control socket, twenty times a
second, and disturbs: lost packets, heat, a servo that falls silent, SIGKILL of the host.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

COMMAND = (0.2, 0.0, 0.0)
SECONDS, DISTURB_S, AFTER_S = 20.0, 5.0, 3.0
MOST_TRIES = 4
"""On a machine that is so busy that a run ends before its disturbance."""
L_KNEE = 14
SCENARIOS: dict[str, tuple[str, dict[str, Any] | None]] = {
    "undisturbed": ("nothing", None),
    "lost packets": ("2 % of all packets are dropped from 5 s on", {"kind": "drop", "share": 0.02}),
    "warm knee": ("the left knee is at 62 degC from 5 s on", {"kind": "over_heat", "device": L_KNEE, "amount": 62.0}),
    "too warm knee": (
        "the left knee is at 76 degC from 5 s on",
        {"kind": "over_heat", "device": L_KNEE, "amount": 76.0},
    ),
    "hot knee": ("the left knee is at 85 degC from 5 s on", {"kind": "over_heat", "device": L_KNEE, "amount": 85.0}),
    "mute knee": ("the left knee does not answer from 5 s on", {"kind": "mute", "device": L_KNEE}),
    "host killed": ("SIGKILL of the host at 5 s", None),
}


# ------------------------------------------------------------------ the host, a process of its own


def host(port: str, socket: str, bundle: str, log: str) -> None:
    """Drive the emulated robot and print what the loop says, as one line of JSON."""
    from cadenza.controllers.bundle import PolicyBundle
    from cadenza.controllers.loop import ControlLoop
    from cadenza.controllers.policy_runner import PolicyRunner
    from cadenza.controllers.rigs import SETUP_MARGIN_S, wired
    from cadenza.controllers.shipped import locate
    from cadenza.controllers.telemetry import Telemetry
    from cadenza.robots import load_humanoid
    from cadenza.robots.hardware.calibration import Calibration
    from cadenza.robots.hardware.clock import RealClock
    from cadenza.robots.hardware.emulators.control import EmulatorControl
    from cadenza.robots.hardware.robot import RobotHardware

    robot = load_humanoid("op3")
    runner = PolicyRunner(PolicyBundle.load(locate(bundle)[0]))
    control = EmulatorControl(socket)
    rig = wired(
        f"dynamixel:{port}", robot, Calibration.for_robot(robot), RealClock(), emulated=True, margin_s=SETUP_MARGIN_S
    )

    def lowered() -> float:
        control.release()
        return 1.5

    with contextlib.ExitStack() as stack:
        hardware = stack.enter_context(RobotHardware(rig.port, robot))
        telemetry = stack.enter_context(
            Telemetry(
                log, robot.joint_names, runner.period_s, {"robot": "op3", "bundle": bundle, "command": str(COMMAND)}
            )
        )
        hardware.connect()
        hardware.configure()
        told: list[str] = []

        def tell(*_: Any) -> None:
            if not told and hardware.lifecycle.name == "ACTIVE":
                told.append("active")
                print("active", flush=True)

        loop = ControlLoop(
            hardware,
            runner,
            telemetry=telemetry,
            at_home=lowered,
            command=np.array(COMMAND),
            punctual=True,
            at_tick=tell,
        )
        rig.hurry(True)
        report = loop.run(SECONDS)
        rig.hurry(False)
        counters = rig.port.buses[0].counters  # type: ignore[attr-defined]
        more = {"bus_ms": loop.bus_ms(), "aside_ms": loop.aside_ms(), "counters": asdict(counters)}
        events = [{"at_s": at_s, "level": level, "text": text} for at_s, level, text in loop.events]
    print(json.dumps({**asdict(report), **more, "events": events}))


# ------------------------------------------------------------------ who looks and disturbs


def punctual(on: bool = True) -> None:
    """Who looks must not be held up by other programs of the machine, nor hold up host and emulator."""
    with contextlib.suppress(OSError):
        kind, priority = (os.SCHED_FIFO, 10) if on else (os.SCHED_OTHER, 0)
        os.sched_setscheduler(0, kind | os.SCHED_RESET_ON_FORK, os.sched_param(priority))


class Watch(threading.Thread):
    """Keeps what the shafts really do."""

    def __init__(self, socket: str):
        super().__init__(daemon=True)
        self.socket, self.samples, self.over = socket, [], threading.Event()

    def run(self) -> None:
        from cadenza.robots.hardware.emulators.control import EmulatorControl

        punctual()
        control = EmulatorControl(self.socket)
        while not self.over.wait(0.05):
            self.samples.append(control.state())


def scenario(name: str, bundle: str, folder: Path) -> dict[str, Any] | None:
    """Run one and tell what happened; None where the safety layer ended it before anything was disturbed."""
    from cadenza.controllers.rigs import as_punctual_as_a_motor
    from cadenza.robots.hardware.emulators.launch import Order, spawn

    disturbance, fault = SCENARIOS[name]
    with spawn(Order("dynamixel", robot="op3", held=True)) as emulator:
        as_punctual_as_a_motor(emulator.process.pid)
        log = folder / f"{name.replace(' ', '-')}.mcap"
        command = [
            sys.executable,
            __file__,
            "--host",
            str(emulator.port),
            str(emulator.control.path),
            "--bundle",
            bundle,
        ]
        process = subprocess.Popen([*command, "--log", str(log)], stdout=subprocess.PIPE, text=True)
        watch = Watch(str(emulator.control.path))
        watch.start()
        assert process.stdout is not None
        began = None
        for line in process.stdout:
            if line.strip() == "active":
                began = emulator.control.state()
                break
        time.sleep(DISTURB_S if began is not None else 0.0)
        disturbed = emulator.control.state()
        if began is None or process.poll() is not None or not any(m["torque_enabled"] for m in disturbed["motors"]):
            process.kill()
            process.communicate()
            watch.over.set()
            watch.join()
            return None
        if fault is not None:
            fields = {key: value for key, value in fault.items() if key != "kind"}
            emulator.control.fault(fault["kind"], **fields)
        if name == "host killed":
            os.kill(process.pid, signal.SIGKILL)
        said = process.stdout.read()
        process.wait()
        time.sleep(AFTER_S)
        watch.over.set()
        watch.join()
    report = json.loads(said.strip().splitlines()[-1]) if said.strip() else None
    return {
        "disturbance": disturbance,
        "report": report,
        **told_by_the_shafts(watch.samples, began["time_s"], disturbed["time_s"], report),
        "log": log.name,
    }


def told_by_the_shafts(
    samples: list[dict[str, Any]], began_s: float, disturbed_s: float, report: dict[str, Any] | None
) -> dict[str, Any]:
    """Distance, attitude, heat and torque, from the emulator's own state; times are simulated seconds."""
    angles = np.array([[motor["angle_rad"] for motor in sample["motors"]] for sample in samples])
    times = np.array([sample["time_s"] for sample in samples])
    powered = np.array([[motor["torque_enabled"] for motor in sample["motors"]] for sample in samples])
    heat = np.array([[motor["temperature_c"] for motor in sample["motors"]] for sample in samples])
    upright = np.array([sample["uprightness"] for sample in samples])
    place = np.array([sample["base_pose"][:2] for sample in samples])
    tripped = np.array([any(m["watchdog"]["tripped"] for m in sample["motors"]) for sample in samples])
    driven = (times >= began_s) & powered.any(axis=1)
    last = int(np.flatnonzero(driven)[-1])
    first = int(np.flatnonzero(driven)[0])
    after = times >= disturbed_s
    off = after & ~powered.all(axis=1)
    stopped = after & tripped
    return {
        "driven_s": float(times[last] - began_s),
        "walked_m": float(np.linalg.norm(place[last] - place[first])),
        "least_upright_while_driven": float(upright[driven].min()),
        "upright_with_the_last_torque": float(upright[last]),
        "upright_at_the_end": float(upright[-1]),
        "stood_still_after_s": stood_still(times, place, disturbed_s),
        "hottest_c": float(heat.max()),
        "watchdog_tripped_after_s": float(times[stopped][0] - disturbed_s) if stopped.any() else None,
        "torque_off_after_s": float(times[off][0] - disturbed_s) if off.any() else None,
        "largest_turn_in_50_ms_rad": float(np.abs(np.diff(angles[driven], axis=0)).max()),
        "poses": {"time_s": times.tolist(), "base": [s["base_pose"] for s in samples], "angles": angles.tolist()},
    }


def stood_still(times: np.ndarray, place: np.ndarray, since_s: float) -> float | None:  # type: ignore[type-arg]
    """When the base moved no farther than 1 cm within the next second; simulated seconds from ``since_s``."""
    for row in np.flatnonzero(times >= since_s).tolist():
        ahead = (times >= times[row]) & (times <= times[row] + 1.0)
        if times[-1] >= times[row] + 1.0 and np.linalg.norm(place[ahead] - place[row], axis=1).max() < 0.01:
            return float(times[row] - since_s)
    return None


def strip(poses: dict[str, Any], path: Path, count: int = 8) -> None:
    """Moments of the run, as the emulator's simulation had them, side by side."""
    import cv2
    import mujoco

    from cadenza.envs.registration import make_env
    from cadenza.envs.rendering.camera import Camera

    env = make_env("cadenza/OP3Walk-v0")
    env.reset(seed=0)
    task = env.unwrapped
    rows = np.linspace(0.35 * len(poses["base"]), 0.75 * len(poses["base"]), count).astype(int)
    frames = []
    with Camera(env, width=240, height=300) as camera:
        for row in rows:
            task.data.qpos[:7] = poses["base"][row]
            task.data.qpos[task.task.addresses.qpos] = poses["angles"][row]
            mujoco.mj_forward(task.model, task.data)
            camera.cut()
            frames.append(camera.frame()[60:230, 60:190])
    env.close()
    cv2.imwrite(str(path), np.concatenate(frames, axis=1)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])


def main() -> None:
    """All scenarios, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", default="op3-walk")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--logs", type=Path, default=Path("runs/deploy-op3"))
    parser.add_argument("--host", nargs=2, metavar=("PORT", "SOCKET"))
    parser.add_argument("--log")
    options = parser.parse_args()
    if options.host is not None:
        host(*options.host, options.bundle, options.log)
        return
    from cadenza.envs.rendering.gl import ensure_gl_backend

    ensure_gl_backend()  # before anything imports MuJoCo
    from cadenza.agents.runs.settings import provenance

    options.logs.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {"command": "python docs/results/deploy_op3.py", "walk_command": list(COMMAND)}
    for name in SCENARIOS:
        load = os.getloadavg()
        punctual()
        result: dict[str, Any] | None = None
        tries = 0
        while result is None and tries < MOST_TRIES:
            tries += 1
            result = scenario(name, options.bundle, options.logs)
        punctual(False)
        if result is None:
            raise SystemExit(
                f"{name}: in {tries} tries the robot never drove for {DISTURB_S:g} s; is this machine busy?"
            )
        result = {"load_average_before": load, "tries": tries, **result}
        poses = result.pop("poses")
        if name == "undisturbed":
            strip(poses, options.logs / "deploy-op3.jpg")
        found[name] = result
        if name == "undisturbed":
            command = [
                sys.executable,
                "-m",
                "cadenza.scripts.main",
                "log",
                "summary",
                str(options.logs / result["log"]),
            ]
            subprocess.run([*command, "--plot", str(options.logs / "undisturbed"), "--window", "3"], check=True)
        print(name, {key: value for key, value in result.items() if key != "report"}, flush=True)
        report = result["report"]
        print(
            "   ",
            report and {k: report[k] for k in ("lifecycle", "reason", "active_ticks", "missed_ticks")},
            flush=True,
        )
    (options.out / "deploy-op3.json").write_text(json.dumps({**found, **provenance()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
