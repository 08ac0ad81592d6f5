"""Trainings that are made ill on purpose: the doctor says so as soon as it can be known."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.run.doctor.sink import read_diagnoses
from tests.marks import long_test
from tests.run.ill_env import Ill
from tests.run.running import train

TOTAL = 2_560
SHORT = "--target-reward none --final-eval-episodes 0 --eval-freq 0 --save-freq 0 --device cpu"
PPO = f"-n {TOTAL} --n-envs 4 --n-steps 32 --batch-size 64 --n-epochs 4 --net-arch 16 {SHORT}"
LONGER = PPO.replace(f"-n {TOTAL}", "-n 5120")
DQN = f"--algo dqn -n {TOTAL} --n-envs 1 --learning-starts 100 --batch-size 16 --buffer-size 2000 --net-arch 16 {SHORT}"
ILL, CARTPOLE = "--env tests.run.ill_env:Ill", "--env CartPole-v1"
SPOILT = (
    "--env-kwargs scale=100 --learning-rate 0.3 --gamma 0.99 --target-update-interval 1 --max-grad-norm none "
    "--no-double-q"
)
PLANTED: dict[
    str, tuple[str, float]
] = {  # illness -> command, the part of the run after which it is told at the latest
    "KL spikes": (f"{CARTPOLE} {PPO} --learning-rate 3.0", 0.3),
    "clip fraction pinned": (f"{CARTPOLE} {PPO} --learning-rate 0.03 --n-epochs 20 --clip-range 0.001", 0.5),
    "collapsed entropy": (f"{CARTPOLE} {PPO} --learning-rate 3.0", 0.3),
    "actions ever more random": (f"--env Pendulum-v1 {PPO} --learning-rate 0.1 --ent-coef 10 --norm-reward", 0.6),
    "a value function that explains nothing": (f"{ILL} {PPO} --env-kwargs reward=0 noise=1 --gamma 0", 1.0),
    "saturated tanh": (f"{ILL} {PPO} --env-kwargs scale=1e6", 0.1),
    "observations never normalised": (f"{ILL} {PPO} --env-kwargs scale=1e6", 0.1),
    "constant features": (f"{ILL} {LONGER} --env-kwargs still=true", 1.0),
    "reward scale far from 1": (f"{ILL} {PPO} --env-kwargs reward=1e5", 0.1),
    "action bounds always hit": (f"{ILL} {PPO} --env-kwargs bound=0.001 reward=0 noise=1", 0.1),
    "action bounds never reached": (f"{ILL} {PPO} --env-kwargs bound=100 reward=0 noise=1", 0.1),
    "episodes never end": (f"{ILL} {LONGER} --env-kwargs length=1e9", 0.85),
    "episodes end at once": (f"{ILL} {PPO} --env-kwargs length=1", 0.1),
    "evaluation far from training": (
        f"{ILL} {PPO.replace('--eval-freq 0', '--eval-freq 128')} --env-kwargs rich=4 --vec sync",
        0.3,
    ),
    "a plateau at a learning rate of 0": (
        f"{ILL} {PPO} --learning-rate lin_1e-5 --schedule-total 640 --env-kwargs reward=0",
        0.5,
    ),
    "exploding gradients": (f"{ILL} {DQN} {SPOILT}", 0.9),
    "impossible values": (f"{ILL} {DQN} {SPOILT}", 0.9),
    "dead units": (f"{CARTPOLE} {DQN} --learning-rate 3.0", 0.9),
    "epsilon ends too early": (f"{CARTPOLE} {DQN} --exploration-fraction 0.001", 0.1),
    "replay buffer too small": (f"{CARTPOLE} {DQN} --buffer-size 150", 0.2),
    "target network never synced": (f"{CARTPOLE} {DQN} --target-update-interval 2000", 0.3),
    "nothing is learnt yet": (f"{CARTPOLE} {DQN} --learning-starts 2000", 0.6),
}


@long_test
@pytest.mark.parametrize("illness", PLANTED)
def test_an_ill_training_is_told(illness: str, tmp_path: Path) -> None:
    words, part = PLANTED[illness]
    Ill.made = 0
    run = train(tmp_path, words)
    steps = [found.step for found in read_diagnoses(run) if found.illness == illness]
    total = 5_120 if "-n 5120" in words else TOTAL
    assert steps, [str(found) for found in read_diagnoses(run)]
    assert steps[0] <= part * total
