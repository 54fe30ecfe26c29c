"""Symphony as a Stable-Baselines3 algorithm: a drop-in for SAC."""

from __future__ import annotations

import dataclasses
import io
import json
import pathlib
from collections.abc import Iterable
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import (
    GymEnv,
    MaybeCallback,
    RolloutReturn,
    Schedule,
    TrainFreq,
    TrainFrequencyUnit,
)
from stable_baselines3.common.utils import update_learning_rate
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

import cadenza.envs  # noqa: F401 - makes our ids known to gymnasium.make
from cadenza.agents.asymmetric import actor_observation_size
from cadenza.agents.symphony import storage
from cadenza.agents.symphony.archive import header_of, restored
from cadenza.agents.symphony.aside import Aside
from cadenza.agents.symphony.branches import Pair
from cadenza.agents.symphony.fused import FusedUpdate, fusible
from cadenza.agents.symphony.group_replay import GroupReplayBuffer
from cadenza.agents.symphony.groups import LearnedGroups
from cadenza.agents.symphony.mirroring import BatchMirror
from cadenza.agents.symphony.objective import Loss, actor_branch, combine, critic_forward, critic_loss
from cadenza.agents.symphony.policy import SymphonyPolicy, check_spaces
from cadenza.agents.symphony.presets import SymphonyConfig, resolve_config
from cadenza.agents.symphony.recording import record_loss
from cadenza.agents.symphony.replay import Batch, FadingReplayBuffer

_LOG_EVERY_UPDATES = 100


class Symphony(OffPolicyAlgorithm):
    """Off-policy, model-free, deterministic actor-critic with bounded parametric noise (arXiv 2512.10477).

    Usage is SAC's: ``Symphony("MlpPolicy", env, preset="cpu", seed=0).learn(100_000)``. Of an environment with an
    ``actor_observation_size`` the actor sees that many leading entries of the observation, the critics all of it. In
    one with reward groups (:mod:`cadenza.envs.reward_groups`) ``critics="per_group"`` makes it multi-critic Symphony.

    Args:
        policy: ``"MlpPolicy"``.
        env: a Gymnasium environment or id, or a VecEnv, with a Box observation space and a bounded Box action space.
        preset: a name of :data:`cadenza.agents.symphony.PRESETS`.
        tensorboard_log, verbose, device, seed, stats_window_size: as in Stable-Baselines3.
        branches: whether actor and critics learn beside each other (``together``) or ``in_turn``; ``auto`` measures.
            The numbers are the same; only the speed differs.
        overrides: any field of :class:`~cadenza.agents.symphony.presets.SymphonyConfig`, e.g. ``learning_rate`` (also a
            schedule), ``batch_size``, ``buffer_size``, ``learning_starts``, ``tau``, ``gamma``, ``gradient_steps``.

    Raises:
        ValueError: unknown preset, a setting out of range, or a space that Symphony cannot drive.
        TypeError: a setting that Symphony does not have; the message lists the nearest names.
        CadenzaError: an ``actor_observation_size`` that does not fit the observation, an unknown reward group, or
            weights that do not sum to 1.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"MlpPolicy": SymphonyPolicy}
    policy: SymphonyPolicy
    replay_buffer: FadingReplayBuffer

    def __init__(
        self,
        policy: str | type[SymphonyPolicy],
        env: GymEnv | str | None,
        *,
        preset: str = "cpu",
        tensorboard_log: str | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: torch.device | str = "auto",
        stats_window_size: int = 100,
        branches: str = "auto",
        _init_setup_model: bool = True,
        **overrides: Any,
    ):
        learning_rate: float | Schedule | None = overrides.get("learning_rate")
        if callable(learning_rate):
            overrides = {**overrides, "learning_rate": float(learning_rate(1.0))}
        self.preset = preset
        self._branches = branches
        self.config: SymphonyConfig = resolve_config(preset, overrides)
        config = self.config
        super().__init__(
            policy,
            env,  # type: ignore[arg-type]
            learning_rate=learning_rate if callable(learning_rate) else config.learning_rate,
            buffer_size=config.buffer_size,
            learning_starts=config.learning_starts,
            batch_size=config.batch_size,
            tau=config.tau,
            gamma=config.gamma,
            train_freq=config.train_freq,
            gradient_steps=config.gradient_steps,
            replay_buffer_class=FadingReplayBuffer,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            verbose=verbose,
            device=device,
            support_multi_env=True,
            seed=seed,
            sde_support=False,
            supported_action_spaces=None,
        )
        self._made_env = self.env if isinstance(env, str) else None
        self._episode_steps = np.zeros(0, dtype=np.int64)
        self._time_limits = np.zeros(0)
        self._stored_at = 0
        """``num_timesteps`` when a transition was stored last."""
        self.actor_observation_size: int | None = None
        """How many leading entries of the observation the actor sees; None: all."""
        if self.env is not None:
            check_spaces(self.observation_space, self.action_space)
            self.actor_observation_size = actor_observation_size(self.env)
        self.groups: LearnedGroups | None = None if self.env is None else LearnedGroups.of(self.env, config)
        """The reward groups that are learned from; None: the environment's scalar reward."""
        self._group_sums = np.zeros(0)
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        seeds = [int(s) for s in np.random.SeedSequence(self.seed).generate_state(3, np.uint64)]
        replay_seed = seeds[1]
        self.generator = torch.Generator(device=self.device).manual_seed(seeds[0] % 2**63)
        self.critic_generator = torch.Generator(device=self.device).manual_seed(seeds[2] % 2**63)
        groups = self.groups
        if groups is not None and groups.critic_count == 1:
            # One critic triple is plain Symphony; it may have a discount of its own.
            self.gamma = groups.gammas[0]
            self.config = dataclasses.replace(self.config, gamma=self.gamma)
        config = self.config
        self.policy_kwargs = {
            "config": config,
            "generator": self.generator,
            "critic_generator": self.critic_generator,
        }
        if self.actor_observation_size is not None:
            self.policy_kwargs["actor_observation_size"] = self.actor_observation_size
        if groups is not None and groups.critic_count > 1:
            self.policy_kwargs["gammas"] = groups.gammas
        self._environments = Aside("environments")
        self._started: tuple[NDArray[Any], NDArray[Any]] | None = None
        self._overlaps = False
        self._ended = False
        self.branches = Pair(self._branches if self.device.type == "cpu" else "in_turn")
        self.replay_buffer_kwargs = {
            "age_law": config.age_law,
            "storage": config.storage,
            "prefill_capacity": (config.learning_starts + self.n_envs * config.train_freq) * config.prefill_repeats,
            "seed": replay_seed,
        }
        if groups is not None and groups.stored_count > 1:
            self.replay_buffer_class = GroupReplayBuffer
            self.replay_buffer_kwargs["groups"] = groups.stored_count
            if groups.critic_count == 1:
                self.replay_buffer_kwargs["sum_weights"] = groups.weights
        self._forget_group_sums()
        super()._setup_model()
        self.policy.initialize_optimizer()
        if groups is not None and groups.critic_count > 1:
            self.policy.attention[:] = groups.weights
        self.actor = self.policy.actor
        self._fused = FusedUpdate(self.policy) if fusible(self.policy) else None

    # ------------------------------------------------------------------ acting

    def _setup_learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        reset_num_timesteps: bool = True,
        tb_log_name: str = "run",
        progress_bar: bool = False,
    ) -> tuple[int, BaseCallback]:
        if self.groups is not None and self.env is not None:
            self.groups.check(self.env)
        fresh = reset_num_timesteps or self._last_obs is None
        result = super()._setup_learn(total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar)
        assert self.env is not None
        wanted = self.config.mirror is True or (self.config.mirror == "auto" and BatchMirror.fits(self.env))
        self.replay_buffer.mirror = BatchMirror.of(self.env, self.device) if wanted else None
        if fresh or len(self._episode_steps) != self.env.num_envs:
            self._episode_steps = np.zeros(self.env.num_envs, dtype=np.int64)
        if self._vec_normalize_env is not None:
            raise ValueError(
                "Symphony normalises observations inside the policy, which VecNormalize would do a second time: use "
                "the bare environment and normalize_observations=True."
            )
        # Of an id Stable-Baselines3 makes an environment that could render, though nobody can have it do so in a step.
        renders = self.env is not self._made_env and any(self.env.get_attr("render_mode"))
        self._overlaps = self.config.overlap and not renders
        self._time_limits = _time_limits(self.env)
        return result

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Actions for the environments and, scaled to [-1, 1], for the buffer; exploration uses the untrained actor."""
        config, exploring = self.config, self.num_timesteps < learning_starts
        noise_std = 0.0 if config.noiseless and not exploring else config.noise_std
        active = None
        if config.deliberate_fall_steps and not exploring:
            falling = self._episode_steps + 1 >= self._time_limits - config.deliberate_fall_steps
            if falling.any():
                active = (~falling).astype(np.float32)[:, None]
                # Without noise a zeroed action would be no fall at all.
                noise_std = config.noise_std
        obs = np.asarray(self._last_obs)
        if self._fused is not None:
            scaled = self._fused.act(obs, noise_std, active)
        else:
            with torch.no_grad():
                on_device = torch.as_tensor(obs, dtype=torch.float32, device=self.device)
                flags = None if active is None else torch.as_tensor(active, device=self.device)
                scaled = self.policy.act(on_device, noise_std, flags).cpu().numpy()
        scaled = scaled.reshape(n_envs, *self.action_space.shape)  # type: ignore[misc]
        if action_noise is not None:
            scaled = np.clip(scaled + action_noise(), -1, 1)
        return self.policy.unscale_action(scaled), scaled

    def learn(self, total_timesteps: int, callback: MaybeCallback = None, **arguments: Any) -> Self:  # type: ignore[override]
        """Stable-Baselines3's. If it ends amid a step, the step is dropped and the next call resets the environments.

        Raises:
            ValueError: a VecNormalize environment, whose observations are not those of the replay buffer.
        """
        # Second moments underflow into denormals, on which these processors are slow.
        torch.set_flush_denormal(True)
        try:
            return super().learn(total_timesteps, callback, **arguments)
        finally:
            self._ended = False
            # A callback that stops takes a step that nobody stored: the observation before it is not the next one's.
            if self._environments.drop() or self._stored_at != self.num_timesteps:
                self._last_obs = None
            self._environments.close()
            self.branches.close()

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        train_freq: TrainFreq,
        replay_buffer: Any,
        action_noise: ActionNoise | None = None,
        learning_starts: int = 0,
        log_interval: int | None = None,
    ) -> RolloutReturn:
        """Store the step under way and start the next, which runs during the update that follows.

        With ``config.overlap`` off, several steps between updates, or environments that render (a GL context belongs
        to the thread that made it), Stable-Baselines3's way.
        """
        if not self._overlaps or train_freq != TrainFreq(1, TrainFrequencyUnit.STEP):
            return super().collect_rollouts(
                env, callback, train_freq, replay_buffer, action_noise, learning_starts, log_interval
            )
        self.policy.set_training_mode(False)
        steps = episodes = 0
        if self._environments.under_way:
            assert self._started is not None
            # Callbacks find these names where Stable-Baselines3 has them.
            actions, buffer_actions = self._started
            new_obs, rewards, dones, infos = self._environments.take()
            steps = env.num_envs
            self.num_timesteps += steps
            callback.update_locals(locals())
            if not callback.on_step():
                return RolloutReturn(steps, episodes, continue_training=False)
            self._update_info_buffer(infos, dones)
            self._store_transition(replay_buffer, buffer_actions, new_obs, rewards, dones, infos)
            self._update_current_progress_remaining(self.num_timesteps, self._total_timesteps)
            episodes = int(dones.sum())
            for index in dones.nonzero()[0]:
                self._episode_num += 1
                if action_noise is not None:
                    action_noise.reset(**({"indices": [index]} if env.num_envs > 1 else {}))
                if log_interval is not None and self._episode_num % log_interval == 0:
                    self.dump_logs()
            callback.on_rollout_end()
        # Everything is stored and nothing is under way: callbacks may evaluate, save or stop here.
        callback.on_rollout_start()
        # The update of the last step belongs beside the next step: a learn() that goes on makes it up.
        self._ended = self.num_timesteps >= self._total_timesteps
        if not self._ended:
            self._started = self._sample_action(learning_starts, action_noise, env.num_envs)
            self._environments.start(env.step, self._started[0])
        # Of a resumed run the first update is made up, so it counts as a step to Stable-Baselines3.
        return RolloutReturn(steps or env.num_envs, episodes, continue_training=True)

    def _store_transition(
        self, replay_buffer: Any, buffer_action: Any, new_obs: Any, reward: Any, dones: Any, infos: Any
    ) -> None:
        if self.groups is not None:
            vectors = self.groups.read(reward, infos)
            self._group_sums[:-1] += vectors.sum(0)
            self._group_sums[-1] += len(vectors)
            reward = self.groups.stored(vectors)
        super()._store_transition(replay_buffer, buffer_action, new_obs, reward, dones, infos)
        self._stored_at = self.num_timesteps
        self._episode_steps += 1
        self._episode_steps[dones] = 0

    def _forget_group_sums(self) -> None:
        """Of the rewards by group since they were logged last; the last entry counts steps."""
        self._group_sums = np.zeros(0 if self.groups is None else len(self.groups.names) + 1)

    def dump_logs(self) -> None:
        """Stable-Baselines3's, with the mean reward of each group since the last time."""
        if self.groups is not None and self._group_sums[-1] > 0:
            for name, total in zip(self.groups.names, self._group_sums, strict=False):
                self.logger.record(f"rollout/reward_{name}", float(total / self._group_sums[-1]))
            self._forget_group_sums()
        super().dump_logs()

    # ------------------------------------------------------------------ learning

    def train(self, gradient_steps: int, batch_size: int) -> None:
        """``gradient_steps`` updates of actor and critics; the first call ends the exploration."""
        if self._ended or self.replay_buffer.size() == 0:  # nothing stored: a loaded agent's first step is under way
            return
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        if self.replay_buffer.exploring:
            self.replay_buffer.finish_exploration(repeat=self.config.prefill_repeats)
            self._refresh_normalizer()
        elif self.num_timesteps <= self.config.normalize_until and self._crossed(self.config.normalize_every):
            self._refresh_normalizer()
        self._weigh_groups()
        for _ in range(gradient_steps):
            self._n_updates += 1
            batch = self.replay_buffer.sample_batch(batch_size)
            if self._n_updates % _LOG_EVERY_UPDATES == 0:
                record_loss(self, self.update(batch))
            else:
                self._update(batch)

    def _weigh_groups(self) -> None:
        """Weights of the groups' advantages: 0 for one whose reward has said nothing so far."""
        buffer = self.replay_buffer
        if self.groups is not None and self.groups.critic_count > 1:
            assert isinstance(buffer, GroupReplayBuffer)
            self.policy.attention[:] = np.array(self.groups.weights) * ~buffer.silent()

    def _update_learning_rate(self, optimizers: Any) -> None:
        """By environment steps where the config says so, so that a longer run is the same run; else by the schedule."""
        config = self.config
        if config.learning_rate_end is None or callable(self.learning_rate):
            super()._update_learning_rate(optimizers)
            return
        done = min(self.num_timesteps / config.learning_rate_steps, 1.0)
        rate = config.learning_rate - done * max(config.learning_rate - config.learning_rate_end, 0.0)
        self.logger.record("train/learning_rate", rate)
        update_learning_rate(optimizers, rate)

    def update(self, batch: Batch) -> Loss:
        """One gradient step on ``batch``, then the target's Polyak step."""
        loss = self._update(batch)
        return self._fused.loss() if loss is None else loss  # type: ignore[union-attr]

    def _update(self, batch: Batch) -> Loss | None:
        """:meth:`update`; the compiled one leaves it to the caller to ask for its loss."""
        policy, pair = self.policy, self.branches
        policy.anneal_epsilon()
        pair.begin_update()
        if self._fused is not None:
            self._fused.step(batch, pair)
            pair.end_update()
            return None
        actor, forward = pair.run(lambda: actor_branch(policy, batch), lambda: critic_forward(policy, batch))

        def improve_critics() -> tuple[Tensor, list[Tensor]]:
            critic = critic_loss(forward, actor.target_value)
            return critic, policy.critic_gradients(critic + forward.reward_loss)

        actor_gradients, (critic, critic_gradients) = pair.run(
            lambda: policy.actor_gradients(actor.loss), improve_critics
        )
        policy.share_gradients(actor_gradients, critic_gradients)

        def step_critics() -> None:
            policy.step_critics(critic_gradients)
            policy.update_target()

        pair.run(lambda: policy.step_actor(actor_gradients), step_critics)
        policy.update_average()
        policy.value_trace.copy_(actor.value_trace)
        pair.end_update()
        return combine(actor, critic, forward.reward_loss)

    def _crossed(self, every: int) -> bool:
        """Whether the last rollout (of all environments) passed a multiple of ``every``."""
        return self.num_timesteps // every > (self.num_timesteps - self.n_envs * self.config.train_freq) // every

    def _refresh_normalizer(self) -> None:
        # A loaded agent without its buffer keeps its statistics until it has seen as much as an exploration.
        if not self.config.normalize_observations or self.replay_buffer.size() < self.config.learning_starts:
            return
        mean, std = self.replay_buffer.observation_moments()
        dtype = self.policy.normalizer.mean.dtype
        self.policy.normalizer.update(
            torch.as_tensor(mean, dtype=dtype, device=self.device),
            torch.as_tensor(std, dtype=dtype, device=self.device),
        )
        if self._fused is not None:
            self._fused.refresh()

    # ------------------------------------------------------------------ saving

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "policy.optimizer"], []

    def get_extra_state(self) -> dict[str, Any]:
        """What a bit-exact continuation needs beside :meth:`get_parameters` and the replay buffer; JSON-able."""
        return {
            "generator": storage.generator_to_hex(self.generator),
            "critic_generator": storage.generator_to_hex(self.critic_generator),
            "episode_steps": self._episode_steps.tolist(),
            **({} if self.groups is None else {"group_sums": self._group_sums.tolist()}),
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore :meth:`get_extra_state`."""
        storage.restore_generator(self.generator, state["generator"])
        if "critic_generator" in state:  # agents of before there were two
            storage.restore_generator(self.critic_generator, state["critic_generator"])
        self._episode_steps = np.asarray(state["episode_steps"], dtype=np.int64)
        if self.groups is not None:
            self._group_sums = np.asarray(state["group_sums"], dtype=np.float64)

    def save(
        self,
        path: str | pathlib.Path | io.BufferedIOBase,
        exclude: Iterable[str] | None = None,
        include: Iterable[str] | None = None,
    ) -> None:
        """Write the agent (without the replay buffer) to a zip of JSON and tensors; nothing in it is pickled code.

        ``exclude`` and ``include`` are accepted for compatibility and have no effect: what is saved is fixed.
        """
        storage.write_archive(path, json.dumps(header_of(self), indent=1), self.get_parameters())

    @classmethod
    def load(
        cls,
        path: str | pathlib.Path | io.BufferedIOBase,
        env: GymEnv | None = None,
        device: torch.device | str = "auto",
        custom_objects: dict[str, Any] | None = None,
        print_system_info: bool = False,
        force_reset: bool = True,
        **overrides: Any,
    ) -> Self:
        """Read an agent written by :meth:`save`; ``overrides`` change settings of its config.

        Raises:
            ValueError: not a Symphony file, a damaged file, or an environment with other spaces, or one that shows its
                actor another part of the observation.
            CadenzaError: an environment with other reward groups, or overrides that would change the groups.
        """
        return restored(cls, *storage.read_archive(path, device), env, device, overrides)

    def save_replay_buffer(self, path: str | pathlib.Path | io.BufferedIOBase) -> None:
        """Write the replay buffer as an .npz of plain arrays."""
        storage.write_replay(path, self.replay_buffer)

    def load_replay_buffer(self, path: str | pathlib.Path | io.BufferedIOBase, truncate_last_traj: bool = True) -> None:
        """Read a replay buffer written by :meth:`save_replay_buffer` into this agent's buffer."""
        storage.read_replay(path, self.replay_buffer)


def _time_limits(env: VecEnv) -> NDArray[np.float64]:
    """The artificial time limit of each environment in steps, of its spec or of a TimeLimit put round it by hand.

    Infinity where there is none.
    """
    limits = [getattr(spec, "max_episode_steps", None) for spec in env.get_attr("spec")]
    if None in limits and env.has_attr("_max_episode_steps"):
        by_hand = env.get_attr("_max_episode_steps")
        limits = [wrapped if limit is None else limit for limit, wrapped in zip(limits, by_hand, strict=True)]
    return np.array([float(limit) if limit else np.inf for limit in limits])
