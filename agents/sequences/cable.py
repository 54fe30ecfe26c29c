"""Cable routing as something to sequence: ``cadenza/CableRouting-v0``, four primitives, a stage a clip.

``route`` is the script or a learned policy; ``tighten``, ``regrasp`` and ``go_next`` are scripts. Failures can be put
in: in a share of the attempts at ``route`` the script that drops the cable, or lays it beside the clip, takes over.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cadenza.agents.cable_routing.expert import expert_choice
from cadenza.agents.cable_routing.scripted import Route, scripted_primitives
from cadenza.agents.sequencer.learned_primitive import LearnedPrimitive
from cadenza.agents.sequencer.primitive import Context, Observation, Outcome, Primitive
from cadenza.agents.sequencer.signals import Watched
from cadenza.agents.sequencer.task import Info
from cadenza.agents.sequences.cable_features import clip_progress
from cadenza.envs.cable.hand import ACTIONS
from cadenza.envs.cable.settings import CONTROL_HZ, PRIMITIVE_S
from cadenza.envs.cable.world import CableWorld
from cadenza.envs.errors import CadenzaError
from cadenza.envs.registration import make_env

ENV_ID = "cadenza/CableRouting-v0"
RECOVERED = "route"
"""The primitive whose failures count as recovered where its clip is routed in the end."""
SEATED_STEPS = 3
"""The script's route ends after so many steps in the clip; a learned one is held to the same."""


class WithFailures:
    """A learned ``route`` of which a share of the attempts is made to fail by the script.

    Args:
        learned: acts otherwise.
        script: with ``drop`` and ``misroute`` as probabilities; it draws at its start.
    """

    name = "route"

    def __init__(self, learned: Primitive, script: Route):
        self.time_limit_s = learned.time_limit_s
        self._learned, self._script = learned, script
        self._acting: Primitive = learned

    @property
    def injected(self) -> str | None:
        """``drop`` or ``misroute`` if this attempt was made to fail."""
        return self._script.injected

    def start(self, observation: Observation, context: Context) -> None:
        self._script.start(observation, context)
        self._acting = self._learned if self._script.injected is None else self._script
        if self._acting is self._learned:
            self._learned.start(observation, context)

    def act(self, observation: Observation) -> NDArray[np.float32]:
        return self._acting.act(observation)

    @property
    def done(self) -> bool:
        return self._acting.done

    @property
    def outcome(self) -> Outcome:
        return self._acting.outcome


def judge_route(observation: Observation, context: Context) -> Outcome:
    """In the clip: success. Nothing held and not in the clip: failure. By the simulation, as for the script."""
    world: CableWorld = context["world"]
    if world.seat(int(context["clip"])) is not None:
        return Outcome.SUCCESS
    return Outcome.FAILURE if world.held is None else Outcome.RUNNING


def learned_route(policy: Any) -> LearnedPrimitive:
    """A policy as the primitive ``route``."""
    return LearnedPrimitive("route", policy, CONTROL_HZ, PRIMITIVE_S, judge_route, SEATED_STEPS)


LEARNABLE = {"route": learned_route}
"""Primitives that a policy can do, and how it becomes one."""


class CableTask:
    """See the module.

    Args:
        stages: clips, 1 to 3.
        route: folder of an imitation policy for ``route``; None: the script.
        noise: of the scripts' actions.
        drop: share of attempts at ``route`` in which the cable is dropped.
        misroute: share in which it is laid beside the clip.
        settings: of the environment: layout, observe, cameras, camera_size, disturbances, ...
    """

    name = "cable"
    rate_hz = CONTROL_HZ
    order = ("go_next", "route", "tighten")
    watched = Watched(tuple(ACTIONS.index(name) for name in ("vx", "vy", "vz", "yaw_rate")), clip_progress)

    def __init__(
        self,
        stages: int = 3,
        route: str | Path | None = None,
        noise: float = 0.0,
        drop: float = 0.0,
        misroute: float = 0.0,
        **settings: Any,
    ):
        if stages not in (1, 2, 3):
            raise CadenzaError(f"There are 1, 2 or 3 clips, not {stages}.")
        settings = {"layout": "held_out", "visuals": settings.get("observe") == "camera", **settings}
        self.stages = stages
        self.env = make_env(ENV_ID, clips=stages, **settings)
        self._world: CableWorld = self.env.unwrapped.world  # type: ignore[attr-defined]
        self._random = np.random.default_rng(0)
        self.primitives: Mapping[str, Primitive] = scripted_primitives(
            noise, self._random, drop=drop, misroute=misroute
        )
        script = self.primitives["route"]
        assert isinstance(script, Route)
        self._script = script
        if route is not None:
            from cadenza.agents.imitation.policy import ImitationPolicy

            self.set_route(ImitationPolicy.load(route))

    def set_route(self, policy: Any) -> None:
        """Let a policy do ``route``; failures are still put in by the script."""
        self.primitives = {**self.primitives, "route": WithFailures(learned_route(policy), self._script)}

    def reset(self, seed: int) -> tuple[Observation, Info]:
        self._random.bit_generator.state = np.random.default_rng([seed, 5]).bit_generator.state
        return self.env.reset(seed=seed)

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, Info]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, float(reward), terminated, truncated, info

    def stage(self, info: Info) -> int:
        return self._world.current_clip

    def aim(self, stage: int) -> None:
        self._world.aim_at(stage)

    def finished(self, info: Info) -> tuple[bool, ...]:
        return tuple(bool(routed) for routed in info["routed"])

    def over(self, info: Info) -> bool:
        return all(self.finished(info))

    def context(self, info: Info) -> Context:
        return {"clip": self._world.current_clip, "world": self._world}

    def expert_choice(self) -> str:
        return expert_choice(self._world)

    def close(self) -> None:
        self.env.close()


def make_task(stages: int | None = None, **settings: Any) -> CableTask:
    """Three clips where nobody says otherwise."""
    return CableTask(3 if stages is None else stages, **settings)
