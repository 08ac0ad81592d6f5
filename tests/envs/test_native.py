"""Our own dynamics: Gymnasium's to rounding, the same on NumPy and torch, and proper Gymnasium environments."""

from __future__ import annotations

import subprocess
import sys
import warnings
from dataclasses import asdict, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

from envs.api import Step
from envs.errors import UserError
from envs.locate import locate
from envs.native.arrays import NumpyArrays, TorchArrays
from envs.native.base import Dynamics, Observed
from envs.native.gym_env import DYNAMICS, native_task
from envs.native.tasks.acrobot import Acrobot
from envs.native.tasks.bricks import Bricks
from envs.native.tasks.cartpole import CartPole
from envs.native.tasks.corridor import Corridor
from envs.native.tasks.mountaincar import MountainCar, MountainCarContinuous
from envs.native.tasks.pendulum import Pendulum
from envs.native.tasks.treasure import Treasure
from envs.native.vec_env import NativeVecEnv, tick
from envs.spaces import ObservationCodec
from tests.envs.small_envs import Deck

N = 4
TASKS = [task() for task in dict.fromkeys(DYNAMICS.values())]
TWINS = [task for task in TASKS if str(gymnasium.spec(task.env_id).entry_point).startswith("gymnasium.")]
SLIPPERY = native_task(locate(f"{Path(__file__).parents[2] / 'docs' / 'examples' / 'slippery.py'}"))()
EVERY = [replace(task, max_episode_steps=min(task.max_episode_steps, 40)) for task in [*TASKS, SLIPPERY, Deck()]]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA"))]


def policy(task: Dynamics, obs: Any, rng: np.random.Generator, skill: float) -> np.ndarray:
    """Random actions, but with probability `skill` those that make CartPole's episodes long and the others' short.

    The cars are pushed the way they roll, and the acrobot's second link the way it swings.
    """
    space = task.action_space
    shape = (N, *(space.shape or ()))
    if isinstance(space, gymnasium.spaces.Box):
        actions = rng.uniform(-3, 3, shape).astype(np.float32)  # beyond the bounds too
    else:
        counts = {"Discrete": "n", "MultiDiscrete": "nvec"}
        actions = rng.integers(0, getattr(space, counts.get(type(space).__name__, ""), 2), shape)
    if isinstance(task, CartPole):
        good = obs[:, 2] + 0.3 * obs[:, 3] + 0.02 * obs[:, 0] + 0.05 * obs[:, 1] > 0
    elif type(task) in map(type, TWINS):
        good = np.sign(obs[:, -1:]) if isinstance(space, gymnasium.spaces.Box) else 2 * (obs[:, -1] > 0)
    else:
        return actions
    return np.where(rng.random(shape) < skill, good, actions).astype(actions.dtype)


def twins(task: Dynamics) -> list[Any]:
    arguments = {name: value for name, value in asdict(task).items() if name != "max_episode_steps"}
    return [gymnasium.make(task.env_id, **arguments).unwrapped for _ in range(N)]


def leaves(obs: Any) -> dict[str, np.ndarray]:
    """Return an observation's leaves, or any one array under the name "", as arrays."""
    named = obs if isinstance(obs, dict) else {"": obs}
    return {key: leaf.cpu().numpy() if isinstance(leaf, torch.Tensor) else leaf for key, leaf in named.items()}


def assert_same(one: Any, other: Any, atol: float = 0.0) -> None:
    """Two sequences of arrays, tensors and dicts of them have the same dtypes and, up to `atol`, numbers."""
    for a, b in zip(one, other, strict=True):
        assert leaves(a).keys() == leaves(b).keys()
        for key, leaf in leaves(a).items():
            assert leaf.dtype == leaves(b)[key].dtype
            assert leaf.flags.c_contiguous
            assert leaves(b)[key].flags.c_contiguous
            np.testing.assert_allclose(leaf, leaves(b)[key], rtol=0, atol=atol)


def numbers(step: Any) -> Any:
    """Return a `Step`'s tensors as arrays."""
    return Step(*(np.asarray(getattr(step, field.name)) for field in fields(step)[:5]))


ARRAYS = {"numpy": NumpyArrays, "torch": partial(TorchArrays, "cpu")}
ROLLOUTS = [
    *((task, skill, "numpy") for task in TWINS for skill in (0.0, 0.95)),
    *((task, 0.9, "torch") for task in TWINS),
    (CartPole(sutton_barto_reward=True), 0.0, "numpy"),
    (MountainCar(goal_velocity=0.02), 0.9, "numpy"),
    (MountainCarContinuous(goal_velocity=0.02), 0.9, "numpy"),
    (Pendulum(g=9.81), 0.0, "numpy"),
]


@pytest.mark.parametrize(("task", "skill", "module"), ROLLOUTS, ids=str)
def test_long_rollouts_agree_with_gymnasium(task, skill, module):
    rng = np.random.default_rng(0)
    arrays = ARRAYS[module]()
    env, others = NativeVecEnv(task, N, arrays), twins(task)
    obs = np.asarray(env.reset(seed=1))
    for other in others:
        other.reset(seed=0)
    exact = np.float32 if isinstance(task, MountainCarContinuous) else np.float64  # what Gymnasium computes with
    begin = np.ones(N, bool)
    lengths = np.zeros(N, int)
    finished: list[tuple[int, bool]] = []
    for time in range(max(520, task.max_episode_steps + 20)):
        # The same initial states; and now and then for the acrobot, whose chaos lets rounding grow to 1e-6.
        seated = begin | (isinstance(task, Acrobot) and time % 25 == 0)
        if seated.any():
            states = env.state_dict()["state"]
            for row in np.flatnonzero(seated):
                others[row].state = states[: len(others[row].state), row].astype(exact)
                others[row].steps_beyond_terminated = None
        actions = policy(task, obs, rng, skill)
        taken = env.decode(arrays.from_numpy(actions))  # Gymnasium's cars are charged for what is beyond the bounds
        step = numbers(env.step(arrays.from_numpy(actions)))
        actions = np.asarray(taken)
        wanted, rewards, terminated, _, _ = zip(
            *(other.step(one) for other, one in zip(others, actions, strict=True)), strict=True
        )
        lengths += 1
        assert np.abs(step.next_obs - np.array(wanted)).max() < 1e-6
        np.testing.assert_allclose(step.reward, rewards, rtol=1e-6, atol=1e-6)
        assert step.terminated.tolist() == list(terminated)
        assert step.truncated.tolist() == (lengths == task.max_episode_steps).tolist()
        begin = step.terminated | step.truncated
        finished += [(int(lengths[row]), bool(step.truncated[row])) for row in np.flatnonzero(begin)]
        lengths[begin] = 0
        assert np.array_equal(step.obs[~begin], step.next_obs[~begin])
        obs = step.obs
    assert len(finished) >= 4
    ends = {truncated for _, truncated in finished}
    if isinstance(task, Pendulum):
        assert ends == {True}
    else:
        assert (isinstance(task, CartPole) == (skill == 0)) == (False in ends)


@pytest.mark.parametrize("task_id", [task.env_id for task in TWINS])
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
        if isinstance(ours.action_space, gymnasium.spaces.Box):
            action *= 3  # beyond the bounds too
        a, reward, terminated, truncated, _ = ours.step(action)
        b, *others, _ = theirs.step(action)
        np.testing.assert_allclose([reward, terminated, truncated], others, atol=1e-6)
        if terminated or truncated:
            a, _ = ours.reset()
            b, _ = theirs.reset()


@pytest.mark.parametrize("task_id", [task.env_id for task in TASKS])
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


@pytest.mark.parametrize("task", EVERY, ids=str)
@pytest.mark.parametrize("device", DEVICES)
def test_a_tick_is_the_same_on_torch_and_on_numpy_compiled_or_not(task, device):
    """Compiled without a break, by the part of the compiler that would find one, and without making code."""
    rng = np.random.default_rng(0)
    env = NativeVecEnv(task, N, NumpyArrays())
    torch._dynamo.reset()
    compiled = torch.compile(tick, fullgraph=True, backend="eager")
    obs = env.reset(seed=1)
    ours: list[Any] = [env.state.copy(), env.steps.copy()]
    theirs = [torch.from_numpy(array).to(device) for array in ours]
    ends = 0
    for time in range(120):
        action, uniform = env.decode(policy(task, obs, rng, 0.9)), rng.random((task.uniforms + task.step_uniforms, N))
        expected = tick(np, env.dynamics, *ours, action, uniform)
        inputs = [torch.from_numpy(array).to(device) for array in (action, uniform)]
        got = (compiled if time < 3 else tick)(torch, env.dynamics, *theirs, *inputs)
        assert {tensor.device.type for tensor in got if isinstance(tensor, torch.Tensor)} == {device}
        assert_same(expected, got, atol=1e-5)
        ours, theirs, obs = list(expected[:2]), list(got[:2]), expected[2]
        ends += np.count_nonzero(expected[4] | expected[5])
    assert ends > 5


@pytest.mark.parametrize("task", EVERY, ids=str)
def test_numpy_which_writes_only_where_episodes_ended_gives_what_a_tick_gives(task):
    """Its stream is the step's numbers in every tick, and those of new episodes only where there are any."""
    rng, stream = np.random.default_rng(0), NumpyArrays()
    env, pure = (NativeVecEnv(task, N, NumpyArrays(), rescale_action=True) for _ in range(2))
    obs = env.reset(seed=1)
    pure.reset(seed=1)
    stream.set_generator_state(env.state_dict()["generator"])
    ends = 0
    for _ in range(120):
        action = policy(task, obs, rng, 0.5)
        own = stream.uniform(task.step_uniforms, N)
        before = stream.generator_state()
        uniform = np.concatenate((stream.uniform(task.uniforms, N), own))
        pure.state, pure.steps, *expected = tick(
            np, pure.dynamics, pure.state, pure.steps, pure.decode(action), uniform
        )
        step = env.step(action)
        assert_same((step.obs, step.reward, step.terminated, step.truncated, step.next_obs), expected)
        ended = np.count_nonzero(step.terminated | step.truncated)
        if not ended:
            stream.set_generator_state(before)
        ends += ended
        obs = step.obs
    assert ends > 5


@pytest.mark.parametrize("task", [task for task in EVERY if getattr(task, "single", False)], ids=str)
@pytest.mark.parametrize("skill", [0.0, 0.95])
def test_one_environment_without_its_axis_is_one_of_many(task, skill):
    rng, states = np.random.default_rng(0), task.init(np, np.random.default_rng(1).random((task.uniforms, N)))
    observed = Observed(task, task.observation_space)
    for _ in range(2 * task.max_episode_steps):
        actions, uniform = policy(task, task.observe(np, states), rng, skill), rng.random((task.step_uniforms, N))
        together = task.step(np, states, actions, uniform)
        for i in range(N):
            one = observed.step_numpy(states[:, i : i + 1], actions[i : i + 1], uniform[:, i : i + 1])
            assert_same(one, (part[..., i : i + 1].copy() for part in together))
        states = np.where(together[2], task.init(np, rng.random((task.uniforms, N))), together[0])


def test_draws_for_several_ticks_are_those_of_one_after_the_other():
    for arrays in ARRAYS.values():
        one, other = (NativeVecEnv(Pendulum(), N, arrays()) for _ in range(2))
        one.reset(seed=0)
        other.reset(seed=0)
        drawn = np.asarray(one.draw(3))
        assert drawn.shape == (3, 2, N)
        np.testing.assert_array_equal(drawn, [np.asarray(other.draw()) for _ in range(3)])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("task", [CartPole(), Bricks()], ids=str)
def test_a_torch_position_is_restored(task, device):
    env, fresh = (NativeVecEnv(task, N, TorchArrays(device)) for _ in range(2))
    env.reset(seed=0)
    action = torch.ones(N, dtype=torch.int64, device=device)
    for _ in range(15):
        env.step(action)
    state = env.state_dict()
    expected = [env.step(action) for _ in range(30)]
    assert fresh.load_state_dict(state) == []
    for step in expected:
        assert torch.equal(fresh.step(action).obs, step.obs)
    elsewhere = NativeVecEnv(task, N, NumpyArrays())
    (note,) = elsewhere.load_state_dict(state)
    assert note == "the environments' random stream begins anew: it was saved on another kind of device"
    np.testing.assert_array_equal(elsewhere.state, state["state"])
    torn = state | {"generator": {"torch": np.zeros(3, np.uint8), "else": 1}} if device == "cpu" else state
    with pytest.raises(UserError, match="random state"):
        NativeVecEnv(task, N, NumpyArrays()).load_state_dict(torn | {"generator": {}})


@pytest.mark.parametrize("task", EVERY, ids=str)
def test_a_forged_position_is_refused_and_a_true_one_taken(task):
    env, fresh = (NativeVecEnv(task, N, NumpyArrays()) for _ in range(2))
    env.reset(seed=0)
    state = env.state_dict()
    assert fresh.load_state_dict(state) == []
    whole = state["state"].dtype == np.int64
    forged = state | {"state": np.full_like(state["state"], 10**6 if whole else np.nan)}
    said = ""
    try:
        fresh.load_state_dict(forged)
    except UserError as error:
        said = str(error)
    if said or not whole:
        expected = f"the saved environment position is none of {type(task).__name__}: "
        assert said.startswith(expected if whole else f"{expected}it holds NaN")
    else:  # some rules take any whole numbers
        fresh.step(np.zeros((N, *(env.action_space.shape or ())), np.int64))


DISCRETE = [*(task for task in TASKS if isinstance(task.action_space, gymnasium.spaces.Discrete)), SLIPPERY]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
@pytest.mark.parametrize("task", DISCRETE, ids=str)
def test_a_step_can_be_captured_in_a_cuda_graph(task):
    arrays, plain = TorchArrays("cuda"), TorchArrays("cuda")
    env, eager = NativeVecEnv(task, 64, arrays), NativeVecEnv(task, 64, plain)
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


class Uneven(Pendulum):
    """Its bounds do not lie around 0."""

    @property
    def action_space(self) -> gymnasium.spaces.Box:
        return gymnasium.spaces.Box(-1.0, 3.0, (1,))


@pytest.mark.parametrize("arrays", [NumpyArrays, lambda: TorchArrays("cpu")])
def test_rescaled_actions_reach_bounds_that_do_not_lie_around_0(arrays):
    env = NativeVecEnv(Uneven(), N, arrays(), rescale_action=True)
    given = env._arrays.from_numpy(np.array([[-1.0], [0.0], [0.5], [7.0]], np.float32))
    assert env.decode(given).tolist() == [[-1.0], [1.0], [2.0], [3.0]]


def test_rescaled_actions_reach_the_bounds():
    plain, rescaled = (NativeVecEnv(Pendulum(), 2, NumpyArrays(), rescale) for rescale in (False, True))
    assert rescaled.action_space == gymnasium.spaces.Box(-1, 1, (1,))
    plain.reset(seed=0)
    rescaled.reset(seed=0)
    one = plain.step(np.array([[2.0], [-1.0]], np.float32))
    other = rescaled.step(np.array([[7.0], [-0.5]], np.float32))
    np.testing.assert_array_equal(one.next_obs, other.next_obs)


@pytest.mark.parametrize("task", [CartPole(), Bricks(), Corridor(), Treasure()], ids=str)
def test_nothing_given_out_is_written_to_again(task):
    env = NativeVecEnv(task, N, NumpyArrays())
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


@pytest.mark.parametrize("task", TWINS, ids=str)
def test_the_picture_is_gymnasiums(task):
    env = NativeVecEnv(task, N, NumpyArrays())
    env.reset(seed=0)
    actions = policy(task, env.reset(seed=0), np.random.default_rng(0), 0)
    other = gymnasium.make(task.env_id, render_mode="rgb_array").unwrapped
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
