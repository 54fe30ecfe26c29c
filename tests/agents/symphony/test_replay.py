"""The Fading Replay Buffer: age law, repeated fill, terminal sparing, storage, checkpoint ranges."""

import json
import tracemalloc

import numpy as np
import pytest
from gymnasium import spaces

from cadenza.agents.symphony.losses import age_probabilities
from cadenza.agents.symphony.replay import FadingReplayBuffer

OBS, ACT = spaces.Box(-np.inf, np.inf, (3,)), spaces.Box(-1, 1, (2,))


def make(size: int, **kwargs: object) -> FadingReplayBuffer:
    return FadingReplayBuffer(size, OBS, ACT, device="cpu", **{"seed": 0, **kwargs})


def push(
    buffer: FadingReplayBuffer, tag: float, *, done: bool = False, truncated: bool = False, reward: float = 1.0
) -> None:
    info = {"TimeLimit.truncated": True} if truncated else {}
    obs = np.full((1, 3), tag)
    buffer.add(obs, obs + 0.5, np.full((1, 2), 0.1), np.array([reward]), np.array([done or truncated]), [info])


def tags(buffer: FadingReplayBuffer, draws: int = 4096) -> np.ndarray:
    return buffer.sample_batch(draws).observations[:, 0].numpy().copy()


def chi_square(observed: np.ndarray, expected: np.ndarray) -> tuple[float, int]:
    """Pearson's statistic over cells of expected count >= 5 (the rest pooled), and its degrees of freedom."""
    large = expected >= 5
    cells_o = np.append(observed[large], observed[~large].sum())
    cells_e = np.append(expected[large], expected[~large].sum())
    cells_o, cells_e = cells_o[cells_e > 0], cells_e[cells_e > 0]
    return float(((cells_o - cells_e) ** 2 / cells_e).sum()), len(cells_e) - 1


def assert_follows(counts: np.ndarray, probabilities: np.ndarray) -> None:
    statistic, freedom = chi_square(counts, probabilities * counts.sum())
    # Wilson-Hilferty: 4 sigma of the chi-square distribution; a wrong law misses by hundreds.
    limit = freedom * (1 - 2 / (9 * freedom) + 4 * np.sqrt(2 / (9 * freedom))) ** 3
    assert statistic < limit


@pytest.mark.parametrize("law", ["tanh", "bell", "power_law", "uniform"])
def test_full_ring_follows_the_age_law(law: str) -> None:
    size, offset = 64, 17
    buffer = make(size, age_law=law)
    for tag in range(size + offset):
        push(buffer, tag)
    drawn = np.concatenate([tags(buffer) for _ in range(25)])
    counts = np.bincount((drawn - offset).astype(int), minlength=size)  # age index: 0 = oldest
    assert_follows(counts.astype(float), age_probabilities(law, size))


def test_partly_filled_buffer_runs_the_law_over_what_is_stored() -> None:
    stored = 40
    buffer = make(64_000)
    for tag in range(stored):
        push(buffer, tag)
    counts = np.bincount(np.concatenate([tags(buffer) for _ in range(25)]).astype(int), minlength=stored)
    fine = age_probabilities("tanh", 64_000).reshape(stored, -1).sum(1)  # the law's integral over each stored cell
    assert_follows(counts.astype(float), fine)


def test_wrong_law_would_be_caught() -> None:
    buffer = make(64, age_law="bell")
    for tag in range(64):
        push(buffer, tag)
    counts = np.bincount(np.concatenate([tags(buffer) for _ in range(25)]).astype(int), minlength=64).astype(float)
    with pytest.raises(AssertionError):
        assert_follows(counts, age_probabilities("tanh", 64))


def test_truncation_is_not_terminal_and_termination_is() -> None:
    buffer = make(8)
    push(buffer, 0, truncated=True)
    push(buffer, 1, done=True)
    push(buffer, 2)
    batch = buffer.sample_batch(512)
    seen = {int(tag): flag for tag, flag in zip(batch.observations[:, 0], batch.terminals[:, 0], strict=True)}
    assert {k: float(v) for k, v in seen.items()} == {0: 0.0, 1: 1.0, 2: 0.0}


def stored_tags(buffer: FadingReplayBuffer) -> set[int]:
    return {int(t) for t in tags(buffer, 20_000)}


def test_terminal_is_spared_once_over_two_wraps() -> None:
    buffer = make(8, age_law="uniform")
    for tag in range(8):
        push(buffer, tag, done=tag == 3)
    for tag in range(100, 108):  # first wrap: 7 slots are free to overwrite, the terminal one is passed over
        push(buffer, tag)
    assert 3 in stored_tags(buffer)
    assert stored_tags(buffer) == {3, *range(101, 108)}  # 100 went first and was overwritten by the eighth
    for tag in range(200, 208):  # second wrap: now it goes
        push(buffer, tag)
    assert stored_tags(buffer) == set(range(200, 208))


def test_ring_of_terminals_only_still_takes_new_transitions() -> None:
    buffer = make(4, age_law="uniform")
    for tag in range(4):
        push(buffer, tag, done=True)
    push(buffer, 9)
    assert stored_tags(buffer) == {1, 2, 3, 9}


def test_repeated_fill_shows_every_copy_until_its_slot_is_written() -> None:
    buffer = make(20, age_law="uniform", prefill_capacity=5)
    for tag in range(5):
        push(buffer, tag)
    buffer.finish_exploration(repeat=True)
    assert buffer.full
    counts = np.bincount(np.concatenate([tags(buffer) for _ in range(10)]).astype(int), minlength=5).astype(float)
    assert_follows(counts, np.full(5, 0.2))
    for tag in range(100, 117):  # slots 0..16 written; slots 17, 18, 19 still show exploration tags 2, 3, 4
        push(buffer, tag)
    assert stored_tags(buffer) == {2, 3, 4, *range(100, 117)}


def test_repeated_fill_spares_copied_terminals() -> None:
    buffer = make(6, age_law="uniform", prefill_capacity=3)
    for tag in range(3):
        push(buffer, tag, done=tag == 1)
    buffer.finish_exploration(repeat=True)
    for tag in range(100, 104):
        push(buffer, tag)
    # Slots 1 and 4 show terminal 1 and are passed over; four writes take slots 0, 2, 3 and 5.
    assert stored_tags(buffer) == {1, 100, 101, 102, 103}


def test_rewards_are_divided_by_the_mean_absolute_reward_of_the_exploration() -> None:
    buffer = make(10, age_law="uniform")
    for reward in (2.0, -4.0, 6.0):
        push(buffer, 0, reward=reward)
    buffer.finish_exploration(repeat=False)
    assert buffer.reward_scale == pytest.approx(4.0)
    push(buffer, 1, reward=8.0)
    batch = buffer.sample_batch(400)
    assert set(batch.rewards[:, 0].tolist()) == {0.5, -1.0, 1.5, 2.0}


def test_all_zero_rewards_are_left_alone() -> None:
    buffer = make(10)
    push(buffer, 0, reward=0.0)
    buffer.finish_exploration(repeat=False)
    assert buffer.reward_scale == 1.0


def test_float16_storage_halves_memory_and_clips_what_does_not_fit() -> None:
    half, single = make(100, storage="float16"), make(100, storage="float32")
    assert half.storage()["records"].nbytes * 2 == single.storage()["records"].nbytes
    push(half, 1e9)
    assert half.sample_batch(4).observations.max().item() == pytest.approx(65504.0)


def test_several_environments_take_neighbouring_slots() -> None:
    buffer = make(10, n_envs=2)
    obs = np.array([[1.0] * 3, [2.0] * 3])
    buffer.add(obs, obs, np.zeros((2, 2)), np.ones(2), np.array([False, True]), [{}, {}])
    assert buffer.size() == 2
    assert stored_tags(buffer) <= {1, 2}


def test_sampling_allocates_nothing_that_grows() -> None:
    buffer = make(4096, prefill_capacity=64)
    for tag in range(64):
        push(buffer, tag)
    buffer.finish_exploration(repeat=True)
    buffer.sample_batch(256)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(50):
        buffer.sample_batch(256)
    after, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 2048  # interpreter noise; one batch of rows alone is 8 kB
    assert peak - before < 4096


def test_nothing_beside_the_stored_arrays_grows_with_capacity() -> None:
    def beside(size: int) -> int:
        tracemalloc.start()
        buffer = make(size, prefill_capacity=10)
        for tag in range(10):
            push(buffer, tag)
        buffer.finish_exploration(repeat=True)
        buffer.sample_batch(16)
        held = tracemalloc.get_traced_memory()[0] - sum(array.nbytes for array in buffer.storage().values())
        tracemalloc.stop()
        return held

    assert abs(beside(400_000) - beside(40_000)) < 40_000  # a byte per slot would be nine times as much


def test_copy_made_in_the_middle_of_the_fill_shows_the_same_transitions() -> None:
    buffer, copy = (make(20, prefill_capacity=6, age_law="uniform") for _ in range(2))
    for step in range(15):
        if step == 6:
            buffer.finish_exploration(repeat=True)
        push(buffer, step, done=step == 1)  # slots 1, 7, 13 and 19 show terminal 1; 7 is passed over
    for name, array in buffer.storage().items():
        for start, stop in buffer.dirty_slots_since(0):
            copy.storage()[name][start:stop] = array[start:stop]
    # Nine writes since the fill took slots 0, 2-6 and 8-10; the rest still shows slot % 6.
    assert stored_tags(buffer) == {*range(6, 15), *(slot % 6 for slot in (1, 7, *range(11, 20)))}
    copy.set_extra_state(json.loads(json.dumps(buffer.get_extra_state())))
    for tag in range(100, 130):  # both go through the end of the fill alike
        assert np.array_equal(tags(buffer, 64), tags(copy, 64))
        push(buffer, tag)
        push(copy, tag)
    assert stored_tags(buffer) == set(range(110, 130))


def test_same_seed_draws_the_same_rows() -> None:
    first, second = make(50), make(50)
    for tag in range(50):
        push(first, tag)
        push(second, tag)
    assert np.array_equal(tags(first, 64), tags(second, 64))


def test_moments_are_those_of_the_stored_observations() -> None:
    buffer = make(300)
    rng = np.random.default_rng(0)
    data = rng.normal(3.0, 2.0, (200, 3)).astype(np.float32)
    for row in data:
        buffer.add(row[None], row[None], np.zeros((1, 2)), np.ones(1), np.zeros(1, bool), [{}])
    mean, std = buffer.observation_moments()
    assert mean == pytest.approx(data.mean(0), rel=1e-5)
    assert std == pytest.approx(data.std(0), rel=1e-5)


@pytest.mark.parametrize("repeat", [False, True])
@pytest.mark.parametrize("mark_at", [0, 4, 12, 40])
def test_dirty_ranges_rebuild_the_buffer(repeat: bool, mark_at: int) -> None:
    """A copy that receives a first snapshot and then only the dirty ranges draws the same batches."""
    buffer, copy = make(16, prefill_capacity=8), make(16, prefill_capacity=8)

    def transfer(mark: int) -> int:
        for name, array in buffer.storage().items():
            for start, stop in buffer.dirty_slots_since(mark):
                copy.storage()[name][start:stop] = array[start:stop]
        copy.set_extra_state(json.loads(json.dumps(buffer.get_extra_state())))
        return buffer.mark()

    mark = 0
    for step in range(60):
        if step == 8:
            buffer.finish_exploration(repeat=repeat)
        if step == mark_at:
            mark = transfer(0)
        push(buffer, step, done=step % 5 == 0)
    transfer(mark)
    assert np.array_equal(tags(buffer, 256), tags(copy, 256))
