"""EnvPool and ALE: the same contract, the same transitions as Gymnasium where that can be said, and what cannot."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from envs.adapters import atari
from envs.adapters.threads import EnvPoolVecEnv, ThreadsVecEnv
from envs.api import VecEnv
from envs.errors import EnvError, UserError
from envs.locate import locate
from envs.make import make
from envs.seeding import derive_seed

needs_envpool = pytest.mark.skipif(importlib.util.find_spec("envpool") is None, reason="EnvPool is not installed")
needs_ale = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("ale_py", "cv2")), reason="the Atari extra is not installed"
)
needs_box2d = pytest.mark.skipif(importlib.util.find_spec("Box2D") is None, reason="Box2D is not installed")

CASES = [
    pytest.param("CartPole-v1", "envpool", {}, marks=needs_envpool),
    pytest.param("Acrobot-v1", "envpool", {"max_episode_steps": 7}, marks=needs_envpool),
    pytest.param("LunarLander-v3", "envpool", {}, marks=[needs_envpool, needs_box2d]),
    pytest.param("ALE/Pong-v5", "ale", {"max_episode_steps": 9}, marks=needs_ale),
]


def actions_for(env: VecEnv, count: int) -> list[np.ndarray]:
    env.action_space.seed(0)
    return [np.stack([env.action_space.sample() for _ in range(env.num_envs)]) for _ in range(count)]


@pytest.mark.parametrize(("name", "vec", "kwargs"), CASES)
def test_the_contract_holds(name, vec, kwargs):
    env = make(name, 3, vec=vec, env_kwargs=kwargs)
    single = make(name, 1, vec="sync", env_kwargs=kwargs)
    assert (env.observation_space, env.action_space) == (single.observation_space, single.action_space)
    obs = env.reset(seed=1)
    before, ended_before, lengths, ends = obs.copy(), np.zeros(3, bool), np.zeros(3, int), 0
    limit = kwargs.get("max_episode_steps", locate(name).max_episode_steps)
    for action in actions_for(env, 150):
        step = env.step(action)
        assert step.obs.dtype == env.observation_space.dtype
        assert step.obs.shape == step.next_obs.shape == (3, *env.observation_space.shape)
        assert step.reward.dtype == np.float32
        np.testing.assert_array_equal(obs, before)  # what was returned stays as it was
        ended = step.terminated | step.truncated
        dummy = np.zeros(3, bool) if step.valid is None else ~step.valid
        np.testing.assert_array_equal(dummy, ended_before if vec == "envpool" else False)
        assert not step.reward[dummy].any()
        assert not ended[dummy].any()
        lengths = np.where(dummy, 0, lengths + 1)
        assert (lengths[step.truncated] == limit).all()
        assert (lengths[step.terminated] < limit).all()
        same = (step.obs == step.next_obs).reshape(3, -1).all(axis=1)
        np.testing.assert_array_equal(same, ~ended if vec == "ale" else True)
        ends += ended.sum()
        if vec == "ale":
            lengths[ended] = 0
        obs, before, ended_before = step.obs, step.obs.copy(), ended
    assert ends > 2
    env.close()
    single.close()


@pytest.mark.parametrize(("name", "vec", "kwargs"), CASES)
def test_the_seed_decides_everything(name, vec, kwargs):
    env = make(name, 3, vec=vec, env_kwargs=kwargs)

    def play(seed: int) -> list[np.ndarray]:
        return [env.reset(seed), *(env.step(action).obs for action in actions_for(env, 40))]

    one, again, other = play(1), play(1), play(2)
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)
    assert len(np.unique(one[-1].reshape(3, -1), axis=0)) > 1
    env.close()


@pytest.mark.parametrize(("name", "vec", "kwargs"), CASES)
def test_what_cannot_be_restored_is_said(name, vec, kwargs):
    env = make(name, 2, vec=vec, env_kwargs=kwargs)
    env.reset(seed=0)
    first, second, third = actions_for(env, 3)
    env.step(first)
    (told,) = env.load_state_dict(env.state_dict())
    assert "begin new episodes" in told
    assert not env.step(second).valid.any()
    assert env.step(third).valid is None
    with pytest.raises(UserError, match="damaged"):
        env.load_state_dict({"seed": 1})
    env.close()


@needs_envpool
def test_the_halves_of_a_step_are_envpools_own():
    env, whole = (make("CartPole-v1", 4, vec="envpool") for _ in range(2))
    assert isinstance(env, EnvPoolVecEnv)
    env.reset(seed=3)
    whole.reset(seed=3)
    for action in actions_for(env, 60):
        env.send(action)
        step, expected = env.receive(), whole.step(action)
        np.testing.assert_array_equal(step.obs, expected.obs)
        np.testing.assert_array_equal(step.terminated, expected.terminated)


def stand_cartpole(env: Any, obs: np.ndarray) -> None:
    env.state = tuple(obs)


def stand_pendulum(env: Any, obs: np.ndarray) -> None:
    env.state = np.array([np.arctan2(obs[1], obs[0]), obs[2]], np.float64)


def stand_acrobot(env: Any, obs: np.ndarray) -> None:
    env.state = np.array([np.arctan2(obs[1], obs[0]), np.arctan2(obs[3], obs[2]), obs[4], obs[5]], np.float64)


def stand_planar(env: Any, obs: np.ndarray) -> None:
    positions = env.model.nq - 1  # where along the track is not observed
    env.set_state(np.concatenate(([0.0], obs[:positions])), obs[positions:])


STANDS: dict[str, tuple[Any, float, str | None]] = {
    "CartPole-v1": (stand_cartpole, 1e-5, None),
    "MountainCar-v0": (stand_cartpole, 1e-5, None),
    "Pendulum-v1": (stand_pendulum, 1e-4, None),
    "Acrobot-v1": (stand_acrobot, 1e-4, None),
    "HalfCheetah-v5": (stand_planar, 1e-4, "mujoco"),
    "Hopper-v5": (stand_planar, 1e-4, "mujoco"),
    "Walker2d-v5": (stand_planar, 1e-4, "mujoco"),
}


@needs_envpool
@pytest.mark.parametrize("name", STANDS)
def test_envpool_steps_as_gymnasium_does_from_the_same_state(name):
    stand, tolerance, package = STANDS[name]
    if package is not None:
        pytest.importorskip(package)
    env, pool = gymnasium.make(name, disable_env_checker=True), EnvPoolVecEnv(locate(name), 1, None, spaces.Discrete(1))
    raw: Any = env.unwrapped
    env.reset(seed=0)
    stand(raw, pool._make(derive_seed(4, "env")).reset()[0][0])
    pool.reset(seed=4)
    env.action_space.seed(0)
    for _ in range(15):
        action = env.action_space.sample()
        obs, reward, terminated, _, _ = raw.step(action)
        step = pool.step(np.asarray(action)[None])
        np.testing.assert_allclose(step.next_obs[0], obs, atol=tolerance)
        np.testing.assert_allclose(step.reward[0], reward, atol=tolerance)
        assert step.terminated[0] == terminated
        if terminated:
            break


@needs_envpool
def test_auto_takes_envpool_only_for_the_same_environment():
    env = make("FrozenLake-v1", 2)
    assert (env.backend, env.backend_reason.partition(";")[0]) == ("envpool", "EnvPool is installed and has it")
    assert make("FrozenLake-v1", 2, env_kwargs={"max_episode_steps": 9}).backend == "envpool"
    assert make("CartPole-v1", 2).backend == "native"
    assert make("FrozenLake-v1", 1, render=True).backend == "sync"
    assert make("FrozenLake-v1", 1, env_kwargs={"is_slippery": False}).backend == "sync"
    assert make("tests.envs.small_envs:Walk", 1).backend == "sync"


@needs_envpool
def test_the_spaces_that_a_model_keeps_are_gymnasiums():
    pytest.importorskip("Box2D")
    env, own = make("LunarLander-v3", 2), gymnasium.make("LunarLander-v3")
    assert env.backend == "envpool"
    assert env.own_spaces == (own.observation_space, own.action_space)


@needs_envpool
def test_an_envpool_that_is_too_old_is_told(monkeypatch):
    monkeypatch.setattr("importlib.metadata.version", lambda package: "1.1.10")
    with pytest.raises(UserError, match=r"EnvPool 1\.1\.10 is too old"):
        make("FrozenLake-v1", 1, vec="envpool")
    assert make("FrozenLake-v1", 1).backend == "sync"


@needs_envpool
@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("Taxi-v4", {}, "EnvPool has no Taxi-v4"),
        ("FrozenLake-v1", {"is_slippery": False}, "no argument but max_episode_steps here, got is_slippery"),
        ("Blackjack-v1", {}, "EnvPool's Blackjack-v1 has observations Box"),
    ],
)
def test_what_envpool_cannot_do_is_told(name, kwargs, message):
    with pytest.raises(UserError, match=message):
        make(name, 2, vec="envpool", env_kwargs=kwargs)


@needs_ale
@pytest.mark.parametrize(
    ("name", "kwargs"), [("ALE/Pong-v5", {"repeat_action_probability": 0.0}), ("PongNoFrameskip-v4", {})]
)
def test_games_look_the_same_alone_and_together(monkeypatch, name, kwargs):
    """Without sticky actions, which the registration of NoFrameskip-v4 rules out."""
    monkeypatch.setattr(atari, "_NOOPS", 0)  # the emulators draw how many from generators of their own
    kwargs = {**kwargs, "max_episode_steps": 80}
    single, together = (make(name, 1, vec=vec, env_kwargs=kwargs) for vec in ("sync", "ale"))
    assert isinstance(together, ThreadsVecEnv)
    np.testing.assert_array_equal(single.reset(seed=0), together.reset(seed=0))
    points = 0.0
    for action in actions_for(single, 170):
        one, other = single.step(action), together.step(action)
        for field in ("obs", "reward", "terminated", "truncated", "next_obs"):
            np.testing.assert_array_equal(getattr(one, field), getattr(other, field))
        points += abs(one.reward[0])
    assert points > 0


@needs_ale
def test_games_without_frame_skip_are_preprocessed_on_every_backend():
    for vec, backend in (("auto", "ale"), ("sync", "sync"), ("async", "async"), ("ale", "ale")):
        env = make("PongNoFrameskip-v4", 2, vec=vec)
        assert (env.backend, env.observation_space) == (backend, spaces.Box(0, 255, (4, 84, 84), np.uint8))
        assert "raw" not in env.backend_reason
        env.close()
    one = make("PongNoFrameskip-v4", 1, vec="sync")
    emulator = one._envs[0].unwrapped.ale
    assert emulator.getFloat("repeat_action_probability") == 0
    one.reset(seed=0)
    before = emulator.getEpisodeFrameNumber()
    one.step(np.zeros(1, np.int64))
    assert emulator.getEpisodeFrameNumber() == before + 4


@needs_ale
def test_raw_frames_are_told():
    for vec in ("auto", "async"):
        env = make("ale_py:Pong-v4", 2, vec=vec)
        assert env.observation_space.shape == (210, 160, 3)
        assert "its observations are raw frames, 210x160x3; ALE/Pong-v5 is preprocessed" in env.backend_reason
        env.close()
    assert "raw" not in make("ale_py:Pong-v4", 1, env_kwargs={"obs_type": "ram"}).backend_reason


@needs_ale
def test_games_without_opencv_name_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(UserError, match=r'ALE/Pong-v5 needs .*: pip install -e "\.\[atari\]"'):
        make("ALE/Pong-v5", 1, vec="sync")


@needs_ale
def test_auto_plays_games_in_the_emulators_threads():
    env = make("ALE/Pong-v5", 2)
    assert (env.backend, env.observation_space.shape) == ("ale", (4, 84, 84))
    with pytest.raises(UserError, match="frameskip must be an integer of at least 1, got 0"):
        make("ALE/Pong-v5", 1, env_kwargs={"frameskip": 0})
    with pytest.raises(UserError, match="takes no argument 'obs_type'; it takes frameskip, full_action_space, max_ep"):
        make("ALE/Pong-v5", 1, env_kwargs={"obs_type": "ram"})
    with pytest.raises(EnvError, match="the vector environment raised"):
        env.step(np.zeros(5, np.int64))
