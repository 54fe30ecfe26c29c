"""A small set with two cameras and every kind of number, and a small environment with an expert: the parts."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np

from cadenza.agents.demos import DemoRecorder, Feature, Schema

TOY = "cadenza-tests/Toy-v0"


def toy_schema(**given: Any) -> Schema:
    """Vectors, a grid, a count, a flag and two cameras of different sizes."""
    settings: dict[str, Any] = {
        "env_id": "toy", "env_settings": {"clips": 2}, "rate_hz": 10.0,
        "observation": {
            "pose": Feature("float32", (3,), ("x", "y", "z")),
            "cable": Feature("float64", (4, 3)),
            "count": Feature("int64", ()),
            "held": Feature("bool", (1,)),
            "side": Feature("uint8", (32, 32, 3)),
            "wrist": Feature("uint8", (32, 48, 3)),
        },
        "action": Feature("float32", (2,)),
        "cameras": ("side", "wrist"),
    }  # fmt: skip
    return Schema(**{**settings, **given})


def toy_picture(episode: int, step: int, height: int, width: int) -> np.ndarray:
    """Its colour tells the episode, a white bar the step."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[...] = (20 + 50 * episode, 90, 120)
    picture[:, step : step + 4] = 255
    return picture


def toy_observation(episode: int, step: int) -> dict[str, Any]:
    random = np.random.default_rng([episode, step])
    return {
        "pose": random.normal(size=3).astype(np.float32), "cable": random.normal(size=(4, 3)), "count": step,
        "held": np.array([step % 2 == 0]), "side": toy_picture(episode, step, 32, 32),
        "wrist": toy_picture(episode, step, 32, 48),
    }  # fmt: skip


def toy_action(episode: int, step: int) -> np.ndarray:
    return np.array([0.1 * step, -float(episode)], np.float32)


def record_toy(recorder: DemoRecorder, episode: int, length: int, jitter_s: float = 0.0, rate_hz: float = 10.0) -> None:
    random = np.random.default_rng(episode)
    recorder.start(100 + episode, f"task {episode % 2}", {"injected": "drop"})
    for step in range(length):
        recorder.add(
            toy_observation(episode, step), toy_action(episode, step), reward=float(step),
            terminated=step == length - 1 and episode != 2, truncated=step == length - 1 and episode == 2,
            timestamp_s=5.0 + step / rate_hz + jitter_s * random.uniform(-1.0, 1.0), primitive=step % 3,
            extras={"tension_n": 0.5 * step} if step > 1 else {},
        )  # fmt: skip


class Toy(gym.Env):
    """A point on a line, whose clock is not even: every third step takes 30 ms longer."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}

    def __init__(self, steps: int = 6, pictures: bool = True):
        self._steps, self._pictures = steps, pictures
        self.dt, self.time_s = 0.1, 0.0
        spaces: dict[str, gym.Space] = {"state": gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)}
        if pictures:
            spaces["top"] = gym.spaces.Box(0, 255, (16, 16, 3), np.uint8)
        self.observation_space = gym.spaces.Dict(spaces)
        self.action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.state_layout = {"place": slice(0, 1), "goal": slice(1, 2)}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._place, self._goal, self._count = 0.0, float(self.np_random.uniform(-0.3, 0.3)), 0
        self.time_s = 1.0
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._place += 0.1 * float(action[0])
        self._count += 1
        self.time_s += self.dt + (0.03 if self._count % 3 == 0 else 0.0)
        near = abs(self._place - self._goal) < 0.05
        return self._observe(), -abs(self._place - self._goal), False, self._count == self._steps, {"is_success": near}

    def _observe(self) -> dict[str, Any]:
        observation = {"state": np.array([self._place, self._goal], np.float32)}
        if self._pictures:
            observation["top"] = np.full((16, 16, 3), 10 * self._count, np.uint8)
        return observation


class ToyExpert:
    """Goes to the goal, with noise."""

    def __init__(self, seed: int, noise: float = 0.1):
        self._random = np.random.default_rng(seed)
        self._noise = noise
        self.intended = np.zeros(1, np.float32)

    def reset(self, env: gym.Env, observation: Any, info: dict[str, Any]) -> None:
        self._steps = 0

    def act(self, observation: Any) -> np.ndarray:
        self._steps += 1
        place, goal = observation["state"]
        self.intended = np.clip([10.0 * (goal - place)], -1.0, 1.0).astype(np.float32)
        return np.clip(self.intended + self._random.normal(0.0, self._noise, 1), -1.0, 1.0).astype(np.float32)

    def label(self) -> int:
        return self._steps // 3

    def metadata(self) -> dict[str, Any]:
        return {"acted": self._steps}


def make_toy_expert(seed: int, **settings: Any) -> ToyExpert:
    return ToyExpert(seed, **settings)
