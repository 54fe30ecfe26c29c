"""The four primitives as scripts on the privileged state: go_next, route, tighten, regrasp.

=========  =========================================================================================  ================
primitive  what it does                                                                               success
=========  =========================================================================================  ================
go_next    opens, goes to the cable 5.4 cm beyond the clip, takes hold, carries it over the clip       the cable is held
route      lays the held cable into the clip: over its exit, down, a pull with a wiggle                it is seated
tighten    pulls along the exit tangent, to 2 N or 5 cm                                                seated and pulled
regrasp    lifts and shakes what is held, lets go, takes hold 5 to 6 cm beyond the clip, lifts         the cable is held
=========  =========================================================================================  ================

"Beyond" is along the cable, from where it would cross the clip if it came straight from the last clip it lies in.

A script is a Python generator that yields one action a control step and returns the outcome.
"""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
from numpy.typing import NDArray

from cadenza.agents.cable_routing.geometry import (
    LEAD_M,
    SLACK_M,
    arc_at_clip,
    beyond_clip,
    exit_pose,
    grasp_arc,
    hand_yaw_along,
    point_at,
)
from cadenza.agents.sequencer.primitive import Action, Context, Observation, Outcome, Primitive
from cadenza.envs.cable.episodes import PRIMITIVE_S
from cadenza.envs.cable.hand import CONTROL_DT_S, LOWEST_M, OPEN_M, SPEED_M_S, TURN_RAD_S, wrapped
from cadenza.envs.cable.routing import crossings
from cadenza.envs.cable.world import CableWorld
from cadenza.envs.errors import CadenzaError

Array = NDArray[np.float64]
Script = Generator[Array, None, Outcome]
Motion = Generator[Array, None, bool]

CARRY_M = 0.060
"""Height at which the hand carries the cable: over the lips of all clips."""
ABOVE_LIPS_M = 0.047
"""Height of the hand at which the cable hangs just over the lips."""
GRIP_BELOW_M = 0.0055
"""How far below the TCP the cable is taken, so that the fingertips clear the table."""
PULL_N = 2.0
PULL_M = 0.05
MOST_N = 3.5
"""A cable that pulls harder is given way to."""
_GAIN = 0.7
"""Share of the way to a place that one control step is told to go: the arm lags by part of a step."""


class ScriptedPrimitive:
    """What the four have in common: a script, noise, a time limit.

    Args:
        noise: standard deviation of what is added to the four velocities of every action; the places a script goes to
            are off by 2 cm times as much.
        generator: of the noise.
    """

    name: str = ""
    time_limit_s: float = PRIMITIVE_S

    def __init__(self, noise: float = 0.0, generator: np.random.Generator | None = None) -> None:
        if not 0.0 <= noise <= 1.0:
            raise CadenzaError(f"noise is {noise!r}; it is within 0 and 1.")
        self.noise = noise
        self.intended = np.zeros(5, np.float32)
        """The last action without the noise: what an imitator should have learned to do there."""
        self._random = generator or np.random.default_rng(0)
        self._outcome = Outcome.RUNNING
        self._steps = 0
        self._script: Script | None = None
        self._closing = False
        self._off = np.zeros(3)
        self._back_m = 0.0
        self._world: CableWorld | None = None
        self.clip = 0

    def start(self, observation: Observation, context: Context) -> None:
        """Begin an attempt at ``context["clip"]`` in ``context["world"]``.

        Raises:
            CadenzaError: there is no privileged world.
        """
        world = context.get("world")
        if not isinstance(world, CableWorld):
            raise CadenzaError(
                f"The scripted primitive {self.name!r} needs the privileged world of cable routing.",
                "Give it in the context: {'clip': 0, 'world': env.unwrapped.world}.",
            )
        self._world, self.clip = world, int(context["clip"])
        self._steps, self._outcome = 0, Outcome.RUNNING
        self._back_m = 0.0
        self._closing = world.hand.closing
        self._off = 0.02 * self.noise * self._random.standard_normal(3) * (1.0, 1.0, 0.2)
        self._script = self.script()

    def act(self, observation: Observation) -> Action:
        """The script's action of this step, with noise."""
        assert self._script is not None, "start() comes before act()"
        action = np.zeros(5)
        action[4] = 1.0 if self._closing else -1.0
        if not self.done:
            self._steps += 1
            try:
                action = next(self._script)
            except StopIteration as end:
                self._outcome = end.value
            else:
                if self._steps >= round(self.time_limit_s / CONTROL_DT_S):
                    self._outcome = Outcome.TIMEOUT
        self.intended = np.clip(action, -1.0, 1.0).astype(np.float32)
        noisy = action.copy()
        noisy[:4] += self.noise * self._random.standard_normal(4)
        return np.clip(noisy, -1.0, 1.0).astype(np.float32)

    @property
    def done(self) -> bool:
        return self._outcome is not Outcome.RUNNING

    @property
    def outcome(self) -> Outcome:
        return self._outcome

    @property
    def world(self) -> CableWorld:
        """Of the attempt."""
        assert self._world is not None
        return self._world

    def script(self) -> Script:
        """The attempt, one action a control step."""
        raise NotImplementedError

    # --- parts of scripts ----------------------------------------------------------------------------------------

    def _towards(self, place: Array, yaw: float, speed: float = 1.0) -> Array:
        """The action of a step on the way."""
        world = self.world
        place = place + self._relief(place)
        action = np.zeros(5)
        action[:3] = _GAIN * (place - world.tcp) / (SPEED_M_S * CONTROL_DT_S)
        action[:3] *= min(1.0, speed / max(float(np.linalg.norm(action[:3])), 1e-9))
        action[3] = _GAIN * wrapped(yaw - world.yaw) / (TURN_RAD_S * CONTROL_DT_S)
        action[4] = 1.0 if self._closing else -1.0
        return np.clip(action, -1.0, 1.0)

    def _relief(self, place: Array) -> Array:
        """What to add to a place that a cable too short does not reach: towards where it comes from."""
        world = self.world
        if world.held is None:
            self._back_m = 0.0
            return np.zeros(3)
        source = world.nodes[0]
        for clip in range(self.clip):
            if world.seat(clip) is not None:
                source = world.clips[clip].position
        away = source - place
        away = away / max(float(np.linalg.norm(away)), 1e-9)
        pull_n = -float(world.force @ away)  # a cable that is pressed on a lip pushes; backing up would press harder
        self._back_m = min(self._back_m + 0.006, 0.05) if pull_n > MOST_N else max(self._back_m - 0.002, 0.0)
        return self._back_m * away

    def _go(self, place: Array, yaw: float, *, near_m: float = 0.005, steps: int = 25, speed: float = 1.0) -> Motion:
        """Go there; False if it took too long."""
        for _ in range(steps):
            away = float(np.linalg.norm(place - self.world.tcp))
            if away <= near_m and abs(wrapped(yaw - self.world.yaw)) <= 0.08:
                return True
            yield self._towards(place, yaw, speed)
        return False

    def _still(self, steps: int) -> Motion:
        place, yaw = self.world.tcp, self.world.yaw
        for _ in range(steps):
            yield self._towards(place, yaw)
        return True

    def _let_go(self) -> Motion:
        """Open, and rise to carrying height."""
        world = self.world
        place, yaw = world.tcp, world.yaw
        if self._closing or world.width_m < 1.8 * OPEN_M:
            self._closing = False
            for _ in range(6):
                yield self._towards(place, yaw)
                if world.width_m > 1.6 * OPEN_M:
                    break
        place[2] = max(CARRY_M, place[2])
        return (yield from self._go(place, yaw, near_m=0.015, steps=8))

    def _take_hold(self, beyond_m: float) -> Motion:
        """From above: go to the cable, come down around it, close; False if it is not held."""
        world = self.world
        arc = grasp_arc(world, self.clip, beyond_m)
        for near, height in ((0.012, CARRY_M), (0.003, None)):
            for _ in range(22):
                place, yaw = point_at(world.nodes, arc)
                place = place + self._off * (1.0, 1.0, 0.0)
                place[2] = max(LOWEST_M, place[2] + GRIP_BELOW_M) if height is None else height
                turn = hand_yaw_along(yaw)
                beside = float(np.linalg.norm((place - world.tcp)[:2]))
                if height is None and beside > 0.008:
                    place[2] = max(place[2], world.tcp[2])  # first over it, then down
                if np.linalg.norm(place - world.tcp) <= near and abs(wrapped(turn - world.yaw)) <= 0.12:
                    break
                yield self._towards(place, turn)
        self._closing = True
        place, yaw = world.tcp, world.yaw
        for _ in range(9):
            if self._holds():
                return True
            yield self._towards(place, yaw)
        return self._holds()

    def _lift(self) -> Motion:
        place = self.world.tcp
        place[2] = CARRY_M
        return (yield from self._go(place, self.world.yaw, near_m=0.012, steps=8))

    def _over_exit(self, height_m: float, near_m: float, across_m: float = 0.0, speed: float = 1.0) -> Motion:
        """Carry the held cable over the exit of the clip."""
        place, yaw = self._exit()
        place = place + across_m * self.world.clips[self.clip].v
        place[2] = height_m
        return (yield from self._go(place, yaw, near_m=near_m, speed=speed))

    def _exit(self) -> tuple[Array, float]:
        place, yaw = exit_pose(self.world, self.clip, beyond_clip(self.world, self.clip) or LEAD_M + SLACK_M)
        return place + self._off, yaw

    def _holds(self) -> bool:
        return self.world.held is not None

    def _seated(self) -> bool:
        return self.world.seat(self.clip) is not None


class GoNext(ScriptedPrimitive):
    """Open, go to the cable beyond the clip, take hold, carry it over the clip."""

    name = "go_next"

    def script(self) -> Script:
        yield from self._let_go()
        if not (yield from self._take_hold(LEAD_M + SLACK_M)):
            return Outcome.FAILURE
        yield from self._lift()
        yield from self._over_exit(CARRY_M, 0.02)
        return Outcome.SUCCESS if self._holds() else Outcome.FAILURE


class Route(ScriptedPrimitive):
    """Lay the held cable into the clip.

    Args:
        noise: as for all.
        generator: of noise and failures.
        drop: probability that an attempt opens the hand on the way down.
        misroute: probability that an attempt lays the cable 2.5 cm beside the clip.
    """

    name = "route"

    def __init__(
        self,
        noise: float = 0.0,
        generator: np.random.Generator | None = None,
        *,
        drop: float = 0.0,
        misroute: float = 0.0,
    ) -> None:
        super().__init__(noise, generator)
        if not (drop >= 0.0 and misroute >= 0.0 and drop + misroute <= 1.0):
            raise CadenzaError(f"drop {drop!r} and misroute {misroute!r} are no probabilities of two kinds of failure.")
        self.drop, self.misroute = drop, misroute
        self._side = 1.0
        self._shift = self._out = 0.0
        self.injected: str | None = None
        """``drop`` or ``misroute`` if this attempt was made to fail."""

    def start(self, observation: Observation, context: Context) -> None:
        """Begin an attempt, and draw whether it is to fail."""
        super().start(observation, context)
        draw = float(self._random.random())
        self.injected = "drop" if draw < self.drop else "misroute" if draw < self.drop + self.misroute else None
        self._side = 1.0 if self._random.random() < 0.5 else -1.0

    def script(self) -> Script:
        if not self._holds():
            return Outcome.FAILURE
        across = 0.025 * self._side if self.injected == "misroute" else 0.0
        yield from self._over_exit(ABOVE_LIPS_M, 0.010, across)
        if self.injected == "drop":
            self._closing = False
            yield from self._still(5)
            return Outcome.FAILURE
        yield from self._centre(across)
        return (yield from self._lay())

    def _centre(self, aside_m: float) -> Motion:
        """Bring the cable, not the hand, over the middle of the clip: a loose cable bows to one side."""
        world, clip = self.world, self.world.clips[self.clip]
        self._shift, self._out = aside_m, 0.0
        place, yaw = self._exit()
        centred = 0
        for _ in range(14):
            across = self._crossing_across()
            miss = 0.0 if across is None else across - aside_m
            centred = centred + 1 if abs(miss) < 0.004 else 0
            if centred >= 2:
                return True
            self._shift = float(np.clip(self._shift - 0.5 * miss, aside_m - 0.035, aside_m + 0.035))
            if world.force_n < 0.5 and abs(miss) > 0.008:
                self._out = min(self._out + 0.003, 0.02)
            here = place + self._out * clip.u + self._shift * clip.v
            here[2] = ABOVE_LIPS_M
            yield self._towards(here, yaw, 0.6)
        return False

    def _lay(self) -> Script:
        """Down, then back to the middle, out along the channel and from side to side."""
        world, clip = self.world, self.world.clips[self.clip]
        place, yaw = self._exit()
        place[2] = LOWEST_M + 0.001
        seated = 0
        for step in range(30):
            seated = seated + 1 if self._seated() else 0
            if seated >= 3:
                return Outcome.SUCCESS
            if not self._holds():
                return Outcome.FAILURE
            wiggle = turn = 0.0
            if step >= 4:
                self._shift *= 0.7
                if world.force_n < PULL_N:
                    self._out = min(self._out + 0.0015, 0.04)
            if step >= 10:  # a cable that rides on a lip slides off it
                wiggle, turn = 0.006 * float(np.sin(1.6 * step)), 0.2 * float(np.sin(0.8 * step))
            here = place + self._out * clip.u + (self._shift + wiggle) * clip.v
            yield self._towards(here, yaw + turn, 0.5)
        return Outcome.FAILURE

    def _crossing_across(self) -> float | None:
        """How far beside the clip's middle the cable crosses it, m."""
        world = self.world
        arc = arc_at_clip(world, self.clip)
        found = crossings(world.nodes, world.clips[self.clip])
        return min(found, key=lambda crossing: abs(crossing.arc_m - arc)).across_m if found else None


class Tighten(ScriptedPrimitive):
    """Pull the held cable along the exit tangent; without a hold, wait whether the clip keeps it."""

    name = "tighten"

    def script(self) -> Script:
        world, clip = self.world, self.world.clips[self.clip]
        if not self._holds():
            yield from self._still(6)
            return Outcome.SUCCESS if world.routed[self.clip] else Outcome.FAILURE
        start = world.tcp
        start[2] = LOWEST_M + 0.001
        pulled, pulls = 0.0, 0
        while pulled < PULL_M and pulls < 2:
            yield self._towards(start + pulled * clip.u, clip.yaw, 0.5)
            pulls = pulls + 1 if world.force_n >= PULL_N else 0
            if not self._holds():
                break
            pulled += 0.003
        yield from self._still(4)
        return Outcome.SUCCESS if self._seated() and self._holds() else Outcome.FAILURE


class Regrasp(ScriptedPrimitive):
    """Free the cable and take hold of it anew: lift, shake, let go, grasp 5 to 6 cm beyond the clip, lift."""

    name = "regrasp"

    def script(self) -> Script:
        world = self.world
        if self._holds():
            yield from self._lift()
            place, yaw = world.tcp, world.yaw
            for side in (1.0, -1.0, 1.0, -1.0):
                shaken = place + np.array((0.015 * side, 0.0, 0.01))
                yield self._towards(shaken, yaw + 0.2 * side)
        yield from self._let_go()
        if not (yield from self._take_hold(float(self._random.uniform(0.048, 0.06)))):
            return Outcome.FAILURE
        yield from self._lift()
        return Outcome.SUCCESS if self._holds() else Outcome.FAILURE


PRIMITIVES: tuple[str, ...] = (Route.name, Tighten.name, Regrasp.name, GoNext.name)
"""Their names, in the order in which a sequencer numbers them."""


def scripted_primitives(
    noise: float = 0.0,
    generator: np.random.Generator | None = None,
    *,
    drop: float = 0.0,
    misroute: float = 0.0,
) -> dict[str, Primitive]:
    """All four by name, in the order of :data:`PRIMITIVES`.

    Args:
        noise: of their actions, see :class:`ScriptedPrimitive`.
        generator: shared by the four: of noise and failures.
        drop: see :class:`Route`.
        misroute: see :class:`Route`.
    """
    generator = generator or np.random.default_rng(0)
    made: tuple[Primitive, ...] = (
        Route(noise, generator, drop=drop, misroute=misroute),
        Tighten(noise, generator),
        Regrasp(noise, generator),
        GoNext(noise, generator),
    )
    return {primitive.name: primitive for primitive in made}
