"""Native environments of a user's own: random steps, observations of any kind, and every message for a broken rule."""

from __future__ import annotations

import sys
import zlib
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from scipy.stats import chisquare

from envs.api import VecEnv
from envs.errors import UserError
from envs.locate import locate
from envs.make import make
from envs.native import tasks
from envs.native.arrays import NumpyArrays, TorchArrays
from envs.native.base import Dynamics, build_dynamics
from envs.native.gym_env import DYNAMICS, NativeEnv, _discovered, native_task
from envs.native.vec_env import NativeVecEnv
from envs.single import has_native, make_single, reward_threshold
from envs.spaces import ObservationCodec
from tests.envs.small_envs import Deck
from tests.envs.test_native import assert_same, leaves

SLIPPERY = f"{Path(__file__).parents[2] / 'docs' / 'examples' / 'slippery.py'}:Slippery"
N = 5


def dynamics(name: str) -> Dynamics:
    task: Any = native_task(locate(SLIPPERY)) if name == "Slippery" else Deck
    return build_dynamics(task, {"max_episode_steps": 6} if name == "Slippery" else {})


def parts(step: Any) -> list[Any]:
    return [step.obs, step.reward, step.terminated, step.truncated, step.next_obs]


@pytest.mark.parametrize("arrays", [NumpyArrays, lambda: TorchArrays("cpu")])
@pytest.mark.parametrize("name", ["Slippery", "Deck"])
def test_a_random_environment_goes_on_from_the_middle_bit_for_bit(name, arrays):
    env, fresh = (NativeVecEnv(dynamics(name), N, arrays()) for _ in range(2))
    first = env.reset(seed=3)
    kept = {key: leaf.copy() for key, leaf in leaves(first).items()}
    actions = [env._arrays.from_numpy(np.random.default_rng(t).integers(0, 4, N)) for t in range(40)]
    for action in actions[:17]:
        env.step(action)
    state = env.state_dict()
    expected = [env.step(action) for action in actions[17:]]
    assert fresh.load_state_dict(state) == []
    for action, step in zip(actions[17:], expected, strict=True):
        assert_same(parts(fresh.step(action)), parts(step))
    assert_same([first], [kept if isinstance(first, dict) else kept[""]])  # nothing given out is written to again


@pytest.mark.parametrize("kind", ["numpy", "torch", "gymnasium"])
def test_slips_are_as_likely_as_in_gymnasiums_lake(kind):
    count, ticks = (1, 6000) if kind == "gymnasium" else (200, 60)
    env: VecEnv = make(SLIPPERY, count, vec="sync" if kind == "gymnasium" else "native", tensors=kind == "torch")
    table = gymnasium.make("FrozenLake-v1").unwrapped.P  # type: ignore[attr-defined]
    seen = np.zeros((16, 4, 16))
    rng = np.random.default_rng(0)
    obs = np.asarray(env.reset(seed=4))
    for _ in range(ticks):
        action = rng.integers(0, 4, count)
        step = env.step(torch.from_numpy(action) if kind == "torch" else action)
        after = np.asarray(step.next_obs)
        np.add.at(seen, (obs, action, after), 1)
        assert (np.asarray(step.reward) == (after == 15)).all()
        assert (np.asarray(step.terminated) == np.isin(after, [5, 7, 11, 12, 15])).all()
        obs = np.asarray(step.obs)
    tested = 0
    for cell, action in np.argwhere(seen.sum(axis=2) >= 60):
        wanted = np.zeros(16)
        for probability, after, *_ in table[cell][action]:
            wanted[after] += probability
        got = seen[cell, action]
        assert not got[wanted == 0].any()
        reached = wanted > 0
        assert chisquare(got[reached], wanted[reached] * got.sum()).pvalue > 1e-4
        tested += 1
    assert tested > 8


@pytest.mark.parametrize(
    ("name", "tensors", "trace"),
    [
        ("Bricks-v0", False, 3442042043),
        ("Bricks-v0", True, 4274422905),
        ("Corridor-v0", False, 442826975),
        ("Corridor-v0", True, 504913177),
    ],
)
def test_where_steps_are_not_random_the_streams_are_those_of_before_they_could_be(name, tensors, trace):
    """Of these two games every number is whole, so that the trace is the same on any machine."""
    env = make(name, 4, tensors=tensors)
    found = zlib.crc32(np.asarray(env.reset(seed=5)).tobytes())
    rng = np.random.default_rng(0)
    for _ in range(400):
        action = rng.integers(0, env.action_space.n, 4)
        for part in parts(env.step(torch.from_numpy(action) if tensors else action)):
            found = zlib.crc32(np.asarray(part).tobytes(), found)
    assert found == trace


@pytest.mark.parametrize("tensors", [False, True])
def test_leaves_come_as_the_space_says(tensors):
    env = NativeVecEnv(dynamics("Deck"), N, TorchArrays("cpu") if tensors else NumpyArrays())
    assert env.observation_space == ObservationCodec(Deck.observation_space).space
    obs = leaves(env.reset(seed=0))
    assert {key: str(leaf.dtype) for key, leaf in obs.items()} == {
        "action_mask": "float32",
        "last": "int64",
        "both": "int64",
        "luck": "float32",
        "picture": "uint8",
    }
    for key, leaf in obs.items():
        assert leaf.shape == (N, *(env.observation_space[key].shape or ()))


@pytest.mark.parametrize("task", [SLIPPERY, Deck], ids=["Slippery", "Deck"])
def test_gymnasiums_checker_is_content(task):
    check_env(NativeEnv(Deck) if task is Deck else make_single(task).unwrapped, skip_render_check=True)


def test_the_example_is_built_and_stepped_by_make():
    assert has_native(SLIPPERY)
    assert reward_threshold(SLIPPERY) == 0.7
    for vec, backend in (("auto", "native"), ("native", "native"), ("sync", "sync"), ("async", "async")):
        env = make(SLIPPERY, 2, vec=vec, env_kwargs={"slip": 0, "max_episode_steps": 3})
        assert env.backend == backend
        assert (env.observation_space, env.action_space) == (spaces.Discrete(16), spaces.Discrete(4))
        assert env.reset(seed=0).tolist() == [0, 0]
        steps = [env.step(np.array([2, 1])) for _ in range(3)]
        assert [step.next_obs.tolist() for step in steps] == [[1, 4], [2, 8], [3, 12]]
        assert steps[-1].truncated.all()
        assert steps[-1].terminated.tolist() == [False, True]  # a hole
        assert steps[-1].obs.tolist() == [0, 0]
        env.close()
    for vec in ("native", "sync"):
        env = make(SLIPPERY, 2, vec=vec, render=True)
        env.reset(seed=0)
        assert env.render(1).shape == (160, 160, 3)
        env.close()
    with pytest.raises(UserError, match=r"takes no argument 'slipp'; it takes slip, max_episode_steps\. Did you mean"):
        make(SLIPPERY, env_kwargs={"slipp": 1})
    with pytest.raises(UserError, match="slip must be a number, got 'much'"):
        make(SLIPPERY, env_kwargs={"slip": "much"})


SINGLE = """    def step(self, xp, state, action, uniform):
        return state"""
PLAIN = """
from dataclasses import dataclass, field
import numpy as np
from gymnasium import spaces
from envs.native.base import Dynamics

@dataclass(frozen=True)
class Plain(Dynamics):
    max_episode_steps: int = 5
    observation_space = spaces.Box(0, 9, (1,))
    action_space = spaces.Discrete(2)
    def init(self, xp, uniform):
        return xp.zeros((1, uniform.shape[1]), dtype=xp.float64, device=uniform.device)
    def step(self, xp, state, action, uniform):
        return state + action, state[0] * 0, state[0] > 7
    def observe(self, xp, state):
        return state.T
"""


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("@dataclass(frozen=True)\n", "", "Plain must be a dataclass: write @dataclass"),
        ("int = 5", "int", "Plain: max_episode_steps must have a default"),
        ("    action_space", "    actions", "Plain: action_space must be a gymnasium.Space, but it is None"),
        ("class Plain(Dynamics)", "class Plain", "Plain has no reward_threshold, .*derive it from envs.native.base"),
        ("Box(0, 9, (1,))", "Box(0, 9, (2,))", r"observe must have shape \[2, 2\] for N = 2, .*float64 \[2, 1\]"),
        ("Box(0, 9, (1,))", "Dict(a=spaces.Discrete(3))", "observe must return what Dict.*says, but it returned array"),
        (
            "Box(0, 9, (1,))",
            "Discrete(9, start=1)",
            r"observation_space is Discrete\(9, start=1\), but .* is flat and counts from 0",
        ),
        ("Box(0, 9, (1,))", "Text(9)", "observation_space is Text"),
        ("xp.float64", "xp.float32", r"init must return states .* it returned float32 \[1, 2\]"),
        ("state + action", "state[0] + action", r"states like those of init, float64 \[1, 2\], but returned .* \[2\]"),
        ("state[0] > 7", "state[0]", r"for N = 2 it returned rewards float64 \[2\] and float64 \[2\]"),
        ("state[0] * 0, ", "", "Plain raised ValueError when it was tried out: not enough values"),
        (SINGLE, f"    single = True\n{SINGLE}[:, :] * 1.0 +", "Plain raised IndexError when it was tried out"),
        (
            SINGLE,
            f"    single = True\n{SINGLE} - state.ndim +",
            "its step is `single`, but for one environment without",
        ),
    ],
)
@pytest.mark.parametrize("vec", ["auto", "sync"])
def test_a_broken_rule_is_told(tmp_path, before, after, message, vec):
    assert before in PLAIN
    file = tmp_path / "plain.py"
    file.write_text(PLAIN.replace(before, after))
    with pytest.raises(UserError, match=message):
        make(str(file), 2, vec=vec)


def test_a_step_of_its_own_gets_one_environment_with_its_axis(tmp_path):
    file = tmp_path / "paid.py"
    file.write_text("""
from dataclasses import dataclass
from envs.native.tasks.cartpole import CartPole

@dataclass(frozen=True)
class Paid(CartPole):
    def step(self, xp, state, action, uniform):
        following, _, fell = CartPole.step(self, xp, state, action, uniform)
        return following, xp.ones(state.shape[1]), fell
""")
    env = make(str(file), 1, vec="native")
    env.reset(seed=0)
    assert env.step(np.zeros(1, np.int64)).reward.tolist() == [1]
    assert not env.dynamics.single
    assert make("CartPoleNoVel-v1", 1, vec="native").dynamics.single


def test_a_module_in_the_folder_of_tasks_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(tasks, "__path__", [*tasks.__path__, str(tmp_path)])
    (tmp_path / "dropped.py").write_text(PLAIN.replace("(Dynamics):", "(Dynamics):\n    env_id = 'Dropped-v0'"))
    try:
        found = [task.env_id for task in _discovered()]
    finally:
        sys.modules.pop("envs.native.tasks.dropped", None)
    assert sorted(found) == sorted({"Dropped-v0", *(task.env_id for task in DYNAMICS.values())})


def test_without_a_painter_it_steps_but_cannot_be_drawn(tmp_path):
    file = tmp_path / "plain.py"
    file.write_text(PLAIN)
    for vec in ("auto", "sync"):
        env = make(f"{file}:Plain", 2, vec=vec)
        env.reset(seed=0)
        assert env.step(np.array([0, 1])).obs.tolist() == [[0], [1]]
        with pytest.raises(UserError, match=r"Plain cannot be drawn: it has no painter\(render_mode\)"):
            make(f"{file}:Plain", 2, vec=vec, render=True)
    with pytest.raises(UserError, match="cannot be drawn"):
        make(f"{file}:Plain", 2).render()
    assert reward_threshold(str(file)) is None


def test_a_file_with_two_must_name_one(tmp_path):
    file = tmp_path / "two.py"
    file.write_text(PLAIN + PLAIN.replace("Plain", "Other"))
    with pytest.raises(UserError, match=r"found Other, Plain"):
        make(str(file))
    assert make(f"{file}:Other").backend == "native"
    with pytest.raises(UserError, match=r"has no environment 'Othr'; it has Other, Plain\. Did you mean Other"):
        make(f"{file}:Othr")


def test_options_at_reset_are_refused_where_gymnasiums_own_takes_them():
    env = gymnasium.make("native/CartPole-v1")
    assert (env.reset(seed=0, options={})[0] == gymnasium.make("CartPole-v1").reset(seed=0)[0]).all()
    with pytest.raises(ValueError, match="takes no options at reset; given: 'low', 'high'"):
        env.reset(seed=0, options={"low": 0.1, "high": 0.2})
