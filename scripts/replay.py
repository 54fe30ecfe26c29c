"""``cadenza replay``: look at the last states of a simulation that blew up."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from cadenza.envs.errors import CadenzaError
from cadenza.scripts.console import escape, out
from cadenza.scripts.parse import parse

if TYPE_CHECKING:
    from cadenza.envs.dumps import Dump


@dataclass(frozen=True)
class Replay:
    """Show what a guard kept when numbers were no longer finite.

    cadenza replay runs/first/non_finite.npz
    cadenza replay runs/first/non_finite.npz --out states.png
    cadenza replay runs/first/non_finite.npz --view

    A row is the state before a step and the action it was given; the last step is the one that went wrong.
    """

    dump: Annotated[Path, tyro.conf.Positional]
    """the file, usually RUN/non_finite.npz"""
    out: Path | None = None
    """write pictures of the states, side by side, to this .png"""
    frames: int = 6
    """how many of them: the last ones"""
    view: bool = False
    """open MuJoCo's viewer and show the states again and again, until it is closed"""
    env: str | None = None
    """the environment's id, for a dump that does not say"""


def main(arguments: list[str]) -> int:
    """Parse, read, print."""
    options = parse(Replay, "replay", arguments)
    if options.frames < 1:
        raise CadenzaError(f"--frames must be at least 1, got {options.frames}.")
    if options.out is not None and options.out.suffix.lower() != ".png":
        raise CadenzaError(f"--out writes a .png, got {options.out}.")
    if options.view:
        _check_display()
    if options.out is not None:
        from cadenza.envs.rendering.gl import ensure_gl_backend

        ensure_gl_backend()  # before anything imports MuJoCo
    from cadenza.envs.dumps import read_dump

    dump = read_dump(options.dump)
    _print(dump)
    if options.out is not None or options.view:
        env = _make(dump, options.env)
        try:
            if options.out is not None:
                _write_pictures(dump, env, options.out, options.frames)
            if options.view:
                _view(dump, env)
        finally:
            env.close()
    return 0


def what_is_wrong(dump: Dump, step: int) -> list[str]:
    """Where a step's numbers are not finite: ``qvel[8]``, ``action[3]``; more than three are counted."""
    import numpy as np

    found = []
    for name in ("qpos", "qvel", "observation", "action"):
        array = getattr(dump, name)
        if array is not None:
            bad = np.flatnonzero(~np.isfinite(np.ravel(array[step]))).tolist()
            more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
            if bad:
                found.append(f"{name}[{', '.join(map(str, bad[:3]))}{more}]")
    return found


def _print(dump: Dump) -> None:
    import numpy as np
    from rich.table import Table

    out.print(f"[bold]{escape(dump.env_id or 'an environment that the dump does not name')}[/], {len(dump)} steps")
    if dump.env_kwargs:
        out.print("  " + escape(", ".join(f"{name} = {value}" for name, value in dump.env_kwargs.items())))
    table = Table()
    for heading in ("step", "height", "max |qvel|", "max |action|"):
        table.add_column(heading, justify="right")
    table.add_column("not finite")

    def largest(array: Any, step: int) -> str:
        if array is None or not np.size(array[step]):
            return "-"
        return f"{np.abs(array[step]).max():.4g}"

    for step in range(len(dump)):
        height = "-" if dump.qpos is None or dump.qpos.shape[1] < 7 else f"{dump.qpos[step, 2]:.3f}"
        wrong = ", ".join(what_is_wrong(dump, step)) or "-"
        back = step - len(dump) + 1
        table.add_row(
            str(back), height, largest(dump.qvel, step), largest(dump.action, step), escape(wrong) if wrong else "-"
        )
    out.print(table)
    if not any(what_is_wrong(dump, step) for step in range(len(dump))):
        out.print("  All of it is finite: the last step made numbers that are not, or that MuJoCo found too large.")


def _make(dump: Dump, named: str | None) -> Any:
    from cadenza.envs.registration import make_env

    env_id = named or dump.env_id
    if dump.qpos is None or dump.qvel is None:
        raise CadenzaError(f"{dump.path} holds observations, no states of a simulation: there is nothing to draw.")
    if not env_id:
        raise CadenzaError(f"{dump.path} does not say what environment it is of.", "Name it with --env ID.")
    env = make_env(env_id, **({} if named else dump.env_kwargs))
    model = getattr(env.unwrapped, "model", None)
    if model is None or (model.nq, model.nv) != (dump.qpos.shape[1], dump.qvel.shape[1]):
        env.close()
        size = f"{dump.qpos.shape[1]} positions and {dump.qvel.shape[1]} velocities"
        raise CadenzaError(
            f"The dump's states have {size}; {env_id} has others.", "Name the environment with --env ID."
        )
    env.reset(seed=0)
    return env


def _put(env: Any, dump: Dump, step: int) -> bool:
    """Show a state; False, and the one before stays, where it cannot be drawn."""
    import mujoco
    import numpy as np

    assert dump.qpos is not None
    if not (np.isfinite(dump.qpos[step]).all() and np.abs(dump.qpos[step]).max() < 1e6):
        return False
    inner = env.unwrapped
    inner.data.qpos[:] = dump.qpos[step]
    mujoco.mj_kinematics(inner.model, inner.data)
    mujoco.mj_comPos(inner.model, inner.data)
    mujoco.mj_camlight(inner.model, inner.data)
    return True


def _write_pictures(dump: Dump, env: Any, path: Path, frames: int) -> None:
    import cv2

    from cadenza.envs.rendering.camera import Camera
    from cadenza.envs.rendering.overlay import frame_strip

    pictures, labels = [], []
    with Camera(env, width=240, height=320) as camera:
        for step in range(max(0, len(dump) - frames), len(dump)):
            drawn = _put(env, dump, step)
            camera.cut()
            pictures.append(camera.frame().copy())
            labels.append(f"{step - len(dump) + 1}" if drawn else f"{step - len(dump) + 1}: not finite")
    picture = frame_strip(pictures, labels)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        written = cv2.imwrite(str(path), picture[:, :, ::-1])
    except OSError as error:
        raise CadenzaError(f"Cannot write {path}: {error.strerror}.") from error
    if not written:
        raise CadenzaError(f"Cannot write {path}.")
    out.print(f"written: {escape(str(path))}")


def _check_display() -> None:
    import sys

    from cadenza.envs.rendering.gl import display_present

    if sys.platform == "linux" and not display_present():
        raise CadenzaError("There is no display for the viewer.", "Write pictures instead: --out states.png")


def _view(dump: Dump, env: Any) -> None:
    import time

    import mujoco.viewer

    inner = env.unwrapped
    pause_s = 5 * float(getattr(inner, "dt", 0.02))
    with mujoco.viewer.launch_passive(inner.model, inner.data) as viewer:
        step = 0
        while viewer.is_running():
            _put(env, dump, step)
            viewer.sync()
            time.sleep(pause_s)
            step = (step + 1) % len(dump)
