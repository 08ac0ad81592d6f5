"""Action masks: copied from info into the observation, checked, and never without a legal action."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv

from envs.adapters.masks import MaskFromInfo, gives_masks
from envs.adapters.sync import SyncVecEnv
from envs.adapters.vector import adapt
from envs.adapters.workers import WorkersVecEnv
from envs.api import VecEnv
from envs.errors import EnvError, UserError
from envs.make import make
from envs.native.arrays import NumpyArrays
from envs.native.base import Dynamics
from envs.native.vec_env import NativeVecEnv
from envs.seeding import derive_seed

ACTIONS: dict[str, spaces.Space] = {
    "discrete": spaces.Discrete(4, start=2),
    "multi": spaces.MultiDiscrete([2, 3]),
    "box": spaces.Box(-1, 1, (4,)),
}
MADE: Counter[str] = Counter()


class Gates(gymnasium.Env):
    """At step t gate t mod n is shut; the mask is in info, or a leaf of its own. An episode lasts four steps.

    Args:
        actions: a key of `ACTIONS`.
        leaves: "plain", "dict", or "own" with the mask among the leaves, which the info contradicts.
        fault: what is wrong from the third step on, or at the "reset".
    """

    def __init__(self, actions: str = "discrete", leaves: str = "plain", fault: str = "") -> None:
        self.action_space = ACTIONS[actions]
        self.size = 5 if actions == "multi" else 4
        inner: dict[str, Any] = {"t": spaces.Discrete(9)}
        if leaves == "own":
            inner["action_mask"] = spaces.Box(0, 1, (self.size,), np.int8)
        self.observation_space = spaces.Discrete(9) if leaves == "plain" else spaces.Dict(inner)
        self.leaves, self.fault, self.t = leaves, fault, 0
        MADE["environments"] += 1

    def mask(self) -> Any:
        mask = np.arange(self.size) != self.t % self.size
        if self.fault == "reset" or (self.t == 3 and self.fault == "shape"):
            return mask[:3]
        if self.t == 3 and self.fault == "text":
            return ["yes"] * self.size
        if (self.t == 3 and self.fault == "none legal") or (self.t == 4 and self.fault == "none at the end"):
            return mask & False
        if self.t == 3 and self.fault == "no second choice":
            return np.array([1, 1, 0, 0, 0])
        return mask.astype(np.int8)

    def result(self) -> tuple[Any, dict[str, Any]]:
        info = {"action_mask": self.mask()}
        if (self.t == 3 and self.fault == "missing") or (self.t == 4 and self.fault == "missing at the end"):
            info = {}
        if self.leaves == "plain":
            return self.t, info
        observation = {"t": self.t}
        if self.leaves == "own":
            observation["action_mask"], info = info["action_mask"], {"action_mask": np.zeros(self.size)}
        return observation, info

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.t = 0
        MADE["resets"] += 1
        return self.result()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.t += 1
        observation, info = self.result()
        return observation, 0.0, self.t == 4, False, info


GATES = "tests.envs.test_masks:Gates"


def masks(env: VecEnv, steps: int) -> list[list[list[float]]]:
    """Return the masks to act on after a reset and after each step of action 0."""
    seen = [env.reset(seed=0)]
    for _ in range(steps):
        zeros = np.zeros((env.num_envs, *(env.action_space.shape or ())), np.int64)
        seen.append(env.step(zeros).obs)
    return [obs["action_mask"].tolist() for obs in seen]


def shut(*gates: int, size: int) -> list[list[list[float]]]:
    """Return the masks of two environments in which these gates are shut, one after the other."""
    return [[[float(gate != one) for gate in range(size)]] * 2 for one in gates]


@pytest.mark.parametrize("vec", ["auto", "sync", "async"])
@pytest.mark.parametrize(("actions", "size"), [("discrete", 4), ("multi", 5)])
@pytest.mark.parametrize(("leaves", "key"), [("plain", "observation"), ("dict", "t")])
def test_a_mask_in_info_becomes_a_leaf(vec, actions, size, leaves, key):
    env = make(GATES, 2, vec=vec, env_kwargs={"actions": actions, "leaves": leaves})
    assert env.observation_space == spaces.Dict({key: spaces.Discrete(9), "action_mask": spaces.Box(0, 1, (size,))})
    assert masks(env, 5) == shut(0, 1, 2, 3, 0, 1, size=size)
    assert env.backend_reason.endswith("; action masks from info")
    env.close()


def test_the_masks_are_those_of_the_environment():
    env, raw = make("Taxi-v4", 1), gymnasium.make("Taxi-v4")
    assert env.observation_space == spaces.Dict(
        {"observation": spaces.Discrete(500), "action_mask": spaces.Box(0, 1, (6,))}
    )
    obs = env.reset(seed=3)
    there, info = raw.reset(seed=derive_seed(3, "env", 0, 0))
    env.action_space.seed(0)
    for _ in range(150):
        assert obs["observation"].tolist() == [there]
        assert obs["action_mask"].tolist() == [info["action_mask"].tolist()]
        action = env.action_space.sample()
        obs = env.step(np.array([action])).next_obs
        there, *_, info = raw.step(action)


def test_a_leaf_of_its_own_is_kept_and_box_actions_have_no_mask():
    env = make(GATES, 2, vec="sync", env_kwargs={"leaves": "own"})
    assert masks(env, 2) == shut(0, 1, 2, size=4)
    assert env.backend_reason == "as set"
    box = make(GATES, 2, vec="sync", env_kwargs={"actions": "box"})
    assert box.observation_space == spaces.Discrete(9)


@pytest.mark.parametrize(
    ("vec", "actions", "made", "resets"),
    [("sync", "discrete", 3, 1), ("sync", "box", 3, 0), ("async", "discrete", 1, 1)],
)
def test_only_the_first_environment_is_asked_and_once(vec, actions, made, resets):
    """Of async's environments the others live elsewhere."""
    MADE.clear()
    env = make(GATES, 3, vec=vec, env_kwargs={"actions": actions})
    assert (MADE["environments"], MADE["resets"]) == (made, resets)
    env.close()


def test_asking_changes_no_seeded_episode():
    asked, plain = make("Taxi-v4", 1, vec="sync"), SyncVecEnv([MaskFromInfo(gymnasium.make("Taxi-v4"))])
    for seed in range(3):
        for one, other in zip(asked.reset(seed).values(), plain.reset(seed).values(), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("rival", ["envpool", "vector"])
def test_auto_takes_no_backend_that_loses_the_masks(monkeypatch, rival):
    if rival == "envpool":
        monkeypatch.setattr("envs.make.envpool_fault", lambda spec, kwargs: None)
        monkeypatch.setattr("envs.make.envpool_difference", lambda *spaces: None)
        env = make(GATES, 2)
    else:
        gymnasium.register("mine/Gates-v0", GATES, vector_entry_point=lambda num_envs: SyncVectorEnv([Gates]))
        try:
            env = make("mine/Gates-v0", 2)
        finally:
            del gymnasium.registry["mine/Gates-v0"]
    assert env.backend == "sync"
    assert "action_mask" in env.observation_space.spaces


@pytest.mark.parametrize("vec", ["auto", "sync"])
def test_a_mask_that_does_not_fit_is_told_when_it_is_built(vec):
    message = r"Gates: info\['action_mask'\] is bool of shape \(3,\), but Discrete\(4, start=2\) needs numbers \(4,\)"
    with pytest.raises(UserError, match=message):
        make(GATES, 2, vec=vec, env_kwargs={"fault": "reset"})


FAULTS = {
    "shape": r"info\['action_mask'\] is bool of shape \(3,\), but",
    "text": r"info\['action_mask'\] is <U3 of shape",
    "missing": "info has no 'action_mask', though its first one had",
    "none legal": "its action_mask allows no action",
}


@pytest.mark.parametrize("vec", ["sync", "async"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_mask_that_is_wrong_later_names_the_environment_and_the_step(vec, fault):
    makers = [lambda fault=fault: MaskFromInfo(Gates(fault=fault)) for fault in ("", fault)]
    env: VecEnv = WorkersVecEnv(makers) if vec == "async" else SyncVecEnv([maker() for maker in makers])
    seed = derive_seed(0, "env", 1, 0)
    with pytest.raises(
        EnvError, match=f"^environment 1 returned bad data at step 3 of the episode .* {seed}: {FAULTS[fault]}"
    ):
        masks(env, 5)
    env.close()


@pytest.mark.parametrize("fault", ["none at the end", "missing at the end"])
def test_where_the_episode_ended_no_action_need_be_legal(fault):
    env = make(GATES, 2, vec="sync", env_kwargs={"fault": fault})
    env.reset(seed=0)
    for _ in range(4):
        step = env.step(np.zeros(2, np.int64))
    assert not step.next_obs["action_mask"].any()
    assert step.obs["action_mask"].tolist() == shut(0, size=4)[0]


def test_each_choice_needs_an_action():
    env = make(GATES, 1, vec="sync", env_kwargs={"actions": "multi", "fault": "no second choice"})
    with pytest.raises(EnvError, match=r"^environment 0 .* at step 3 .*allows no action"):
        masks(env, 5)


@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
def test_vector_environments_are_checked_too(mode):
    def own(fault: str) -> Any:
        return lambda: Gates(leaves="own", fault=fault)

    env = adapt(SyncVectorEnv([own("none at the end"), own("none at the end")], autoreset_mode=mode))
    assert len(masks(env, 11)) == 12
    env = adapt(SyncVectorEnv([own(""), own("none legal")], autoreset_mode=mode))
    with pytest.raises(EnvError, match=r"^environment 1 returned bad data at step 3 .*allows no action"):
        masks(env, 5)


@dataclass(frozen=True)
class Shrinking(Dynamics):
    """Each step shuts one gate more; the state's one row is how many are shut."""

    max_episode_steps: int = 3
    observation_space: ClassVar[spaces.Dict] = spaces.Dict({"action_mask": spaces.MultiBinary(3)})
    action_space: ClassVar[spaces.Discrete] = spaces.Discrete(3)

    def init(self, xp: Any, uniform: Any) -> Any:
        return xp.zeros((1, uniform.shape[1]), dtype=xp.int64, device=uniform.device)

    def step(self, xp: Any, state: Any, action: Any, uniform: Any) -> tuple[Any, Any, Any]:
        return state + 1, state[0] * 0, state[0] < 0

    def observe(self, xp: Any, state: Any) -> Any:
        return {"action_mask": xp.arange(3, device=state.device) >= state.T}


def test_native_environments_are_checked_too():
    env = NativeVecEnv(Shrinking(), 2, NumpyArrays())
    assert masks(env, 7) == [[mask] * 2 for mask in ([1, 1, 1], [0, 1, 1], [0, 0, 1]) * 3][:8]
    with pytest.raises(EnvError, match=r"^environment 0 .* at step 3 of its episode: its action_mask"):
        masks(NativeVecEnv(Shrinking(max_episode_steps=4), 2, NumpyArrays()), 3)


def test_what_gives_masks_is_seen():
    assert gives_masks(Gates())
    assert gives_masks(Gates(leaves="dict"))
    assert not gives_masks(Gates(leaves="own"))
    assert not gives_masks(Gates(actions="box"))
