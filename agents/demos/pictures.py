"""Sets of demonstrations to look at: a picture of the whole, a film of one episode."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cadenza.agents.demos.dataset import DemoSet
from cadenza.agents.demos.errors import DemoError
from cadenza.agents.demos.inspection import Inspection


def plot_set(found: Inspection, demos: DemoSet, destination: Path) -> None:
    """Lengths, measured intervals, ranges of all entries, and the actions of the first episode.

    Args:
        found: of :func:`cadenza.agents.demos.inspection.inspect_set`.
        demos: the set.
        destination: the picture; its suffix chooses the format.

    Raises:
        DemoError: there is no episode, or the picture cannot be written.
    """
    if not found.episodes:
        raise DemoError(f"{demos.folder} has no whole episode to draw.")
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(11, 7), constrained_layout=True)
    success = np.array([info.success for info in demos.episodes])
    lengths = np.array([info.length for info in demos.episodes])
    axes[0, 0].hist([lengths[success], lengths[~success]], bins=20, stacked=True, label=["success", "failure"])
    axes[0, 0].set(xlabel="steps", ylabel="episodes", title="Lengths")
    axes[0, 0].legend()
    if found.intervals_s.size:
        nominal_ms, intervals_ms = 1e3 / found.nominal_hz, 1e3 * found.intervals_s
        edges = (min(0.9 * nominal_ms, intervals_ms.min()), max(1.1 * nominal_ms, intervals_ms.max()))
        axes[0, 1].hist(intervals_ms, bins=40, range=edges)
        axes[0, 1].axvline(nominal_ms, color="black", linewidth=1, label="nominal")
        axes[0, 1].legend()
    axes[0, 1].set(xlabel="ms", ylabel="steps", yscale="log", title="Measured intervals")
    place = np.arange(len(found.ranges))
    axes[1, 0].vlines(place, [one.low for one in found.ranges], [one.high for one in found.ranges], linewidth=1)
    axes[1, 0].errorbar(place, [one.mean for one in found.ranges], [one.std for one in found.ranges], fmt=".", ms=3)
    axes[1, 0].set(xlabel="entry (observations, then actions)", title="Range; mean and standard deviation")
    axes[1, 0].set_yscale("symlog", linthresh=1.0)
    first = demos.load(demos.episodes[0].index, cameras=())
    names = demos.schema.action.names or demos.schema.action.entry_names("action")
    for column, name in enumerate(names):
        axes[1, 1].plot(first.timestamp_s, first.action[:, column], linewidth=1, label=name)
    axes[1, 1].set(xlabel="s", title=f"Actions of episode {first.info.index}")
    if len(names) <= 8:
        axes[1, 1].legend(fontsize="small")
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(destination, dpi=110)
    except (OSError, ValueError) as error:
        raise DemoError(f"Cannot write {destination}: {error}.", "Choose another place with --plot.") from error
    finally:
        pyplot.close(figure)


def film_episode(demos: DemoSet, index: int, destination: Path) -> int:
    """A film of all cameras side by side, at the measured rate.

    Args:
        demos: the set.
        index: of the episode.
        destination: an .mp4.

    Returns:
        How many frames it has.

    Raises:
        DemoError: the set has no camera, or no such episode.
        CadenzaError: the film cannot be written.
    """
    from cadenza.envs.rendering.video import VideoWriter

    if not demos.schema.cameras:
        raise DemoError(f"{demos.folder} has no camera to make a film of.", "Collect with an environment that has.")
    episode = demos.load(index)
    views = [episode.observation[key] for key in demos.schema.cameras]
    tallest = max(view.shape[1] for view in views)
    scale = max(1, round(240 / tallest))
    padded = [np.pad(view, ((0, 0), (0, tallest - view.shape[1]), (0, 0), (0, 0))) for view in views]
    frames = np.concatenate(padded, axis=2)
    gaps = np.diff(episode.timestamp_s)
    rate = 1.0 / float(np.median(gaps)) if gaps.size else demos.schema.rate_hz
    height, width = frames.shape[1] * scale, frames.shape[2] * scale
    with VideoWriter(destination, rate, width, height) as video:
        for frame in frames:
            video.write(frame.repeat(scale, axis=0).repeat(scale, axis=1))
    return len(frames)
