"""A rollout as one kernel: the rows of the plain one, for every native task of numbers and every small network."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from agents.acting import rollout_kernel
from agents.acting.emitted import OPERATIONS
from agents.acting.emitting import ENVS, Emitter, Recording, Refused
from agents.acting.fused import REHEARSED
from agents.acting.rollout_kernel import differences, fits, leaves
from agents.algos.dqn.config import DQNConfig
from agents.algos.ppo.config import PPOConfig
from agents.core.runtime import Runtime
from agents.core.triton_source import HEAD, kernel_of
from envs.make import make
from tests.acting.test_fused import numbers
from tests.core.kernels import DEVICE, needs_triton, not_interpreting
from tests.core.recorder import Tape
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


def native(task="CartPole-v1", device=DEVICE):
    return make(task, N, vec="native", tensors=True, device=str(device), env_kwargs=TASKS.get(task, {}))


def training(task="CartPole-v1", runtime=None, kind=PPOConfig, **options):
    base = PPO if kind is PPOConfig else DQN
    return training_on(native(task), kind(**{**base, **options}), runtime=runtime)


def listening(mode="kernels", **options):
    runtime, said = Runtime(mode, DEVICE, **options), []
    runtime.say = said.append
    return runtime, said


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


@needs_triton
@pytest.mark.parametrize(
    "task", [pytest.param(task, marks=long_test) if "CarContinuousNo" in task else task for task in TASKS]
)
def test_it_makes_the_rows_of_the_plain_rollout(task):
    rows = compare(training(task))
    assert rows["start"][1:].any(), "episodes end, and new ones begin"
    assert (rows["terminated"] if task == "Corridor-v0" else rows["truncated"]).any()


@needs_triton
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


@needs_triton
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


@needs_triton
@pytest.mark.parametrize(
    ("kind", "task"), [(PPOConfig, "CartPole-v1"), (PPOConfig, "Pendulum-v1"), (DQNConfig, "CartPole-v1")]
)
def test_a_collector_with_it_collects_what_it_does_without(kind, task):
    runtime, said = listening()
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


@needs_triton
def test_other_layers_get_another_kernel():
    runtime, said = listening()
    made, plain = training(runtime=runtime), training()
    for swapped in (False, True):
        if swapped:
            head = torch.nn.Linear(8, 2, device=DEVICE)
            for each in (made, plain):
                each.algorithm.model.policy_head = copy.deepcopy(head)
        got, wanted = made.collector.collect(T), plain.collector.collect(T)
        assert got.trajectory.action.equal(wanted.trajectory.action)
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
    runtime, said = listening(record=tape)
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
    assert fits(memory.policy, memory.env) == "the policy remembers earlier steps"
    pixels = training_on(
        make("Bricks-v0", 2, vec="native", tensors=True, device=str(DEVICE)),
        PPOConfig(n_envs=2, n_steps=4, batch_size=8),
    )
    assert fits(pixels.policy, pixels.env) == "observations are pictures"
    plain = training()
    assert fits(plain.policy, plain.env) == ""
    runtime, said = listening()
    training("CartPole-v1", runtime, memory="gru", memory_size=6).collector.collect(T)
    assert said == []
    assert runtime.summary == "eager"


@needs_triton
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"net_arch": (8, 300, 8)}, "a hidden layer of 300 is wider than 128"),
        ({"kind": DQNConfig, "noisy": True}, "is not written in Triton"),
        (
            {"kind": DQNConfig, "layer_norm": True, "net_arch": (8, 8)},
            "operation native_layer_norm is not written in Triton",
        ),
    ],
)
def test_what_cannot_be_written_runs_as_it_is(options, reason):
    runtime, said = listening()
    got = training(runtime=runtime, **options).collector.collect(T)
    wanted = training(**options).collector.collect(T)
    assert len(said) == 1
    assert said[0].startswith("not in a kernel, runs as it is: Refused: ")
    assert reason in said[0]
    assert got.trajectory.obs.equal(wanted.trajectory.obs)


def test_without_triton_it_runs_as_it_is(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "triton", None)
    runtime, said = listening()
    assert (
        training(runtime=runtime)
        .collector.collect(T)
        .trajectory.obs.equal(training().collector.collect(T).trajectory.obs)
    )
    assert said == [
        "not in a kernel, runs as it is: UserError: Triton, which PyTorch for CUDA brings, is not installed: "
        "pip install triton"
    ]


@needs_triton
def test_a_kernel_that_goes_wrong_is_not_used(monkeypatch):
    monkeypatch.setitem(OPERATIONS, "cos", OPERATIONS["sin"])
    runtime, said = listening()
    got, wanted = training(runtime=runtime), training()
    for _ in range(2):
        assert got.collector.collect(T).trajectory.obs.equal(wanted.collector.collect(T).trajectory.obs)
    assert said == [
        f"not in a kernel, runs as it is: Disagreement: {N} of {N} environments go another way, beyond rounding"
    ]


@needs_triton
def test_a_kernel_that_begins_no_episode_is_found_before_one_ends(monkeypatch):
    monkeypatch.setitem(OPERATIONS, "where", lambda e, op: e.names(op.args[2]))
    monkeypatch.setitem(TASKS, "CartPole-v1", {"max_episode_steps": 500})
    runtime, said = listening()
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


def evaluated(function, *tensors):
    """Return what a function makes of `[N]` or `[k, N]` tensors, run as it is and from what is emitted, in Triton."""
    padded = [torch.zeros(*x.shape[:-1], ENVS, dtype=x.dtype, device=DEVICE) for x in tensors]
    recording = Recording()
    with torch.no_grad(), recording:
        result = function(*padded)
    emitter = Emitter(recording.operations, DEVICE, set())
    count, lines = tensors[0].shape[-1], []
    for i, x in enumerate(padded):
        entries = np.empty(emitter.shape(x), object)
        for k, index in enumerate(np.ndindex(*entries.shape)):
            entries[index] = emitter.name(f"tl.load(x{i} + {k} * {count} + tl.arange(0, {count}))", fixed=False)
        emitter.give(x, entries)
    emitter.run(OPERATIONS)
    for k, name in enumerate(emitter.names(result).entries.flat):
        lines.append(f"tl.store(y + {k} * {count} + tl.arange(0, {count}), tl.broadcast_to({name}, [{count}]))")
    arguments = ", ".join([*(f"x{i}" for i in range(len(tensors))), *(f"p{i}" for i in range(len(emitter.held))), "y"])
    body = "".join(f"    {line}\n" for line in [*emitter.head, *emitter.body, *lines])
    given = [x.to(DEVICE) for x in tensors]
    wanted = function(*given)
    y = torch.empty_like(wanted)
    kernel = kernel_of(f"{HEAD}@triton.jit\ndef kernel({arguments}):\n{body}")
    kernel[(1,)](*given, *emitter.held, y)
    return y, wanted


X = torch.tensor([-7.5, -3.0, -1.0, -0.25, 0.0, 0.5, 2.0, 9.75], dtype=torch.float64)
K = torch.tensor([-7, -3, -1, 0, 1, 2, 5, 8])


def one_hot(x, k):
    zeros = torch.zeros(len(x), 3, dtype=torch.int64, device=x.device)
    return zeros.scatter_(-1, (k % 3).unsqueeze(-1), 1).T.contiguous()


def changed_in_place(x, k):
    y = torch.stack([x, x * 2, x * 3])
    y[0] = k
    y[1:] -= 1
    y[2].clamp_(min=0)
    z = y.clone()
    z += y
    return torch.cat([y, z[:1].neg()])


@needs_triton
@pytest.mark.parametrize(
    "function",
    [
        lambda x, k: x % 2.5,
        lambda x, k: x % -2.5,
        lambda x, k: k % 3,
        lambda x, k: k // -3,
        lambda x, k: torch.where(k > 1, 1 / 3, x),  # not rounded to float32
        lambda x, k: k * 0.1 + x,  # float32, then float64
        lambda x, k: k / 3,
        lambda x, k: (x > k) * 1 - (x == k) * 2.0,
        lambda x, k: x + 1e-12 > x,
        lambda x, k: ~(k > 0) | (x < 0),
        lambda x, k: ~k,
        lambda x, k: k & 3 ^ 1,
        lambda x, k: x.long() + k.float().long(),
        lambda x, k: torch.stack([x, k * 1.0, -x]).argmax(0),
        lambda x, k: torch.stack([-x, x, x.abs()]).argmax(0),  # the first of equal ones
        lambda x, k: torch.stack([x, k * 1.0, -x]).amax(0),
        lambda x, k: torch.stack([x, x, x])[1:].sum(0) + torch.stack([x, x])[:, None].transpose(0, 1).reshape(2, -1)[0],
        lambda x, k: torch.maximum(x, torch.tensor(0.3)).clip(max=4.0).sqrt(),
        lambda x, k: x * torch.tensor([1.0, 2.0], dtype=torch.float64, device=x.device)[:, None],
        lambda x, k: torch.full_like(x, 3.5) + torch.ones_like(x) + x**3 + x.floor() + x.ceil(),
        one_hot,
        changed_in_place,
    ],
)
def test_an_operation_is_what_it_is_in_torch(function):
    got, wanted = evaluated(function, X, K)
    torch.testing.assert_close(got, wanted, atol=1e-12, rtol=1e-12)


ELSEWHERE = torch.zeros(ENVS)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda x, k: x.sum(0), "environments are not apart from each other"),
        (lambda x, k: x.flip(0), "operation flip is not written in Triton"),
        (lambda x, k: x.cumsum(0), "operation cumsum is not written in Triton"),
        (lambda x, k: x.view(1, -1)[:, :100], "environments are not apart from each other"),
        (lambda x, k: k + torch.ones(2).sum().item(), "operation _local_scalar_dense is not written in Triton"),
        (lambda x, k: x.pow(1.5), "a power other than 2, 3, 0.5, 1 and -1 is not written in Triton"),
        (lambda x, k: x + ELSEWHERE, rf"a tensor \[{ENVS}\] comes from elsewhere"),
        (lambda x, k: x.half(), "numbers are torch.float64 and become torch.float16"),
    ],
)
def test_what_is_not_of_single_environments_is_refused(function, reason):
    inputs = torch.zeros(ENVS, dtype=torch.float64), torch.zeros(ENVS, dtype=torch.int64)
    recording = Recording()
    with torch.no_grad(), recording:
        function(*inputs)
    emitter = Emitter(recording.operations, torch.device("cpu"), set())
    for x, name in zip(inputs, "xk", strict=True):
        emitter.give(x, np.array(name, object))
    with pytest.raises(Refused, match=reason):
        emitter.run(OPERATIONS)


@long_test
@needs_triton
def test_it_compiles_for_a_gpu_and_nothing_is_spilled():
    said = not_interpreting("tests.acting.rollout_costs")
    lines = said.splitlines()
    assert len(lines) == 2 * len(TASKS) + 2, said
    assert all(int(line.split()[-3]) <= 128 for line in lines), said
