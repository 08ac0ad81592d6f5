"""Every way to name an environment, every backend, and every message for what cannot be built."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from envs.adapters.sync import SyncVecEnv
from envs.errors import EnvError, UserError
from envs.locate import env_label
from envs.make import make
from envs.native.base import Dynamics
from envs.native.gym_env import DYNAMICS
from envs.single import has_time_limit, make_single
from tests.envs.small_envs import Drift

SMALL_ENVS = Path(__file__).with_name("small_envs.py")

GRID = """
import gymnasium, numpy as np
from gymnasium import spaces
from neighbour import SIZE

class Limit(gymnasium.Wrapper): ...

class Grid(gymnasium.Env):
    metadata = {"render_modes": ["rgb_array"]}
    def __init__(self, size=SIZE, render_mode=None):
        self.size = size
        self.render_mode = render_mode
        self.observation_space = spaces.Dict({"at": spaces.Box(0, size, (2,)), "k": spaces.Discrete(2)})
        self.action_space = spaces.Discrete(3, start=5)
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.look(), {}
    def step(self, action):
        self.t += 1
        return self.look(), 1.0, False, self.t >= 50, {}
    def look(self):
        return {"at": self.np_random.uniform(0, self.size, 2), "k": self.t % 2}
    def render(self):
        return np.full((8, 8, 3), 90, np.uint8)
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder with a user's files, and afterwards no trace of what they did."""
    monkeypatch.chdir(tmp_path)
    before = set(gymnasium.registry)
    modules, path = set(sys.modules), list(sys.path)
    (tmp_path / "neighbour.py").write_text("SIZE = 4\n")
    (tmp_path / "grid.py").write_text(GRID)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
    for name in set(gymnasium.registry) - before:
        del gymnasium.registry[name]


def walk(env: Any, steps: int = 60) -> Any:
    env.reset(seed=0)
    for _ in range(steps):
        step = env.step(np.stack([env.action_space.sample() for _ in range(env.num_envs)]))
    env.close()
    return step


@pytest.mark.parametrize(
    ("name", "vec"),
    [
        *((name, "auto") for name in ("grid.py", "grid.py:Grid", "./grid.py:Grid", "grid:Grid", "absolute")),
        *((name, "async") for name in ("grid.py", "grid:Grid")),
    ],
)
def test_a_users_own_file(here, name, vec):
    env = make(str(here / "grid.py") if name == "absolute" else name, 2, vec=vec)
    assert env.observation_space == spaces.Dict({"at": spaces.Box(0, 4, (2,)), "k": spaces.Discrete(2)})
    assert env.action_space == spaces.Discrete(3)
    assert walk(env).obs["at"].shape == (2, 2)


def test_a_file_that_registers_one_id(here):
    text = "import gymnasium\ngymnasium.register('mine/Small-v3', entry_point='grid:Grid', max_episode_steps=3)\n"
    (here / "grid.py").write_text(GRID + text)
    for name in ("grid.py", "grid.py:mine/Small-v3", "grid:mine/Small-v3"):
        step = walk(make(name, 1), steps=3)
        assert step.truncated.all()


def test_arguments_reach_a_users_environment(here):
    env = make("grid.py", 1, env_kwargs={"size": 9, "max_episode_steps": 2})
    assert env.observation_space["at"].high[0] == 9
    assert walk(env, steps=2).truncated.all()
    with pytest.raises(UserError, match=r"Grid takes no argument 'sise'; it takes max_episode_steps, size\. Did you"):
        make("grid.py", 1, env_kwargs={"sise": 9})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gird.py", r"no file 'gird.py' .*Did you mean grid.py"),
        ("nowhere/x.py:Grid", "no file 'nowhere/x.py'"),
        ("grid.py:Gird", r"grid.py has no environment 'Gird'; it has Grid\. Did you mean Grid\?"),
        ("grid:Gird", "grid has no environment 'Gird'; it has Grid"),
        ("neighbour.py", "neighbour.py must define one gymnasium.Env class.*found nothing"),
        ("neighbour:Grid", "neighbour has no environment 'Grid', and no other"),
        ("builtins:max", "builtins has no environment 'max', and no other"),
        (
            "plain.py:Plain",
            r"plain.py: Plain is a class, but none of gymnasium\.Env: derive it, class Plain\(gymnasium.Env\)",
        ),
        ("two.py", "two.py must define one gymnasium.Env class, or name it: --env two.py:NAME; found A, B"),
        ("broken.py:A", r"broken.py could not be imported: ZeroDivisionError"),
        ("broken:A", r"module 'broken' could not be imported: ZeroDivisionError"),
        ("needy:A", r"module 'needy' needs 'not_there', which is not installed"),
        ("needy.py:A", r"needy.py could not be imported: ModuleNotFoundError: No module named 'not_there'"),
        ("no_such_module:A-v0", "there is no module 'no_such_module'"),
    ],
)
def test_what_is_wrong_with_a_users_file_is_told(here, name, message):
    two = "import gymnasium\nclass A(gymnasium.Env): ...\nclass B(gymnasium.Env): ...\n"
    (here / "two.py").write_text(two)
    (here / "plain.py").write_text("class Plain: ...\n")
    (here / "broken.py").write_text("1 / 0\n")
    (here / "needy.py").write_text("import not_there\n")
    with pytest.raises(UserError, match=message):
        make(name, 1)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("CartPole-v9", "CartPole-v1"),
        ("cartpole-v1", "CartPole-v1"),
        ("CartPole", "CartPole-v1"),
        ("Cartpol-v1", "CartPole-v1"),
        ("LunarLander-v2", "LunarLander-v3"),
        ("MountinCar-v0", "MountainCar-v0"),
        ("Brick-v0", "Bricks-v0"),
        ("Submarin-v0", "Submarine-v0"),
        ("corridor", "Corridor-v0"),
        ("HalfCheetah-v1", "HalfCheetah-v5"),
    ],
)
def test_a_misspelt_id_meets_the_nearest(name, nearest):
    with pytest.raises(UserError, match=rf"no environment '{name}'\. Did you mean {nearest}"):
        make(name)


@pytest.mark.parametrize(
    ("name", "missing", "extra"),
    [
        ("LunarLander-v3", "Box2D", "box2d"),
        ("Hopper-v5", "mujoco", "mujoco"),
        ("ALE/Pong-v5", "ale_py", "atari"),
        ("PongNoFrameskip-v4", "ale_py", "atari"),
        ("MiniGrid-Any-v0", "minigrid", "minigrid"),
    ],
)
def test_a_missing_extra_is_named_with_its_pip_line(monkeypatch, name, missing, extra):
    for module in list(sys.modules):
        if module.startswith((missing, f"gymnasium.envs.{extra}")):
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UserError, match=rf'{name} needs .*: pip install -e "\.\[{extra}\]"'):
        make(name)


def test_another_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax", None)
    with pytest.raises(UserError, match="phys2d/CartPole-v1 needs the package 'jax': pip install jax"):
        make("phys2d/CartPole-v1")


def test_versions_that_gymnasium_gave_up_name_their_successor():
    with pytest.raises(UserError, match="HalfCheetah-v3 is no longer supported: use HalfCheetah-v5"):
        make("HalfCheetah-v3")


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("CartPole-v1", {"foo": 1}, "takes no argument 'foo'; it takes sutton_barto_reward, max_episode_steps"),
        ("CartPole-v1", {"sutton_barto_reward": 1}, "sutton_barto_reward must be true or false, got 1"),
        ("CartPole-v1", {"max_episode_steps": 0}, "max_episode_steps must be an integer of at least 1, got 0"),
        ("Pendulum-v1", {"g": "low"}, "g must be a number, got 'low'"),
        ("FrozenLake-v1", {"map": "4x4"}, r"takes no argument 'map'; .*Did you mean map_name"),
        ("FrozenLake-v1", {"map_name": "9x9"}, "could not be built with map_name='9x9': KeyError"),
    ],
)
def test_bad_arguments_are_told(name, arguments, message):
    with pytest.raises(UserError, match=f"{name}.* {message}"):
        make(name, env_kwargs=arguments)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("Blackjack-v1", {"vec": "native"}, "Blackjack-v1 has no native version"),
        ("Acrobot-v1", {"vec": "vector"}, "Acrobot-v1 has no vector version of its own"),
        ("Acrobot-v1", {"vec": "snyc"}, r"vec must be one of auto, .*got 'snyc'\. Did you mean sync"),
        ("Acrobot-v1", {"num_envs": 0}, "at least 1, got 0"),
        ("CartPole-v1", {"device": "abacus"}, "no device 'abacus'"),
        ("tests.envs.small_envs:Walk", {"vec": "envpool"}, "EnvPool has no Walk: use --vec auto"),
        ("Acrobot-v1", {"vec": "envpool", "render": True}, "--vec envpool cannot be drawn: use --vec sync"),
        ("Acrobot-v1", {"vec": "ale"}, "Acrobot-v1 is no game of the Atari emulator"),
    ],
)
def test_a_backend_that_does_not_exist_is_told(name, options, message):
    with pytest.raises(UserError, match=message):
        make(name, **options)


def test_a_missing_envpool_is_named_with_its_pip_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "envpool", None)
    with pytest.raises(UserError, match=r'--vec envpool needs .*: pip install -e "\.\[envpool\]"'):
        make("LunarLander-v3", 2, vec="envpool")
    assert make("LunarLander-v3", 1).backend == "sync"


@pytest.mark.parametrize(
    ("name", "vec", "backend"),
    [
        ("CartPole-v1", "auto", "native"),
        ("native/Pendulum-v1", "auto", "native"),
        ("native/CartPole-v1", "sync", "sync"),
        ("Acrobot-v1", "auto", "native"),
        ("Bricks-v0", "auto", "native"),
        ("tests.envs.small_envs:Drift", "auto", "sync"),
        ("CartPole-v1", "vector", "vector"),
        ("CartPole-v1", "async", "async"),
    ],
)
def test_the_backend_is_what_was_asked_for(name, vec, backend):
    env = make(name, 2, vec=vec)
    assert env.backend == backend
    assert env.num_envs == 2
    walk(env, steps=3)


@pytest.mark.parametrize(
    ("kind", "count", "backend"), [("Slow", 2, "async"), ("Slow", 1, "sync"), ("Drift", 2, "sync")]
)
def test_slow_environments_get_a_process_each(monkeypatch, kind, count, backend):
    monkeypatch.setattr("envs.make.cores", lambda: 4)
    env = make(f"tests.envs.small_envs:{kind}", count)
    assert env.backend == backend
    walk(env, steps=2)


def test_auto_says_what_it_chose_and_why(monkeypatch):
    monkeypatch.setattr("envs.make.cores", lambda: 4)
    reasons = {
        "CartPole-v1": "native: our own version",
        "tests.envs.small_envs:Drift": "sync: a step takes [0-9]+ us: too quick",
    }
    for name, reason in reasons.items():
        env = make(name, 2)
        assert re.match(reason, f"{env.backend}: {env.backend_reason}"), env.backend_reason
    assert make("Acrobot-v1", 1, vec="sync").backend_reason == "as set"


@dataclass(frozen=True)
class Guess(Dynamics):
    """A native task that takes the place of Gymnasium's Blackjack, has another argument, and cannot be drawn."""

    env_id: ClassVar[str] = "Blackjack-v1"
    observation_space: ClassVar[spaces.Box] = spaces.Box(-1, 1, (1,))
    action_space: ClassVar[spaces.Discrete] = spaces.Discrete(2)

    decks: int = 1
    max_episode_steps: int = 3

    def init(self, xp: Any, uniform: Any) -> Any:
        return xp.zeros((1, uniform.shape[1]), dtype=xp.float64, device=uniform.device)

    def step(self, xp: Any, state: Any, action: Any, uniform: Any) -> tuple[Any, Any, Any]:
        return state * 1, state[0], state[0] > 1

    def observe(self, xp: Any, state: Any) -> Any:
        return state.T


@pytest.mark.parametrize("vec", ["sync", "async"])
def test_by_name_sync_and_async_take_gymnasiums_own_where_a_native_task_has_its_id(monkeypatch, vec):
    monkeypatch.setitem(DYNAMICS, "Blackjack-v1", Guess)
    assert make("Blackjack-v1", 2).backend == "native"
    env = make("Blackjack-v1", 2, vec=vec, env_kwargs={"natural": True}, render=True)
    assert [space.n for space in env.observation_space.values()] == [32, 11, 2]
    env.reset(seed=0)
    assert env.render().shape[2] == 3
    env.close()
    with pytest.raises(UserError, match="Blackjack-v1 takes no argument 'decks'; it takes max_episode_steps, natural"):
        make("Blackjack-v1", 2, vec=vec, env_kwargs={"decks": 2})
    for ours in ("native", "auto"):
        assert make("Blackjack-v1", 2, vec=ours, env_kwargs={"decks": 2}).observation_space == Guess.observation_space
        with pytest.raises(UserError, match="Blackjack-v1 takes no argument 'natural'; it takes decks, max_episode"):
            make("Blackjack-v1", 2, vec=ours, env_kwargs={"natural": True})
        with pytest.raises(UserError, match="Blackjack-v1 cannot be drawn"):
            make("Blackjack-v1", 2, vec=ours, render=True)


class Batched(gymnasium.vector.VectorEnv):
    """A vector version whose observations are those of `Drift`, or not."""

    metadata = {"autoreset_mode": gymnasium.vector.AutoresetMode.SAME_STEP}  # noqa: RUF012

    def __init__(self, num_envs: int, size: int = 3) -> None:
        self.num_envs = num_envs
        self.single_observation_space = spaces.Box(-np.inf, np.inf, (size,))
        self.single_action_space = spaces.Box(-2.0, 3.0, (1,))


@pytest.mark.parametrize(("size", "backend"), [(3, "vector"), (4, "sync")])
def test_auto_takes_a_vector_version_of_the_same_spaces(size, backend):
    gymnasium.register("mine/Drift-v0", entry_point=Drift, vector_entry_point=lambda num_envs: Batched(num_envs, size))
    try:
        assert make("mine/Drift-v0", 2).backend == backend
    finally:
        del gymnasium.registry["mine/Drift-v0"]


def test_an_environment_without_spaces_is_told(here):
    (here / "bare.py").write_text("import gymnasium\nclass Bare(gymnasium.Env): ...\n")
    with pytest.raises(
        UserError, match=r"Bare has no observation_space: its __init__ must set self\.observation_space"
    ):
        make("bare.py", 1)
    (here / "half.py").write_text(
        "import gymnasium\nclass Half(gymnasium.Env):\n    observation_space = gymnasium.spaces.Discrete(2)\n"
    )
    with pytest.raises(UserError, match="Half has no action_space"):
        make("half.py", 1, vec="async")


def test_an_environment_that_exits_while_it_is_built_is_told(here):
    (here / "quits.py").write_text("import gymnasium\nclass Quits(gymnasium.Env):\n    def __init__(self): exit(3)\n")
    with pytest.raises(UserError, match="Quits could not be built with no arguments: SystemExit: 3"):
        make("quits.py", 1)


def test_mujoco_writes_no_log_where_we_are(here, capfd):
    pytest.importorskip("mujoco")
    make("HalfCheetah-v5", 1, vec="sync").reset(seed=0)
    assert "WARNING" not in "".join(capfd.readouterr())
    assert not (here / "MUJOCO_LOG.TXT").exists()


@pytest.mark.parametrize(("fault", "kind"), [("raises", "UnpicklableError"), ("exits", "SystemExit")])
def test_an_environment_that_fails_while_timed_fails_where_it_is_told(monkeypatch, fault, kind):
    monkeypatch.setattr("envs.make.cores", lambda: 4)
    env = make("tests.envs.small_envs:Faulty", 2, env_kwargs={"fault": fault})
    assert (env.backend, env.backend_reason) == ("sync", "a step could not be timed, as it failed")
    with pytest.raises(EnvError, match=f"environment 0 raised {kind} at step 3"):
        walk(env)


def test_pictures_are_made_where_they_are_offered(here):
    env = make("tests.envs.small_envs:Drift", 2, vec="sync", render=True)
    env.reset(seed=0)
    env.step(np.zeros((2, 1), np.float32))
    np.testing.assert_array_equal(env.render(1), np.full((4, 5, 3), 1))
    processes = make("tests.envs.small_envs:Drift", 2, vec="async", render=True)
    processes.reset(seed=0)
    np.testing.assert_array_equal(processes.render(1), np.zeros((4, 5, 3)))
    processes.close()
    vector = make("CartPole-v1", 2, vec="vector", render=True)
    vector.reset(seed=0)
    assert vector.render(1).shape == (400, 600, 3)
    with pytest.raises(UserError, match=r"Walk cannot be drawn: its metadata\['render_modes'\]"):
        make("tests.envs.small_envs:Walk", 1, render=True)
    with pytest.raises(EnvError, match="returned None, not a picture"):
        SyncVecEnv([Drift()]).render()


def test_single_environments_are_gymnasiums():
    env = make_single("Pendulum-v1", env_kwargs={"g": 5.0, "max_episode_steps": 4}, render_mode="rgb_array")
    assert env.unwrapped.g == 5.0
    assert env.render_mode == "rgb_array"
    env.reset(seed=0)
    assert [env.step(np.zeros(1, np.float32))[3] for _ in range(4)] == [False, False, False, True]
    env.close()


@pytest.mark.parametrize(
    ("env_id", "label"),
    [
        ("CartPole-v1", "CartPole-v1"),
        ("ALE/Pong-v5", "ALE-Pong-v5"),
        ("my/file.py:Grid", "Grid"),
        ("my/file.py", "file"),
        ("package.module:Maze-v0", "Maze-v0"),
        ("envs.native:native/CartPole-v1", "native-CartPole-v1"),
        ("../../etc", "etc"),
    ],
)
def test_labels_are_safe_in_paths(env_id, label):
    assert env_label(env_id) == label


def test_gymnasiums_own_warnings_stay_out(recwarn):
    walk(make("tests.envs.small_envs:Walk", 2, vec="sync"))
    assert [str(warning.message) for warning in recwarn] == []


@pytest.mark.parametrize(
    ("env_id", "kwargs", "limited"),
    [
        ("CartPole-v1", {}, True),
        ("Bricks-v0", {}, True),
        ("CliffWalking-v1", {}, False),
        ("CliffWalking-v1", {"max_episode_steps": 100}, True),
        ("CartPole-v1", {"max_episode_steps": -1}, False),
        (f"{SMALL_ENVS}:Drift", {}, False),
        (f"{SMALL_ENVS}:Drift", {"max_episode_steps": 7}, True),
    ],
)
def test_it_is_known_whether_episodes_are_cut(env_id: str, kwargs: dict[str, Any], limited: bool) -> None:
    assert has_time_limit(env_id, kwargs) is limited


@pytest.mark.parametrize("vec", ["sync", "async"])
def test_more_copies_than_can_be_built_one_by_one_are_refused(vec):
    with pytest.raises(UserError, match="n_envs 1000000000: at most 10,000 environments can be built one by one"):
        make("CartPole-v1", 10**9, vec=vec)
