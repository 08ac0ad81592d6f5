"""Faults that were planted in an environment are found, and good environments have none."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from agents.check import main
from agents.lab.checkup.environment import CheckResult, CheckUp
from agents.lab.checkup.play import Played, fingerprint, play
from envs.native.gym_env import DYNAMICS
from tests.lab.checkup.faulty import Good
from tests.marks import long_test

FILE = Path(__file__).with_name("faulty.py")


@pytest.fixture(autouse=True)
def even_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look at the clock is a millisecond after the one before, whatever else the machine does."""
    clock = count()
    monkeypatch.setattr("agents.lab.checkup.play.perf_counter", lambda: next(clock) / 1_000)


def looked_at(name: str, steps: int = 600, **options: Any) -> list[CheckResult]:
    return list(CheckUp(name, steps=steps, **options).verdicts())


def test_a_good_environment_has_neither_fault_nor_warning() -> None:
    found = looked_at(f"{FILE}:Good")
    assert [verdict for verdict in found if verdict.level != "ok"] == []
    assert [verdict.name for verdict in found] == [
        *("Gymnasium's checker", "same seed, same episode", "spaces", "numbers", "buffers", "ends of episodes"),
        *("rewards", "observations", "actions", "policies", "speed", "rendering"),
    ]


def test_a_simulator_that_runs_once_at_a_time_is_looked_at_like_any() -> None:
    assert [verdict for verdict in looked_at(f"{FILE}:Alone") if verdict.level != "ok"] == []


def test_gymnasiums_checker_looks_at_what_is_trained_in_wrappers_included() -> None:
    assert [verdict for verdict in looked_at(f"{FILE}:scaled") if verdict.level != "ok"] == []
    assert CheckUp(f"{FILE}:Raw", wrappers=[f"{FILE}:Scaled"]).by_gymnasium().level == "ok"
    assert CheckUp(f"{FILE}:Raw").by_gymnasium().level == "fault"
    assert CheckUp(f"{FILE}:Good", wrappers=["gymnasium.wrappers:FlattenObservation"]).by_gymnasium().level == "ok"
    faulty = CheckUp(f"{FILE}:Good", wrappers=[f"{FILE}:Scaled"], env_kwargs={"max_episode_steps": 1})
    assert "truncates after 1 step" in faulty.by_gymnasium().evidence


PLANTED = {
    "Unseeded": ("same seed, same episode", "fault", "numpy.random"),
    "Carrying": ("same seed, same episode", "fault", "in reset"),
    "Outside": ("spaces", "fault", "and its space goes from -1 to 2"),
    "WrongDtype": ("spaces", "warning", "observation is float64, and its space float32"),
    "ManyBoxes": ("spaces", "fault", "it must be made of Box, Discrete"),
    "WrongShape": ("spaces", "fault", "observation has shape (3,), and its space (2,)"),
    "NotFinite": ("numbers", "fault", "observation holds NaN in step 25"),
    "BadReward": ("numbers", "fault", "the reward is inf in step 15"),
    "Endless": ("ends of episodes", "fault", "no episode ended in 600 random steps"),
    "Confused": ("ends of episodes", "warning", "all terminated after as many steps"),
    "OldLimit": ("ends of episodes", "fault", "info says TimeLimit.truncated"),
    "OnlyTruncated": ("ends of episodes", "warning", "all truncated, and not after as many steps"),
    "Reusing": ("buffers", "fault", "changed the observation that was given out before"),
    "ChangingActions": ("buffers", "fault", "changed the action that it was given"),
    "LargeRewards": ("rewards", "warning", "of a size of 1e+06"),
    "Unpaid": ("rewards", "warning", "all 600 are 0"),
    "Still": ("observations", "warning", "never changed in 600 random steps: observation[1]"),
    "Raising": ("random play", "fault", "ZeroDivisionError in step 31: of what?"),
    "NoFlag": ("random play", "fault", "in step 1: terminated is None, but must be True or False"),
    "NoWidth": ("spaces", "fault", "observation[1] is"),
    "FourValues": ("same seed, same episode", "fault", "step must return"),
    "NoPicture": ("rendering", "fault", "render() returned None"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_found(name: str) -> None:
    where, level, words = PLANTED[name]
    (verdict,) = (found for found in looked_at(f"{FILE}:{name}") if found.name == where)
    assert verdict.level == level, verdict
    assert words in verdict.evidence, verdict
    assert verdict.fix


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--env", f"{FILE}:Good", "--steps", "300", "--json"]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert lines[-1].endswith("Good: 0 faults, 0 warnings")
    assert {verdict["level"] for verdict in json.loads(last)["verdicts"]} == {"ok"}
    assert main(["--env", f"{FILE}:NoPicture", "--steps", "300"]) == 1
    out = capsys.readouterr().out
    assert "fault    rendering: render() returned None" in out
    assert out.endswith("NoPicture: 1 fault, 0 warnings\n")
    assert main(["--env", "CartPol-v1"]) == 2
    assert "Did you mean CartPole-v1" in capsys.readouterr().err
    assert main(["--env", "CartPole-v1", "--steps", "0"]) == 2


def test_what_a_constant_action_earns_is_told() -> None:
    (verdict,) = (found for found in looked_at(f"{FILE}:Good") if found.name == "policies")
    assert "always 2 10" in verdict.evidence
    assert "always 0 -10" in verdict.evidence
    (verdict,) = (found for found in looked_at(f"{FILE}:Unpaid") if found.name == "policies")
    assert (verdict.level, "all the same" in verdict.evidence) == ("warning", True)


def test_play_counts_right() -> None:
    env = Good()
    played = play(env, lambda obs, info: 2, 0, 1_000, episodes=3)
    assert [(episode.length, episode.total, episode.ended) for episode in played.episodes] == [
        (10, 10, "terminated")
    ] * 3
    assert played.steps == 30
    assert played.low["observation"][0] == 0
    assert played.high["observation"][0] == 1
    waiting = play(env, lambda obs, info: 1, 0, 130)
    assert [(episode.length, episode.ended) for episode in waiting.episodes] == [
        *[(60, "truncated")] * 2,
        (10, ""),
    ]
    assert len(waiting.whole) == 2


@pytest.mark.parametrize(
    ("resets", "step", "level", "words"),
    [
        ([0.01] * 10, 0.01, "ok", "91 steps/s: 91% of the time in step, 9% in reset (10 ms each)"),
        ([5.0, *[0.01] * 9], 0.01, "ok", "9% in reset"),
        ([0.2] * 10, 0.01, "warning", "67% in reset (200 ms each)"),
        ([0.2], 0.01, "ok", "17% in reset (200 ms each)"),
        ([5.0] * 4 + [0.01] * 6, 0.01, "warning", "steps/s"),
        ([0.01] * 10, 0.03, "warning", "32 steps/s"),
    ],
)
def test_slow_environments_are_told(resets: list[float], step: float, level: str, words: str) -> None:
    played = Played(seconds={"reset": resets, "step": [step] * 100}, steps=100)
    verdict = CheckUp(f"{FILE}:Good").speed(played)
    assert (verdict.level, words in verdict.evidence) == (level, True), verdict


def test_a_stretch_of_play_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agents.lab.checkup.play.MOST_SECONDS", 0.1)
    assert 20 < play(Good(), lambda obs, info: 1, 0, 1_000).steps < 40


def test_only_equal_values_have_equal_fingerprints() -> None:
    values = [1, 1.0, np.float32(1), np.ones(1), np.ones(2), {"a": 1}, {"b": 1}, (1,), (1, 1), "x", None]
    assert len({fingerprint(value) for value in values}) == len(values) - 1, "a float is a float64"
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})


@long_test
@pytest.mark.parametrize(
    "name",
    [
        *("CartPole-v1", "LunarLander-v3", "HalfCheetah-v5", "ALE/Pong-v5", "Taxi-v4", "FrozenLake-v1"),
        *(name for name in DYNAMICS if name.startswith("native/")),
    ],
)
def test_environments_that_are_known_have_no_fault(name: str) -> None:
    if name == "ALE/Pong-v5":
        pytest.importorskip("ale_py")
    if name == "HalfCheetah-v5":
        pytest.importorskip("mujoco")
    if not (name in gym.registry or name.startswith(("native/", "ALE/"))):
        pytest.skip("there is no such environment in this version of Gymnasium")
    assert [found for found in looked_at(name, steps=400) if found.level == "fault"] == []


@pytest.mark.parametrize("name", ["InInfo", "ByMethod", "InObservation"])
def test_only_legal_actions_are_played(name: str) -> None:
    found = {verdict.name: verdict for verdict in looked_at(f"{FILE}:{name}")}
    assert found["action masks"].level == "ok"
    assert found.pop("Gymnasium's checker").level == "warning", "which plays any"
    assert {verdict.level for verdict in found.values()} == {"ok"}
    assert found["policies"].evidence.startswith("mean return: random ")
    assert "always" not in found["policies"].evidence


def test_a_mask_that_does_not_fit_is_told() -> None:
    (verdict,) = (found for found in looked_at(f"{FILE}:ShortMask") if found.name == "action masks")
    assert verdict.level == "fault"
    assert "shape (2,), but Discrete(3) needs numbers (3,)" in verdict.evidence
