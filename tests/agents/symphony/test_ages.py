"""The age law as an alias table: exact up to CELLS ages, close beyond, O(1) per draw in a fixed memory."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from cadenza.agents.symphony.ages import CELLS, AgeSampler, AgeScratch, alias_table, cell_masses
from cadenza.agents.symphony.losses import age_probabilities

LAWS = ["tanh", "bell", "power_law", "uniform"]


def table_probabilities(sampler: AgeSampler, capacity: int) -> NDArray[np.float64]:
    """What a full buffer's draws follow, from the table: a cell's mass is spread evenly over the age axis."""
    count = len(sampler.keep)
    mass = (sampler.keep + np.bincount(sampler.other, 1 - sampler.keep, count)) / count
    edges = np.arange(capacity + 1) * (count / capacity)
    return np.diff(np.interp(edges, np.arange(count + 1), np.concatenate(([0.0], np.cumsum(mass)))))


def test_alias_table_worked_out_by_hand() -> None:
    # Levels 4 * mass = 0.4, 0.8, 1.2, 1.6. Cell 1 takes 0.2 and cell 0 takes 0.6 of cell 3's 1.6, which falls to 0.8
    # and takes 0.2 of cell 2's 1.2.
    keep, other = alias_table(np.array([0.1, 0.2, 0.3, 0.4]))
    assert keep == pytest.approx([0.4, 0.8, 1.0, 0.8])
    assert other.tolist() == [3, 3, 2, 2]


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("capacity", [1, 2, 777, CELLS])
def test_small_buffers_have_the_exact_law(law: str, capacity: int) -> None:
    found = table_probabilities(AgeSampler(law, capacity), capacity)
    np.testing.assert_allclose(found, age_probabilities(law, capacity), rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("capacity", [CELLS + 1, 4_000_000])
def test_large_buffers_have_nearly_the_exact_law(law: str, capacity: int) -> None:
    found, exact = table_probabilities(AgeSampler(law, capacity), capacity), age_probabilities(law, capacity)
    assert np.abs(found - exact).sum() / 2 < 2e-5  # total variation
    relative = np.abs(found / np.maximum(exact, 1e-300) - 1)
    rare = np.cumsum(exact) <= 1e-3  # the oldest ages, which together hold a thousandth
    assert relative[~rare].max() < 1e-3
    assert relative[np.cumsum(exact) > 1e-6].max() < 0.03
    # Pearson's statistic gains this much per draw: a billion draws would not show it among thousands of cells.
    assert ((found - exact)[exact > 0] ** 2 / exact[exact > 0]).sum() < 2e-8


def test_cell_masses_share_an_age_between_two_cells() -> None:
    # Three ages in two cells: the middle age belongs half to each. power_law: p = 0, 1/3, 2/3.
    assert cell_masses("power_law", 3, cells=2) == pytest.approx([1 / 6, 5 / 6])


def test_draws_of_a_large_buffer_follow_the_law() -> None:
    capacity, generator, scratch = 1_000_000, np.random.default_rng(0), AgeScratch(100_000)
    sampler, counts = AgeSampler("tanh", capacity), np.zeros(200)
    for _ in range(10):
        counts += np.bincount(sampler.draw(generator, capacity, scratch) // 5_000, minlength=200)
    expected = age_probabilities("tanh", capacity).reshape(200, -1).sum(1) * counts.sum()
    seen = expected >= 5
    statistic, freedom = ((counts - expected)[seen] ** 2 / expected[seen]).sum(), int(seen.sum()) - 1
    assert abs(statistic - freedom) < 4 * math.sqrt(2 * freedom)


def test_neighbouring_ages_of_one_cell_are_drawn_alike() -> None:
    # 4 ages a cell; a draw that always took a cell's first age would pass the test above.
    capacity, scratch = 4 * CELLS, AgeScratch(200_000)
    ages = AgeSampler("uniform", capacity).draw(np.random.default_rng(1), capacity, scratch)
    assert np.bincount(ages % 4) / len(ages) == pytest.approx([0.25] * 4, abs=0.005)


@pytest.mark.parametrize("stored", [1, 7, CELLS, 99_999])
def test_draws_stay_within_what_is_stored(stored: int) -> None:
    ages = AgeSampler("tanh", 100_000).draw(np.random.default_rng(0), stored, AgeScratch(50_000))
    assert ages.min() >= 0
    assert ages.max() < stored
    assert ages.max() >= 0.99 * stored - 1


def test_table_does_not_grow_with_capacity() -> None:
    small, large = AgeSampler("tanh", CELLS), AgeSampler("tanh", 1_000_000)
    assert small.keep.nbytes + small.other.nbytes == large.keep.nbytes + large.other.nbytes == 16 * CELLS
