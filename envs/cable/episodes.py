"""How long an episode of cable routing is. Imports nothing, as registering the environment has to be quick."""

from __future__ import annotations

CONTROL_HZ = 10.0
PRIMITIVE_S = 6.0
"""Most that one primitive takes."""
PRIMITIVES_PER_CLIP = 8


def episode_steps(clips: int) -> int:
    """Most control steps of an episode: 8 primitives of 6 s a clip."""
    return round(clips * PRIMITIVES_PER_CLIP * PRIMITIVE_S * CONTROL_HZ)
