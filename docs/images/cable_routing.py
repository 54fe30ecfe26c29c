"""The frame strip of docs/results/cable_routing.md: an episode of the learned sequencer, a frame an attempt.

    python docs/images/cable_routing.py --route runs/cable/route --selector runs/cable/selector --seed 90000 \
        --out docs/images/cable-routing.jpg

Each frame is the last of an attempt, from the side camera, with the primitive and how the attempt ended; a red one is a
failed attempt. The same failures as in the comparison are put in.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from cadenza.envs.rendering.gl import ensure_gl_backend

COLUMNS = 4
GOOD, BAD = "#2e7d32", "#c62828"


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--route", type=Path, required=True)
    parse.add_argument("--selector", type=Path, required=True)
    parse.add_argument("--seed", type=int, default=90_000)
    parse.add_argument("--out", type=Path, required=True)
    told = parse.parse_args()
    ensure_gl_backend()
    # MuJoCo reads MUJOCO_GL when it is imported.
    from cadenza.agents.sequencer.comparison import make_chooser
    from cadenza.agents.sequencer.machine import run_episode
    from cadenza.agents.sequences.cable import CableTask
    from cadenza.envs.rendering.camera import Camera

    task = CableTask(3, route=told.route, drop=0.2, misroute=0.2, layout="held_out", visuals=True)
    camera = Camera(task.env.unwrapped, width=640, height=480, camera="side")
    frames: list[Any] = []
    injected: list[str | None] = []
    lies: list[bool] = []
    last: list[Any] = [None]
    world = task.env.unwrapped.world  # type: ignore[attr-defined]

    def chosen(*_: Any) -> None:
        if last[0] is not None:
            frames.append(last[0])

    def seen(observation: Any, action: Any, info: Any, name: str) -> None:
        last[0] = camera.frame().copy()
        made = getattr(task.primitives[name], "injected", None)
        while len(injected) <= len(frames):
            injected.append(made)
            lies.append(False)
        lies[-1] = world.seat(world.current_clip) is not None

    result = run_episode(task, make_chooser("learned", told.selector), told.seed, on_step=seen, on_decision=chosen)
    frames.append(last[0])
    task.close()
    draw(result, frames, injected, lies, told.out)


def draw(result: Any, frames: list[Any], injected: list[str | None], lies: list[bool], out: Path) -> None:
    """A grid of frames with captions."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = -(-len(frames) // COLUMNS)
    figure, axes = pyplot.subplots(rows, COLUMNS, figsize=(3.4 * COLUMNS, 2.0 * rows), constrained_layout=True)
    for axis in axes.flat:
        axis.axis("off")
    words = {"drop": ", dropped", "misroute": ", laid beside", None: ""}
    for index, (axis, frame, attempt) in enumerate(zip(axes.flat, frames, result.attempts, strict=False)):
        axis.imshow(frame[100:340, 90:570])
        axis.axis("on")
        axis.set(xticks=[], yticks=[])
        colour = GOOD if attempt.good else BAD
        for side in axis.spines.values():
            side.set(color=colour, linewidth=3)
        fell = " and fell in" if lies[index] else ""
        word = "success" if attempt.good else f"{attempt.outcome}{words[injected[index]]}{fell}"
        axis.set_title(f"{index + 1}. clip {attempt.stage + 1}: {attempt.name}, {word}", fontsize=9, color=colour)
    figure.savefig(out, dpi=110, pil_kwargs={"quality": 80})
    pyplot.close(figure)
    print(
        out, out.stat().st_size, "bytes;", "done" if result.success else "not done", [a.name for a in result.attempts]
    )


if __name__ == "__main__":
    main()
