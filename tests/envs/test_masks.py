"""Action masks: copied from info into the observation, checked, and never without a legal action."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv
from gymnasium.wrappers import TimeLimit

from envs.adapters.masks import WithMask, allowed_sample, flat_mask, mask_source
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
from envs.single import make_single
from envs.spaces import BadData
from tests.marks import pairs

PICK = spaces.MultiDiscrete([2, 3])
ACTIONS: dict[str, spaces.Space] = {
    "discrete": spaces.Discrete(4, start=2),
    "multi": spaces.MultiDiscrete([2, 3]),
    "box": spaces.Box(-1, 1, (4,)),
    "hybrid": spaces.Dict(
        aim=spaces.Box(-1, 1, (2,)), go=spaces.Discrete(2, start=3), keys=spaces.MultiBinary(2), pick=PICK
    ),
    "pair": spaces.Tuple((spaces.Box(-1, 1), spaces.Discrete(2), PICK)),
}
SIZES = {"multi": 5, "hybrid": 7, "pair": 7}
ACTIONS_OF_PARTS = spaces.Dict(
    a=spaces.Discrete(3), b=spaces.Dict(x=spaces.Discrete(2), y=spaces.Box(0, 1)), c=spaces.MultiBinary(3)
)
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
        self.actions, self.size = actions, SIZES.get(actions, 4)
        inner: dict[str, Any] = {"t": spaces.Discrete(9)}
        if leaves == "own":
            parts = self.parted(spaces.MultiBinary(2), spaces.MultiBinary(5))
            kind = {"hybrid": spaces.Dict, "pair": spaces.Tuple}.get(actions)
            inner["action_mask"] = parts if kind is None else kind(parts)
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
        mask = mask.astype(np.int8)
        return mask if self.size != 7 else self.parted(mask[:2], mask[2:])

    def parted(self, go: Any, pick: Any) -> Any:
        """Return what is of each part as the actions are."""
        if self.actions == "hybrid":
            return {"go": go, "pick": pick}
        return (go, go, pick) if self.actions == "pair" else spaces.Box(0, 1, (self.size,), np.int8)

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


class Asked(Gates):
    """Masks by a method, and none in info; where an episode has ended it must not be asked."""

    def action_masks(self) -> Any:
        assert self.t < 4
        return self.mask()

    def result(self) -> tuple[Any, dict[str, Any]]:
        return self.t, {}


class Strict(Gates):
    """Takes no action through a gate that is shut: the first of a choice is, in every part of it."""

    def mask(self) -> Any:
        shut = np.ones(self.size, np.int8)
        shut[[0, *{5: [2], 7: [2, 4]}.get(self.size, [])]] = 0
        return shut if self.size != 7 else self.parted(shut[:2], shut[2:])

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        taken = {
            "discrete": lambda: [action - 2],
            "multi": lambda: action,
            "hybrid": lambda: [action["go"] - 3, *action["pick"]],
            "pair": lambda: [action[1], *action[2]],
        }[self.actions]()
        assert all(taken), "through a shut gate"
        return super().step(action)


GATES = "tests.envs.test_masks:Gates"


def masks(env: VecEnv, steps: int) -> list[list[list[float]]]:
    """Return the masks to act on after a reset and after each step of action 0."""
    seen = [env.reset(seed=0)]
    for _ in range(steps):
        zeros = np.zeros((env.num_envs, *(env.action_space.shape or ())), env.action_space.dtype)
        seen.append(env.step(zeros).obs)
    return [obs["action_mask"].tolist() for obs in seen]


def shut(*gates: int, size: int) -> list[list[list[float]]]:
    """Return the masks of two environments in which these gates are shut, one after the other."""
    return [[[float(gate != one) for gate in range(size)]] * 2 for one in gates]


@pytest.mark.parametrize(
    ("vec", "actions", "leaves"), pairs(["auto", "sync", "async"], ["discrete", "multi"], ["plain", "dict"])
)
def test_a_mask_in_info_becomes_a_leaf(vec, actions, leaves):
    size, key = {"discrete": 4, "multi": 5}[actions], {"plain": "observation", "dict": "t"}[leaves]
    env = make(GATES, 2, vec=vec, env_kwargs={"actions": actions, "leaves": leaves})
    assert env.observation_space == spaces.Dict({key: spaces.Discrete(9), "action_mask": spaces.Box(0, 1, (size,))})
    assert masks(env, 5) == shut(0, 1, 2, 3, 0, 1, size=size)
    assert env.backend_reason.endswith("; action masks from info")
    env.close()


class Late(gymnasium.Env):
    """Says which actions are legal after steps alone."""

    observation_space, action_space = spaces.Box(0, 1, (1,)), spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = 3
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.left -= 1
        return np.zeros(1, np.float32), 0.0, not self.left, False, {"action_mask": np.ones(3, np.int8)}


@pytest.mark.parametrize("vec", ["sync", "async"])
def test_a_mask_that_comes_late_is_refused(vec):
    env = make("tests.envs.test_masks:Late", 2, vec=vec)
    env.reset(0)
    for _ in range(2):
        env.step(np.zeros(2, np.int64))
    with pytest.raises(EnvError, match=r"environment 0 .*: info has 'action_mask', which a reset's had not"):
        env.step(np.zeros(2, np.int64))
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
    assert env.backend_reason == "as set; action masks from observation"
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
    asked, plain = make("Taxi-v4", 1, vec="sync"), SyncVecEnv([WithMask(gymnasium.make("Taxi-v4"), "info")])
    for seed in range(3):
        for one, other in zip(asked.reset(seed).values(), plain.reset(seed).values(), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("leaves", ["plain", "own"])
@pytest.mark.parametrize("actions", ["discrete", "multi", "hybrid", "pair"])
def test_auto_times_legal_actions(monkeypatch, actions, leaves):
    monkeypatch.setattr("envs.make.cores", lambda: 4)
    kwargs = {"actions": actions, "leaves": leaves}
    env = make("tests.envs.test_masks:Strict", 2, env_kwargs=kwargs)
    assert env.backend_reason.startswith("a step takes ")
    env.close()
    with make_single("tests.envs.test_masks:Strict", env_kwargs=kwargs) as one:
        one.reset()
        one.action_space.seed(0)
        with pytest.raises(AssertionError, match="shut gate"):
            Counter(one.step(one.action_space.sample())[1] for _ in range(100))


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
    message = r"Gates: action_mask is bool of shape \(3,\), but Discrete\(4, start=2\) needs numbers \(4,\)"
    with pytest.raises(UserError, match=message):
        make(GATES, 2, vec=vec, env_kwargs={"fault": "reset"})


FAULTS = {
    "shape": r"action_mask is bool of shape \(3,\), but",
    "text": r"action_mask is <U3 of shape",
    "missing": "info has no 'action_mask', though its first one had",
    "none legal": "its action_mask allows no action",
}


@pytest.mark.parametrize(("vec", "fault"), [*(("sync", fault) for fault in FAULTS), ("async", "missing")])
def test_a_mask_that_is_wrong_later_names_the_environment_and_the_step(vec, fault):
    makers = [lambda fault=fault: WithMask(Gates(fault=fault), "info") for fault in ("", fault)]
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


@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
def test_masks_that_a_vector_environment_gives_elsewhere_are_refused(mode):
    env = adapt(SyncVectorEnv([Gates, Gates], autoreset_mode=mode))
    with pytest.raises(EnvError, match=r"\(action_mask, in info\) are read by --vec sync and --vec async alone"):
        env.reset(seed=0)
    many = SyncVectorEnv([partial(Asked)], autoreset_mode=mode)
    many.action_masks = lambda: [[1, 1, 1, 1]]
    with pytest.raises(EnvError, match=r"\(action_masks, a method\)"):
        adapt(many).reset(seed=0)


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
    assert mask_source(Gates()) == "info"
    assert mask_source(Gates(leaves="dict")) == "info"
    assert mask_source(Gates(leaves="own")) is None
    assert mask_source(Gates(actions="box")) is None
    assert mask_source(Asked()) == "action_masks()"
    assert mask_source(TimeLimit(Asked(), 9)) == "action_masks()"
    assert mask_source(Gates(leaves="own", actions="hybrid")) == "observation"


@pytest.mark.parametrize("vec", ["auto", "sync", "async"])
def test_a_method_of_the_environment_is_asked_through_its_wrappers(vec):
    env = make("tests.envs.test_masks:Asked", 2, vec=vec, wrappers=["gymnasium.wrappers:RecordEpisodeStatistics"])
    assert masks(env, 5) == shut(0, 1, 2, 3, 0, 1, size=4)
    assert env.backend_reason.endswith("; action masks from action_masks()")
    env.close()


@pytest.mark.parametrize(("vec", "leaves", "actions"), pairs(["sync", "async"], ["plain", "own"], ["hybrid", "pair"]))
def test_the_masks_of_parts_become_one_array(vec, leaves, actions):
    """Shut is a gate of the Discrete part, then of the MultiDiscrete part's choices."""
    env = make(GATES, 2, vec=vec, env_kwargs={"actions": actions, "leaves": leaves})
    key = {"plain": "observation", "own": "t"}[leaves]
    assert env.observation_space == spaces.Dict({key: spaces.Discrete(9), "action_mask": spaces.Box(0, 1, (7,))})
    assert masks(env, 5) == shut(0, 1, 2, 3, 0, 1, size=7)
    env.close()


MASKS = [
    (spaces.Discrete(2), [1, 0], [1, 0]),
    (spaces.MultiDiscrete([2, 3]), [1, 0, 1, 1, 0], [1, 0, 1, 1, 0]),
    (spaces.MultiDiscrete([2, 3]), (np.array([1, 0]), np.array([1, 1, 0])), [1, 0, 1, 1, 0]),
    (ACTIONS_OF_PARTS, {"b": {"x": [1, 0]}, "a": [0, 1, 1]}, [0, 1, 1, 1, 0]),
    (ACTIONS_OF_PARTS, {"b": {"x": [1, 0], "y": None}, "a": [0, 1, 1], "c": 5}, [0, 1, 1, 1, 0]),
    (ACTIONS_OF_PARTS, [0, 1, 1, 1, 0], [0, 1, 1, 1, 0]),
    (ACTIONS_OF_PARTS, {"b": [1, 0], "a": [0, 1, 1]}, [0, 1, 1, 1, 0]),
    (ACTIONS_OF_PARTS, {"b": {"x": [[1, 0]] * 2}, "a": [[0, 1, 1]] * 2}, [[0, 1, 1, 1, 0]] * 2),
    (spaces.Tuple((spaces.Box(0, 1), spaces.Discrete(2))), (None, [1, 0]), [1, 0]),
]


@pytest.mark.parametrize(("space", "mask", "flat"), MASKS)
def test_masks_of_any_form_are_one_array(space, mask, flat):
    assert flat_mask(mask, space).tolist() == flat


def test_actions_of_a_matrix_are_drawn_by_their_masks():
    space = spaces.MultiDiscrete([[2, 3], [2, 2]], seed=0)
    drawn = np.array([allowed_sample(space, np.array([1, 0, 1, 1, 0, 0, 1, 1, 1])) for _ in range(50)])
    assert [set(drawn[:, i, j].tolist()) for i in (0, 1) for j in (0, 1)] == [{0}, {0, 1}, {1}, {0, 1}]


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        ({"b": {"x": [1, 0]}}, "no part 'a', for Discrete"),
        ({"b": {"x": [1, 0]}, "a": [1, 1]}, r"shape \(2,\), but Discrete\(3\) needs numbers \(3,\)"),
        ([1, 1], r"needs numbers \(5,\)"),
        ([[1], [1, 0]], "is no array"),
    ],
)
def test_a_mask_of_parts_that_does_not_fit_is_told(mask, words):
    with pytest.raises(BadData, match=words):
        flat_mask(mask, ACTIONS_OF_PARTS)
