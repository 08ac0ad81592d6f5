"""Our own dynamics: Gymnasium's to rounding, the same on NumPy and torch, and proper Gymnasium environments."""

from __future__ import annotations

import subprocess
import sys
import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

from envs.dynamics.base import Dynamics
from envs.dynamics.cartpole import CartPole
from envs.dynamics.pendulum import Pendulum
from envs.errors import UserError
from envs.native import NativeVecEnv, NumpyArrays, TorchArrays
from envs.spaces import ObservationCodec

N = 4
TASKS = [CartPole(), CartPole(sutton_barto_reward=True), Pendulum(), Pendulum(g=9.81)]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA"))]


def policy(task: Dynamics, obs: np.ndarray, rng: np.random.Generator, skill: float) -> np.ndarray:
    """Random actions, but with probability `skill` the one that keeps CartPole up for whole episodes."""
    if isinstance(task, CartPole):
        good = (obs[:, 2] + 0.3 * obs[:, 3] + 0.02 * obs[:, 0] + 0.05 * obs[:, 1] > 0).astype(np.int64)
        return np.where(rng.random(len(obs)) < skill, good, rng.integers(0, 2, len(obs)))
    return rng.uniform(-3, 3, (len(obs), 1)).astype(np.float32)  # beyond the bounds too


def twins(task: Dynamics) -> list[Any]:
    arguments = {name: getattr(task, name) for name in ("sutton_barto_reward", "g") if name in task.__slots__}
    return [gymnasium.make(task.gymnasium_id, **arguments).unwrapped for _ in range(N)]


@pytest.mark.parametrize(("task", "skill"), [*((task, 0.0) for task in TASKS), (TASKS[0], 0.95)])
def test_long_rollouts_agree_with_gymnasium(task, skill):
    rng = np.random.default_rng(0)
    env, others = NativeVecEnv(task, N, NumpyArrays()), twins(task)
    obs = env.reset(seed=1)
    for other in others:
        other.reset(seed=0)
    begin = np.ones(N, bool)
    lengths = np.zeros(N, int)
    finished: list[tuple[int, bool]] = []
    for _ in range(2000):
        if begin.any():  # the same initial states
            states = env.state_dict()["state"]
            for row in np.flatnonzero(begin):
                others[row].state = states[: len(others[row].state), row]
                others[row].steps_beyond_terminated = None
        actions = policy(task, obs, rng, skill)
        step = env.step(actions)
        wanted, rewards, terminated, _, _ = zip(
            *(other.step(one) for other, one in zip(others, actions, strict=True)), strict=True
        )
        lengths += 1
        assert np.abs(step.next_obs - np.array(wanted)).max() < 1e-6
        assert np.abs(step.reward - rewards).max() < 1e-6
        assert step.terminated.tolist() == list(terminated)
        assert step.truncated.tolist() == (lengths == task.max_episode_steps).tolist()
        begin = step.terminated | step.truncated
        finished += [(int(lengths[row]), bool(step.truncated[row])) for row in np.flatnonzero(begin)]
        lengths[begin] = 0
        assert np.array_equal(step.obs[~begin], step.next_obs[~begin])
        obs = step.obs
    assert len(finished) > 4
    assert any(truncated for _, truncated in finished) == (skill > 0 or isinstance(task, Pendulum))


@pytest.mark.parametrize("task_id", ["CartPole-v1", "Pendulum-v1"])
def test_one_seed_begins_as_gymnasium_does(task_id):
    ours, theirs = gymnasium.make(f"native/{task_id}"), gymnasium.make(task_id)
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    ours.action_space.seed(0)
    a, _ = ours.reset(seed=5)
    b, _ = theirs.reset(seed=5)
    for _ in range(700):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)
        action = ours.action_space.sample()
        a, reward, terminated, truncated, _ = ours.step(action)
        b, *others, _ = theirs.step(action)
        np.testing.assert_allclose([reward, terminated, truncated], others, atol=1e-6)
        if terminated or truncated:
            a, _ = ours.reset()
            b, _ = theirs.reset()


@pytest.mark.parametrize("task_id", ["CartPole-v1", "Pendulum-v1"])
def test_gymnasiums_checker_is_content(task_id):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for allowed in ("minimum value is -infinity", "maximum value is infinity", "symmetric and normalized space"):
            warnings.filterwarnings("ignore", f".*{allowed}")  # what it says of Gymnasium's own two as well
        check_env(gymnasium.make(f"native/{task_id}").unwrapped)


def test_they_can_be_made_from_anywhere(tmp_path):
    code = (
        "import gymnasium, sys; gymnasium.make('envs.native:native/Pendulum-v1').reset(); print('torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"  # and without importing torch


class SameDraws(TorchArrays):
    """torch with NumPy's random numbers."""

    def seed(self, seed: int) -> None:
        self.numpy = np.random.default_rng(seed)

    def uniform(self, rows: int, columns: int) -> Any:
        return torch.from_numpy(self.numpy.random((rows, columns))).to(self.device)


class EveryTick(NumpyArrays):
    """NumPy that draws on every tick, as an accelerator must."""

    device = "every tick"


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("device", DEVICES)
def test_torch_agrees_with_numpy(task, device):
    arrays = NumpyArrays() if device == "cpu" else EveryTick()
    rng = np.random.default_rng(0)
    one = NativeVecEnv(task, N, arrays, rescale_action=True)
    other = NativeVecEnv(task, N, SameDraws(device), rescale_action=True)
    obs = one.reset(seed=1)
    np.testing.assert_allclose(other.reset(seed=1).cpu(), obs, atol=1e-6)
    for _ in range(400):
        actions = policy(task, obs, rng, 0.9)
        expected, got = one.step(actions), other.step(torch.from_numpy(actions).to(device))
        for name in ("obs", "reward", "terminated", "truncated", "next_obs"):
            a, b = getattr(expected, name), getattr(got, name)
            assert b.device.type == device
            assert torch.from_numpy(a).dtype == b.dtype
            assert b.is_contiguous()
            np.testing.assert_allclose(b.cpu().numpy(), a, rtol=0, atol=1e-5)
        obs = expected.obs


@pytest.mark.parametrize("device", DEVICES)
def test_a_torch_position_is_restored(device):
    env, fresh = (NativeVecEnv(CartPole(), N, TorchArrays(device)) for _ in range(2))
    env.reset(seed=0)
    action = torch.ones(N, dtype=torch.int64, device=device)
    for _ in range(15):
        env.step(action)
    state = env.state_dict()
    expected = [env.step(action) for _ in range(30)]
    assert fresh.load_state_dict(state) == []
    for step in expected:
        assert torch.equal(fresh.step(action).obs, step.obs)
    with pytest.raises(UserError, match="random state"):
        NativeVecEnv(CartPole(), N, NumpyArrays()).load_state_dict(state)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
def test_a_step_can_be_captured_in_a_cuda_graph():
    arrays, plain = TorchArrays("cuda"), TorchArrays("cuda")
    env, eager = NativeVecEnv(CartPole(), 64, arrays), NativeVecEnv(CartPole(), 64, plain)
    assert env.capturable
    action = torch.zeros(64, dtype=torch.int64, device="cuda")
    env.reset(seed=0)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        env.step(action)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(arrays.generator)
    with torch.cuda.graph(graph):
        step = env.step(action)
    env.reset(seed=0)
    eager.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(200):
        action.copy_(torch.from_numpy(rng.integers(0, 2, 64)))
        graph.replay()
        expected = eager.step(action)
        assert torch.equal(step.terminated, expected.terminated)
        assert torch.equal(step.obs, expected.obs)


def test_rescaled_actions_reach_the_bounds():
    plain, rescaled = (NativeVecEnv(Pendulum(), 2, NumpyArrays(), rescale) for rescale in (False, True))
    assert rescaled.action_space == gymnasium.spaces.Box(-1, 1, (1,))
    plain.reset(seed=0)
    rescaled.reset(seed=0)
    one = plain.step(np.array([[2.0], [-1.0]], np.float32))
    other = rescaled.step(np.array([[7.0], [-0.5]], np.float32))
    np.testing.assert_array_equal(one.next_obs, other.next_obs)


def test_nothing_given_out_is_written_to_again():
    env = NativeVecEnv(CartPole(), N, NumpyArrays())
    kept = [env.reset(seed=0)]
    copies = [kept[0].copy()]
    for _ in range(60):
        step = env.step(np.ones(N, np.int64))
        kept += [step.obs, step.next_obs, step.reward]
        copies += [step.obs.copy(), step.next_obs.copy(), step.reward.copy()]
    for one, copy in zip(kept, copies, strict=True):
        np.testing.assert_array_equal(one, copy)


def test_the_spaces_are_canonical():
    for task in TASKS:
        assert ObservationCodec(task.observation_space).space == task.observation_space


def test_a_nan_action_is_refused():
    env = NativeVecEnv(Pendulum(), 2, NumpyArrays())
    env.reset(seed=0)
    with pytest.raises(UserError, match="diverged"):
        env.step(np.array([[np.nan], [0]], np.float32))


def test_an_action_outside_the_space_is_refused():
    env = gymnasium.make("native/CartPole-v1")
    env.reset(seed=0)
    with pytest.raises(ValueError, match="action 5"):
        env.step(5)


@pytest.mark.parametrize("task", [CartPole(), Pendulum()])
def test_the_picture_is_gymnasiums(task):
    env = NativeVecEnv(task, N, NumpyArrays())
    env.reset(seed=0)
    actions = policy(task, env.reset(seed=0), np.random.default_rng(0), 0)
    other = gymnasium.make(task.gymnasium_id, render_mode="rgb_array").unwrapped
    other.reset(seed=0)
    other.state = env.state_dict()["state"][: len(other.state), 1]
    first = env.render(1)
    env.step(actions)
    other.step(actions[1])
    picture = env.render(1)
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, other.render())
    assert not np.array_equal(picture, first)
    env.close()
