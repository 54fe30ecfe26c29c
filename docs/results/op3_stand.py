"""What pushes OP3 Stand's policies, and its home pose, survive: the table of docs/results/op3-stand.md.

    python docs/results/op3_stand.py --out docs/results/op3-stand-pushes.json home op3-stand runs/op3-stand-2

A policy is ``home`` (all actions 0), a shipped bundle, a bundle or a run folder; ``RUN@last`` takes the last checkpoint
in the best policy's place. Each plays one episode of 20 s in each of n copies of the vectorised environment, which go
through the bits of single ones seeded 0, 1, ...
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cadenza.agents.runs.policies import open_policy
from cadenza.agents.runs.robustness import wilson
from cadenza.agents.runs.settings import provenance
from cadenza.envs.registration import make_vec_env

ENV_ID = "cadenza/OP3Stand-v0"
STEPS = 1000


def survivors(name: str, share: float, episodes: int) -> tuple[str, int]:
    """What the policy calls itself, and how many of its episodes ran to the limit at ``share`` of the easy speed."""
    path, _, which = name.partition("@")
    policy = None if path == "home" else open_policy(path, "last" if which == "last" else "best")
    kwargs: dict[str, Any] = {} if policy is None else dict(policy.env_kwargs)
    kwargs["conditions"] = {"push": share}
    envs = make_vec_env(ENV_ID, episodes, **kwargs)
    envs.seed(0)
    observations: Any = envs.reset()
    fell = np.zeros(episodes, bool)
    over = np.zeros(episodes, bool)
    for _ in range(STEPS):
        if policy is None:
            actions = np.zeros((episodes, *envs.action_space.shape), np.float32)
        elif policy.bundle is not None:
            seen = policy.bundle.manifest.observation_size
            actions = np.stack([policy.act(row[:seen]) for row in observations])
        else:
            actions = policy.model.predict(observations, deterministic=True)[0]  # type: ignore[union-attr]
        observations, _, dones, infos = envs.step(actions)
        for index in np.flatnonzero(dones & ~over):
            over[index] = True
            fell[index] = not infos[index]["TimeLimit.truncated"]
    envs.close()
    return ("home pose" if policy is None else policy.label), int(episodes - fell.sum())


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("policies", nargs="+")
    parse.add_argument("--shares", type=float, nargs="+", default=[1.5, 2.0, 2.5, 3.0])
    parse.add_argument("--episodes", type=int, default=50)
    parse.add_argument("--out", type=Path)
    told = parse.parse_args()
    torch.set_num_threads(1)
    began, rows = time.perf_counter(), []
    for name in told.policies:
        row: dict[str, Any] = {"policy": name, "n": told.episodes, "survived": {}, "ci95": {}}
        for share in told.shares:
            row["label"], count = survivors(name, share, told.episodes)
            row["survived"][f"{share:g}"] = count
            row["ci95"][f"{share:g}"] = wilson(count, told.episodes)
        print(row["label"], row["survived"], flush=True)
        rows.append(row)
    report = {
        "what": f"episodes of 20 s that ran to the limit, of {told.episodes} copies of {ENV_ID}, seed 0; pushes in "
        "easy speeds (0.2 m/s), every 4 to 8 s",
        "rows": rows,
        "wall_clock_s": round(time.perf_counter() - began, 1),
        **provenance(),
    }
    if told.out is not None:
        told.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
