"""The matrix products that one Symphony update needs, counted from the sizes alone; loads neither torch nor numpy.

A product of (rows x inner) with (inner x columns) is 2 * rows * inner * columns floating-point operations. Counted is
what the mathematics needs, not what a program happens to do: a first layer whose input nobody differentiates has no
input gradient, the target critics have no weight gradients, and without a feature extractor only the action columns of
their input gradient are read. Element-wise work (activations, norms, optimiser) is not counted: against the products it
is few operations, but memory-bound, and is a reason why a measured update stays above the floor.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from cadenza.agents.symphony.presets import SymphonyConfig

Kind = Literal["forward", "weight gradient", "input gradient"]

HEADS = 3
"""Critics that read one input."""


@dataclass(frozen=True)
class Product:
    """One (batched) matrix product of the update."""

    block: str
    """network and pass, e.g. ``online critics``"""
    layer: str
    """``1``, ``2``, ``3`` of a feed-forward block; ``inner``, ``outer``, ``out`` elsewhere"""
    kind: Kind
    heads: int
    rows: int
    inner: int
    columns: int

    @property
    def flop(self) -> int:
        """2 * heads * rows * inner * columns."""
        return 2 * self.heads * self.rows * self.inner * self.columns


def update_products(
    config: SymphonyConfig, obs_size: int, action_size: int, batch_size: int, actor_obs_size: int | None = None
) -> list[Product]:
    """Every product of one update (one backward pass, one optimiser step), in the order of the loss.

    Args:
        config: widths and whether there is a feature extractor.
        obs_size: flat size of the observation space.
        action_size: flat size of the action space.
        batch_size: transitions per update.
        actor_obs_size: how much of the observation the actor sees; None: all.
    """
    return list(_products(config, obs_size, action_size, batch_size, actor_obs_size))


def gflop(products: Iterable[Product]) -> float:
    """Sum of the products in 1e9 operations."""
    return sum(product.flop for product in products) / 1e9


def _products(config: SymphonyConfig, obs: int, act: int, batch: int, seen: int | None) -> Iterator[Product]:
    h, n, extractor = config.hidden_size, config.critic_nodes, config.feature_extractor
    k = config.latent_size if extractor else 0
    z = obs + k
    if extractor:
        yield from _fourier("extractor(s')", batch, obs, h, k, learns=True)
    # The actor's input gradient trains the extractor; RMSNorm's weights need it for every column of z.
    yield from _block("actor(s')", 1, batch, seen or z, h, 3 * act, learns=True, live=z if extractor else 0)
    if extractor:
        yield from _fourier("target extractor(s')", batch, obs, h, k, learns=False)
        yield from _block("target reward net", 1, batch, act + z, h, k, learns=False, live=None)
    # Saya's RMSNorm in front of the critics mixes all columns, so that the action's gradient needs them all.
    critic_in = act + z + k
    yield from _block(
        "target critics", HEADS, batch, critic_in, h, n, learns=False, live=critic_in if extractor else act
    )
    if extractor:
        yield from _fourier("extractor(s)", batch, obs, h, k, learns=True)
        yield from _block("reward net", 1, batch, act + z, h, k, learns=True, live=z)
        yield from _linear("reward net", "out", 1, batch, k, 1, learns=True, live=k)
    yield from _block("online critics", HEADS, batch, critic_in, h, n, learns=True, live=critic_in if extractor else 0)


def _block(
    name: str, heads: int, batch: int, inputs: int, hidden: int, outputs: int, *, learns: bool, live: int | None
) -> Iterator[Product]:
    """Linear - LayerNorm - Linear - ReSine - Linear; ``live`` input columns need a gradient, None = no backward."""
    inner_live = 0 if live is None else hidden
    yield from _linear(name, "1", heads, batch, inputs, hidden, learns=learns, live=live or 0)
    yield from _linear(name, "2", heads, batch, hidden, hidden, learns=learns, live=inner_live)
    yield from _linear(name, "3", heads, batch, hidden, outputs, learns=learns, live=inner_live)


def _fourier(name: str, batch: int, inputs: int, hidden: int, outputs: int, *, learns: bool) -> Iterator[Product]:
    """Linear - ReSine - Linear on observations, whose gradient nobody needs."""
    yield from _linear(name, "inner", 1, batch, inputs, hidden, learns=learns, live=0)
    yield from _linear(name, "outer", 1, batch, hidden, outputs, learns=learns, live=hidden if learns else 0)


def _linear(
    name: str, layer: str, heads: int, batch: int, inputs: int, outputs: int, *, learns: bool, live: int
) -> Iterator[Product]:
    yield Product(name, layer, "forward", heads, batch, inputs, outputs)
    if learns:
        yield Product(name, layer, "weight gradient", heads, inputs, batch, outputs)
    if live:
        yield Product(name, layer, "input gradient", heads, batch, outputs, live)
