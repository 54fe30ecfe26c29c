"""How often the scripted expert of cable routing gets there, and how fast the world runs.

    python docs/results/cable_expert.py --clips 3 --episodes 20 --out docs/results/cable-expert-3.json

Seeds 0, 1, ...; layouts ``train``, stiffness within 50 %, no disturbances, unless told otherwise. The real-time factor
is simulated seconds over CPU seconds of this process, expert, observation and routed test included.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import mujoco
import numpy as np

from cadenza.agents.cable_routing.expert import play_expert
from cadenza.agents.cable_routing.scripted import PRIMITIVES, scripted_primitives
from cadenza.agents.sequencer.primitive import PrimitiveStatistics
from cadenza.envs.registration import make_env


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--clips", type=int, default=1)
    parse.add_argument("--layout", default="train")
    parse.add_argument("--disturbances", default="none")
    parse.add_argument("--episodes", type=int, default=20)
    parse.add_argument("--noise", type=float, default=0.0)
    parse.add_argument("--drop", type=float, default=0.0)
    parse.add_argument("--misroute", type=float, default=0.0)
    parse.add_argument("--out", type=Path)
    told = parse.parse_args()
    env = make_env(
        "cadenza/CableRouting-v0", pictures=False,
        clips=told.clips, layout=told.layout, disturbances=told.disturbances,
    )  # fmt: skip
    statistics, steps, successes, first_routes, tries = PrimitiveStatistics(PRIMITIVES), 0, 0, 0, []
    started = time.process_time()
    for seed in range(told.episodes):
        primitives = scripted_primitives(
            told.noise, np.random.default_rng(seed), drop=told.drop, misroute=told.misroute
        )
        episode = play_expert(env, primitives, seed=seed)
        for attempt in episode.attempts:
            statistics.record(attempt.primitive, attempt.outcome)
        routes = [attempt for attempt in episode.attempts if attempt.primitive == "route" and attempt.clip == 0]
        first_routes += bool(routes) and routes[0].outcome.value == "success"
        successes += episode.success
        steps += episode.steps
        tries.append(len(episode.attempts))
    cpu_s = time.process_time() - started
    figures = {
        "settings": {name: value for name, value in vars(told).items() if name != "out"},
        "mujoco": mujoco.__version__,
        "episodes": told.episodes,
        "successes": successes,
        "first_route_of_first_clip": first_routes,
        "primitives_per_episode": float(np.mean(tries)),
        "primitives": statistics.as_dict(),
        "control_steps": steps,
        "real_time_factor": round(0.1 * steps / cpu_s, 2),
    }
    text = json.dumps(figures, indent=2)
    if told.out is not None:
        told.out.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
