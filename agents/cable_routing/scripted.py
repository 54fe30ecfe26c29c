"""The four primitives as scripts on the privileged state: go_next, route, tighten, regrasp.

=========  =========================================================================================  ================
primitive  what it does                                                                               success
=========  =========================================================================================  ================
go_next    opens, goes to the cable 6 cm beyond the clip, takes hold, carries it over the clip         the cable is held
route      lays the held cable into the clip: over its exit, along the channel, down, a pull           it is seated
tighten    pulls along the exit tangent, to 2 N or 5 cm                                                seated and pulled
regrasp    lifts and shakes what is held, lets go, takes hold 5 to 7 cm beyond the clip, lifts         the cable is held
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
from cadenza.envs.cable.model import LENGTH_M
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
LOW_M = 0.030
"""A hand below this has laid the cable."""
LOW_STEPS = 36
"""For so long it tries to get a cable that rides on the lips into the clip."""
BESIDE_M = 0.012
"""A cable so far from the middle lies beside the clip."""
MOST_ASKEW_RAD = 0.25
"""Between cable and channel, for the hand to go down."""
TURN_SHARE = 0.3
"""Of that angle the hand turns in one step."""
MISROUTED_M = 0.025
MISROUTED_STEPS = 10
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
        place = self.world.tcp  # slowly: a cable that is lifted with a jerk is torn out of the hand
        place[2] = CARRY_M
        return (yield from self._go(place, self.world.yaw, near_m=0.012, steps=14, speed=0.5))

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
        self.injected: str | None = None
        """``drop`` or ``misroute`` if this attempt was made to fail."""

    def start(self, observation: Observation, context: Context) -> None:
        """Begin an attempt, and draw whether it is to fail."""
        super().start(observation, context)
        draw = float(self._random.random())
        self.injected = "drop" if draw < self.drop else "misroute" if draw < self.drop + self.misroute else None
        self._side = 1.0 if self._random.random() < 0.5 else -1.0

    def script(self) -> Script:
        aside = MISROUTED_M * self._side if self.injected == "misroute" else 0.0
        seated = low = 0
        while self._holds():
            seated = seated + 1 if self._seated() else 0
            if seated >= 3:
                return Outcome.SUCCESS
            action = self._lay(aside)
            if self.injected == "drop" and np.linalg.norm(self._exit()[0] - self.world.tcp) < ABOVE_LIPS_M + 0.010:
                self._closing = False
                yield from self._still(5)
                return Outcome.FAILURE
            low += self.world.tcp[2] < LOW_M
            if low > (MISROUTED_STEPS if self.injected else LOW_STEPS):
                return Outcome.FAILURE
            yield action
        return Outcome.FAILURE

    def _lay(self, aside_m: float) -> Array:
        """One step of laying: a function of what can be seen now, so that a policy without a memory can learn it.

        On the way the hand goes to the clip's exit. Over the clip it moves across until the cable, not the hand, is
        over the middle, since a loose cable bows to one side, and turns until the cable runs along the channel, since
        one that lies askew rides on the lips; then it goes down. Near the table it shifts and turns on for the same
        reason, and pulls a little; a cable that has come to lie beside the clip is lifted again.
        """
        world, clip = self.world, self.world.clips[self.clip]
        away = world.tcp - clip.position
        across, along, height = float(away @ clip.v), float(away @ clip.u), float(world.tcp[2])
        lead = float((self._exit()[0] - clip.position) @ clip.u)
        turn = wrapped(world.yaw - clip.yaw)
        found = self._crossing(aside_m)
        miss, askew = (across - aside_m, 0.0) if found is None else found
        miss = float(np.clip(miss, -0.03, 0.03))
        rise = float(np.clip(0.7 * (ABOVE_LIPS_M - height), -0.01, 0.01))
        force = world.force
        pulled_n = float(np.linalg.norm(force[:2]))
        x = y = z = turned = 0.0
        if (height > LOW_M and abs(along - lead) > 0.02) or abs(across - aside_m) > 0.045:
            x, y, z = 0.7 * (aside_m - across), 0.7 * (lead - along), rise
            turned = -turn
        elif height > LOW_M:
            x, y = -0.4 * miss, 0.5 * (lead - along)
            turned = TURN_SHARE * askew
            if abs(miss) < 0.005 and (abs(askew) < MOST_ASKEW_RAD or abs(turn) > 0.42):
                z = -0.01
            elif abs(miss) > 0.009:
                z = rise
        elif abs(miss) > BESIDE_M:
            z = 0.015
        else:
            x, z = -0.3 * miss - 0.3 * lead * askew, float(np.clip(0.7 * (LOWEST_M + 0.001 - height), -0.01, 0.0))
            turned = TURN_SHARE * askew - 0.15 * turn
            if force @ clip.u > MOST_N:
                y = -0.004
            elif force @ clip.u < PULL_N and along < lead + 0.04:
                y = 0.0015
        step = np.clip(x, -0.012, 0.012) * clip.v + np.clip(y, -0.02, 0.02) * clip.u
        if height > LOW_M and pulled_n > PULL_N:  # a cable that is too short is given way to
            back_m = min(0.003 * (pulled_n - PULL_N), 0.012)
            step = 0.5 * step - back_m * np.array((force[0], force[1], 0.0)) / pulled_n
        step[2] = z
        wanted = clip.yaw + float(np.clip(turn + turned, -0.5, 0.5))
        action = np.zeros(5)
        action[:3] = step / (SPEED_M_S * CONTROL_DT_S)
        action[3] = _GAIN * wrapped(wanted - world.yaw) / (TURN_RAD_S * CONTROL_DT_S)
        action[4] = 1.0 if self._closing else -1.0
        return np.clip(action, -1.0, 1.0)

    def _crossing(self, aside_m: float) -> tuple[float, float] | None:
        """How far beside the wanted place the cable crosses the clip, m, and how much askew to it, rad."""
        world, clip = self.world, self.world.clips[self.clip]
        arc = arc_at_clip(world, self.clip)
        found = crossings(world.nodes, clip)
        if not found:
            return None
        best = min(found, key=lambda crossing: abs(crossing.arc_m - arc))
        before, _ = point_at(world.nodes, max(best.arc_m - 0.01, 0.0))
        after, _ = point_at(world.nodes, min(best.arc_m + 0.01, LENGTH_M - 1e-3))
        way = after - before
        return best.across_m - aside_m, float(np.arctan2(way @ clip.v, way @ clip.u))


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
        pulled = 0.0
        while pulled < PULL_M and world.force_n < PULL_N:
            yield self._towards(start + pulled * clip.u, clip.yaw, 0.5)
            if not self._holds():
                break
            pulled += 0.003 if world.force_n < 0.5 * PULL_N else 0.001  # a taut chain of rigid links gives little
        yield from self._still(4)
        return Outcome.SUCCESS if self._seated() and self._holds() else Outcome.FAILURE


class Regrasp(ScriptedPrimitive):
    """Free the cable and take hold of it anew: lift, shake, let go, grasp 5 to 7 cm beyond the clip, lift."""

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
        if not (yield from self._take_hold(float(self._random.uniform(0.054, 0.066)))):
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
