"""A copy of the vectorised environment goes through the bits of a single one, and a restored state through its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.envs.tabletop.conftest import MakeSingle, MakeVec

N, STEPS, EPISODE = 3, 30, 12
CASES: list[tuple[str, dict[str, Any]]] = [
    ("PandaPlay", {}),
    ("PandaReach", {"reward": "dense"}),
    ("PandaPush", {"actions": "joints"}),
    ("PandaPickPlace", {"control": "osc"}),
    ("UR5ePush", {}),
    ("SO101Play", {}),
    ("SO101PickPlace", {"actions": "joints"}),
]
IDS = [f"{name}-{'-'.join(map(str, settings.values())) or 'default'}" for name, settings in CASES]


def flat(observation: Any) -> np.ndarray:
    """Observations as one array, parts by name."""
    if isinstance(observation, dict):
        return np.concatenate([observation[name] for name in sorted(observation)], axis=-1)
    return observation


@pytest.mark.parametrize(("name", "settings"), CASES, ids=IDS)
def test_one_of_many_is_one_alone(name: str, settings: dict[str, Any], single: MakeSingle, together: MakeVec) -> None:
    many = together(name, N, episode_steps=EPISODE, **settings)
    many.seed(5)
    seen = flat(many.reset())
    alone = [single(name, episode_steps=EPISODE, **settings) for _ in range(N)]
    for index, env in enumerate(alone):
        assert (flat(env.reset(seed=5 + index)[0]) == seen[index]).all()
    random = np.random.default_rng(0)
    for step in range(1, STEPS + 1):
        actions = random.uniform(-1, 1, (N, *many.action_space.shape)).astype(np.float32)
        observations, rewards, dones, infos = many.step(actions)
        for index, env in enumerate(alone):
            observation, reward, terminated, _, info = env.step(actions[index])
            assert np.float32(reward) == rewards[index]
            assert dones[index] == (terminated or step % EPISODE == 0)
            if dones[index]:
                assert (flat(infos[index]["terminal_observation"]) == flat(observation)).all()
                assert infos[index]["TimeLimit.truncated"] is not terminated
                assert infos[index]["episode"]["l"] == EPISODE
                observation = env.reset()[0]
            assert (flat(observations)[index] == flat(observation)).all()
            assert info["reward_terms"] == infos[index]["reward_terms"]
            for key in set(info) - {"reward_terms"}:
                assert np.array_equal(info[key], infos[index][key]), key


@pytest.mark.parametrize("settings", [{}, {"control": "osc"}, {"actions": "joints"}], ids=["ik", "osc", "joints"])
def test_a_restored_state_goes_on_with_the_same_bits(
    settings: dict[str, Any], single: MakeSingle, together: MakeVec
) -> None:
    env, many = single("PandaPlay", **settings), together("PandaPlay", N, **settings)
    env.reset(seed=1, options={"object": (0.46, 0.0, 0.2)})
    many.seed(2)
    many.reset()
    actions = np.random.default_rng(0).uniform(-1, 1, (40, *env.action_space.shape)).astype(np.float32)
    for action in actions[:15]:
        env.step(action)
        many.step(np.tile(action, (N, 1)))
    state = env.get_state()
    first = [env.step(action)[:2] for action in actions[15:]]
    start = env.set_state(state)
    again = [env.step(action)[:2] for action in actions[15:]]
    # Also in a copy of the vectorised environment, whose neighbours do something else.
    assert (many.set_states([state], [1])[1] == start).all()
    copied = [many.step(np.tile(action, (N, 1)))[0][1] for action in actions[15:]]
    for (one, reward), (two, reward_two), three in zip(first, again, copied, strict=True):
        assert (one == two).all()
        assert (one == three).all()
        assert reward == reward_two


def test_a_state_of_another_model_is_refused(single: MakeSingle) -> None:
    from cadenza.envs.errors import CadenzaError

    play, reach = single("PandaPlay"), single("UR5ePlay")
    play.reset(seed=0)
    with pytest.raises(CadenzaError, match="another model"):
        reach.set_state(play.get_state())


def test_a_state_of_another_task_is_refused(single: MakeSingle) -> None:
    from cadenza.envs.errors import CadenzaError

    push, carry = single("PandaPush"), single("PandaPickPlace")
    for env in (push, carry):
        env.reset(seed=0)
    before = carry.get_state()["physics"]
    with pytest.raises(CadenzaError, match="another task"):
        carry.set_state(push.get_state())
    assert (carry.get_state()["physics"] == before).all()
    older = {name: value for name, value in push.get_state().items() if name != "task"}  # of runs begun before
    push.set_state(older)


def test_the_whole_state_of_a_run_goes_on(together: MakeVec) -> None:
    many, other = together("PandaPush", N, episode_steps=EPISODE), together("PandaPush", N, episode_steps=EPISODE)
    many.seed(3)
    many.reset()
    actions = np.random.default_rng(1).uniform(-1, 1, (30, N, 7)).astype(np.float32)
    for action in actions[:7]:
        many.step(action)
    other.set_state(many.get_state())
    for action in actions[7:]:
        (one, reward, done, info), (two, reward_two, done_two, info_two) = many.step(action), other.step(action)
        assert (flat(one) == flat(two)).all()
        assert (reward == reward_two).all()
        assert (done == done_two).all()
        for mine, theirs in zip(info, info_two, strict=True):
            if "episode" in mine:
                assert mine["episode"]["r"] == theirs["episode"]["r"]


@pytest.mark.parametrize("poison", ["action", "qpos", "qvel"])
def test_only_the_copy_that_blew_up_ends(poison: str, together: MakeVec, caplog: pytest.LogCaptureFixture) -> None:
    env, calm = together("PandaPlay", N), together("PandaPlay", N)
    for made in (env, calm):
        made.seed(5)
        made.reset()
    actions = np.random.default_rng(0).uniform(-1, 1, (20, N, 7)).astype(np.float32)
    for step, action in enumerate(actions):
        given = action.copy()
        if step == 8:
            if poison == "action":
                given[1, 3] = np.nan
            else:
                getattr(env.physics, poison)[1, 2] = np.nan
        observations, rewards, dones, infos = env.step(given)
        expected = calm.step(action)
        for index in (0, 2):
            assert (observations[index] == expected[0][index]).all()
            assert rewards[index] == expected[1][index]
        assert np.isfinite(observations).all()
        if step == 8:
            assert dones.tolist() == [False, True, False]
            assert infos[1]["non_finite"]
            assert rewards[1] == 0
            assert not infos[1]["TimeLimit.truncated"]
            assert (infos[1]["reward_vector"] == 0).all()
    assert "Not finite" in caplog.text
