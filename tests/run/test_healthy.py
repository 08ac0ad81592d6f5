"""The doctor finds nothing in trainings by the packaged settings, short as they are here."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.core.config import OffPolicyConfig
from agents.run.config import FLAGS, Layer, resolve
from agents.run.doctor.sink import read_diagnoses
from agents.run.runner import train
from envs.errors import UserError
from tests.marks import long_test
from tests.smoke.test_configs import FILES, KINDS

PICTURES = ("atari", "CarRacing", "MiniGrid", "Invaders", "Treasure", "Bricks", "Crossing", "Submarine")
# contact forces that are 0 for long, bodies' masses, goals that stay where they are, velocities that are left out
STILL = (
    "Ant-v5",
    "Humanoid-v5",
    "HumanoidStandup-v5",
    "Pusher-v5",
    "PendulumNoVel-v1",
    "CartPoleNoVel-v1",
    "MountainCarContinuousNoVel-v0",
)
TRUE = [(name, "constant features") for name in STILL]


def short(algo: str, name: str) -> dict[str, object]:
    """Return packaged settings of a shortened run; what counts steps is shortened with it."""
    given = {"env": KINDS.get(name, name), "algo": algo, "device": "cpu", "target_reward": None, "save_freq": 0}
    params = resolve([Layer(FLAGS, given)]).params
    slow = name.startswith(PICTURES)
    if isinstance(params, OffPolicyConfig):
        total = 1_500 if slow or algo == "sac" else 6_000
        given |= {"n_envs": min(params.n_envs, 8), "buffer_size": 10_000, "learning_starts": total // 20}
        if algo == "dqn":
            given |= {"target_update_interval": min(params.target_update_interval, total // 10)}  # type: ignore[attr-defined]
    else:
        total = params.n_steps * params.n_envs * (4 if slow or name[-1] == "5" else 10)  # type: ignore[attr-defined]
    often = {"eval_freq": total // 4, "eval_episodes": 1, "eval_max_steps": 200, "final_eval_episodes": 0}
    return given | often | {"total_timesteps": total}


ACTING = [file for file in FILES if file.parent.name not in ("bc", "iql")]  # those learn from recorded episodes


@long_test
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("file", ACTING, ids=[f"{file.parent.name}-{file.stem}" for file in ACTING])
def test_nothing_is_found_in_a_training_by_packaged_settings(file: Path, seed: int, tmp_path: Path) -> None:
    try:
        config = resolve([Layer(FLAGS, short(file.parent.name, file.stem) | {"seed": seed})])
        summary = train(config, runs_dir=tmp_path, replays_dir=tmp_path, quiet=True, record_steps=0)
    except UserError as error:
        if "needs a package" in str(error):
            pytest.skip(str(error))
        raise
    found = [found for found in read_diagnoses(Path(summary.run)) if (file.stem, found.illness) not in TRUE]
    assert [str(each) for each in found] == []
