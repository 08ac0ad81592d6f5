"""Functions that make environments, wrappers around them, arguments that are the constructor's own, and infos."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from envs.errors import UserError
from envs.make import make
from envs.single import make_single

FILE = """
import gymnasium, numpy as np

class Count(gymnasium.Env):
    metadata = {"render_modes": ["rgb_array"]}
    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)
    def __init__(self, reward=1.0, max_episode_steps=10, id=0, num_envs=1, render_mode=None):
        self.args = reward, max_episode_steps, id, num_envs
        self.render_mode = render_mode
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(2, np.float32), {"t": 0}
    def step(self, action):
        self.t += 1
        return np.zeros(2, np.float32), self.args[0], self.t >= self.args[1], False, {"t": self.t, "own": self.args[2]}
    def render(self):
        return np.full((8, 8, 3), 90, np.uint8)

class Plain(Count):
    def __init__(self): super().__init__(max_episode_steps=10**6)

def make_env(reward=2.0):
    return Add(Count(reward), 0.5)

def nothing(): return 3

class Add(gymnasium.RewardWrapper):
    def __init__(self, env, amount=1.0):
        super().__init__(env)
        self.amount = amount
    def reward(self, reward): return reward + self.amount

class Double(gymnasium.RewardWrapper):
    def reward(self, reward): return reward * 2

class Whole(gymnasium.Wrapper):
    def __init__(self, reward=3.0): super().__init__(Count(reward))

def double(env): return Double(env)
def broken(env): raise OSError("no licence")
def no_env(env): return 7
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "count.py").write_text(FILE)
    yield str(tmp_path / "count.py")
    for name in [name for name in sys.modules if name.startswith("count_")]:
        del sys.modules[name]


def rewards(env_id: str, **options) -> list[float]:
    """Return the rewards of the first step of each copy."""
    env = make(env_id, 2, **options)
    env.reset(0)
    step = env.step(np.zeros(2, np.int64))
    env.close()
    return step.reward.tolist()


@pytest.mark.parametrize(
    ("name", "kwargs", "reward", "vec"),
    [
        ("make_env", {}, 2.5, "auto"),
        ("make_env", {"reward": 5}, 5.5, "sync"),
        ("make_env", {"reward": 5}, 5.5, "async"),
        ("Whole", {}, 3.0, "sync"),
        ("Whole", {"reward": 4}, 4.0, "auto"),
        ("Whole", {"reward": 4}, 4.0, "async"),
    ],
)
def test_a_function_or_a_wrapper_that_needs_no_environment(file, name, kwargs, reward, vec):
    assert rewards(f"{file}:{name}", env_kwargs=kwargs, vec=vec) == [reward, reward]


@pytest.mark.parametrize("vec", ["sync", "async"])
def test_wrappers_go_around_in_order(file, vec):
    first, second = f"{file}:Double", {f"{file}:Add": {"amount": 3.0}}
    assert rewards(f"{file}:Count", wrappers=[first, second], vec=vec) == [5.0, 5.0]
    if vec == "sync":
        assert rewards(f"{file}:Count", wrappers=[second, first], vec=vec) == [8.0, 8.0]
        assert rewards(f"{file}:Count", wrappers=[f"{file}:double"], vec=vec) == [2.0, 2.0]


@pytest.mark.parametrize("name", ["gymnasium.wrappers:TimeAwareObservation", "gymnasium.wrappers.TimeAwareObservation"])
def test_with_wrappers_it_is_gymnasiums_environment_and_said(name):
    env = make("CartPole-v1", 2, wrappers=[name])
    assert env.backend == "sync"
    assert env.backend_reason.startswith("with wrappers it is Gymnasium's environment; ")
    assert env.observation_space.shape == (5,)
    env.close()
    assert make("CartPole-v1", 2).backend == "native"
    with pytest.raises(
        UserError, match=r"wrappers go around Gymnasium's .* use --vec sync or --vec async, not --vec nat"
    ):
        make("CartPole-v1", 2, vec="native", wrappers=[name])


def test_wrappers_are_drawn_too(file):
    env = make(f"{file}:Count", vec="sync", wrappers=[f"{file}:Double"], render=True)
    env.reset(0)
    assert env.render().shape == (8, 8, 3)
    with pytest.raises(UserError, match="make_env cannot be drawn: its function must take render_mode=None"):
        make(f"{file}:make_env", vec="sync", render=True)


@pytest.mark.parametrize(
    ("wrapper", "message"),
    [
        (
            "FILE:Doubel",
            r"wrapper FILE:Doubel: Doubel is not there; FILE has Add, Double, Whole\. Did you mean Double\?",
        ),
        ("FILE:Count", r"Count is no gymnasium.Wrapper, and no function; FILE has"),
        ("builtins:max", r"max is no gymnasium.Wrapper, and no function"),
        ("FILE", r"name the one that is meant, such as FILE:Add"),
        ("Double", r"wrapper 'Double': module:Wrapper or file.py:Wrapper expected"),
        ("gymnasium.wrapers:ClipReward", r"there is no module 'gymnasium.wrapers'"),
        ("FILE:broken", r"wrapper FILE:broken could not be put around .*: OSError: no licence"),
        ("FILE:no_env", r"wrapper FILE:no_env returned int, a gymnasium.Env expected"),
        ({"FILE:Add": {"amont": 3}}, r"wrapper FILE:Add: got an unexpected keyword .*amont' \(it takes amount;"),
        ({"FILE:Double": {"by": 3}}, r"wrapper FILE:Double: .*by"),
    ],
)
def test_mistakes_in_wrappers_are_told(file, wrapper, message):
    named = (
        wrapper.replace("FILE", file)
        if isinstance(wrapper, str)
        else {name.replace("FILE", file): given for name, given in wrapper.items()}
    )
    with pytest.raises(UserError, match=message.replace("FILE", re.escape(file))):
        make(f"{file}:Count", wrappers=[named])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Add", r"Add is a wrapper around another environment: .* --wrappers FILE:Add"),
        ("nothing", r"nothing could not be built with no arguments: .*gymnasium.Env"),
        ("make_en", r"has no environment 'make_en'"),
    ],
)
def test_mistakes_in_functions_are_told(file, name, message):
    with pytest.raises(UserError, match=message.replace("FILE", re.escape(file))):
        make(f"{file}:{name}")


def test_arguments_that_the_constructor_has_itself_reach_it(file):
    env = make_single(f"{file}:Count", env_kwargs={"max_episode_steps": 3, "id": 7, "num_envs": 5})
    assert env.unwrapped.args == (1.0, 3, 7, 5)
    assert not isinstance(env, gymnasium.wrappers.TimeLimit)
    env.reset(seed=0)
    assert [env.step(0)[2:4] for _ in range(3)] == [(False, False), (False, False), (True, False)]


def test_a_registered_limit_does_not_cut_the_constructors_own_short(file):
    gymnasium.register("OwnLimit-v0", f"{Path(file).stem}:Count", max_episode_steps=4)
    try:
        for limit in (2, 6):
            env = make_single("OwnLimit-v0", env_kwargs={"max_episode_steps": limit})
            env.reset(seed=0)
            steps = 1
            while not (ended := env.step(0)[2:4])[0]:
                assert ended == (False, False)
                steps += 1
            assert steps == limit
    finally:
        del gymnasium.registry["OwnLimit-v0"]


def test_a_limit_that_the_constructor_lacks_is_a_time_limit(file):
    env = make_single(f"{file}:Plain", env_kwargs={"max_episode_steps": 2})
    env.reset(seed=0)
    assert [env.step(0)[2:4] for _ in range(2)] == [(False, False), (False, True)]


@pytest.mark.parametrize("vec", ["sync", "async"])
def test_infos_of_episodes_that_ended(file, vec):
    kwargs = {"max_episode_steps": 2, "id": 4}
    env = make(f"{file}:Count", 3, vec=vec, env_kwargs=kwargs)
    env.reset(0)
    found = [env.step(np.zeros(3, np.int64)).infos for _ in range(4)]
    env.close()
    assert found == [{}, {row: {"t": 2, "own": 4} for row in range(3)}] * 2


@pytest.mark.parametrize("vec", ["sync", "async"])
def test_what_cannot_cross_processes_is_left_out_of_infos(tmp_path, vec):
    (tmp_path / "locked.py").write_text(FILE.replace('"own": self.args[2]', '"own": __import__("threading").Lock()'))
    env = make(f"{tmp_path / 'locked.py'}:Count", 2, vec=vec, env_kwargs={"max_episode_steps": 1})
    env.reset(0)
    assert env.step(np.zeros(2, np.int64)).infos == {0: {"t": 1}, 1: {"t": 1}}
    env.close()


def test_a_second_copy_that_cannot_be_built_says_what_to_do(tmp_path):
    (tmp_path / "one.py").write_text(FILE + ONE)
    with pytest.raises(
        UserError, match=r"port in use \(the first copy could be built, a further one not; .*--one-inst"
    ):
        make(f"{tmp_path / 'one.py'}:One", 2, vec="sync")
    make(f"{tmp_path / 'one.py'}:One", 1, vec="sync").close()


ONE = """
class One(Count):
    open = 0
    def __init__(self):
        super().__init__()
        if One.open: raise RuntimeError("port in use")
        One.open += 1
    def close(self): One.open -= 1
"""
