"""The peers' settings for Humanoid, as data with their source: what rl-baselines3-zoo holds for ``Humanoid-v4``.

Read from ``rl_zoo3/hyperparams/*.yml`` of the wheel rl_zoo3 2.9.2 (the release of the Stable-Baselines3 we pin). The
zoo's ``policy`` is our policy, its ``n_timesteps`` gives way to the wall-clock budget, its ``n_envs`` is 1 for all of
them, and no Humanoid entry has a schedule that would need to know the end. What an entry does not set is the default
of Stable-Baselines3 or sb3-contrib there as here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

ZOO = "rl-baselines3-zoo 2.9.2, rl_zoo3/hyperparams"


@dataclass(frozen=True)
class Tuned:
    """Settings of one peer."""

    source: str
    """File, version, and the paper where it is the file's own source."""
    overrides: dict[str, Any] = field(default_factory=dict)
    """As ``RunSettings.overrides``: what differs from the defaults."""
    normalize: bool = False
    """The zoo's ``normalize: true``: VecNormalize of observations and rewards."""
    note: str = ""
    """What a reader of the comparison should know."""


PEERS: dict[str, Tuned] = {
    "sac": Tuned(
        f"{ZOO}/sac.yml, Humanoid-v4",
        {"learning_starts": 10_000},
        note="two networks of 256, batch 256, one update a step",
    ),
    "td3": Tuned(
        f"{ZOO}/td3.yml, Humanoid-v4",
        {
            "learning_starts": 10_000,
            "action_noise": 0.1,
            "train_freq": 1,
            "gradient_steps": 1,
            "learning_rate": 1e-3,
            "batch_size": 256,
            "policy_kwargs": {"net_arch": [400, 300]},
        },
        note="one update a step",
    ),
    "ppo": Tuned(
        f"{ZOO}/ppo.yml, Humanoid-v4",
        {
            "batch_size": 256,
            "n_steps": 512,
            "gamma": 0.95,
            "learning_rate": 3.56987e-05,
            "ent_coef": 0.00238306,
            "clip_range": 0.3,
            "n_epochs": 5,
            "gae_lambda": 0.9,
            "max_grad_norm": 2,
            "vf_coef": 0.431892,
            "policy_kwargs": {
                "log_std_init": -2,
                "ortho_init": False,
                "activation_fn": "ReLU",
                "net_arch": {"pi": [256, 256], "vf": [256, 256]},
            },
        },
        normalize=True,
        note="tuned for 10 million steps of one environment; a short budget sees its beginning only",
    ),
    "tqc": Tuned(
        f"{ZOO}/tqc.yml, Humanoid-v4",
        {"learning_starts": 10_000},
        note="two critics of 25 quantiles, 256 wide, batch 256, one update a step",
    ),
    "crossq": Tuned(
        f"{ZOO}/crossq.yml, Humanoid-v4; Bhatt et al., CrossQ, ICLR 2024, arXiv:1902.05605",
        {
            "buffer_size": 1_000_000,
            "learning_rate": 1e-3,
            "learning_starts": 5_000,
            "policy_delay": 3,
            "policy_kwargs": {"net_arch": {"pi": [256, 256], "qf": [2048, 2048]}},
        },
        note="critics 2048 wide: made for few steps on a GPU, and slow by the clock on a CPU",
    ),
}
"""Agent of the catalogue -> its settings."""
