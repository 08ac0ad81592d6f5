"""Compiled and captured steps do what the plain ones do, and fall back with one sentence."""

from __future__ import annotations

import os
import shutil
from typing import Any
from unittest import mock

import pytest
import torch

from agents.acting.fused import FusedCollector
from agents.algos.ppo.algorithm import PPO
from agents.algos.ppo.config import PPOConfig
from agents.core import runtime as runtime_module
from agents.core.checked import all_close
from agents.core.runtime import Runtime
from agents.run.training import Training
from envs.native.arrays import TorchArrays
from envs.native.gym_env import DYNAMICS
from envs.native.vec_env import NativeVecEnv
from tests.algos.making import make_batch, make_dqn, make_ppo, weights
from tests.core.recorder import Tape, listening
from tests.fakes import ClockEnv, training_on

CPU = torch.device("cpu")
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
CONFIG = PPOConfig.model_validate(
    {
        "n_envs": 4, "n_steps": 16, "batch_size": 32, "n_epochs": 2, "net_arch": (8, 8), "total_timesteps": 256,
        "learning_rate": "lin_0.01", "clip_range": "lin_0.2", "ent_coef": 0.01, "norm_obs": True, "norm_reward": True,
    }
)  # fmt: skip


def train(runtime: Runtime, config: PPOConfig = CONFIG, env: Any = None) -> tuple[Training, list[dict[str, float]]]:
    """Return a training after its whole budget, and the metrics of each iteration."""
    training = training_on(env or ClockEnv(config.n_envs), config, runtime=runtime)
    metrics = [{tag: float(value) for tag, value in step.metrics.items()} for step in training.iterations()]
    return training, metrics


def cartpole(num_envs: int = 4) -> NativeVecEnv:
    return NativeVecEnv(DYNAMICS["CartPole-v1"](max_episode_steps=25), num_envs, TorchArrays("cpu"))


def test_what_is_compiled_is_kept_in_a_folder_of_the_users_unless_one_is_set(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "elsewhere")
    monkeypatch.setenv("LOCALAPPDATA" if os.name == "nt" else "XDG_CACHE_HOME", str(tmp_path))
    runtime_module.keep_compiled()
    assert os.environ.pop("TORCHINDUCTOR_CACHE_DIR") == "elsewhere"
    runtime_module.keep_compiled()
    folder = tmp_path / "deep-rl-suite" / "compiled"
    assert os.environ.pop("TORCHINDUCTOR_CACHE_DIR") == str(folder)
    assert os.name == "nt" or folder.stat().st_mode & 0o777 == 0o700, "what lies there is run: nobody else may write"
    folder.rmdir()
    folder.touch()
    runtime_module.keep_compiled()
    assert "TORCHINDUCTOR_CACHE_DIR" not in os.environ, "PyTorch's own choice is left where there is no such folder"


def test_first_calls_are_timed_and_once_where_one_is_within_another(monkeypatch):
    monkeypatch.setattr(runtime_module, "perf_counter", iter(range(0, 1000, 10)).__next__)
    runtime = Runtime("auto", record=Tape())
    inner = runtime.captured(lambda x: x + 1, list)
    outer = runtime.captured(lambda x: inner(x) * 2, list)
    assert runtime.preparing == 0
    outer(torch.ones(2))  # begins at 0, the one within lasts from 10 to 20, ends at 30
    assert runtime.preparing == 30
    outer(torch.ones(2))
    assert runtime.preparing == 30, "what runs again is not prepared"


def test_an_iteration_says_how_long_first_calls_took():
    runtime = Runtime("auto", record=Tape())
    training = training_on(ClockEnv(CONFIG.n_envs), CONFIG, runtime=runtime)
    first, *later = (step.seconds for step in training.iterations())
    assert 0 < first["compile"] == runtime.preparing <= first["learn"]
    assert all("compile" not in seconds for seconds in later)


def test_a_captured_update_is_the_plain_one_bit_for_bit():
    plain, expected = train(Runtime())
    tape = Tape()
    runtime, said = listening("auto", record=tape)
    captured, metrics = train(runtime)
    assert metrics == expected
    assert weights(captured.algorithm).equal(weights(plain.algorithm))
    assert said == []
    assert (tape.recorded, tape.replayed) == (1, len(metrics)) == (1, 4)


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize(
    "options", [{}, {"memory": "gru"}, {"norm_obs": True, "norm_reward": True, "norm_value": "popart"}]
)
def test_captured_ticks_and_updates_are_the_plain_ones_bit_for_bit(options):
    config = PPOConfig.model_validate({**CONFIG.model_dump(), **options})
    plain, expected = train(Runtime(), config, cartpole())
    tape = Tape()
    runtime, said = listening("auto", record=tape)
    captured, metrics = train(runtime, config, cartpole())
    assert isinstance(captured.collector, FusedCollector)
    assert metrics == expected
    assert weights(captured.algorithm).equal(weights(plain.algorithm))
    assert said == []
    assert (tape.recorded, tape.replayed) == (2, 2 * len(metrics)) == (2, 8)


def test_off_captures_nothing_and_a_kl_limit_cannot_be_captured():
    tape = Tape()
    train(Runtime("off", record=tape))
    train(Runtime("auto", record=tape), CONFIG.model_copy(update={"target_kl": 10.0}))
    assert tape.recorded == 0


def test_the_recorder_freezes_python_as_a_graph_does():
    class Counter:
        calls, factor = 0, torch.ones(1)

    def scaled(x):
        Counter.calls += 1
        return x * Counter.calls * Counter.factor if Counter.calls < 5 else x

    runtime, said = listening("auto", record=Tape())
    captured, x = runtime.captured(scaled, list), torch.ones(1)
    assert captured(x).item() == 3.0  # two calls to warm up, and the recorded one
    assert captured(2 * x).item() == 6.0, "arguments are no part of what is frozen"
    Counter.calls = 10
    assert captured(x).item() == 3.0
    Counter.factor = torch.full((1,), 5.0)
    assert captured(x).item() == 3.0, "another tensor in the same place is not looked at"
    assert Counter.calls == 10
    assert said == []


def test_the_recorder_follows_tensors_changed_in_place():
    factor, total = torch.ones(1), torch.zeros(1)

    def add(x):
        view = total.view(1, 1)
        view += x * factor
        return {"total": total.clone(), "double": (2 * total,)}

    captured = Runtime("auto", record=Tape()).captured(add, lambda: [total])
    assert captured(torch.ones(1))["total"].item() == 1.0
    factor.fill_(10.0)
    result = captured(torch.full((1,), 2.0))
    assert [result["total"].item(), result["double"][0].item(), total.item()] == [21.0, 42.0, 21.0]


@pytest.mark.parametrize(
    "looks",
    [
        lambda x: x * float(x.sum()),
        lambda x: x if x.any() else -x,
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: x + torch.rand(1, generator=torch.Generator()),
    ],
)
def test_the_recorder_refuses_what_a_graph_cannot_hold(looks):
    runtime, said = listening("auto", record=Tape())
    captured, x = runtime.captured(looks, list), torch.ones(1)
    assert captured(x).shape[0] == 1
    assert len(said) == 1
    assert said[0].startswith("not captured, runs as it is: RuntimeError: operation not permitted")


def test_warming_up_leaves_no_trace():
    total = torch.zeros(2)

    def add(values):
        total.add_(values)
        return (total.clone(),)

    add_captured = Runtime("auto", record=Tape()).captured(add, lambda: [total])
    assert add_captured(torch.ones(2))[0].tolist() == [1.0, 1.0]
    assert add_captured(torch.full((2,), 5.0))[0].tolist() == [6.0, 6.0]


def test_another_version_is_captured_anew():
    tape, version, seen = Tape(), [0], []
    captured = Runtime("auto", record=tape).captured(lambda x: x + version[0], list, lambda: version[0])
    for version[0] in (0, 0, 1, 1):
        seen.append(captured(torch.zeros(1)).item())
    assert seen == [0.0, 0.0, 1.0, 1.0]
    assert tape.recorded == 2


def replacing(kernel, count):
    """Return a function that adds to a count, `kernel` in its place, and what was said of that."""
    runtime, said = listening("kernels")

    def plain(x):
        count.add_(x)
        return count * 2

    def agree(expected, got, before):
        (outputs, (state,)), (seen, (left,)) = expected, got
        return "" if torch.equal(outputs, seen) and torch.equal(state, left) else "its numbers are others"

    return runtime.replaced(plain, lambda: kernel, lambda: [count], agree), said


def test_a_kernel_that_agrees_takes_the_place_of_the_function():
    count, calls = torch.zeros(1), []

    def kernel(x):
        calls.append(x)
        count.copy_(count + x)
        return count + count

    run, said = replacing(kernel, count)
    assert [run(torch.ones(1)).item(), run(torch.ones(1)).item(), count.item()] == [2.0, 4.0, 2.0]
    assert len(calls) == 2
    assert said == []


@pytest.mark.parametrize("wrong", ["outputs", "state", "raises"])
def test_a_kernel_that_does_something_else_is_not_used(wrong):
    count = torch.zeros(1)

    def kernel(x):
        if wrong == "raises":
            raise RuntimeError("out of registers")
        count.add_(x * (2 if wrong == "state" else 1))
        return count * 2 if wrong == "state" else count * 3

    run, said = replacing(kernel, count)
    assert [run(torch.ones(1)).item(), run(torch.ones(1)).item(), count.item()] == [2.0, 4.0, 2.0]
    reason = "RuntimeError: out of registers" if wrong == "raises" else "Disagreement: its numbers are others"
    assert said == [f"not in a kernel, runs as it is: {reason}"]


@pytest.mark.parametrize(
    ("right", "found", "close"),
    [
        ([1.0, 2.0], [1.0, 2.00001], True),
        ([1.0, 2.0], [1.0, 2.1], False),
        ([1.0, torch.nan, torch.inf], [1.00001, torch.nan, torch.inf], True),
        ([1.0, torch.nan], [1.0, 2.0], False),
        ([1.0, 2.0], [1.0, torch.nan], False),
        ([torch.inf, 1.0], [-torch.inf, 1.0], False),
        ([torch.inf, 1.0], [torch.inf, 1.1], False),
        ([torch.nan, 1.0], [torch.nan, 1.1], False),
    ],
)
def test_numbers_agree_but_for_rounding_and_nan_with_nan(right, found, close):
    assert (all_close(([torch.tensor(right)], []), ([torch.tensor(found)], []), []) == "") is close


@pytest.mark.parametrize(
    ("found", "close"), [(1.001, True), (1.00101, True), (1.0, False), (1.002, False), (0.999, False)]
)
def test_what_changes_in_place_must_go_as_far(found, close):
    """Though no step at all would be near to a small one."""
    before, right, got = (torch.full((100,), value) for value in (1.0, 1.001, found))
    assert (all_close(([], [right]), ([], [got]), [before]) == "") is close


def test_a_kernel_may_be_compared_on_a_sample_and_then_does_all():
    count, seen = torch.zeros(1), []

    def plain(x):
        seen.append(len(x))
        count.add_(x.sum())
        return count * 2

    def agree(expected, got, before):
        return "" if expected[0].equal(got[0]) and expected[1][0].equal(got[1][0]) else "its numbers are others"

    def kernel(x):
        count.copy_(count + x.sum())
        return count + count

    runtime, said = listening("kernels")
    run = runtime.replaced(plain, lambda: kernel, lambda: [count], agree, sample=lambda x: (x[:2],))
    assert [run(torch.ones(5)).item(), run(torch.ones(5)).item(), count.item()] == [10.0, 20.0, 10.0]
    assert seen == [2]
    assert said == []


def test_other_modes_take_no_kernel():
    plain, never = torch.neg, pytest.fail
    for mode in ("off", "graphs", "auto", "numpy"):
        assert Runtime(mode).replaced(plain, never, list, never) is plain
        assert Runtime(mode).replaced(plain, never, list, never, otherwise=torch.abs) is torch.abs
    assert Runtime("on", torch.device("cuda")).replaced(plain, never, list, never) is plain


def test_what_runs_where_a_kernel_fails_need_not_be_what_it_is_compared_with():
    def fails():
        raise ValueError("no kernel")

    runtime, said = listening("on")
    run = runtime.replaced(lambda x: x + 1, fails, list, lambda *_: "", otherwise=lambda x: x + 2)
    assert [run(torch.ones(())).item(), run(torch.ones(())).item()] == [3.0, 3.0]
    assert said == ["not in a kernel, runs as it is: ValueError: no kernel"]
    run = runtime.replaced(lambda x: x + 1, lambda: torch.neg, list, lambda *_: "", otherwise=lambda x: x + 2)
    assert run(torch.ones(())).item() == -1.0


def test_what_cannot_be_captured_runs_as_it_is_and_says_so_once():
    def record(function):
        raise RuntimeError("operation not permitted\nwhen stream is capturing")

    runtime, said = listening("auto", record=record)
    total = torch.zeros(1)
    captured = runtime.captured(lambda x: (total.add_(x),), lambda: [total])
    for _ in range(3):
        captured(torch.ones(1))
    assert total.item() == 3.0
    assert said == ["not captured, runs as it is: RuntimeError: operation not permitted"]


def test_what_cannot_be_compiled_runs_as_it_is_and_says_so_once(monkeypatch):
    def broken(function, **options):
        def run(*args):
            raise RuntimeError("no C++ compiler")

        return run

    monkeypatch.setattr(torch, "compile", broken)
    runtime, said = listening("on")
    run = runtime.compiled(lambda x: 2 * x)
    assert [run(torch.ones(1)).item() for _ in range(3)] == [2.0] * 3
    assert said == ["not compiled, runs as it is: RuntimeError: no C++ compiler"]


def test_without_a_compiler_numpy_repeats_updates_and_says_why_there_is_no_more(monkeypatch):
    monkeypatch.setenv("CXX", "/not/there/c++")
    runtime, said = listening("on", device=CPU)
    of_two = [runtime.compiled(lambda x, n=n: n * x, state=list) for n in (2, 3)]
    assert [run(torch.ones(1)).item() for run in of_two for _ in range(2)] == [2.0, 2.0, 3.0, 3.0]
    assert train(runtime)[1] == train(Runtime("numpy", CPU))[1]
    assert len(said) == 1
    assert said[0].startswith("not in C++, by NumPy: /not/there/c++, the C++ compiler, does not run: ")


@needs_compiler
@pytest.mark.parametrize("options", [{"norm_value": "popart"}, {"batch_size": 24}, {"target_kl": 10.0}])
def test_updates_in_cpp_are_the_plain_ones_but_for_rounding(options):
    """`prepare` with PopArt changes parameters too, and 64 rows make no minibatches of one size."""
    config = PPOConfig.model_validate({**CONFIG.model_dump(), **options})
    plain, expected = train(Runtime(), config, cartpole())
    runtime, said = listening("on", device=CPU)
    with mock.patch.object(PPO, "metrics", autospec=True, side_effect=PPO.metrics) as of_metrics:
        compiled, metrics = train(runtime, config, cartpole())
    assert said == []
    noted = len(metrics) if "target_kl" in options else 1  # where it may stop early, shapes vary
    assert of_metrics.call_count == noted
    assert len(metrics) > 1
    for one, other in zip(metrics, expected, strict=True):
        assert one == pytest.approx(other, rel=2e-2, abs=1e-3)
    torch.testing.assert_close(weights(compiled.algorithm), weights(plain.algorithm), rtol=1e-2, atol=1e-3)


def test_a_summary_says_what_is_done():
    def summary(mode, device, make=make_ppo, **options):
        runtime = Runtime(mode, torch.device(device))
        make(runtime=runtime, **options)
        return runtime.summary

    assert summary("off", "cpu") == summary("auto", "cpu") == summary("off", "cuda") == "eager"
    assert summary("on", "cpu") == summary("on", "cpu", target_kl=0.1) == "compiled"
    assert summary("on", "cpu", memory="gru") == "compiled"
    assert summary("on", "cuda", memory="gru") == "captured"
    assert summary("auto", "cuda") == "captured"
    assert summary("auto", "cuda", target_kl=0.1) == "eager"
    assert summary("on", "cuda") == "compiled and captured"
    assert summary("auto", "cuda", make_dqn) == "eager"


def test_rollouts_with_dummies_vary_in_size_and_are_left_alone(monkeypatch):
    def shapes_only(function, **options):
        def run(*args):
            raise AssertionError("compiled for a size that will not come again")

        return run

    monkeypatch.setattr(torch, "compile", shapes_only)
    runtime, said = listening("on")
    for options in ({}, {"target_kl": 10.0}):
        training, metrics = train(runtime, CONFIG.model_copy(update=options), ClockEnv(4, dummies=True))
        assert len(metrics) > 3
        assert all(metrics)
        assert training.learner.n_updates > 0
    assert said == []


@needs_compiler
def test_compiled_ppo_follows_the_plain_one():
    runtime, said = listening("on", device=CPU)
    config = CONFIG.model_copy(update={"clip_range": 0.2})  # at a clip range of 0 rounding alone counts as clipped
    plain, expected = train(Runtime(), config)
    compiled, metrics = train(runtime, config)
    assert said == []
    torch.testing.assert_close(weights(compiled.algorithm), weights(plain.algorithm), atol=1e-5, rtol=1e-4)
    for step, wanted in zip(metrics, expected, strict=True):
        assert step == pytest.approx(wanted, abs=1e-4, rel=1e-3)


@needs_compiler
def test_compiled_dqn_follows_the_plain_one():
    runtime, said = listening("on", device=CPU)
    plain, compiled = make_dqn(), make_dqn(runtime=runtime)
    for seed in range(4):
        wanted, got = (made.update(make_batch(seed=seed), 0.1) for made in (plain, compiled))
        assert got["train/loss"] == pytest.approx(wanted["train/loss"], rel=1e-4)
    assert said == []
    torch.testing.assert_close(weights(compiled.model), weights(plain.model), atol=1e-6, rtol=1e-4)
