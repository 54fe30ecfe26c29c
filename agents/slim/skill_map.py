"""The skill space as a picture: where each skill takes the object."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cadenza.agents.runs.plotting import save_figure
from cadenza.agents.slim.skill_metrics import (
    CELL_M,
    SkillEpisodes,
    consistency,
    coverage,
    moved_cells,
    reachable_cells,
)
from cadenza.agents.slim.skills import SkillPrior
from cadenza.envs.reward_groups import ObjectEntries

_MOVED_M = 0.01
"""Shorter displacements are drawn as a dot [m]."""
_SHOWN = 2.0
"""The picture ends at so many half extents of the workspace: one cube that was flung off must not shrink all others."""


def skill_colours(skills: NDArray[np.float32], prior: SkillPrior) -> NDArray[np.float64]:
    """A colour for each skill (E, 3): around the colour wheel by its angle, one-hot skills in turn.

    On a sphere the angle is that of the first two entries.
    """
    import matplotlib

    if prior.discrete:
        share = skills.argmax(1) / prior.size
    else:
        share = np.arctan2(skills[:, 1], skills[:, 0]) / (2 * np.pi) % 1.0
    # hsv, whose ends meet, a little darker: yellow on white is not seen.
    return np.asarray(0.85 * matplotlib.colormaps["hsv"](share)[:, :3])


def draw_map(
    episodes: SkillEpisodes, entries: ObjectEntries, prior: SkillPrior, destination: Path, *, title: str = ""
) -> None:
    """Draw the object's way from start to end on the table, its displacements with their cells, and z's colours.

    Args:
        episodes: of as many skills as shall be drawn; several of one skill are joined to a mean displacement.
        entries: the workspace.
        prior: of the skills.
        destination: the picture; its suffix chooses the format.
        title: above it.

    Raises:
        CadenzaError: the place cannot be written.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    colours = skill_colours(episodes.skills, prior)
    figure, (table, plane) = pyplot.subplots(1, 2, figsize=(12.5, 6.2), constrained_layout=True)
    _draw_table(table, episodes, entries, colours)
    _draw_plane(plane, episodes, entries, colours)
    _draw_key(plane, prior)
    moved = episodes.displacements
    share = coverage(moved, entries.half_extent)
    told = (
        f"{len(np.unique(episodes.skills, axis=0))} skills, {len(moved)} episodes; coverage {100 * share:.1f} %, mean "
        f"displacement {100 * np.linalg.norm(moved, axis=1).mean():.1f} cm"
    )
    figure.suptitle(f"{title}\n{told}" if title else told, fontsize=12)
    save_figure(figure, destination)


def _draw_table(axis: Any, episodes: SkillEpisodes, entries: ObjectEntries, colours: NDArray[np.float64]) -> None:
    from matplotlib.patches import Rectangle

    (x, y), (half_x, half_y) = entries.center[:2], entries.half_extent[:2]
    axis.add_patch(Rectangle((x - half_x, y - half_y), 2 * half_x, 2 * half_y, fill=False, color="0.6", linestyle="--"))
    for start, end, fell, colour in zip(episodes.starts, episodes.ends, episodes.terminated, colours, strict=True):
        if np.linalg.norm(end[:2] - start[:2]) < _MOVED_M:
            axis.plot(*start[:2], ".", color=colour, markersize=5)
            continue
        arrow = {"arrowstyle": "-|>", "color": colour, "linewidth": 1.3, "shrinkA": 0, "shrinkB": 0}
        drawn = axis.annotate("", end[:2], start[:2], arrowprops=arrow, annotation_clip=False)
        drawn.arrow_patch.set_clip_path(axis.patch)
        if fell:
            axis.plot(*end[:2], "x", color=colour, markersize=7)
    points = np.concatenate([episodes.starts[:, :2], episodes.ends[:, :2], [[x - half_x, y - half_y]]])
    points = np.concatenate([points, [[x + half_x, y + half_y]]])
    margin = 0.03
    points = np.clip(points, (x - _SHOWN * half_x, y - _SHOWN * half_y), (x + _SHOWN * half_x, y + _SHOWN * half_y))
    axis.set_xlim(points[:, 0].min() - margin, points[:, 0].max() + margin)
    axis.set_ylim(points[:, 1].min() - margin, points[:, 1].max() + margin)
    axis.set_aspect("equal")
    axis.set_title("object from start to end; a dot did not move, x fell; dashed: workspace", fontsize=10)
    axis.set_xlabel("x [m]")
    axis.set_ylabel("y [m]")
    axis.grid(alpha=0.2)


def _draw_plane(axis: Any, episodes: SkillEpisodes, entries: ObjectEntries, colours: NDArray[np.float64]) -> None:
    from matplotlib.patches import Rectangle

    moved = episodes.displacements
    reachable, reached = reachable_cells(entries.half_extent), moved_cells(moved)
    for cells, face, edge in ((reachable, "white", "0.88"), (reached & reachable, "0.86", "0.88")):
        for i, j in cells:
            corner = ((i - 0.5) * CELL_M, (j - 0.5) * CELL_M)
            axis.add_patch(Rectangle(corner, CELL_M, CELL_M, facecolor=face, edgecolor=edge, linewidth=0.6))
    axis.scatter(moved[:, 0], moved[:, 1], c=colours, s=22, zorder=3)
    for skill in np.unique(episodes.skills, axis=0):
        alike = (episodes.skills == skill).all(1)
        if alike.sum() > 1:
            mean = moved[alike, :2].mean(0)
            colour = colours[np.flatnonzero(alike)[0]]
            axis.plot([0, mean[0]], [0, mean[1]], color=colour, linewidth=0.4 + 2 * consistency(moved[alike]), zorder=4)
    largest = np.abs(moved[:, :2]).max(1)
    half = min(_SHOWN * max(entries.half_extent[:2]), 1.08 * max(*entries.half_extent[:2], float(largest.max())))
    beyond = int((largest > half).sum())
    axis.set_xlim(-half, half)
    axis.set_ylim(-half, half)
    axis.set_aspect("equal")
    told = "displacement; cells reached (grey) of those reachable"
    axis.set_title(f"{told}; {beyond} beyond the picture" if beyond else told, fontsize=10)
    axis.set_xlabel("Δx [m]")
    axis.set_ylabel("Δy [m]")


def _draw_key(axis: Any, prior: SkillPrior) -> None:
    """What colour means which z."""
    key = axis.inset_axes((0.84, 0.84, 0.15, 0.15))
    key.set_aspect("equal")
    key.axis("off")
    if prior.discrete:
        skills = np.eye(prior.size, dtype=np.float32)
        key.set_xlim(-0.5, prior.size - 0.5)
        key.bar(np.arange(prior.size), 1, color=skill_colours(skills, prior))
        key.set_aspect("auto")
    else:
        angles = np.linspace(0, 2 * np.pi, 73)[:-1]
        skills = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
        key.scatter(skills[:, 0], skills[:, 1], c=skill_colours(skills, prior), s=14)
        key.set_xlim(-1.2, 1.2)
        key.set_ylim(-1.2, 1.2)
    key.text(0.5, 0.5, "z", transform=key.transAxes, ha="center", va="center", fontsize=10)
