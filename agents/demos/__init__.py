"""Demonstrations: recorded by episodes, in columns; inspected, collected from experts, exported to other formats."""

from cadenza.agents.demos.dataset import DemoSet, check_compatible
from cadenza.agents.demos.episode_file import Episode, EpisodeInfo
from cadenza.agents.demos.errors import DemoError, MismatchError
from cadenza.agents.demos.recorder import DemoRecorder
from cadenza.agents.demos.schema import Feature, Schema

__all__ = [
    "DemoError", "DemoRecorder", "DemoSet", "Episode", "EpisodeInfo", "Feature", "MismatchError", "Schema",
    "check_compatible",
]  # fmt: skip
