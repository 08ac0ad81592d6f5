"""Where a search looks: read from YAML, checked by the settings themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agents.lab.tuning.space import (
    Choices,
    Range,
    find_space,
    from_plain,
    packaged_spaces,
    parameters,
    read_space,
    settings,
    suggest,
    to_plain,
)
from agents.run import registry
from agents.run.config import FLAGS, Layer, resolve
from envs.errors import UserError
from tests.lab.tuning.searching import base

DQN, PPO = registry.find("dqn"), registry.find("ppo")


class Drawn:
    """Stands in for Optuna's trial: draws the low end, or what is chosen for it."""

    def __init__(self, **chosen: Any) -> None:
        self.chosen, self.asked = chosen, list[str]()

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> Any:
        self.asked.append(name)
        return self.chosen.get(name, low)

    suggest_int = suggest_float

    def suggest_categorical(self, name: str, choices: list[Any]) -> Any:
        self.asked.append(name)
        return self.chosen.get(name, choices[0])


def space_of(tmp_path: Path, text: str, algo: str = "dqn") -> Any:
    file = tmp_path / "space.yaml"
    file.write_text(text)
    return read_space(file, registry.find(algo), base(algo=algo))


def test_each_form_becomes_what_it_says(tmp_path: Path) -> None:
    found = space_of(
        tmp_path,
        "learning_rate: {low: 1e-5, high: 1e-2, log: true, falling: both}\nn_step_returns: {low: 1, high: 5}\n"
        "net_arch: [[64, 64], [256, 256]]\ndueling: all\ndistribution: all\nmax_grad_norm: [none, 10]\n",
    )
    assert found["learning_rate"] == Range(1e-5, 1e-2, log=True, falling=(False, True))
    assert found["n_step_returns"] == Range(1, 5, whole=True)
    assert found["net_arch"] == Choices(("[64, 64]", "[256, 256]"))
    assert found["dueling"] == Choices(("false", "true"))
    assert found["distribution"] == Choices(('"none"', '"c51"', '"qr"', '"iqn"'))
    assert found["max_grad_norm"] == Choices(("null", "10"))
    assert from_plain(to_plain(found)) == found


def test_the_settings_that_the_search_begins_with_are_within(tmp_path: Path) -> None:
    found = space_of(tmp_path, "gamma: [0.9]\nlearning_rate: {low: 1e-3, high: 1e-2}\n")
    assert found == {"gamma": Choices(("0.9", "0.99")), "learning_rate": Range(1e-4, 1e-2)}
    assert parameters(found, {"gamma": 0.99, "learning_rate": 1e-4}) == {"gamma": "0.99", "learning_rate": 1e-4}
    assert parameters(found, {"gamma": 0.5, "learning_rate": "lin_1e-3"}) == {}
    rate = {"learning_rate": Range(1e-3, 1e-2, log=True).widened("learning_rate", "lin_5e-4")}
    assert rate == {"learning_rate": Range(5e-4, 1e-2, log=True, falling=(False, True))}
    assert parameters(rate, {"learning_rate": "lin_5e-4"}) == {"learning_rate": 5e-4, "learning_rate.falling": True}
    assert settings(rate, {"learning_rate": 5e-4, "learning_rate.falling": True}) == {"learning_rate": "lin_0.0005"}
    zero = {"ent_coef": Range(1e-8, 0.1, log=True).widened("ent_coef", 0.0)}
    assert parameters(zero, {"ent_coef": 0.0}) == {}  # a logarithm has no place for it


def test_settings_of_parts_that_are_not_in_use_are_not_drawn(tmp_path: Path) -> None:
    found = space_of(tmp_path, "n_quantiles: [8, 32]\nmemory_size: [16, 64]\ndistribution: all\nmemory: [none, gru]\n")
    for chosen, expected in (
        ({}, {"distribution": "none", "memory": None}),
        ({"distribution": '"qr"'}, {"distribution": "qr", "memory": None, "n_quantiles": 8}),
        ({"memory": '"gru"'}, {"distribution": "none", "memory": "gru", "memory_size": 16}),
    ):
        assert suggest(Drawn(**chosen), found, base(algo="dqn"), DQN.config) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("learnin_rate: [1e-3]", r"space.yaml: learnin_rate: unknown setting. Did you mean learning_rate"),
        ("clip_range: [0.1]", "clip_range: this is a setting of ppo"),
        ("total_timesteps: [100]", "trials are held against one another by it"),
        ("gamma: [0.9, 1.5]", "gamma: 1.5 is out of range; it must be >= 0 and <= 1"),
        ("gamma: 0.9", "gamma: 0.9 given, a list of values, all, or"),
        ("gamma: all", "gamma: all given, but it may be any number"),
        ("gamma: {low: 0.9, high: 0.8}", "the first less"),
        ("gamma: {low: 0, high: 1, log: true}", "a logarithm needs a number above 0"),
        ("gamma: {low: 0.1, high: 0.9, falling: yes}", "it does not change during a run"),
        ("n_envs: {low: 1.5, high: 8}", "whole numbers expected"),
        ("dueling: {low: 0, high: 1}", "dueling: it is no number"),
        ("gamma: [0.9, 0.9]", "a value is given twice"),
        ("gamma: [{1: 2, a: 3}]", "gamma: .* given, a list of values, all, or"),
        ("gamma: [!!timestamp 2001-01-01]", "tags are not read"),
        (
            "learning_rate: {low: 1e-4, high: 1e-2, falling: [yes]}",
            "learning_rate: a list of values, all, or .*expected",
        ),
        (f"gamma: {{low: 0, high: 1{'0' * 400}}}", "whole numbers have at most 64 bits"),
        ("{}", "it names no setting to search over"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        space_of(tmp_path, text)


@pytest.mark.parametrize("algo", ["dqn", "pqn", "ppo", "sac"])
def test_packaged_spaces_are_sound(algo: str) -> None:
    spec = registry.find(algo)
    spaces = packaged_spaces(algo)
    assert "default" in spaces
    env = "Pendulum-v1" if algo == "sac" else "CartPole-v1"
    values = resolve([Layer(FLAGS, {"env": env, "algo": algo})]).model_dump(mode="json")
    for name in spaces:
        found = read_space(find_space(name, spec), spec, values)
        first = suggest(Drawn(), found, values, spec.config)
        assert first.keys() <= spec.config.flat_fields().keys()
        assert parameters(found, values).keys() >= {name for name in found if name in first}


def test_an_unknown_space_is_named() -> None:
    with pytest.raises(UserError, match=r"--space: 'wid' given, default\|wide expected"):
        find_space("wid", PPO)
