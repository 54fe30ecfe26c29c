"""The Fading Replay Buffer: a ring whose sampling probability depends on a transition's age (arXiv 2512.10477).

A draw is O(1) from a table whose size does not depend on N (``ages.py``), and neither adding nor sampling allocates per
step. The paper's repeated fill (the exploration transitions copied until all N slots are taken) is not copied: a slot
that the ring has not written yet shows the exploration transition that would stand there.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.buffers import BaseBuffer, ReplayBuffer
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

from cadenza.agents.symphony.ages import AgeSampler, AgeScratch
from cadenza.agents.symphony.mirroring import BatchMirror

_TERMINAL, _SPARED, _WRITTEN = 1, 2, 4  # bits of a slot's flags


class Batch(NamedTuple):
    """One batch on the learner's device. The tensors are reused by the next :meth:`FadingReplayBuffer.sample_batch`."""

    observations: Tensor
    """(batch, obs)"""
    actions: Tensor
    """(batch, actions), in [-1, 1]"""
    next_observations: Tensor
    """(batch, obs)"""
    rewards: Tensor
    """(batch, 1), or (batch, K) of K reward groups; divided by the (group's) mean absolute reward of the exploration"""
    terminals: Tensor
    """(batch, 1), 1.0 where the episode truly ended (never for a time limit)"""


class FadingReplayBuffer(ReplayBuffer):
    """Ring buffer of N transitions with age-dependent sampling, terminal sparing and an optional repeated fill.

    Args:
        buffer_size: capacity N in transitions, whatever the number of environments.
        observation_space: a Box; observations are stored flat.
        action_space: a Box; actions are stored as given (Stable-Baselines3 gives them scaled to [-1, 1]).
        device: where :meth:`sample_batch` puts its tensors.
        n_envs: environments that add at once; their transitions take neighbouring slots.
        age_law: ``tanh`` (S3), ``bell`` (Saya), ``power_law`` or ``uniform``.
        storage: ``float16`` or ``float32`` for observations and actions; values beyond float16's range are clipped.
        prefill_capacity: most exploration transitions that :meth:`finish_exploration` may repeat.
        seed: of the buffer's own generator.
        groups: numbers in a reward; above 1 see :class:`cadenza.agents.symphony.group_replay.GroupReplayBuffer`.
        handle_timeout_termination: read ``TimeLimit.truncated`` from infos, so that truncation is never a terminal.
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        device: torch.device | str = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        *,
        age_law: str = "tanh",
        storage: str = "float32",
        prefill_capacity: int = 0,
        seed: int | None = None,
        groups: int = 1,
        handle_timeout_termination: bool = True,
    ):
        BaseBuffer.__init__(self, buffer_size, observation_space, action_space, device, n_envs)
        if optimize_memory_usage:
            raise ValueError(
                "FadingReplayBuffer does not support optimize_memory_usage; use storage='float16' instead."
            )
        self.optimize_memory_usage = False
        self.handle_timeout_termination = handle_timeout_termination
        self.age_law = age_law
        self.obs_size = int(np.prod(self.obs_shape))
        self.prefill_capacity = prefill_capacity
        rows = buffer_size + prefill_capacity
        # One record a transition: observation, next observation, action. np.empty costs memory only when written.
        self._records = np.empty((rows, 2 * self.obs_size + self.action_dim), dtype=np.dtype(storage))
        self._rewards = np.zeros(rows if groups == 1 else (rows, groups), dtype=np.float32)
        self._flags = np.zeros(rows, dtype=np.uint8)
        self._numbers = self._records.reshape(-1)
        self._limit = float(np.finfo(self._records.dtype).max)
        self._sampler = AgeSampler(age_law, buffer_size)
        self._generator = np.random.default_rng(seed)
        self._scratch: _Scratch | None = None
        self.reward_scale = 1.0
        """r_bar, the mean absolute reward of the exploration; rewards leave the buffer divided by it."""
        self.exploring = True
        self.mirror: BatchMirror | None = None
        """Mirrors half of every batch where it is set."""
        self._repeated = 0
        self._unwritten = 0  # slots that still show an exploration transition
        self._writes = 0
        self._fill_mark = -1

    # ------------------------------------------------------------------ adding

    def add(
        self,
        obs: NDArray[Any],
        next_obs: NDArray[Any],
        action: NDArray[Any],
        reward: NDArray[Any],
        done: NDArray[Any],
        infos: list[dict[str, Any]],
    ) -> None:
        """Store one transition of each environment; shapes as in Stable-Baselines3, first axis = environments."""
        d = self.obs_size
        for i in range(len(done)):
            truncated = self.handle_timeout_termination and bool(infos[i].get("TimeLimit.truncated", False))
            slot = self._next_slot()
            record = self._records[slot]
            np.clip(np.reshape(obs[i], -1), -self._limit, self._limit, out=record[:d], casting="unsafe")
            np.clip(np.reshape(next_obs[i], -1), -self._limit, self._limit, out=record[d : 2 * d], casting="unsafe")
            record[2 * d :] = np.reshape(action[i], -1)
            self._rewards[slot] = reward[i]
            if self._unwritten and not self._flags[slot] & _WRITTEN:
                self._unwritten -= 1
            self._flags[slot] = _WRITTEN | (_TERMINAL if done[i] and not truncated else 0)
            self._advance()

    def _next_slot(self) -> int:
        """The slot to write. A terminal transition met here for the first time is passed over and marked (spared)."""
        while self.full:
            row = self.pos
            if self._unwritten and not self._flags[row] & _WRITTEN:
                row = self.buffer_size + row % self._repeated
            if not self._flags[row] & _TERMINAL or self._flags[self.pos] & _SPARED:
                break
            self._flags[self.pos] |= _SPARED
            self._advance()
        return self.pos

    def _advance(self) -> None:
        self._writes += 1
        self.pos += 1
        if self.pos == self.buffer_size:
            self.pos = 0
            self.full = True

    def finish_exploration(self, repeat: bool) -> None:
        """End the exploration: fix r_bar and, with ``repeat``, fill all N slots with the stored transitions in turn."""
        count = self.size()
        self._fix_reward_scale(count)
        self.exploring = False
        if not repeat or self.full:
            return
        if count > self.prefill_capacity:
            raise ValueError(f"prefill_capacity is {self.prefill_capacity}, but {count} transitions are stored.")
        home = slice(self.buffer_size, self.buffer_size + count)
        self._records[home] = self._records[:count]
        self._rewards[home] = self._rewards[:count]
        self._flags[home] = self._flags[:count]
        self._repeated = count
        self._fill_mark = self._writes
        self._unwritten = self.buffer_size - count if count else 0
        self.pos, self.full = 0, True

    def _fix_reward_scale(self, count: int) -> None:
        mean_absolute = float(np.abs(self._rewards[:count], dtype=np.float64).mean()) if count else 0.0
        # A task without a single reward during exploration keeps its rewards as they are.
        self.reward_scale = mean_absolute if mean_absolute > 0 else 1.0

    # ------------------------------------------------------------------ sampling

    def sample_batch(self, batch_size: int) -> Batch:
        """Draw ``batch_size`` transitions with replacement by the age law. The returned tensors are reused.

        Raises:
            ValueError: nothing is stored.
        """
        if self.size() == 0:
            raise ValueError("The replay buffer is empty: store transitions before drawing.")
        if self._scratch is None or self._scratch.batch_size != batch_size:
            self._scratch = _Scratch(batch_size, self._records, self._rewards, self.obs_size, self.device)
        s = self._scratch
        rows = self._draw_rows(s)
        # One number of every record first: the processor overlaps these cache misses, but not those of whole rows.
        np.multiply(rows, self._records.shape[1], out=s.firsts)
        np.take(self._numbers, s.firsts, out=s.touched, mode="clip")
        np.take(self._rewards, rows, axis=0, out=s.rewards, mode="clip")
        np.take(self._flags, rows, out=s.flags, mode="clip")
        np.take(self._records, rows, axis=0, out=s.stored, mode="clip")
        self._scale_rewards(s.rewards)
        np.bitwise_and(s.flags, _TERMINAL, out=s.flags)
        batch = s.to_device()
        if self.mirror is not None:
            self.mirror.apply(batch)
        return batch

    def _scale_rewards(self, rewards: NDArray[np.float32]) -> None:
        np.multiply(rewards, 1.0 / self.reward_scale, out=rewards)

    def _draw_rows(self, s: _Scratch) -> NDArray[np.int64]:
        rows = self._sampler.draw(self._generator, self.size(), s.draw)
        if not self.full:
            return rows
        np.add(rows, self.pos, out=rows)
        np.remainder(rows, self.buffer_size, out=rows)
        if self._unwritten:
            np.take(self._flags, rows, out=s.flags, mode="clip")
            np.bitwise_and(s.flags, _WRITTEN, out=s.flags)
            np.equal(s.flags, 0, out=s.unwritten)
            np.remainder(rows, self._repeated, out=s.firsts)
            np.add(s.firsts, self.buffer_size, out=s.firsts)
            np.copyto(rows, s.firsts, where=s.unwritten)
        return rows

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> ReplayBufferSamples:
        """Stable-Baselines3's form of :meth:`sample_batch`, as fresh tensors."""
        batch = self.sample_batch(batch_size)
        fresh = [t.clone() for t in batch]
        return ReplayBufferSamples(
            observations=fresh[0], actions=fresh[1], next_observations=fresh[2], rewards=fresh[3], dones=fresh[4]
        )

    def observation_moments(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and standard deviation of the stored observations, each of shape (obs,), float64."""
        used = np.flatnonzero(self._flags[: self.buffer_size] & _WRITTEN)
        count, total, chunk = max(len(used), 1), np.zeros(self.obs_size), 8192
        for start in range(0, len(used), chunk):
            total += self._records[used[start : start + chunk], : self.obs_size].sum(0, dtype=np.float64)
        mean, square = total / count, np.zeros(self.obs_size)
        for start in range(0, len(used), chunk):
            centred = self._records[used[start : start + chunk], : self.obs_size] - mean
            square += np.einsum("ij,ij->j", centred, centred)
        return mean, np.sqrt(square / count)

    def reset(self) -> None:
        """Forget everything, exploration included."""
        super().reset()
        self._flags[:] = 0
        self.exploring, self.reward_scale = True, 1.0
        self._repeated, self._unwritten, self._writes, self._fill_mark = 0, 0, 0, -1

    # ------------------------------------------------------------------ checkpoints

    def storage(self) -> dict[str, NDArray[Any]]:
        """The arrays to store, first axis = rows; rows never written carry no meaning. Loading writes into them."""
        return {"records": self._records, "rewards": self._rewards, "flags": self._flags}

    def mark(self) -> int:
        """A counter that grows with every slot written; for :meth:`dirty_slots_since`."""
        return self._writes

    def dirty_slots_since(self, mark: int) -> list[tuple[int, int]]:
        """Row ranges (start, stop) changed since ``mark`` was taken."""
        ranges: list[tuple[int, int]] = []
        size = self.buffer_size
        if self._repeated and mark <= self._fill_mark:
            # The fill set the pointer back to 0: exploration rows before it, the ring since.
            ranges += [(min(mark, self._repeated), self._repeated), (size, size + self._repeated)]
            mark = self._fill_mark
        count = self._writes - mark
        if count >= size:
            ranges.append((0, size))
        elif count > self.pos:
            ranges += [(0, self.pos), (size - (count - self.pos), size)]
        elif count:
            ranges.append((self.pos - count, self.pos))
        return [(start, stop) for start, stop in ranges if stop > start]

    def get_extra_state(self) -> dict[str, Any]:
        """Everything beside the arrays, JSON-able."""
        return {
            "pos": self.pos,
            "full": self.full,
            "reward_scale": self.reward_scale,
            "exploring": self.exploring,
            "repeated": self._repeated,
            "writes": self._writes,
            "fill_mark": self._fill_mark,
            "generator": self._generator.bit_generator.state,
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore :meth:`get_extra_state`; the arrays of :meth:`storage` must have been restored before."""
        self.pos, self.full = int(state["pos"]), bool(state["full"])
        self.reward_scale, self.exploring = float(state["reward_scale"]), bool(state["exploring"])
        self._repeated, self._writes = int(state["repeated"]), int(state["writes"])
        self._fill_mark = int(state["fill_mark"])
        self._generator.bit_generator.state = state["generator"]
        written = self._flags[: self.buffer_size] & _WRITTEN
        self._unwritten = self.buffer_size - int(np.count_nonzero(written)) if self._repeated else 0


class _Scratch:
    """Arrays that one batch size needs, made once; numpy and torch names of one thing share its memory."""

    def __init__(
        self, batch_size: int, records: NDArray[Any], rewards: NDArray[Any], obs_size: int, device: torch.device
    ):
        self.batch_size = batch_size
        self.device = device
        self.draw = AgeScratch(batch_size)
        self.firsts = np.empty(batch_size, dtype=np.int64)
        self.unwritten = np.empty(batch_size, dtype=np.bool_)
        self.touched = np.empty(batch_size, dtype=records.dtype)
        stored = torch.from_numpy(np.empty((batch_size, records.shape[1]), dtype=records.dtype))
        self.stored = stored.numpy()
        self.flags = np.empty(batch_size, dtype=np.uint8)
        self.rewards = np.empty((batch_size, *rewards.shape[1:]), dtype=np.float32)
        self._sources = (stored, torch.from_numpy(self.rewards), torch.from_numpy(self.flags))
        self._record = torch.empty(stored.shape, dtype=torch.float32, device=device)
        groups = rewards.shape[1] if rewards.ndim > 1 else 1
        self._reward = torch.empty((batch_size, groups), dtype=torch.float32, device=device)
        self._reward_like_stored = self._reward if rewards.ndim > 1 else self._reward[:, 0]
        self._terminal = torch.empty((batch_size, 1), dtype=torch.float32, device=device)
        d = obs_size
        self._batch = Batch(
            self._record[:, :d], self._record[:, 2 * d :], self._record[:, d : 2 * d], self._reward, self._terminal
        )

    def to_device(self) -> Batch:
        """Convert to float32 and copy to the device."""
        self._record.copy_(self._sources[0])
        self._reward_like_stored.copy_(self._sources[1])
        self._terminal[:, 0].copy_(self._sources[2])
        return self._batch
