"""PPO that keeps the reward a vector: one critic per reward group, advantages normalised per critic, then summed.

The idea is SLIM's (*Skill Learning with Multiple Critics*, Emukpere et al., arXiv 2402.00823): rewards of different
size and rhythm interfere when one critic has to predict their sum. The rules are written down in docs/slim.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from stable_baselines3.common.utils import explained_variance, obs_as_tensor, update_learning_rate
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor, nn

from cadenza.agents.asymmetric import ATTRIBUTE, actor_observation_size
from cadenza.agents.slim.multi_critic_buffer import (
    AdvantageScale,
    MultiCriticRolloutBuffer,
    MultiCriticSamples,
    RewardScaler,
)
from cadenza.agents.slim.multi_critic_policy import MultiCriticPolicy, NormalizingExtractor
from cadenza.agents.slim.surrogates import (
    CLIP_MODES,
    NORMALIZATIONS,
    adapted_rate,
    approximate_kl,
    check_choice,
    minibatch_normalized,
    per_critic_surrogate,
    summed_surrogate,
    value_loss,
)
from cadenza.envs.errors import CadenzaError
from cadenza.envs.names import unknown_name
from cadenza.envs.reward_groups import check_weights, read_vectors, reward_groups, reward_weights

SCALAR = "reward"
"""Name of the one group of an environment that declares none."""
CRITICS = ("per_group", "summed", "summed_scaled")
CLIPPED = ("joint", "each")


class MultiCriticPPO(PPO):
    """Stable-Baselines3's PPO for environments with a vector reward (:mod:`cadenza.envs.reward_groups`).

    In an environment without reward groups it is PPO, to the last bit, with the same defaults.

    Args:
        policy: ``"MlpPolicy"``.
        env: a Gymnasium environment or id, or a VecEnv.
        gamma: discount, or one for each group by name; a group that is not named has 0.99.
        normalize_advantage: ``rollout`` (each group over the whole rollout), ``running`` (each by the deviation of all
            rollouts so far), ``minibatch`` (as Stable-Baselines3's ``True``) or ``none`` (its ``False``). None:
            ``minibatch`` with one group, ``rollout`` with more.
        reward_weights: group -> weight, all together 1; a group that is left out is not learned from. None: the
            environment's own.
        critics: ``per_group``; or, for comparison, one critic on the weighted sum of the rewards as they are
            (``summed``) or each divided by its running deviation (``summed_scaled``).
        clip_mode: ``summed`` clips the sum of the advantages, ``per_critic`` each of them.
        normalize_returns: let each critic predict in units of its own returns. None: with more than one group.
        normalize_observations: by running moments inside the policy, which change between two rollouts only.
        clip_gradients: ``joint`` clips all networks' gradients together (Stable-Baselines3), ``each`` the actor's and
            every critic's apart, so that no critic's error can shorten the actor's step. None: ``joint`` with one
            group, ``each`` with more.
        desired_kl: adapt the learning rate after each epoch, so that an update moves the policy by about this much.
            ``learning_rate`` is where it starts. Not ``target_kl``, which stops an update early.

        All others are PPO's.

    Raises:
        CadenzaError: unknown reward group or option, weights that do not sum to 1, dict observations, an environment
            whose reward vector does not fit its groups.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"MlpPolicy": MultiCriticPolicy}
    policy: MultiCriticPolicy
    rollout_buffer: MultiCriticRolloutBuffer
    normalize_advantage: str  # type: ignore[assignment]  # Stable-Baselines3's is a bool

    def __init__(
        self,
        policy: str | type[MultiCriticPolicy],
        env: GymEnv | str | None,
        learning_rate: float | Schedule = 3e-4,
        n_steps: int = 2048,
        batch_size: int = 64,
        n_epochs: int = 10,
        gamma: float | Mapping[str, float] = 0.99,
        gae_lambda: float = 0.95,
        clip_range: float | Schedule = 0.2,
        clip_range_vf: float | Schedule | None = None,
        normalize_advantage: Literal["minibatch", "rollout", "running", "none"] | bool | None = None,
        ent_coef: float = 0.0,
        vf_coef: float = 0.5,
        max_grad_norm: float = 0.5,
        use_sde: bool = False,
        sde_sample_freq: int = -1,
        target_kl: float | None = None,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: torch.device | str = "auto",
        _init_setup_model: bool = True,
        *,
        reward_weights: Mapping[str, float] | None = None,
        critics: Literal["per_group", "summed", "summed_scaled"] = "per_group",
        clip_mode: Literal["summed", "per_critic"] = "summed",
        normalize_returns: bool | None = None,
        normalize_observations: bool = False,
        clip_gradients: Literal["joint", "each"] | None = None,
        desired_kl: float | None = None,
    ):
        if isinstance(normalize_advantage, bool):
            normalize_advantage = "minibatch" if normalize_advantage else "none"
        self.critics = check_choice("way of using critics", critics, CRITICS)
        self.clip_mode = check_choice("clip mode", clip_mode, CLIP_MODES)
        super().__init__(
            policy,
            env,  # type: ignore[arg-type]
            learning_rate=learning_rate,
            n_steps=n_steps,
            batch_size=batch_size,
            n_epochs=n_epochs,
            gamma=gamma if isinstance(gamma, int | float) else 0.99,
            gae_lambda=gae_lambda,
            clip_range=clip_range,
            clip_range_vf=clip_range_vf,
            normalize_advantage=normalize_advantage != "none",
            ent_coef=ent_coef,
            vf_coef=vf_coef,
            max_grad_norm=max_grad_norm,
            use_sde=use_sde,
            sde_sample_freq=sde_sample_freq,
            rollout_buffer_class=MultiCriticRolloutBuffer,
            target_kl=target_kl,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            policy_kwargs=policy_kwargs,
            verbose=verbose,
            seed=seed,
            device=device,
            _init_setup_model=False,
        )
        if desired_kl is not None and not desired_kl > 0:
            raise CadenzaError(f"desired_kl is the size of an update and must be above 0, not {desired_kl}.")
        self.desired_kl = desired_kl
        self.adaptive_rate: float | None = None
        self.env_groups: tuple[str, ...] | None = None if self.env is None else reward_groups(self.env)
        """What the environment declares; None: a scalar reward."""
        self._choose_groups(reward_weights, gamma)
        several = len(self.critic_names) > 1
        default = "rollout" if several else "minibatch"
        chosen = normalize_advantage or default
        self.normalize_advantage = check_choice("normalisation of advantages", chosen, NORMALIZATIONS)
        self.normalize_returns = several if normalize_returns is None else normalize_returns
        self.normalize_observations = normalize_observations
        clip_gradients = clip_gradients or ("each" if several else "joint")
        self.clip_gradients = check_choice("way of clipping gradients", clip_gradients, CLIPPED)
        if _init_setup_model:
            self._setup_model()

    def _choose_groups(self, weights: Mapping[str, float] | None, gamma: float | Mapping[str, float]) -> None:
        names = self.env_groups or (SCALAR,)
        if weights is None:
            weights = dict.fromkeys(names, 1.0 / len(names)) if self.env is None else reward_weights(self.env, names)
        self.groups: tuple[str, ...] = check_weights(names, weights)
        """The reward groups that are learned from, in the environment's order."""
        self.group_weights: tuple[float, ...] = tuple(float(weights[name]) for name in self.groups)
        per_group = self.critics == "per_group"
        self.critic_names: tuple[str, ...] = self.groups if per_group else ("total",)
        self.critic_weights: tuple[float, ...] = self.group_weights if per_group else (1.0,)
        gammas = dict(gamma) if isinstance(gamma, Mapping) else dict.fromkeys(self.critic_names, float(gamma))
        for name, value in gammas.items():
            if name not in self.critic_names:
                if not per_group:
                    raise CadenzaError("One critic has one gamma.", 'Discounts by group need critics="per_group".')
                if name in names:
                    raise CadenzaError(f"{name!r} has a discount and no weight: it is not learned from.")
                raise unknown_name("reward group", name, self.critic_names)
            if not 0.0 <= value <= 1.0:
                raise CadenzaError(f"The discount of {name!r} must lie between 0 and 1, not {value}.")
        self.gammas: tuple[float, ...] = tuple(gammas.get(name, 0.99) for name in self.critic_names)

    def _setup_model(self) -> None:
        if self.env is not None:
            self._check_env(self.env)
        self.rollout_buffer_kwargs = {"gammas": self.gammas}
        self.policy_kwargs = {
            **self.policy_kwargs,
            "critics": len(self.critic_names),
            "normalize_returns": self.normalize_returns,
            "normalize_observations": self.normalize_observations,
        }
        super()._setup_model()
        if self.critics == "summed_scaled":
            self.reward_scaler = RewardScaler(len(self.groups)).to(self.device)
        if self.normalize_advantage == "running":
            self.advantage_scale = AdvantageScale(len(self.critic_names)).to(self.device)
        if self.desired_kl is not None and self.adaptive_rate is None:
            self.adaptive_rate = float(self.lr_schedule(1.0))

    def _check_env(self, env: VecEnv) -> None:
        if isinstance(env.observation_space, spaces.Dict):
            raise CadenzaError(
                f"{type(self).__name__} reads one array of numbers, not the dict observations of this environment.",
                "Wrap it in gymnasium.wrappers.FlattenObservation.",
            )
        if actor_observation_size(env) is not None:
            raise CadenzaError(
                f"{type(self).__name__} would show its actor what is for critics only ({ATTRIBUTE}).",
                "Agents that can keep it apart: symphony, sac, td3, ppo.",
            )
        found, expected = reward_groups(env), None if self.env_groups is None else tuple(self.env_groups)
        if found != expected:
            raise CadenzaError(
                f"This agent was made for the reward groups {expected}; the environment has {found}.",
                "Load it with the environment it was trained in, or train anew.",
            )

    def set_env(self, env: GymEnv, force_reset: bool = True) -> None:
        """As in Stable-Baselines3; the environment must have the same reward groups."""
        env = self._wrap_env(env, self.verbose)
        self._check_env(env)
        super().set_env(env, force_reset)

    # ------------------------------------------------------------------ collecting

    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: RolloutBuffer, n_rollout_steps: int
    ) -> bool:
        """Fill the buffer with ``n_rollout_steps`` steps of all environments; False where the callback ended it."""
        assert isinstance(rollout_buffer, MultiCriticRolloutBuffer)
        assert self._last_obs is not None
        self.policy.set_training_mode(False)
        rollout_buffer.reset()
        group_sums = np.zeros(len(self.groups))
        if self.use_sde:
            self.policy.reset_noise(env.num_envs)
        callback.on_rollout_start()
        for n_steps in range(n_rollout_steps):
            if self.use_sde and self.sde_sample_freq > 0 and n_steps % self.sde_sample_freq == 0:
                self.policy.reset_noise(env.num_envs)
            with torch.no_grad():
                obs_tensor = obs_as_tensor(self._last_obs, self.device)  # type: ignore[arg-type]
                sampled, values, log_probs = self.policy(obs_tensor)
            actions = sampled.cpu().numpy()
            new_obs, rewards, dones, infos = env.step(self._for_env(actions))
            self.num_timesteps += env.num_envs
            callback.update_locals(locals())
            if not callback.on_step():
                return False
            self._update_info_buffer(infos, dones)
            vectors = self._group_rewards(rewards, infos)
            group_sums += vectors.mean(0)
            bootstraps, terminated = self._bootstraps(dones, infos)
            rollout_buffer.terminated |= terminated
            rollout_buffer.add_step(
                self._last_obs,  # type: ignore[arg-type]
                actions,
                self._critic_rewards(vectors),
                self._last_episode_starts,  # type: ignore[arg-type]
                values,
                log_probs,
                bootstraps,
            )
            self._last_obs = new_obs  # type: ignore[assignment]
            self._last_episode_starts = dones
        with torch.no_grad():
            last_values = self.policy.predict_values(obs_as_tensor(new_obs, self.device))  # type: ignore[arg-type]
        rollout_buffer.compute_returns_and_advantage(last_values, dones)
        for name, total in zip(self.groups, group_sums, strict=True):
            self.logger.record(f"rollout/reward_{name}", total / n_rollout_steps)
        callback.update_locals(locals())
        callback.on_rollout_end()
        return True

    def _for_env(self, actions: NDArray[Any]) -> NDArray[Any]:
        if not isinstance(self.action_space, spaces.Box):
            return actions
        if self.policy.squash_output:
            return self.policy.unscale_action(actions)
        return np.clip(actions, self.action_space.low, self.action_space.high)

    def _group_rewards(self, rewards: NDArray[Any], infos: Sequence[Mapping[str, Any]]) -> NDArray[np.float32]:
        """The rewards of the groups that are learned from, (N, groups)."""
        if self.env_groups is None:
            return np.asarray(rewards, dtype=np.float32)[:, None]
        vectors = read_vectors(infos, self.env_groups)
        return vectors[:, [self.env_groups.index(name) for name in self.groups]]

    def _critic_rewards(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the critics learn from, (N, K)."""
        if self.critics == "per_group":
            return vectors
        if self.critics == "summed_scaled":
            vectors = self.reward_scaler.scaled(vectors)
        return vectors @ np.array(self.group_weights, dtype=np.float32)[:, None]

    def _bootstraps(self, dones: NDArray[Any], infos: Sequence[Mapping[str, Any]]) -> tuple[NDArray[np.float32], bool]:
        """V_k of the last observation where an episode ran out of time, else 0, (N, K); whether any other one ended."""
        bootstraps = np.zeros((len(dones), len(self.critic_names)), dtype=np.float32)
        terminated = False
        # One by one: the last bit of a matrix product depends on how many rows it has, and PPO does it so.
        for index in np.flatnonzero(dones).tolist():
            last = infos[index].get("terminal_observation")
            if last is not None and infos[index].get("TimeLimit.truncated", False):
                with torch.no_grad():
                    values = self.policy.predict_values(self.policy.obs_to_tensor(last)[0])
                bootstraps[index] = values[0].cpu().numpy()
            else:
                terminated = True
        return bootstraps, terminated

    # ------------------------------------------------------------------ learning

    def train(self) -> None:
        """Update actor and critics with the rollout in the buffer."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        clip_range = self.clip_range(self._current_progress_remaining)  # type: ignore[operator]
        buffer = self.rollout_buffer
        weights = np.array(self.critic_weights)
        self._log_advantages(buffer)
        if self.normalize_advantage == "rollout":
            buffer.normalize_advantages(weights)
        elif self.normalize_advantage == "running":
            buffer.scale_advantages(weights, self.advantage_scale)
        elif len(weights) > 1:
            weights = weights * ~buffer.silent()
        minibatch_weights = torch.as_tensor(weights, dtype=torch.float32, device=self.device)
        if self.normalize_returns:
            flat = buffer.returns.reshape(-1, buffer.returns.shape[-1])
            self.policy.update_return_normalizer(torch.as_tensor(flat, device=self.device))
        log: dict[str, list[float]] = {}
        continue_training = True
        for _ in range(self.n_epochs):
            kls: list[float] = []
            for batch in buffer.get(self.batch_size):
                loss, log_prob = self._loss(batch, minibatch_weights, clip_range, log)  # type: ignore[arg-type]
                kls.append(approximate_kl(log_prob, batch.old_log_prob))
                if self.target_kl is not None and kls[-1] > 1.5 * self.target_kl:
                    continue_training = False
                    break
                self._step(loss)
            self._n_updates += 1
            self._adapt_rate(float(np.mean(kls)))
            log.setdefault("approx_kl", []).append(float(np.mean(kls)))
            if not continue_training:
                break
        if self.normalize_observations:
            # Only now: in the update the policy had to see what it saw when it acted.
            extractor = self.policy.features_extractor
            assert isinstance(extractor, NormalizingExtractor)
            extractor.update(torch.as_tensor(buffer.observations, device=self.device))
        self._log_update(log, clip_range)

    def _loss(
        self, batch: MultiCriticSamples, weights: Tensor, clip_range: float, log: dict[str, list[float]]
    ) -> tuple[Tensor, Tensor]:
        """The loss of a minibatch, and the log-probabilities of its actions under the policy of now."""
        actions = batch.actions
        if isinstance(self.action_space, spaces.Discrete):
            actions = actions.long().flatten()
        values, log_prob, entropy = self.policy.evaluate_actions(batch.observations, actions)
        advantages = batch.advantages
        if self.normalize_advantage == "minibatch":
            advantages = minibatch_normalized(advantages, weights)
        elif self.normalize_advantage == "none":
            advantages = advantages * weights
        ratio = torch.exp(log_prob - batch.old_log_prob)
        surrogate = summed_surrogate if self.clip_mode == "summed" else per_critic_surrogate
        policy_loss = -surrogate(advantages, ratio, clip_range)
        std = self.policy.return_normalizer.std if self.normalize_returns else None
        if self.clip_range_vf is not None:
            reach: Any = self.clip_range_vf(self._current_progress_remaining)  # type: ignore[operator]
            reach = reach if std is None else reach * std
            values = batch.old_values + torch.clamp(values - batch.old_values, -reach, reach)
        critic_loss = value_loss(batch.returns, values, std)
        entropy_loss = -torch.mean(-log_prob) if entropy is None else -torch.mean(entropy)
        clipped = torch.mean((torch.abs(ratio - 1) > clip_range).float())
        notes = (("policy_gradient_loss", policy_loss), ("value_loss", critic_loss), ("entropy_loss", entropy_loss))
        for name, number in (*notes, ("clip_fraction", clipped)):
            log.setdefault(name, []).append(float(number.detach()))
        return policy_loss + self.ent_coef * entropy_loss + self.vf_coef * critic_loss, log_prob

    def _step(self, loss: Tensor) -> None:
        self.policy.optimizer.zero_grad()
        loss.backward()
        apart = self.clip_gradients == "each"
        for parameters in self.policy.parameter_groups() if apart else [list(self.policy.parameters())]:
            nn.utils.clip_grad_norm_(parameters, self.max_grad_norm)
        self.policy.optimizer.step()

    def _update_learning_rate(self, optimizers: list[torch.optim.Optimizer] | torch.optim.Optimizer) -> None:
        if self.adaptive_rate is None:
            super()._update_learning_rate(optimizers)
            return
        self.logger.record("train/learning_rate", self.adaptive_rate)
        for optimizer in optimizers if isinstance(optimizers, list) else [optimizers]:
            update_learning_rate(optimizer, self.adaptive_rate)

    def _adapt_rate(self, kl: float) -> None:
        if self.desired_kl is not None and self.adaptive_rate is not None:
            self.adaptive_rate = adapted_rate(self.adaptive_rate, kl, self.desired_kl)
            update_learning_rate(self.policy.optimizer, self.adaptive_rate)

    # ------------------------------------------------------------------ the log

    def _log_advantages(self, buffer: MultiCriticRolloutBuffer) -> None:
        for k, name in enumerate(self.critic_names):
            self.logger.record(f"train/advantage_std_{name}", float(buffer.advantages[..., k].std()))
            explained = explained_variance(buffer.values[..., k].flatten(), buffer.returns[..., k].flatten())
            self.logger.record(f"train/explained_variance_{name}", explained)

    def _log_update(self, log: dict[str, list[float]], clip_range: float) -> None:
        for name, numbers in log.items():
            self.logger.record(f"train/{name}", float(np.mean(numbers)))
        if hasattr(self.policy, "log_std"):
            self.logger.record("train/std", torch.exp(self.policy.log_std).mean().item())
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/clip_range", clip_range)

    # ------------------------------------------------------------------ storing

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        modules, tensors = super()._get_torch_save_params()
        scalers = {
            "reward_scaler": self.critics == "summed_scaled",
            "advantage_scale": self.normalize_advantage == "running",
        }
        return [*modules, *(name for name, there in scalers.items() if there)], tensors

    def get_extra_state(self) -> dict[str, Any]:
        """What a checkpoint needs beside weights and counters; plain JSON values."""
        return {"adaptive_rate": self.adaptive_rate}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Put :meth:`get_extra_state` back."""
        self.adaptive_rate = state["adaptive_rate"]
