"""The expert: which primitive is right now, from the privileged state; and episodes in which it plays them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np

from cadenza.agents.cable_routing.geometry import GRASP_WINDOW_M, arc_at_clip, beyond_clip
from cadenza.agents.sequencer.primitive import Observation, Outcome, Primitive
from cadenza.envs.cable.episodes import PRIMITIVES_PER_CLIP
from cadenza.envs.cable.model import SEGMENT_M, SEGMENTS
from cadenza.envs.cable.routing import crossings
from cadenza.envs.cable.world import CableWorld

HIGH_M = 0.032
"""A hand above this is on its way to a clip; one below has tried to lay the cable."""
ON_LIPS_M = 0.012
"""A held cable so near to the clip's middle, but not in it, rides on its lips."""
NEAR_CLIP_M = 0.06
"""A loose cable that crosses the clip's mid-plane so near to it was laid beside it, or came out."""


def expert_choice(world: CableWorld) -> str:
    """Name of the primitive that the clip in work needs now.

    A cable in the clip: ``tighten``, until it has been there for long enough. A cable held at the right place:
    ``route``, also after an attempt that laid it beside the clip; riding on the clip's lips, or held too far out:
    ``regrasp``; held too near: ``go_next``. A loose cable beside the clip, where a failed attempt leaves it:
    ``regrasp``; anywhere else, or with the hand still at the clip before: ``go_next``.
    """
    clip = world.current_clip
    if world.seat(clip) is not None:
        return "tighten"
    beyond = beyond_clip(world, clip)
    if beyond is None:
        return "regrasp" if _lies_beside(world, clip) and not _at_the_last(world, clip) else "go_next"
    least, most = GRASP_WINDOW_M
    if beyond < least:
        return "go_next"
    if beyond > most:
        return "regrasp"
    return "regrasp" if world.tcp[2] < HIGH_M and _jammed(world, clip) else "route"


def _jammed(world: CableWorld, clip: int) -> bool:
    """Whether the cable rides on the clip's lips."""
    return any(abs(found.across_m) <= ON_LIPS_M for found in crossings(world.nodes, world.clips[clip]))


def _at_the_last(world: CableWorld, clip: int) -> bool:
    """Whether the closed hand is still at the clip before: that the cable has slipped out of it, nobody sees."""
    lengths, nodes = SEGMENT_M * np.arange(SEGMENTS + 1), world.nodes
    away = np.linalg.norm(nodes - world.tcp, axis=1)
    nearest = int(np.argmin(away))
    near = world.hand.closing and away[nearest] <= 0.02
    return bool(near and lengths[nearest] - arc_at_clip(world, clip) < GRASP_WINDOW_M[0])


def _lies_beside(world: CableWorld, clip: int) -> bool:
    arc = arc_at_clip(world, clip)
    return any(
        abs(found.across_m) <= NEAR_CLIP_M and abs(found.arc_m - arc) <= NEAR_CLIP_M
        for found in crossings(world.nodes, world.clips[clip])
    )


@dataclass
class Attempt:
    """One primitive of an episode."""

    primitive: str
    clip: int
    outcome: Outcome
    steps: int
    injected: str | None = None


@dataclass
class Episode:
    """What an expert's episode came to."""

    attempts: list[Attempt] = field(default_factory=list)
    success: bool = False
    routed: tuple[bool, ...] = ()
    steps: int = 0


Watcher = Callable[[Observation, Any, Observation, Mapping[str, Any]], None]
"""Called after each step with the observation before, the action, the observation after and ``info``."""


def play_expert(
    env: gym.Env,
    primitives: Mapping[str, Primitive],
    *,
    seed: int | None = None,
    choose: Callable[[CableWorld], str] = expert_choice,
    watch: Watcher | None = None,
    most_per_clip: int = PRIMITIVES_PER_CLIP,
) -> Episode:
    """One episode of cable routing, primitives chosen by ``choose``; ends when all is routed, or after 8 a clip.

    Args:
        env: ``cadenza/CableRouting-v0``, wrapped or not.
        primitives: by name.
        seed: of the reset.
        choose: the expert, or another high level that reads the privileged world.
        watch: sees each step.
        most_per_clip: primitives that may be spent on one clip in work.
    """
    observation, info = env.reset(seed=seed)
    world: CableWorld = env.unwrapped.world  # type: ignore[attr-defined]
    episode, spent = Episode(), [0] * world.config.clips
    over = False
    while not over:
        clip = world.current_clip
        if spent[clip] >= most_per_clip:
            break
        spent[clip] += 1
        primitive = primitives[choose(world)]
        primitive.start(observation, {"clip": clip, "world": world})
        steps = 0
        while not primitive.done and not over:
            action = primitive.act(observation)
            following, _, terminated, truncated, info = env.step(action)
            if watch is not None:
                watch(observation, action, following, info)
            observation, over = following, terminated or truncated
            steps += 1
        outcome = primitive.outcome if primitive.done else Outcome.SUCCESS if world.routed[clip] else Outcome.FAILURE
        injected = getattr(primitive, "injected", None)
        episode.attempts.append(Attempt(primitive.name, clip, outcome, steps, injected))
        episode.steps += steps
    episode.routed = tuple(bool(routed) for routed in np.asarray(info["routed"]))
    episode.success = all(episode.routed)
    return episode
