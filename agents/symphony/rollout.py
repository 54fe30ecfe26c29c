"""Environment steps that run while the learner updates.

Stable-Baselines3 steps the environments, waits, updates, waits. Here the step is started, the update runs, and the
transition is stored when both are done: an action is chosen by the weights of one update earlier, everything else is
the same. The order is fixed, so a run stays reproducible bit for bit; whether the overlap gains anything depends on
the machine, the result does not.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv


class PendingStep:
    """At most one step of a VecEnv under way on a thread of its own."""

    def __init__(self) -> None:
        self._executor: ThreadPoolExecutor | None = None
        self._future: Future[Any] | None = None
        self._actions: tuple[NDArray[Any], NDArray[Any]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {}  # a copy has nothing under way

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__()  # type: ignore[misc]

    @property
    def under_way(self) -> bool:
        """Whether a step has been started and not yet fetched."""
        return self._future is not None

    def start(self, env: VecEnv, actions: NDArray[Any], buffer_actions: NDArray[Any]) -> None:
        """Step ``env`` with ``actions``; ``buffer_actions`` are kept for :meth:`fetch`."""
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, "environments")
        self._actions = actions, buffer_actions
        self._future = self._executor.submit(env.step, actions)

    def fetch(self) -> tuple[NDArray[Any], NDArray[Any], tuple[Any, ...]]:
        """Wait for the step: its actions, the buffer's actions and what ``env.step`` returned (or raised)."""
        assert self._future is not None
        assert self._actions is not None
        future, self._future = self._future, None
        return *self._actions, future.result()

    def abandon(self) -> None:
        """Wait for a step under way and forget it; its error too, as another one is on its way up."""
        if self._future is not None:
            self._future.exception()
            self._future = None
