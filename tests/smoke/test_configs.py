"""Every file in configs/ is for an environment that exists, holds valid settings, and says where they come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.run.config import ALIASES, CONFIGS, FLAGS, Layer, packaged_config, resolve
from agents.run.yaml_files import load_config_file
from envs.errors import UserError
from envs.locate import locate

APART = ("sb3", "presets", "search")  # those have tests of their own
FILES = sorted(file for file in CONFIGS.rglob("*.yaml") if not {*APART} & {*file.relative_to(CONFIGS).parts})
KINDS = {"atari": "ALE/Pong-v5"}  # one of each kind of environments that files are for
PROMISED = {
    "ppo": "CartPole-v1 Acrobot-v1 MountainCar-v0 LunarLander-v3 Pendulum-v1 MountainCarContinuous-v0 "
    "BipedalWalker-v3 Bricks-v0 Treasure-v0 Crossing-v0 Submarine-v0 Invaders-v0 Ant-v5 HalfCheetah-v5 Hopper-v5 "
    "Humanoid-v5 HumanoidStandup-v5 InvertedDoublePendulum-v5 InvertedPendulum-v5 Pusher-v5 Reacher-v5 Swimmer-v5 "
    "Walker2d-v5 CarRacing-v3",
    "dqn": "CartPole-v1 Acrobot-v1 MountainCar-v0 LunarLander-v3 Corridor-v0",
    "pqn": "CartPole-v1 Taxi-v4 CliffWalking-v1 FrozenLake-v1 FrozenLake8x8-v1 Blackjack-v1",
    "sac": "Pendulum-v1 HalfCheetah-v5 Hopper-v5",
    "iql": "Pendulum-v1",
}


def test_what_is_promised_is_there() -> None:
    for algorithm, names in PROMISED.items():
        assert {file.stem for file in (CONFIGS / algorithm).glob("*.yaml")} >= set(names.split())


@pytest.mark.parametrize("file", FILES, ids=[str(file.relative_to(CONFIGS)) for file in FILES])
def test_a_config(file: Path) -> None:
    algorithm, env = file.parent.name, KINDS.get(file.stem, file.stem)
    assert file.suffix == ".yaml"
    if env.startswith("MiniGrid"):
        pytest.importorskip("minigrid", reason="the MiniGrid extra is not installed")
    if env not in KINDS.values():
        assert locate(env).id == env
    assert packaged_config(algorithm, env) == file
    config = resolve([Layer(FLAGS, {"env": env, "algo": algorithm})])
    chosen = config.model_dump(mode="json")
    settings = load_config_file(file)
    assert settings
    assert {name: chosen[ALIASES.get(name, name)] for name in settings} == settings
    assert not {"env", "algo", "seed", "device"} & settings.keys(), "the file's place and the flags say these"
    first = file.read_text().splitlines()[0].lower()
    assert first.startswith("# ")
    assert "rl-zoo3" in first or "our own" in first, "where do the settings come from?"


PRESETS = sorted(CONFIGS.glob("*/presets/*.yaml"))


@pytest.mark.parametrize("file", PRESETS, ids=[str(file.relative_to(CONFIGS)) for file in PRESETS])
def test_a_preset_lies_over_the_packaged_settings_and_beneath_the_users(file: Path) -> None:
    algorithm, settings = file.parent.parent.name, load_config_file(file)
    env = "Pendulum-v1" if algorithm == "sac" else "LunarLander-v3"
    given = {"env": env, "algo": algorithm, "preset": file.stem}
    chosen = resolve([Layer(FLAGS, given)]).model_dump(mode="json")
    assert {name: chosen[name] for name in settings} == settings
    packaged = load_config_file(CONFIGS / algorithm / f"{env}.yaml")
    assert packaged.keys() - settings.keys()
    assert all(chosen[name] == value for name, value in packaged.items() if name not in settings), "as packaged"
    assert chosen["preset"] == file.stem
    part = next(name for name, value in settings.items() if isinstance(value, bool))
    flags = given | {part: not settings[part]}
    assert resolve([Layer(FLAGS, flags)]).model_dump(mode="json")[part] != settings[part], "flags lie over a preset"
    again = resolve([Layer("config.yaml", chosen | {"n_step_returns": 7})], packaged=False)
    assert again.params.replay.n_step_returns == 7, "what a run has resolved stays"


def test_presets_of_dqn_choose_each_part_so_that_none_of_the_packaged_ones_stays() -> None:
    names = ("dqn", "double", "rainbow", "btr", "r2d2")
    chosen = {name: load_config_file(CONFIGS / "dqn" / "presets" / f"{name}.yaml") for name in names}
    parts = {"double_q", "dueling", "noisy", "munchausen", "n_step_returns", "prioritized_replay"}
    for settings in chosen.values():
        assert {*parts, "layer_norm", "memory"} <= settings.keys()


OF_KINDS = sorted(CONFIGS.glob("*/presets/*/*.yaml"))


@pytest.mark.parametrize("file", OF_KINDS, ids=[str(file.relative_to(CONFIGS)) for file in OF_KINDS])
def test_a_preset_has_other_settings_for_a_kind_of_environments(file: Path) -> None:
    folder, algorithm, settings = file.parent.parent, file.parents[2].name, load_config_file(file)
    beneath = load_config_file(folder / file.name)
    for env in (KINDS[file.parent.name], "PongNoFrameskip-v4", "CartPole-v1"):
        chosen = resolve([Layer(FLAGS, {"env": env, "algo": algorithm, "preset": file.stem})]).model_dump(mode="json")
        expected = beneath if env == "CartPole-v1" else beneath | settings
        assert {name: chosen[name] for name in expected} == expected
    assert settings.keys() - beneath.keys()
    assert file.read_text().startswith("# Our own, on Atari: ")


def test_a_preset_that_is_not_there() -> None:
    with pytest.raises(UserError, match=r"--preset: 'rainbw' given.*Did you mean rainbow\?"):
        resolve([Layer(FLAGS, {"env": "CartPole-v1", "algo": "dqn", "preset": "rainbw"})])
    with pytest.raises(UserError, match="ppo has no presets"):
        resolve([Layer(FLAGS, {"env": "CartPole-v1", "preset": "rainbow"})])
