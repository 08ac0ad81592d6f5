"""Every file in configs/ is for an environment that exists, holds valid settings, and says where they come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.run.config import CONFIGS, FLAGS, Layer, load_config_file, packaged_config, resolve
from envs.locate import locate

FILES = sorted(file for file in CONFIGS.rglob("*.*") if file.parent.parent.name != "sb3")  # those have tests apart
PROMISED = {
    "ppo": "CartPole-v1 Acrobot-v1 MountainCar-v0 LunarLander-v3 Pendulum-v1 MountainCarContinuous-v0 "
    "BipedalWalker-v3 HalfCheetah-v5 Hopper-v5 Bricks-v0",
    "dqn": "CartPole-v1 Acrobot-v1 MountainCar-v0 LunarLander-v3",
}


def test_what_is_promised_is_there() -> None:
    for algorithm, names in PROMISED.items():
        assert {file.stem for file in (CONFIGS / algorithm).glob("*.yaml")} >= set(names.split())


@pytest.mark.parametrize("file", FILES, ids=[str(file.relative_to(CONFIGS)) for file in FILES])
def test_a_config(file: Path) -> None:
    algorithm, env = file.parent.name, file.stem
    assert file.suffix == ".yaml"
    assert locate(env).id == env
    assert packaged_config(algorithm, env) == file
    config = resolve([Layer(FLAGS, {"env": env, "algo": algorithm})])
    chosen = config.model_dump(mode="json")
    settings = load_config_file(file)
    assert settings
    assert {name: chosen[name] for name in settings} == settings
    assert not {"env", "algo", "seed", "device"} & settings.keys(), "the file's place and the flags say these"
    first = file.read_text().splitlines()[0].lower()
    assert first.startswith("# ")
    assert "rl-zoo3" in first or "our own" in first, "where do the settings come from?"
