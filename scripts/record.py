"""``cadenza record``: a film of a policy, or of random or zero actions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from cadenza.envs.errors import CadenzaError
from cadenza.scripts.commanded import commanded
from cadenza.scripts.console import escape, out
from cadenza.scripts.parse import parse, settings_from


@dataclass(frozen=True)
class Record:
    """Film a policy as an H.264 video, with return, step and action strength drawn in.

    cadenza record runs/first --out first.mp4
    cadenza record bundle --quality nice --width 960 --height 720
    cadenza record walker --steps 400 --gif
    cadenza record runs/play --out skills.mp4
    cadenza record --env cadenza/Humanoid-v0 --policy random

    Of a run of slim nine skills are filmed in a grid, each half as wide and high (`cadenza skills record` shows more).
    """

    source: Annotated[Path | None, tyro.conf.Positional] = None
    """run folder, policy bundle, or the name of a shipped policy (`cadenza list policies`)"""
    out: Path | None = None
    """the .mp4 (default: rollout.mp4 in the run, or here; of a shipped policy NAME.mp4 here)"""
    env: str | None = None
    """environment id, with --policy instead of a run"""
    policy: Literal["random", "zero"] | None = None
    """what acts where there is no run"""
    which: Literal["best", "last"] = "best"
    """of a run: the policy of the best evaluation, or of the last checkpoint"""
    env_set: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE ...")] = ()
    """settings of the environment, e.g. --env-set terrain=rough "conditions={'push': 2.0}\""""
    command: tuple[float, float, float] | None = None
    """one velocity command for ever, for Walk and Run: forward and left, m/s, and turning to the left, rad/s"""
    episodes: int = 1
    """how many, one after the other"""
    steps: int = 1000
    """most steps of an episode"""
    seed: int = 0
    """reset seed of the first episode"""
    camera: str | None = None
    """a camera of the model; by default one that follows the robot"""
    quality: Literal["fast", "nice"] = "fast"
    """nice adds shadows, reflections and anti-aliasing, at a tenth of the speed"""
    width: int = 640
    """pixels; odd sizes are made even, as H.264 demands"""
    height: int = 480
    """pixels"""
    overlays: bool = True
    """draw title, return, step and action strength"""
    strip: bool = False
    """draw the reward of the last steps below the picture"""
    frames: int = 0
    """also write this many moments of the film side by side, as a JPEG of the same name"""
    gif: bool = False
    """also write the film as a GIF of the same name, 320 pixels wide and below 2 MB, for a README"""


def main(arguments: list[str]) -> int:
    """Parse and film; 130 after Ctrl-C, with a playable film of what was seen."""
    options = parse(Record, "record", arguments)
    if (options.source is None) == (options.env is None):
        raise CadenzaError(
            "record films either a run (or bundle), or an environment with --env ID --policy random.",
            "cadenza record runs/first\ncadenza record --env cadenza/Humanoid-v0 --policy random",
        )
    for name, least in (("episodes", 1), ("steps", 1), ("seed", 0)):
        if getattr(options, name) < least:
            raise CadenzaError(f"--{name} must be at least {least}, got {getattr(options, name)}.")
    from cadenza.envs.rendering.gl import ensure_gl_backend

    ensure_gl_backend()  # before anything imports MuJoCo
    from cadenza.envs.rendering.filming import FilmInterruptedError, film

    destination = options.out or _default_destination(options.source)
    if options.source is not None and _has_skills(options.source):
        from cadenza.scripts.skills import film_skills

        return film_skills(
            options.source, destination, steps=options.steps, seed=options.seed, width=options.width // 2,
            height=options.height // 2, camera=options.camera, quality=options.quality, gif=options.gif,
        )  # fmt: skip
    env, act, title = _cast(options)
    from rich.progress import Progress

    with Progress(console=out, disable=not out.is_terminal) as bar:
        task = bar.add_task("filming", total=None)
        try:
            result = film(
                env, act, destination, seed=options.seed, episodes=options.episodes, max_steps=options.steps,
                width=options.width, height=options.height, quality=options.quality, camera=options.camera,
                overlays=options.overlays, strip=options.strip, title=title,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )  # fmt: skip
        except FilmInterruptedError as error:
            out.print(escape(str(error)))
            return 130
        finally:
            env.close()
    for index, (total, length) in enumerate(zip(result.returns, result.lengths, strict=True)):
        out.print(f"episode {index + 1}: return {total:,.1f} in {length:,} steps")
    out.print(f"written: {escape(str(result.path))}")
    if options.frames:
        from cadenza.envs.rendering.strip import write_frame_strip

        out.print(f"written: {write_frame_strip(result.path, options.frames)}")
    if options.gif:
        from cadenza.envs.rendering.gif import write_gif

        out.print(f"written: {escape(str(write_gif(result.path)))}")
    return 0


def _default_destination(source: Path | None) -> Path:
    """Beside what was named, but never among the shipped policies: those are a part of the installation."""
    from cadenza.controllers.shipped import locate, policies_folder

    if source is None:
        return Path("rollout.mp4")
    path, _ = locate(source)
    ships = path.resolve().parent == policies_folder().resolve()
    return Path(f"{path.name}.mp4") if ships else path / "rollout.mp4"


def _has_skills(source: Path) -> bool:
    """Whether this is a run or a bundle of an agent with skills, of which a film shows several at once."""
    from cadenza.agents.runs.settings import CONFIG, RunFolder
    from cadenza.controllers.bundle import MANIFEST_FILE, read_manifest
    from cadenza.controllers.shipped import locate

    path, _ = locate(source)
    if (path / MANIFEST_FILE).is_file():
        return read_manifest(path).skills is not None
    return (path / CONFIG).is_file() and RunFolder(path).read_settings().agent == "slim"


def _cast(options: Record) -> tuple[Any, Any, str]:
    """Environment, policy and title."""
    if options.source is not None:
        if options.policy is not None:
            raise CadenzaError("--policy goes with --env; a run brings its own policy.")
        import torch

        torch.set_num_threads(1)
        from cadenza.agents.runs.policies import act_on, open_policy

        opened = open_policy(options.source, options.which)
        kwargs = {**opened.env_kwargs, **settings_from(options.env_set)}
        env = stage(opened.env_id, commanded(opened.env_id, kwargs, options.command))
        return env, act_on(opened, env), opened.label
    assert options.env is not None
    env = stage(options.env, commanded(options.env, settings_from(options.env_set), options.command))
    policy = options.policy or "random"
    env.action_space.seed(options.seed)
    if policy == "random":
        return env, lambda _: env.action_space.sample(), "random actions"
    return env, lambda _: 0 * env.action_space.sample(), "zero actions"


def stage(env_id: str, env_kwargs: dict[str, Any]) -> Any:
    """The environment; one that is not MuJoCo's draws itself and must be told so when it is made."""
    from cadenza.envs.registration import make_env

    env = make_env(env_id, **env_kwargs)
    if hasattr(env.unwrapped, "model"):
        return env
    env.close()
    return make_env(env_id, render_mode="rgb_array", **env_kwargs)
