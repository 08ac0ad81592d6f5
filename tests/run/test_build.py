"""A configuration becomes the parts it names, seeded, and their state goes out and comes back."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from agents.algos.dqn.algorithm import DQN
from agents.algos.ppo.algorithm import PPO
from agents.core.runtime import resolved_mode
from agents.core.settings import CompileMode
from agents.data.samplers import UniformSampler
from agents.run.build import build, build_on, largest
from agents.run.config import FLAGS, Layer, resolve
from agents.run.training import Training
from envs.errors import UserError
from envs.make import make
from envs.seeding import derive_seed
from tests.run.running import USER_ENVS, assert_same

ENCODERS = Path(__file__).parents[2] / "docs" / "examples" / "encoder.py"
PPO_VALUES = {"env": "CartPole-v1", "n_envs": 2, "n_steps": 8, "batch_size": 16, "n_epochs": 1, "device": "cpu"}
DQN_VALUES = {"env": "CartPole-v1", "algo": "dqn", "n_envs": 3, "learning_starts": 9, "batch_size": 4, "device": "cpu"}


def built(values: dict[str, Any], **more: Any) -> Training:
    return build(resolve([Layer(FLAGS, values | more)], packaged=False))


def advance(training: Training, step: int) -> Training:
    for iteration in training.iterations():
        if iteration.step >= step:
            break
    return training


def test_the_parts() -> None:
    training = built(PPO_VALUES)
    assert isinstance(training.algorithm, PPO)
    assert (training.env.backend, training.env.num_envs, training.collector.state.step) == ("native", 2, 0)
    training = built(DQN_VALUES, vec="sync", buffer_size=60)
    assert isinstance(training.algorithm, DQN)
    assert (training.env.backend, training.env.num_envs) == ("sync", 3)
    assert (training.replay.rows, training.replay.num_envs) == (20, 3)


def test_pictures_leave_room_for_half_as_many_steps_of_sequences(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each episode's last picture is kept too, so that where all are of one step the buffer holds half of its size."""
    monkeypatch.setattr("agents.run.build.frame_axes", lambda space, axes: {"": None})  # as of large ones
    sizes = {"env": "Bricks-v0", "memory": "gru", "burn_in": 4, "sequence_length": 8, "learning_starts": 36}
    values = {**DQN_VALUES, **sizes, "batch_size": 8}
    with pytest.raises(UserError, match=r"buffer_size 69 is too small for sequences of 12 steps .* at least 72 are"):
        built(values, buffer_size=69)
    built(values, buffer_size=72)


def test_the_seed_is_all_that_matters() -> None:
    one, same, other = (built(PPO_VALUES, seed=seed) for seed in (1, 1, 2))
    assert_same(one.state_dict(), same.state_dict())
    assert not np.array_equal(one.collector.state.obs, other.collector.state.obs)
    weights = [training.algorithm.model.state_dict() for training in (one, other)]
    assert any(not torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_the_first_weights_do_not_depend_on_how_many_threads_there_are() -> None:
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(built(PPO_VALUES).algorithm.state_dict())
            assert torch.get_num_threads() == 1, "a small network's updates take one"
    finally:
        torch.set_num_threads(before)
    assert_same(*found)


def test_a_trainings_episodes_are_not_those_that_its_seed_alone_begins() -> None:
    """Whoever watches a policy with the run's own seed sees episodes that it was not trained on."""
    training = built(PPO_VALUES, seed=1)
    env = make(training.config.env, training.env.num_envs, env_kwargs=training.config.env_kwargs)
    assert not np.isin(training.collector.state.obs, env.reset(1)).any()
    np.testing.assert_array_equal(training.collector.state.obs, env.reset(derive_seed(1, "training")))


@pytest.mark.parametrize("values", [PPO_VALUES, DQN_VALUES])
def test_state_goes_out_and_comes_back(values: dict[str, Any]) -> None:
    training = advance(built(values), 40)
    state = deepcopy(training.state_dict())  # as from the disk, not to share the memory of the optimiser
    copy = built(values, seed=0)
    assert copy.load_state_dict(state) == []
    assert_same(copy.state_dict(), state)
    step = training.collector.state.step
    assert_same(advance(training, step + 30).state_dict(), advance(copy, step + 30).state_dict())


@pytest.mark.parametrize("values", [PPO_VALUES, DQN_VALUES])
def test_without_the_environments_new_episodes_begin(values: dict[str, Any]) -> None:
    training = advance(built(values), 40)
    state = training.state_dict(with_env=False)
    assert state["env"] is None
    copies = [built(values), built(values)]
    for copy in copies:
        (said,) = copy.load_state_dict(state)
        assert "begin new episodes" in said
        assert copy.collector.state.step == training.collector.state.step
        assert not copy.collector.state.tracker.lengths.any()
        assert not np.array_equal(copy.collector.state.obs, training.collector.state.obs)
    assert_same(copies[0].state_dict(), copies[1].state_dict())
    assert_same(copies[0].algorithm.state_dict(), training.algorithm.state_dict())


def test_no_window_of_returns_spans_the_break() -> None:
    """What was stored last before the break is the end of its episode as far as n-step returns go."""
    training = advance(built(DQN_VALUES, env=f"{USER_ENVS}:Signs", n_step_returns=3), 42)
    copy = built(DQN_VALUES, env=f"{USER_ENVS}:Signs", n_step_returns=3)
    copy.load_state_dict(training.state_dict(with_env=False))
    replay = copy.replay.state_dict()
    assert (replay["head"] == 14).all()
    assert replay["store"]["truncated"][13].all()
    assert not replay["store"]["truncated"][:13].any()
    assert not training.replay.state_dict()["store"]["truncated"].any()


def test_a_device_is_chosen_and_the_choice_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    training = built(PPO_VALUES, device="auto")
    assert (training.policy.device.type, training.device_reason) == ("cpu", "no GPU was found")
    with pytest.raises(UserError, match="--device cuda"):
        built(PPO_VALUES, device="cuda")
    assert built(PPO_VALUES).device_reason == "as set"


@pytest.mark.parametrize(
    ("values", "encoder"),
    [
        ({"vec": "sync"}, "flat"),
        ({"env": "Bricks-v0"}, "small"),
        ({"env": "Bricks-v0", "encoder": "flat"}, "flat"),
        ({"encoder": f"{ENCODERS}:Fourier"}, f"{ENCODERS}:Fourier"),
    ],
)
def test_the_settings_of_a_training_say_what_was_chosen(
    values: dict[str, Any], encoder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    training = built(PPO_VALUES | {"device": "auto"} | values)
    config = training.config
    assert (config.vec, config.device, config.compile) == (values.get("vec", "native"), "cpu", "numpy")
    assert config.params.network.encoder == encoder
    again = build(config)
    assert again.config == config
    assert_same(again.state_dict(), training.state_dict())


@pytest.mark.parametrize(("device", "auto"), [("cuda", "kernels"), ("cpu", "numpy"), ("mps", "off")])
def test_what_compile_comes_to(device: str, auto: str) -> None:
    came_to = [resolved_mode(mode, torch.device(device)) for mode in get_args(CompileMode)]
    assert dict(zip(get_args(CompileMode), came_to, strict=True)) == {
        "auto": auto,
        "off": "off",
        "numpy": "numpy" if device == "cpu" else "off",
        "graphs": "graphs" if device == "cuda" else "off",
        "kernels": "kernels" if device == "cuda" else "off",
        "on": "on",
    }


@pytest.mark.parametrize(
    ("threads", "width", "mode", "expected"),
    [
        (1, 500, "auto", ("numpy", False)),
        (2, 250, "auto", ("numpy", False)),
        (2, 500, "auto", ("off", False)),
        (2, 500, "numpy", ("numpy", False)),
        (1, 250, "on", ("on", True)),
        (2, 100, "on", ("on", True)),
        (2, 250, "on", ("on", False)),
    ],
)
def test_updates_of_large_arrays_are_left_to_pytorch_where_it_has_several_threads(
    threads: int, width: int, mode: CompileMode, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agents.run.build.use_threads", lambda *_, **__: threads)
    training = built(PPO_VALUES | {"net_arch": [width], "batch_size": 400, "n_steps": 200, "compile": mode})
    assert (training.config.compile, training.runtime.in_cpp) == expected


@pytest.mark.parametrize(
    ("algo", "values", "numbers"),
    [
        ("ppo", {"net_arch": [128, 300]}, 300),
        ("dqn", {"net_arch": [32]}, 32),
        ("dqn", {"net_arch": [32], "distribution": "c51"}, 51 * 51),
        ("sac", {"net_arch": [64, 64]}, 2 * 64),  # of two critics
        ("sac", {"net_arch": [64, 64], "truncated_quantiles": True}, 25 * 25),
    ],
)
def test_what_an_updates_largest_array_is(algo: str, values: dict[str, Any], numbers: int) -> None:
    env = "Pendulum-v1" if algo == "sac" else "CartPole-v1"
    training = built({"env": env, "algo": algo, "device": "cpu", **values})
    assert largest(training.algorithm.model, rows=10) == 10 * numbers


@pytest.mark.parametrize(
    ("mode", "device", "expected"),
    [
        ("auto", "cpu", "off"),
        ("numpy", "cpu", "off"),
        ("kernels", "cuda", "graphs"),
        ("graphs", "cuda", "graphs"),
        ("on", "cpu", "on"),
    ],
)
def test_neither_numpy_nor_kernels_compute_in_bfloat16(mode: CompileMode, device: str, expected: str) -> None:
    assert resolved_mode(mode, torch.device(device), bf16=True) == expected


class NoFloat64(TorchDispatchMode):
    """Refuses what Apple's GPUs do not have."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            assert not isinstance(leaf, torch.Tensor) or leaf.dtype != torch.float64 or "lift_fresh" in str(func), func
        return out


@pytest.mark.parametrize(
    "values",
    [
        PPO_VALUES | {"norm_obs": True, "norm_reward": True},
        PPO_VALUES | {"env": "Pendulum-v1", "memory": "gru", "squash_output": True},
        PPO_VALUES | {"env": "Bricks-v0", "learning_rate": "lin_1e-3"},
        DQN_VALUES | {"norm_obs": True, "n_step_returns": 3},
        DQN_VALUES | {"vec": "vector"},
    ],
)
def test_no_tensor_is_float64(values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    shared = torch.from_numpy

    def from_numpy(array: np.ndarray) -> torch.Tensor:
        assert array.dtype != np.float64
        return shared(array)

    monkeypatch.setattr(torch, "from_numpy", from_numpy)
    with NoFloat64():
        training = advance(built(values, total_timesteps=400), 200)
        built(values, total_timesteps=400).load_state_dict(deepcopy(training.state_dict()))


def training_of(kind: str) -> Training:
    """Return a training tick by tick, or of environments on tensors, which a GPU would have."""
    values = PPO_VALUES | {"memory": "gru", "memory_size": 4} if "gru" in kind else PPO_VALUES
    values = DQN_VALUES if "dqn" in kind else values
    if "tensors" not in kind:
        return built(values, vec="sync" if "sync" in kind else "native")
    config = resolve([Layer(FLAGS, values)], packaged=False)
    env = make(config.env, config.params.n_envs, vec="native", tensors=True)
    return build_on(env, config, torch.device("cpu"))


def as_if_from_cuda(state: dict[str, Any]) -> dict[str, Any]:
    """Return a state like one saved on a GPU, whose random streams are states of another size."""
    foreign = torch.zeros(16, dtype=torch.uint8)
    state = deepcopy(state) | {"device": "cuda"}
    if state["sampling"] is not None:
        state["sampling"]["generator"] = foreign
    state["learner"]["shuffling"] = state["actor"]["generator"] = foreign
    if "generator" in state["env"]:
        state["env"]["generator"] = {"torch": foreign.numpy()}
    return state


@pytest.mark.parametrize("kind", ["ppo", "ppo, gru", "ppo, sync", "dqn", "ppo, tensors", "dqn, tensors"])
def test_a_state_from_another_device_is_gone_on_with_and_what_differs_is_said(kind: str) -> None:
    training = advance(training_of(kind), 40)
    state = as_if_from_cuda(training.state_dict())
    with pytest.raises((RuntimeError, TypeError, UserError)):
        training_of(kind).load_state_dict(state | {"device": "cpu"})  # so it is another device's indeed

    copies = [training_of(kind), training_of(kind)]
    for each in copies:
        said, *of_env = each.load_state_dict(deepcopy(state))
        assert "was on cuda" in said
        assert "on cpu" in said
        assert "random streams begin anew" in said
        assert len(of_env) == ("generator" in state["env"])
        assert all("the environments' random stream begins anew" in note for note in of_env)
    one, other = (each.state_dict() for each in copies)
    assert_same(one, other)
    for name in ("algorithm", "replay"):
        assert_same(one[name], state[name])
    streams = {"shuffling", "generator"}
    for name in ("learner", "actor", "env"):
        mine, theirs = ({key: v for key, v in s[name].items() if key not in streams} for s in (one, state))
        assert_same(mine, theirs)
    unused, later = training_of(kind), training_of(kind)
    later.load_state_dict(deepcopy(state) | {"actor": state["actor"] | {"step": training.step + 1}})
    for other in (unused.state_dict(), later.state_dict()):
        assert not one["learner"]["shuffling"].equal(other["learner"]["shuffling"]), "each break has streams of its own"
        assert not one["actor"]["generator"].equal(other["actor"]["generator"])

    step = training.step
    ends = [advance(each, step + 40).state_dict() for each in copies]
    assert_same(*ends)
    assert ends[0]["actor"]["step"] >= step + 40
    assert ends[0]["learner"]["n_updates"] > state["learner"]["n_updates"]


def test_a_state_of_the_same_device_says_nothing() -> None:
    training = advance(training_of("ppo, tensors"), 40)
    assert training_of("ppo, tensors").load_state_dict(deepcopy(training.state_dict())) == []


@pytest.mark.parametrize("kind", ["ppo, tensors", "ppo, gru, tensors", "dqn, tensors"])
def test_environments_on_tensors_go_on_bit_for_bit_too(kind: str) -> None:
    whole, first, second = training_of(kind), advance(training_of(kind), 40), training_of(kind)
    assert second.load_state_dict(deepcopy(first.state_dict())) == []
    step = first.step + 40
    assert_same(advance(second, step).state_dict(), advance(whole, step).state_dict())


@pytest.mark.parametrize("kind", ["ppo", "dqn"])
def test_what_environments_on_tensors_saved_environments_on_arrays_go_on_with(kind: str) -> None:
    """As after a run on a GPU that is resumed without one."""
    training = advance(training_of(f"{kind}, tensors"), 40)
    copy = training_of(kind)
    said, of_env = copy.load_state_dict(as_if_from_cuda(training.state_dict()))
    assert "was on cuda" in said
    assert "random stream begins anew" in of_env
    assert copy.step == training.step
    np.testing.assert_array_equal(copy.collector.state.obs, training.collector.state.obs)
    advance(copy, training.step + 40)


@pytest.mark.parametrize("episodic", [False, True])
def test_episodes_that_are_begun_anew_have_no_return_yet(episodic: bool) -> None:
    """But curiosity's, where its returns go on from each episode into the next."""
    training = built(PPO_VALUES, norm_reward=True, curiosity="rnd", curiosity_episodic=episodic)
    advance(training, 16)
    rewards, curious = training.algorithm.reward_scale, training.algorithm.model.curiosity.scale
    assert rewards.returns.all()
    assert curious.returns.all()
    training.begin_episodes()
    assert not rewards.returns.any()
    assert curious.returns.any() == (not episodic)
    training.env.close()


@pytest.mark.parametrize(("n_envs", "train_freq"), [(2, 4), (8, 4)])
def test_the_updates_of_a_tick_are_assembled_by_what_is_compiled(n_envs: int, train_freq: int) -> None:
    training = built(DQN_VALUES, n_envs=n_envs, train_freq=train_freq, gradient_steps=1, compile="numpy")
    sizes, sampler = [], training.sampler
    assert isinstance(sampler, UniformSampler)
    sampler._plain = lambda index, length: sizes.append(len(index))  # type: ignore[func-returns-value]
    advance(training, 64)
    assert training.learner.n_updates > 2
    assert not sizes
