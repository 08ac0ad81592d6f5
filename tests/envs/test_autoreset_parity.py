"""One deterministic environment through every backend and every autoreset mode: the same transitions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorWrapper

from envs.adapters.sync import SyncVecEnv
from envs.adapters.vector import GymVectorEnv, ManualVectorEnv, adapt
from envs.adapters.workers import WorkersVecEnv
from envs.api import VecEnv
from envs.errors import EnvError, UserError
from tests.envs.small_envs import Walk

N = 3
TRANSITIONS = 40  # of each environment: more than ten episodes


class BatchedFinals(VectorWrapper):
    """Hands `final_obs` over as batched arrays, as vector environments that are written as one do."""

    def step(self, actions: Any) -> Any:
        observations, rewards, terminated, truncated, infos = self.env.step(actions)
        if "final_obs" in infos:
            finals = infos["final_obs"]
            blank = self.env.single_observation_space.sample()
            filled = [blank if final is None else final for final in finals]
            infos["final_obs"] = {
                "place": np.stack([final["place"] for final in filled]),
                "more": tuple(np.stack([final["more"][part] for final in filled]) for part in (0, 1)),
            }
        return observations, rewards, terminated, truncated, infos


MAKERS: dict[str, Callable[[], VecEnv]] = {
    "sync": lambda: SyncVecEnv([Walk() for _ in range(N)]),
    "async": lambda: WorkersVecEnv([Walk] * N),
    "next step": lambda: adapt(SyncVectorEnv([Walk] * N, autoreset_mode=AutoresetMode.NEXT_STEP)),
    "same step": lambda: adapt(SyncVectorEnv([Walk] * N, autoreset_mode=AutoresetMode.SAME_STEP)),
    "disabled": lambda: adapt(SyncVectorEnv([Walk] * N, autoreset_mode=AutoresetMode.DISABLED)),
    "same step, batched": lambda: adapt(
        BatchedFinals(SyncVectorEnv([Walk] * N, autoreset_mode=AutoresetMode.SAME_STEP))
    ),
    "reused arrays": lambda: adapt(SyncVectorEnv([Walk] * N, copy=False, autoreset_mode=AutoresetMode.SAME_STEP)),
    "async, next step": lambda: adapt(AsyncVectorEnv([Walk] * N, autoreset_mode=AutoresetMode.NEXT_STEP)),
    "async, same step": lambda: adapt(AsyncVectorEnv([Walk] * N, autoreset_mode=AutoresetMode.SAME_STEP)),
}


def key(obs: Any, row: int) -> tuple[Any, ...]:
    return tuple((name, *np.ravel(leaf[row]).tolist()) for name, leaf in sorted(obs.items()))


def collect(env: VecEnv) -> list[list[tuple[Any, ...]]]:
    """Return the first transitions of each environment, under a policy that sees only the observation."""
    found: list[list[tuple[Any, ...]]] = [[] for _ in range(N)]
    kept = [obs := env.reset(seed=0)]
    while min(map(len, found)) < TRANSITIONS:
        place = obs["place"].sum(-1) * 10
        actions = (place.astype(np.int64) + np.arange(N) + obs["more/0"]) % 3
        step = env.step(actions)
        assert step.reward.dtype == np.float32
        assert step.terminated.dtype == step.truncated.dtype == bool
        assert step.valid is None or not (step.valid.all() or (step.terminated | step.truncated)[~step.valid].any())
        for row in range(N):
            if step.valid is None or step.valid[row]:
                ends = bool(step.terminated[row]), bool(step.truncated[row])
                found[row].append((key(obs, row), actions[row], step.reward[row], *ends, key(step.next_obs, row)))
        for before in kept:  # nothing that was returned earlier may be written to again
            assert not any(np.shares_memory(before[name], step.obs[name]) for name in before)
        kept = [obs := step.obs]
    env.close()
    return [transitions[:TRANSITIONS] for transitions in found]


@pytest.fixture(scope="module")
def expected() -> list[list[tuple[Any, ...]]]:
    """The same, from a plain loop over single environments."""
    found: list[list[tuple[Any, ...]]] = []
    codec = SyncVecEnv([Walk()])._observations
    for row in range(N):
        env: gymnasium.Env = Walk()
        obs = codec.encode([env.reset()[0]])
        found.append([])
        while len(found[row]) < TRANSITIONS:
            action = (int(obs["place"].sum() * 10) + row + int(obs["more/0"][0])) % 3
            raw, reward, terminated, truncated, _ = env.step(action + 5)
            after = codec.encode([raw])
            found[row].append((key(obs, 0), action, reward, terminated, truncated, key(after, 0)))
            obs = codec.encode([env.reset()[0]]) if terminated or truncated else after
    return found


def test_the_expected_transitions_have_every_kind_of_ending(expected):
    endings = {(terminated, truncated) for row in expected for *_, terminated, truncated, _ in row}
    assert endings == {(False, False), (True, False), (False, True), (True, True)}


@pytest.mark.parametrize("name", MAKERS)
def test_every_backend_gives_the_same_transitions(name, expected):
    assert collect(MAKERS[name]()) == expected


def test_only_a_next_step_autoreset_emits_dummies():
    for name in MAKERS:
        env = MAKERS[name]()
        env.reset(seed=0)
        valids = [env.step(np.full(N, 2)).valid for _ in range(12)]
        env.close()
        assert any(valid is not None for valid in valids) == ("next step" in name), name


@pytest.mark.parametrize("name", MAKERS)
def test_every_backend_tells_what_info_held_as_an_episode_ended_and_of_no_other_step(name):
    env = MAKERS[name]()
    env.reset(seed=0)
    found: list[list[bool]] = [[] for _ in range(N)]
    while min(map(len, found)) < 6:
        step = env.step(np.arange(N))
        assert step.infos.keys() == set(np.flatnonzero(step.terminated | step.truncated))
        for row, info in step.infos.items():
            x, t = int(step.next_obs["place"][row, 0]), int(step.next_obs["more/0"][row])
            np.testing.assert_array_equal(info["sums"].pop("pair"), [x, t])
            assert info == {"t": t, "is_success": bool(step.terminated[row]), "sums": {"x": x}}
            assert (type(info["t"]), type(info["is_success"]), type(info["sums"]["x"])) == (int, bool, float)
            found[row].append(info["is_success"])
    env.close()
    assert {success for row in found for success in row} == {True, False}


def test_modes_find_their_adapter():
    assert isinstance(adapt(SyncVectorEnv([Walk], autoreset_mode=AutoresetMode.DISABLED)), ManualVectorEnv)
    assert isinstance(adapt(SyncVectorEnv([Walk])), GymVectorEnv)
    silent = SyncVectorEnv([Walk])
    silent.metadata = {}
    with pytest.raises(UserError, match="autoreset_mode"):
        adapt(silent)


class NoFinals(VectorWrapper):
    def step(self, actions: Any) -> Any:
        *rest, infos = self.env.step(actions)
        infos.pop("final_obs", None)
        return *rest, infos


def test_a_same_step_reset_without_the_final_observation_is_an_error():
    env = adapt(NoFinals(SyncVectorEnv([Walk] * N, autoreset_mode=AutoresetMode.SAME_STEP)))
    with pytest.raises(EnvError, match=r"environment 0 .*final_obs"):
        collect(env)
