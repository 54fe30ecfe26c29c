"""The operation count against sums done by hand and against what torch really multiplies."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch.utils.flop_counter import FlopCounterMode

from cadenza.agents.symphony.arithmetic import Product, gflop, update_products
from cadenza.agents.symphony.objective import symphony_loss
from cadenza.agents.symphony.policy import SymphonyPolicy
from cadenza.agents.symphony.presets import PRESETS, resolve_config
from cadenza.agents.symphony.replay import Batch

OBS, ACT, ROWS = 5, 2, 4


def flop_of(products: list[Product], block: str) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for p in products:
        if p.block == block:
            found.setdefault(p.kind, []).append(p.flop)
    return found


def multiplied(preset: str, seen: int | None = None, **sizes: int) -> tuple[int, int]:
    """Operations torch's own counter sees in one loss and backward, and ours for the same sizes."""
    config = resolve_config(preset, {"batch_size": ROWS, **sizes})
    policy = SymphonyPolicy(
        spaces.Box(-np.inf, np.inf, (OBS,)), spaces.Box(-1, 1, (ACT,)), lambda _: 1e-3, config,
        actor_observation_size=seen,
    )  # fmt: skip
    policy.set_training_mode(True)
    batch = Batch(
        torch.randn(ROWS, OBS), torch.rand(ROWS, ACT), torch.randn(ROWS, OBS), torch.ones(ROWS, 1), torch.zeros(ROWS, 1)
    )
    with FlopCounterMode(display=False) as counter:
        symphony_loss(policy, batch).total.backward()
    products = update_products(config, OBS, ACT, ROWS, seen)
    return counter.get_total_flops(), sum(p.flop for p in products)


def test_a_tiny_net_by_hand() -> None:
    """obs 5, act 2, batch 4, h 3, n 1: actor 5-3-3-6, critics 3 x (7-3-3-1)."""
    config = resolve_config("s3", {"hidden_size": 3, "critic_nodes": 1})
    products = update_products(config, OBS, ACT, ROWS)
    # Actor: layers 2*4*5*3 = 120, 2*4*3*3 = 72, 2*4*3*6 = 144; nobody reads the observation's gradient.
    actor = {"forward": [120, 72, 144], "weight gradient": [120, 72, 144], "input gradient": [72, 144]}
    assert flop_of(products, "actor(s')") == actor
    # Critics: 3*2*4*7*3 = 504, 3*2*4*3*3 = 216, 3*2*4*3*1 = 72; of 7 input columns the 2 of the action: 504*2/7 = 144.
    assert flop_of(products, "target critics") == {"forward": [504, 216, 72], "input gradient": [144, 216, 72]}
    online = {"forward": [504, 216, 72], "weight gradient": [504, 216, 72], "input gradient": [216, 72]}
    assert flop_of(products, "online critics") == online
    assert sum(p.flop for p in products) == 888 + 1224 + 1872
    assert gflop(products) == pytest.approx(3984e-9)


def test_sayas_extractor_by_hand() -> None:
    """obs 5, act 2, batch 4, h 3, n 8, so k 3: F is 5-3-3, the reward net 10-3-3-(1), the critics read 13."""
    config = resolve_config("saya", {"hidden_size": 3, "critic_nodes": 8})
    products = update_products(config, OBS, ACT, ROWS)
    trained = {"forward": [120, 72], "weight gradient": [120, 72], "input gradient": [72]}
    assert flop_of(products, "extractor(s')") == flop_of(products, "extractor(s)") == trained
    assert flop_of(products, "target extractor(s')") == {"forward": [120, 72]}
    # Reward net: 2*4*10*3 = 240, 72, 72, and 2*4*3*1 = 24 to the scalar; 8 of its 10 input columns lead to z: 192.
    reward = flop_of(products, "reward net")
    assert (reward["forward"], reward["input gradient"]) == ([240, 72, 72, 24], [192, 72, 72, 24])
    assert flop_of(products, "target critics")["forward"] == [3 * 2 * 4 * 13 * 3, 216, 3 * 2 * 4 * 3 * 8]


@pytest.mark.parametrize("preset", ["s3", "cpu"])
@pytest.mark.parametrize("seen", [None, 3])
def test_without_extractor_torch_multiplies_exactly_this(preset: str, seen: int | None) -> None:
    done, needed = multiplied(preset, seen, hidden_size=6, critic_nodes=4)
    assert done == needed


def test_with_extractor_torch_multiplies_almost_this() -> None:
    """The program adds two things nobody reads: the target's predicted reward and the reward net's action gradient."""
    h, k = 6, 3
    done, needed = multiplied("saya", hidden_size=h, critic_nodes=8)
    assert done - needed == 2 * ROWS * k + 2 * ROWS * h * ACT


def test_all_presets_count_and_scale_with_the_batch() -> None:
    for config in PRESETS.values():
        assert gflop(update_products(config, 376, 17, 64)) * 2 == pytest.approx(
            gflop(update_products(config, 376, 17, 128))
        )
