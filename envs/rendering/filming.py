"""Films policies: one after another's episodes, or several side by side, in real time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cadenza.envs.rendering.camera import Camera, Quality
from cadenza.envs.rendering.interrupts import BetweenFrames
from cadenza.envs.rendering.overlay import draw_ending, draw_panel, in_a_grid, reward_strip
from cadenza.envs.rendering.video import VideoWriter

Image = NDArray[np.uint8]
Act = Callable[[NDArray[Any]], Any]
"""A policy: the environment's raw observation in, an action for the environment out."""
Progress = Callable[[int, int], None]
"""Told steps done and the most there can be."""

MAX_FPS = 60.0
HOLD_S = 0.8
"""How long the last picture of an episode stands."""
STRIP_SHARE = 0.16
STRIP_STEPS = 200


@dataclass(frozen=True)
class FilmResult:
    """What was filmed: one return and length per episode (per panel, if side by side)."""

    path: Path
    returns: list[float]
    lengths: list[int]
    frames: int
    interrupted: bool = False


class FilmInterruptedError(KeyboardInterrupt):
    """Ctrl-C while filming. The file is complete and playable; ``result`` tells what is in it."""

    def __init__(self, result: FilmResult):
        super().__init__(f"interrupted; {result.path} holds the {result.frames} frames so far")
        self.result = result


@dataclass(frozen=True)
class Panel:
    """One part of a side-by-side film."""

    title: str
    env: Any
    act: Act
    notes: Mapping[str, str] = field(default_factory=dict)
    """More to read below the title, one line each: name -> value."""


def step_rate_hz(env: Any) -> float:
    """Environment steps per second of simulated time, from ``dt``, else from the metadata's ``render_fps``."""
    seconds = getattr(env.unwrapped, "dt", None)
    if isinstance(seconds, int | float | np.floating) and seconds > 0:
        return 1.0 / float(seconds)
    return float(env.metadata.get("render_fps") or 30.0)


def default_fps(rate_hz: float) -> float:
    """Every n-th step is a frame, for the smallest n that stays within :data:`MAX_FPS`; the film plays in real time."""
    return rate_hz / math.ceil(rate_hz / MAX_FPS - 1e-9)


def frames_due(steps: int, rate_hz: float, fps: float) -> int:
    """Frames that a film in real time has shown ``steps`` steps after the first frame."""
    return math.floor(steps * fps / rate_hz + 1e-9) + 1


def action_strength(action: Any, space: Any) -> float:
    """Mean |action| as a share of the largest bound, in [0, 1]; 0 where actions are not continuous."""
    low, high = getattr(space, "low", None), getattr(space, "high", None)
    if low is None or high is None:
        return 0.0
    bounds = np.abs(np.concatenate([np.ravel(low), np.ravel(high)]))
    bounds = bounds[np.isfinite(bounds)]
    bound = float(bounds.max()) if len(bounds) and bounds.max() > 0 else 1.0
    return float(np.clip(np.abs(action).mean() / bound, 0.0, 1.0))


def _ending(terminated: bool, step: int, info: dict[str, Any]) -> str:
    if info.get("is_success") or info.get("success"):
        return f"done at step {step}"
    return f"fell at step {step}" if terminated else f"time up at step {step}"


@dataclass
class _Episode:
    """One running episode and its pictures."""

    panel: Panel
    camera: Camera
    size: tuple[int, int]
    overlays: bool
    strip_px: int
    observation: NDArray[Any] = field(default_factory=lambda: np.zeros(0))
    step_count: int = 0
    strength: float = 0.0
    rewards: list[float] = field(default_factory=list)
    over: bool = False
    ending: str = ""
    _last: Image | None = None

    @property
    def episode_return(self) -> float:
        return float(sum(self.rewards))

    def reset(self, seed: int) -> None:
        self.observation, _ = self.panel.env.reset(seed=seed)
        self.camera.cut()
        self.step_count, self.strength, self.rewards, self.over, self._last = 0, 0.0, [], False, None

    def step(self) -> None:
        """One environment step, unless the episode is over."""
        if self.over:
            return
        action = self.panel.act(self.observation)
        self.observation, reward, terminated, truncated, info = self.panel.env.step(action)
        self.step_count += 1
        self.rewards.append(float(reward))
        self.strength = action_strength(action, self.panel.env.action_space)
        if terminated or truncated:
            self.over, self.ending = True, _ending(bool(terminated), self.step_count, info)

    def picture(self) -> Image:
        """The present frame; of an episode that is over the last one, dimmed, with how it ended."""
        if self._last is not None:
            return self._last
        image = self.camera.frame()
        if self.over:
            image = draw_ending(image, self.ending)
        if self.overlays:
            image = draw_panel(
                image,
                title=self.panel.title,
                step=self.step_count,
                episode_return=self.episode_return,
                action_strength=self.strength,
                extra=self.panel.notes,
            )
        if self.strip_px:
            recent = self.rewards[-STRIP_STEPS:]
            values = np.full(max(len(recent), STRIP_STEPS // 4), np.nan)
            values[: len(recent)] = recent
            image = np.concatenate([image, reward_strip(self.size[0], self.strip_px, values, len(recent) - 1)])
        if self.over:
            self._last = image
        return image


class _Crew(ExitStack):
    """Cameras and the open file of one film."""

    def __init__(
        self,
        panels: Sequence[Panel],
        path: Path | str,
        fps: float | None,
        width: int,
        height: int,
        quality: Quality,
        camera: str | int | None,
        overlays: bool,
        strip: bool,
        columns: int | None = None,
    ):
        super().__init__()
        self.rate_hz = step_rate_hz(panels[0].env)
        self.fps = fps or default_fps(self.rate_hz)
        strip_px = round(STRIP_SHARE * height) if strip else 0
        with ExitStack() as opened:
            self._interrupt = opened.enter_context(BetweenFrames())
            self.episodes: list[_Episode] = []
            for panel in panels:
                panel.env.reset(seed=0)  # some environments have no picture before
                eye = Camera(panel.env, width=width, height=height - strip_px, quality=quality, camera=camera)
                opened.enter_context(eye)
                self.episodes.append(_Episode(panel, eye, (width, height), overlays, strip_px))
            self.columns = columns or len(panels)
            rows = math.ceil(len(panels) / self.columns)
            full_width, full_height = (
                size * count + 2 * (count - 1) for size, count in ((width, self.columns), (height, rows))
            )
            self.writer = opened.enter_context(VideoWriter(path, self.fps, full_width, full_height))
            self.push(opened.pop_all())

    def shoot(self, count: int = 1) -> None:
        if count < 1:
            return
        image = in_a_grid([episode.picture() for episode in self.episodes], self.columns)
        for _ in range(count):
            self.writer.write(image)

    def play(self, seed: int, max_steps: int, told: Callable[[int], None]) -> None:
        """All panels in lock-step from the same seed, until all have ended or ``max_steps`` are done."""
        for episode in self.episodes:
            episode.reset(seed)
        self.shoot()
        shown = 1
        for step in range(1, max_steps + 1):
            self._interrupt.check()
            for episode in self.episodes:
                episode.step()
            due = frames_due(step, self.rate_hz, self.fps)
            self.shoot(due - shown)
            shown = due
            told(step)
            if all(episode.over for episode in self.episodes):
                break
        self.shoot(round(HOLD_S * self.fps))


def film(
    env: Any,
    act: Act,
    path: Path | str,
    *,
    seed: int,
    episodes: int = 1,
    max_steps: int = 1000,
    width: int = 480,
    height: int = 480,
    quality: Quality = "fast",
    camera: str | int | None = None,
    overlays: bool = True,
    strip: bool = False,
    title: str = "",
    fps: float | None = None,
    progress: Progress | None = None,
) -> FilmResult:
    """Film episodes of one policy; episode i starts from ``seed + i``.

    Args:
        env: a Gymnasium environment; see :class:`Camera` for what can be rendered.
        act: the policy.
        path: the .mp4 to write.
        seed: of the first episode.
        episodes: how many.
        max_steps: most steps of one episode.
        width: of the film, in pixels.
        height: of the film, in pixels, the strip included.
        quality: ``fast`` or ``nice``.
        camera: of the model; None follows the robot.
        overlays: title, step, return and action strength on the picture.
        strip: the reward of the last steps as a curve below the picture.
        title: on the picture.
        fps: frames per second; None takes every n-th step, so that there are at most 60. The film plays in real time.
        progress: called after every step.

    Raises:
        CadenzaError: no picture or no file can be made; before the first step.
        FilmInterruptedError: Ctrl-C (it is a KeyboardInterrupt); the file holds what was filmed.
    """
    returns: list[float] = []
    lengths: list[int] = []
    crew = _Crew([Panel(title, env, act)], path, fps, width, height, quality, camera, overlays, strip)
    (episode,) = crew.episodes
    try:
        with crew:
            for index in range(episodes):
                done = index * max_steps
                crew.play(seed + index, max_steps, _teller(progress, done, episodes * max_steps))
                returns.append(episode.episode_return)
                lengths.append(episode.step_count)
    except KeyboardInterrupt as error:
        if len(returns) < episodes and episode.step_count:
            returns.append(episode.episode_return)
            lengths.append(episode.step_count)
        raise FilmInterruptedError(FilmResult(Path(path), returns, lengths, crew.writer.frames, True)) from error
    return FilmResult(Path(path), returns, lengths, crew.writer.frames)


def film_side_by_side(
    panels: Sequence[Panel],
    path: Path | str,
    *,
    seed: int,
    max_steps: int = 1000,
    width: int = 480,
    height: int = 480,
    quality: Quality = "fast",
    camera: str | int | None = None,
    overlays: bool = True,
    strip: bool = False,
    fps: float | None = None,
    columns: int | None = None,
    progress: Progress | None = None,
) -> FilmResult:
    """Film policies in lock-step, each in a panel of ``width`` x ``height``, all from the same seed.

    A panel whose episode has ended stands still, dimmed, with the step at which it ended. The film ends when all have,
    or after ``max_steps``. Each panel needs an environment of its own; the first one's rate gives the film's.
    ``columns`` makes a grid of that many panels a row. All other arguments and errors are those of :func:`film`; the
    result has one return and length per panel.
    """
    if not panels:
        raise ValueError("no panels to film")
    if len({id(panel.env.unwrapped) for panel in panels}) < len(panels):
        raise ValueError("each panel needs an environment of its own")
    crew = _Crew(panels, path, fps, width, height, quality, camera, overlays, strip, columns)

    def result(interrupted: bool) -> FilmResult:
        returns = [episode.episode_return for episode in crew.episodes]
        lengths = [episode.step_count for episode in crew.episodes]
        return FilmResult(Path(path), returns, lengths, crew.writer.frames, interrupted)

    try:
        with crew:
            crew.play(seed, max_steps, _teller(progress, 0, max_steps))
    except KeyboardInterrupt as error:
        raise FilmInterruptedError(result(True)) from error
    return result(False)


def _teller(progress: Progress | None, done: int, total: int) -> Callable[[int], None]:
    def told(step: int) -> None:
        if progress is not None:
            progress(done + step, total)

    return told
