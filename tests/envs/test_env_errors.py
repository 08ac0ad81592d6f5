"""Environments that break their contract: who, when and what is told, and nothing hangs."""

from __future__ import annotations

import os
import re
import signal
import warnings
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.vector import SyncVectorEnv
from gymnasium.wrappers import OrderEnforcing, TimeLimit

from envs.adapters.checks import flags_of, rewards_of
from envs.adapters.masks import WithMask
from envs.adapters.sync import SyncVecEnv
from envs.adapters.vector import adapt
from envs.adapters.workers import WorkersVecEnv
from envs.api import VecEnv
from envs.errors import EnvError
from envs.seeding import derive_seed
from envs.spaces import BadData
from tests.envs.small_envs import Faulty
from tests.waiting import HANGS

FAULTS = {
    "raises": "raised UnpicklableError at step 3 .*: code 7 in the maze",
    "exits": "raised SystemExit at step 3 .*: 4",
    "four": r"returned bad data at step 3 .*: step must return \(observation, .*, info\), but it returned 4 values",
    "nan": "returned bad data at step 3 .*: observation contains NaN",
    "infinite": "returned bad data at step 3 .*: observation is .*inf.*not finite",
    "shape": r"returned bad data at step 3 .*: observation has shape \(3,\), but its space says \(2,\)",
    "dtype": "returned bad data at step 3 .*: observation is .*complex64.*not numbers",
    "none": r"returned bad data at step 3 .*: observation is None",
    "range": r"returned bad data at step 3 .*: observation is 4 \(int\), which is not in Discrete\(4\)",
    "float": "returned bad data at step 3 .*: observation has dtype float64, but its space says int64",
    "reward nan": "returned bad data at step 3 .*: reward is NaN",
    "reward shape": r"returned bad data at step 3 .*: reward has shape \(1,\), but must be one number",
    "reward none": r"returned bad data at step 3 .*: reward is None \(NoneType\)",
    "flag": "returned bad data at step 3 .*: terminated is .*must be True or False",
}


def run(env: VecEnv, seed: int) -> None:
    env.reset(seed=seed)
    for _ in range(5):
        env.step(np.zeros(env.num_envs, np.int64))


def pair(backend: str, fault: str) -> VecEnv:
    """Environment 0 behaves, environment 1 has the fault."""
    discrete = fault in ("range", "float")
    makers = [partial(Faulty, "", discrete), partial(Faulty, fault, discrete)]
    return WorkersVecEnv(makers, workers=2) if backend == "async" else SyncVecEnv([maker() for maker in makers])


@pytest.mark.parametrize(
    ("backend", "fault"),
    [*(("sync", fault) for fault in FAULTS), *(("async", fault) for fault in ("raises", "exits", "shape", "flag"))],
)
def test_the_message_names_the_environment_the_step_and_what_came(backend, fault):
    env = pair(backend, fault)
    seed = derive_seed(9, "env", 1, 0)
    with pytest.raises(EnvError, match=f"^environment 1 {FAULTS[fault]}") as caught:
        run(env, seed=9)
    assert f"of the episode reset with seed {seed}" in str(caught.value)
    env.close()


@pytest.mark.parametrize("backend", ["sync", "async"])
def test_a_failing_reset_is_named_too(backend):
    env = pair(backend, "reset")
    with pytest.raises(EnvError, match=r"^environment 1 raised RuntimeError at its reset with seed \d+: no way in"):
        env.reset(seed=0)
    env.close()


class OldReset(Faulty):
    """Resets as gym did before Gymnasium, or in ways that no library ever asked for."""

    def __init__(self, result: Any) -> None:
        super().__init__()
        self.result = result

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        return self.result


def with_masks(env):
    return WithMask(env, "info")


@pytest.mark.parametrize(
    ("result", "found"),
    [
        (np.zeros(2, np.float32), "a single ndarray"),  # of two numbers, that would unpack
        ({"a": 0, "b": 1}, "a single dict"),
        (None, "a single NoneType"),
        ((np.zeros(2, np.float32), 0.0, {}), "3 values"),
    ],
)
@pytest.mark.parametrize("wrap", [lambda env: env, with_masks])
def test_a_reset_that_returns_no_pair_names_the_rule(result, found, wrap):
    env = SyncVecEnv([wrap(OldReset(result))])
    message = rf"^environment 0 .* at its reset .*: reset must return \(observation, info\), but it returned {found}$"
    with pytest.raises(EnvError, match=message):
        env.reset(seed=0)


class OldArguments(Faulty):
    def reset(self, seed: int | None = None) -> Any:  # type: ignore[override]
        return super().reset(seed=seed)


class NoArguments(Faulty):
    def reset(self) -> Any:  # type: ignore[override]
        return super().reset()


@pytest.mark.parametrize(
    ("env", "wrap", "lacking"),
    [
        (NoArguments, lambda env: env, "seed"),
        (NoArguments, OrderEnforcing, "seed"),
        (OldArguments, with_masks, "options"),
    ],
)
def test_a_reset_without_the_arguments_of_gymnasium_names_the_rule(env, wrap, lacking):
    rule = "reset must take seed and options, as in `def reset(self, *, seed=None, options=None)`"
    message = rf"^environment 0 failed at its reset .*: {re.escape(rule)}, but it takes no {lacking}$"
    with pytest.raises(EnvError, match=message):
        SyncVecEnv([wrap(env())]).reset(seed=0)


def test_rewards_whose_squares_overflow_are_taken_in_silence():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert rewards_of([1e20, -1e38]).tolist() == pytest.approx([1e20, -1e38])


def test_whatever_is_a_real_number_is_a_reward():
    for rewards in ([Fraction(1, 2), True, np.int8(3)], np.array([0.5, 1, 3], object)):
        found = rewards_of(rewards)
        assert (found.dtype, found.tolist()) == (np.float32, [0.5, 1, 3])
    for strange in (1j, np.timedelta64(1, "s"), [1, 2]):
        with pytest.raises(BadData, match=r"reward (is .*, which is not a number|has shape \(2,\))"):
            rewards_of([0.5, strange])


def test_a_tensor_with_a_gradient_is_named():
    tensor = torch.tensor(1.0, requires_grad=True)
    with pytest.raises(BadData, match=r"reward is tensor\(1\., requires_grad=True\) \(Tensor\)") as caught:
        rewards_of([0.5, tensor])
    assert caught.value.row == 1
    with pytest.raises(BadData, match="truncated is tensor"):
        flags_of([tensor], "truncated")


def test_an_odd_error_of_a_reader_names_the_last_environment(monkeypatch):
    env = pair("sync", "")
    monkeypatch.setattr(env._observations, "encode", lambda raws: 1 / 0)
    with pytest.raises(EnvError, match=r"^environment 1 raised ZeroDivisionError at its reset"):
        env.reset(seed=0)


@pytest.mark.parametrize("text", ["1", b"1", np.str_("1")])
def test_text_is_no_reward_and_no_flag(text: Any):
    for rewards in ([text], [0.5, text], np.array([text], object), [Fraction(1, 2), text]):
        with pytest.raises(BadData, match=r"reward is .*1'.*, which is not a number"):
            rewards_of(rewards)
    with pytest.raises(BadData, match=r"terminated is .*must be True or False"):
        flags_of([True, text], "terminated")


def test_a_step_of_four_values_names_the_rule_behind_wrappers_too():
    wraps: list[Any] = [partial(TimeLimit, max_episode_steps=9), OrderEnforcing, lambda env: env]
    for wrap in wraps:
        env = SyncVecEnv([wrap(Faulty("four"))])
        with pytest.raises(EnvError, match=r"^environment 0 .* at step 3 .*: step must return \(observation, reward, "):
            run(env, seed=0)


def test_without_a_fault_nothing_is_raised():
    for backend in ("sync", "async"):
        env = pair(backend, "")
        run(env, seed=0)
        env.close()


def test_a_process_that_dies_is_named_and_closing_does_not_hang():
    env = pair("async", "dies")
    with pytest.raises(EnvError, match=r"a process died in a step: environment 1 \(exit code 3\)$"):
        run(env, seed=0)
    env.close()


def test_ctrl_c_is_for_the_main_process_and_sigterm_ends_a_worker():
    env = pair("async", "")
    processes = env._processes
    env.reset(seed=0)
    os.kill(processes[0].pid, signal.SIGINT)
    for _ in range(3):
        env.step(np.zeros(2, np.int64))
    assert os.getsid(processes[0].pid) != os.getsid(0)  # nor does a terminal's Ctrl-C reach it
    processes[1].terminate()
    processes[1].wait(HANGS)
    assert processes[0].poll() is None
    env.close()
    assert processes[0].returncode == 0


def test_a_position_saved_after_an_error_is_the_one_before_it():
    env = pair("sync", "raises")
    with pytest.raises(EnvError):
        run(env, seed=0)
    state = env.state_dict()
    assert len(state["actions"]) == 2
    fresh = pair("sync", "raises")
    assert fresh.load_state_dict(state) == []  # though the step that failed had counted itself already


@pytest.mark.parametrize("fault", ["raises", "reward nan", "nan"])
def test_vector_environments_are_blamed(fault):
    env = adapt(SyncVectorEnv([Faulty, partial(Faulty, fault)]))
    with pytest.raises(EnvError, match=r"^(the vector environment|environment 1) .*at step 3 since the reset"):
        run(env, seed=0)
