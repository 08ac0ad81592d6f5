"""A rollout as one kernel: the rows of the plain one, for every native task of numbers and every small network."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from agents.acting import rollout_kernel
from agents.acting.emitted import OPERATIONS
from agents.acting.fused import REHEARSED
from agents.acting.rollout_kernel import differences, fits, in_triton, leaves
from agents.algos.dqn.config import DQNConfig
from agents.algos.ppo.config import PPOConfig
from envs.make import make
from tests.acting.test_fused import numbers
from tests.core.kernels import DEVICE, needs_cpp, needs_triton, not_interpreting
from tests.core.recorder import Tape, listening
from tests.fakes import training_on
from tests.marks import long_test

N, T = 11, 6  # environments are fewer than a program holds
TASKS = {
    "CartPole-v1": {"sutton_barto_reward": True, "max_episode_steps": 3},
    "Acrobot-v1": {"max_episode_steps": 3},
    "MountainCar-v0": {"max_episode_steps": 3},
    "MountainCarContinuous-v0": {"max_episode_steps": 3},
    "Pendulum-v1": {"max_episode_steps": 3, "g": 9.81},
    "Corridor-v0": {"length": 2},
    "CartPoleNoVel-v1": {"max_episode_steps": 3},
    "PendulumNoVel-v1": {"max_episode_steps": 3},
    "MountainCarContinuousNoVel-v0": {"max_episode_steps": 3},
}
PPO = {"n_envs": N, "n_steps": T, "batch_size": N * T, "net_arch": (8,)}
DQN = {"n_envs": N, "train_freq": N * T, "net_arch": (8,), "exploration_fraction": 0.0, "exploration_final_eps": 0.5}


@pytest.fixture(params=[pytest.param("Triton", marks=needs_triton), pytest.param("C++", marks=needs_cpp)])
def language(request, monkeypatch):
    """What kernels are written in."""
    if request.param == "C++" and DEVICE.type != "cpu":
        pytest.skip("kernels on a GPU are in Triton")
    monkeypatch.setattr(rollout_kernel, "in_triton", lambda device: request.param == "Triton")


def native(task="CartPole-v1", device=DEVICE):
    return make(task, N, vec="native", tensors=True, device=str(device), env_kwargs=TASKS.get(task, {}))


def training(task="CartPole-v1", runtime=None, kind=PPOConfig, **options):
    base = DQN if kind is DQNConfig else PPO
    return training_on(native(task), kind(**{**base, **options}), runtime=runtime)


def both(made):
    """Return what the plain rollout and the kernel of a training make of the same noise, each with the state after."""
    collector = made.collector
    collector._make_static()
    kernel, state = collector._kernel(), collector._tensors()
    noise = made.policy.draw_noise((T, N), 0.5, collector.state.generator)
    uniform, before, found = made.env.draw(T), [tensor.clone() for tensor in state], []
    for run in (collector._ticks, kernel):
        for tensor, value in zip(state, before, strict=True):
            tensor.copy_(value)
        found.append((run(noise, uniform), [tensor.clone() for tensor in state]))
    return found


def compare(made, rounding=1e-5):
    plain, kernel = both(made)
    rows = plain[0]
    assert list(kernel[0]) == list(rows)
    for name in rows:
        for one, other in zip(leaves(kernel[0][name]), leaves(rows[name]), strict=True):
            torch.testing.assert_close(one, other, atol=rounding, rtol=rounding, msg=name)
    for one, other in zip(kernel[1], plain[1], strict=True):
        torch.testing.assert_close(one, other, atol=rounding, rtol=rounding)
    assert differences(plain, kernel) == ""
    return rows


@pytest.mark.usefixtures("language")
@pytest.mark.parametrize(
    "task", [pytest.param(task, marks=long_test) if "CarContinuousNo" in task else task for task in TASKS]
)
def test_it_makes_the_rows_of_the_plain_rollout(task):
    rows = compare(training(task))
    assert rows["start"][1:].any(), "episodes end, and new ones begin"
    assert (rows["terminated"] if task == "Corridor-v0" else rows["truncated"]).any()


@pytest.mark.usefixtures("language")
@pytest.mark.parametrize(
    "options",
    [
        {"net_arch": (), "norm_obs": True},
        {"net_arch": (20, 40), "activation": "relu"},
        {"net_arch": (16, 5, 33), "activation": "silu", "norm_obs": True},
        {"net_arch": (16, 16), "activation": "elu"},
        {"net_arch": (16, 16), "activation": "gelu"},
        {"task": "Pendulum-v1", "squash_output": True, "net_arch": (16, 16)},
        {"task": "Pendulum-v1", "state_dependent_std": True, "rescale_action": True},
        {"kind": DQNConfig, "net_arch": (16, 16)},
        {"kind": DQNConfig, "dueling": True},
        {"kind": DQNConfig, "layer_norm": True, "net_arch": (20, 16), "activation": "gelu"},
    ],
    ids=lambda options: " ".join(map(str, options.values())),
)
def test_it_acts_as_the_network_does(options):
    made = training(**options)
    with torch.no_grad():
        for parameter in made.algorithm.model.parameters():  # otherwise heads are all but zero
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
        for name, buffer in made.algorithm.model.named_buffers():
            if name.endswith(("mean", "var")):
                buffer.add_(torch.rand_like(buffer))
    rows = compare(made)
    assert len(rows["action"].unique()) > 1


MEMORIES = [
    {"memory": "lstm", "memory_size": 5},
    {"memory": "gru", "memory_size": 20},
    {"memory": "lstm", "memory_size": 160, "net_arch": ()},
    {"memory": "gru", "norm_obs": True, "activation": "relu"},
    {"memory": "lstm", "task": "Pendulum-v1"},
    {"memory": "gru", "kind": DQNConfig},
]


@pytest.fixture
def in_cpp(monkeypatch):
    if DEVICE.type != "cpu":
        pytest.skip("kernels on a GPU are in Triton")
    monkeypatch.setattr(rollout_kernel, "in_triton", lambda device: False)


@needs_cpp
@pytest.mark.usefixtures("in_cpp")
@pytest.mark.parametrize("options", MEMORIES, ids=lambda options: " ".join(map(str, options.values())))
def test_it_remembers_as_the_network_does(options):
    made = training(**options)
    with torch.no_grad():
        for parameter in made.algorithm.model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    assert fits(made.policy, made.env) == ""
    rows = compare(made)
    assert rows["start"][1:].any(), "what is remembered begins anew"
    assert rows["carry"].abs().sum() > 1
    runtime, said = listening("kernels", device=DEVICE)
    with_kernel, plain = training(runtime=runtime, **options), training(**options)
    for ticks in (T, T):
        got, wanted = with_kernel.collector.collect(ticks).trajectory, plain.collector.collect(ticks).trajectory
        for name in ("obs", "action", "start", "carry", "last_carry", "final", "carries"):
            torch.testing.assert_close(getattr(got, name), getattr(wanted, name), atol=1e-5, rtol=1e-5, msg=name)
    assert said == []
    assert runtime.summary == "in kernels"


@needs_cpp
@pytest.mark.usefixtures("in_cpp")
@pytest.mark.parametrize("memory", ["scan", "gtrxl", "lstm of 600", "two of gru"])
def test_other_memories_run_as_they_are(memory):
    options = {
        "lstm of 600": {"memory": "lstm", "memory_size": 600},
        "two of gru": {"memory": "gru", "memory_layers": 2},
    }.get(memory, {"memory": memory})
    runtime, said = listening("kernels", device=DEVICE)
    got = training(runtime=runtime, **options).collector.collect(T)
    assert len(said) == 1
    assert said[0].startswith("not in a kernel, runs as it is: Refused: ")
    wanted = training(**options).collector.collect(T)
    assert got.trajectory.obs.equal(wanted.trajectory.obs)


@pytest.mark.usefixtures("language")
def test_weights_that_change_are_seen():
    made = training(net_arch=(16, 16), norm_obs=True)
    collector = made.collector
    collector._make_static()
    kernel = collector._kernel()
    noise = torch.zeros(T, N, 2, device=DEVICE)
    uniform, found = made.env.draw(T), []
    for bias in (9.0, -9.0):
        with torch.no_grad():
            made.algorithm.model.policy_head.bias.copy_(torch.tensor([-bias, bias]))
        found.append(kernel(noise, uniform)["action"])
    assert found[0].all()
    assert not found[1].any()


@pytest.mark.usefixtures("language")
@pytest.mark.parametrize(
    ("kind", "task"), [(PPOConfig, "CartPole-v1"), (PPOConfig, "Pendulum-v1"), (DQNConfig, "CartPole-v1")]
)
def test_a_collector_with_it_collects_what_it_does_without(kind, task):
    runtime, said = listening("kernels", device=DEVICE)
    with_kernel, plain = training(task, runtime, kind), training(task, None, kind)
    for ticks in (T, T, 2):  # another number runs as it is
        got, wanted = with_kernel.collector.collect(ticks), plain.collector.collect(ticks)
        for name in ("obs", "action", "reward", "start", "terminated", "truncated", "next_obs", "last_obs"):
            one, other = getattr(got.trajectory, name), getattr(wanted.trajectory, name)
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5, msg=name)
        np.testing.assert_allclose(numbers(got.episodes), numbers(wanted.episodes), rtol=1e-5)
    assert said == []
    assert runtime.summary == "in kernels"
    assert with_kernel.collector.state.step == plain.collector.state.step == (2 * T + 2) * N


@pytest.mark.usefixtures("language")
def test_other_layers_get_another_kernel():
    runtime, said = listening("kernels", device=DEVICE)
    made, plain = training(runtime=runtime), training()
    for swapped in (False, True):
        if swapped:
            head = torch.nn.Linear(8, 2, device=DEVICE)
            torch.nn.init.constant_(head.bias[:1], 9.0)
            for each in (made, plain):
                each.algorithm.model.policy_head = copy.deepcopy(head)
        got, wanted = made.collector.collect(T), plain.collector.collect(T)
        assert got.trajectory.action.equal(wanted.trajectory.action)
        assert wanted.trajectory.action.any() != swapped
    assert said == []


@needs_triton
def test_it_is_captured_in_a_graph(monkeypatch):
    """Recorded are the room for its rows, and one launch, which is all that a replay does."""
    library, kernels, launches = torch.library.Library("rollout_tests", "DEF"), [], []
    library.define("launch(int ticks, int envs, Tensor(a!)[] tensors) -> ()")

    def launch(ticks, envs, tensors):
        launches.append(ticks)
        kernels[-1][(1,)](ticks, envs, *tensors, num_warps=4)

    library.impl("launch", launch, "CUDA" if DEVICE.type == "cuda" else "CPU")

    class Launch:
        def __getitem__(self, grid):
            assert grid == (1,)
            return lambda ticks, envs, *tensors, num_warps: torch.ops.rollout_tests.launch(ticks, envs, list(tensors))

    made_of = rollout_kernel.kernel_of
    monkeypatch.setattr(rollout_kernel, "kernel_of", lambda text: kernels.append(made_of(text)) or Launch())
    tape = Tape()
    runtime, said = listening("kernels", device=DEVICE, record=tape)
    captured, plain = training(runtime=runtime), training()
    for _ in range(2):
        got, wanted = captured.collector.collect(T), plain.collector.collect(T)
        for name in ("obs", "action", "reward", "terminated", "truncated", "next_obs"):
            torch.testing.assert_close(
                getattr(got.trajectory, name), getattr(wanted.trajectory, name), atol=1e-5, rtol=1e-5, msg=name
            )
    assert said == []
    assert (tape.recorded, tape.replayed) == (1, 2)
    assert launches == [REHEARSED] + [T] * 5, "tried, twice to warm up, the first compared, recorded, replayed twice"


def test_what_no_kernel_is_made_for_is_said():
    memory = training("CartPole-v1", memory="gru", memory_size=6)
    if in_triton(DEVICE):
        assert fits(memory.policy, memory.env) == "the policy remembers earlier steps"
    pixels = training_on(
        make("Bricks-v0", 2, vec="native", tensors=True, device=str(DEVICE)),
        PPOConfig(n_envs=2, n_steps=4, batch_size=8),
    )
    assert fits(pixels.policy, pixels.env) == "observations are pictures"
    plain = training()
    assert fits(plain.policy, plain.env) == ""
    runtime, said = listening("kernels", device=DEVICE)
    training_on(
        make("Bricks-v0", 2, vec="native", tensors=True, device=str(DEVICE)),
        PPOConfig(n_envs=2, n_steps=4, batch_size=8),
        runtime=runtime,
    ).collector.collect(T)
    assert said == []
    assert runtime.summary == "eager"


@pytest.mark.usefixtures("language")
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"net_arch": (8, 600, 8)}, "a hidden layer of 600 is wider than "),
        ({"kind": DQNConfig, "noisy": True}, "is not written out"),
    ],
)
def test_what_cannot_be_written_runs_as_it_is(options, reason):
    runtime, said = listening("kernels", device=DEVICE)
    got = training(runtime=runtime, **options).collector.collect(T)
    wanted = training(**options).collector.collect(T)
    assert len(said) == 1
    assert said[0].startswith("not in a kernel, runs as it is: Refused: ")
    assert reason in said[0]
    assert got.trajectory.obs.equal(wanted.trajectory.obs)


def test_without_triton_it_runs_as_it_is(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "triton", None)
    runtime, said = listening("kernels", device=DEVICE)
    assert (
        training(runtime=runtime)
        .collector.collect(T)
        .trajectory.obs.equal(training().collector.collect(T).trajectory.obs)
    )
    assert said == [
        "not in a kernel, runs as it is: UserError: Triton, which PyTorch for CUDA brings, is not installed: "
        "pip install triton"
    ]


@pytest.mark.usefixtures("language")
def test_a_kernel_that_goes_wrong_is_not_used(monkeypatch):
    monkeypatch.setitem(OPERATIONS, "cos", OPERATIONS["sin"])
    runtime, said = listening("kernels", device=DEVICE)
    got, wanted = training(runtime=runtime), training()
    for _ in range(2):
        assert got.collector.collect(T).trajectory.obs.equal(wanted.collector.collect(T).trajectory.obs)
    assert said == [
        f"not in a kernel, runs as it is: Disagreement: {N} of {N} environments go another way, beyond rounding"
    ]


@pytest.mark.usefixtures("language")
def test_a_kernel_that_begins_no_episode_is_found_before_one_ends(monkeypatch):
    monkeypatch.setitem(OPERATIONS, "where", lambda e, op: e.names(op.args[2]))
    monkeypatch.setitem(TASKS, "CartPole-v1", {"max_episode_steps": 500})
    runtime, said = listening("kernels", device=DEVICE)
    got, wanted = (training(runtime=each).collector.collect(T).trajectory for each in (runtime, None))
    assert not wanted.start[1:].any()
    assert got.obs.equal(wanted.obs)
    assert got.action.equal(wanted.action)
    assert len(said) == 1
    assert said[0].endswith(f"Disagreement: {N} of {N} environments go another way, beyond rounding")


def found(envs=400):
    rows = {
        "obs": torch.rand(5, envs, 3),
        "action": torch.randint(0, 2, (5, envs)),
        "start": torch.zeros(5, envs, dtype=torch.bool),
        "carry": (),
    }
    return rows, [torch.rand(3, envs), torch.zeros(envs, dtype=torch.int64)]


@pytest.mark.parametrize("place", ["obs", "action", "start", "state", "steps"])
def test_few_environments_may_go_another_way(place):
    wanted = found()
    for count, passes in ((0, True), (4, True), (5, False)):
        got = copy.deepcopy(wanted)
        rows, (state, steps) = got
        spot = {"state": state, "steps": steps}.get(place, rows.get(place))
        changed = spot[..., :count, :] if place == "obs" else spot[..., :count]
        changed.copy_(~changed if place == "start" else changed + 1)
        said = differences(wanted, got)
        assert said == ("" if passes else f"{count} of 400 environments go another way, beyond rounding")
    alone = found(3)
    other = copy.deepcopy(alone)
    other[0]["action"][2, 1] += 1
    assert differences(alone, other) == "", "one of three"
    other[0]["action"][1, 0] += 1
    assert differences(alone, other) == "2 of 3 environments go another way, beyond rounding"


def test_rows_of_another_form_differ():
    wanted, got = found(), found()
    got[0]["obs"] = wanted[0]["obs"].double()
    assert differences(wanted, got) == "obs is torch.float64 [5, 400, 3], not torch.float32 [5, 400, 3]"


@long_test
@needs_triton
def test_it_compiles_for_a_gpu_and_nothing_is_spilled():
    said = not_interpreting("tests.acting.rollout_costs")
    lines = said.splitlines()
    assert len(lines) == 2 * len(TASKS) + 2, said
    assert all(int(line.split()[-3]) <= 128 for line in lines), said
