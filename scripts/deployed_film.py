"""The film of ``cadenza deploy --video``: poses of the simulated shafts, kept during the run, drawn after it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from cadenza.envs.errors import CadenzaError
from cadenza.scripts.console import escape, out

if TYPE_CHECKING:
    from cadenza.controllers.rigs import Rig
    from cadenza.robots.description import LeggedRobot

FPS = 25
_WIDTH_PX, _HEIGHT_PX = 640, 480


class Pose(NamedTuple):
    """A moment of the run."""

    time_s: float
    """Simulated."""
    qpos: Any
    state: str
    """Of the lifecycle."""


class PoseKeeper:
    """A block during which poses are kept.

    A real-time emulator is asked from a thread of its own over a connection of its own, so that the control loop waits
    for nobody. Otherwise :meth:`at_tick` takes one at the end of a tick.

    Args:
        rig: simulated or emulated.
        lockstep: time stands still between ticks.
        state: gives the lifecycle's state.
    """

    def __init__(self, rig: Rig, lockstep: bool, state: Callable[[], str]):
        self.poses: list[Pose] = []
        self.failure = ""
        """Why poses are missing; a run does not end for it."""
        self._rig, self._state = rig, state
        self._threaded = rig.emulator is not None and not lockstep
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="film", daemon=True)

    def at_tick(self, *_: Any) -> None:
        """For :class:`cadenza.controllers.loop.ControlLoop`."""
        if self._threaded:
            return
        if self._rig.plant is not None:
            plant = self._rig.plant
            self.poses.append(Pose(plant.time, plant.data.qpos.copy(), self._state()))
        elif self._rig.emulator is not None:
            self._take(self._rig.emulator.control)

    def _take(self, control: Any) -> None:
        try:
            answer = control.ask("pose")
            self.poses.append(Pose(answer["time_s"], answer["qpos"], self._state()))
        except CadenzaError as error:
            self.failure = str(error)

    def _poll(self) -> None:
        from cadenza.robots.hardware.emulators.control import EmulatorControl

        assert self._rig.emulator is not None
        try:
            control = EmulatorControl(self._rig.emulator.control.path)
        except CadenzaError as error:
            self.failure = str(error)
            return
        with contextlib.closing(control):
            while not (self.failure or self._over.wait(1 / FPS)):
                self._take(control)

    def __enter__(self) -> Self:
        if self._threaded:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._threaded:
            self._thread.join()


class _Scene:
    """What a camera takes: a model and its data."""

    def __init__(self, model: Any, data: Any):
        self.model, self.data, self.unwrapped = model, data, self


class FilmProgress:
    """A block that shows how many frames are drawn: a bar on a terminal, a line now and then elsewhere.

    Args:
        path: of the film.
    """

    def __init__(self, path: Path):
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._name = path.name
        self._bar = Progress(
            TextColumn("drawing [bold]{task.description}"), BarColumn(), MofNCompleteColumn(),
            TextColumn("frames, left"), TimeRemainingColumn(), console=out, disable=not out.is_terminal,
        )  # fmt: skip
        self._task = self._bar.add_task(escape(path.name), total=None)
        self._said = 0.0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def __call__(self, done: int, total: int) -> None:
        """So many of so many frames are drawn."""
        self._bar.update(self._task, completed=done, total=total)
        share = done / max(total, 1)
        if not out.is_terminal and (share - self._said >= 0.25 or done == total):
            self._said = share
            out.print(f"drawing {escape(self._name)}: {done} of {total} frames")


def write_film(
    path: Path,
    poses: list[Pose],
    robot: LeggedRobot,
    env_id: str,
    title: str,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Draw the poses as H.264 in simulated time, with time and state written in.

    Args:
        path: an .mp4.
        poses: in the order of time.
        robot: drawn alone where its base is fixed.
        env_id: whose scene is drawn otherwise.
        title: of the film.
        progress: told how many of how many frames are drawn.

    Raises:
        CadenzaError: no poses; no graphics; the file cannot be written.
    """
    if not poses:
        raise CadenzaError(f"There is nothing to film: no pose was seen, and {path} was not written.")
    import mujoco
    import numpy as np

    from cadenza.envs.registration import make_env
    from cadenza.envs.rendering.camera import Camera
    from cadenza.envs.rendering.video import VideoWriter
    from cadenza.robots.hardware.plant import Plant

    env = make_env(env_id)
    try:
        env.reset(seed=0)
        task: Any = env.unwrapped
        scene: Any = env
        if task.model.nq != len(poses[0].qpos):
            plant = Plant.of_robot(robot, hung_up=True, visuals=True)
            light = plant.model.vis.headlight  # this model has no lamp of its own
            light.ambient[:], light.diffuse[:] = 0.6, 0.9
            scene = task = _Scene(plant.model, plant.data)
        times = np.array([pose.time_s for pose in poses])
        moments = np.arange(times[0], times[-1] + 1e-9, 1 / FPS)
        with (
            Camera(scene, width=_WIDTH_PX, height=_HEIGHT_PX) as camera,
            VideoWriter(path, FPS, _WIDTH_PX, _HEIGHT_PX) as film,
        ):
            for done, row in enumerate(np.searchsorted(times, moments, side="right") - 1, start=1):
                pose = poses[int(row)]
                task.data.qpos[:] = pose.qpos
                mujoco.mj_forward(task.model, task.data)
                film.write(_labelled(camera.frame(), title, f"{pose.state}  {pose.time_s - times[0]:.1f} s"))
                progress(done, len(moments))
    finally:
        env.close()


def _labelled(frame: Any, title: str, text: str) -> Any:
    import cv2

    image = frame.copy()
    image[:34] = image[:34] // 3
    for words, left in ((title, 10), (text, _WIDTH_PX - 170)):
        cv2.putText(image, words, (left, 23), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
    return image
