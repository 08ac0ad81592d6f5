"""PPO near a demonstrator: the term by hand, its weight over the training, and the command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from gymnasium import spaces

from agents.algos.ppo.algorithm import PPO
from agents.algos.ppo.config import PPOConfig
from agents.networks.models import ActorCritic
from agents.run.trees import read_tree
from agents.train import main
from tests.run.running import train

BOX = spaces.Box(-1, 1, (3,))
QUICK = "--env CartPole-v1 --n-envs 2 --n-steps 32 --batch-size 32 --learning-rate 1e-3 -n 256"
QUICK += " --eval-freq 0 --final-eval-episodes 0"


def made(**settings: Any) -> PPO:
    torch.manual_seed(0)
    return PPO(BOX, spaces.Discrete(4), PPOConfig(**{"demonstrator": "there", **settings}))


def test_the_term_is_the_relative_entropy_to_the_demonstrator() -> None:
    algorithm = made()
    rows = {"obs": torch.randn(8, 3), "action": torch.arange(8) % 4, "value": torch.randn(8)}
    rows |= {"log_prob": torch.randn(8), "advantage": torch.randn(8), "return": torch.randn(8)}
    constants = {"clip_range": torch.tensor(0.2), "demonstrator_coef": torch.tensor(0.7)}
    without, _ = algorithm.loss(algorithm.model, rows, constants)
    algorithm.demonstrator = ActorCritic(BOX, spaces.Discrete(4), PPOConfig(ortho_init=False).network)
    loss, aux = algorithm.loss(algorithm.model, rows, constants)
    p, q = (model(rows["obs"]).distribution.log_p for model in (algorithm.demonstrator, algorithm.model))
    kl = (p.exp() * (p - q)).sum(1).mean()
    assert kl > 0.001
    assert (loss - without).item() == pytest.approx(0.7 * kl.item(), rel=1e-3)
    assert aux["demonstrator_kl"].item() == pytest.approx(kl.item())


def test_its_weight_falls_to_0() -> None:
    algorithm = made(demonstrator_coef=2.0, demonstrator_fraction=0.4)
    found = [algorithm.constants(progress)["demonstrator_coef"] for progress in (0, 0.1, 0.4, 1)]
    assert found == pytest.approx([2, 1.5, 0, 0])
    assert "demonstrator_coef" not in made(demonstrator=None).constants(0.0)


def test_the_demonstrator_is_not_trained(tmp_path: Path) -> None:
    first = train(tmp_path / "first", f"{QUICK} --no-ortho-init")
    run = train(tmp_path / "second", f"{QUICK} --demonstrator {first} --demonstrator-coef 5")
    header, *rows = [line.split(",") for line in (run / "progress.csv").read_text().splitlines()]
    kl = [
        float(row[header.index("train/demonstrator_kl")]) for row in rows if row[header.index("train/demonstrator_kl")]
    ]
    assert kl[-1] < kl[0]
    assert not any("demonstrator" in name for name in read_tree(run, "model")[0])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--env CartPole-v1 --demonstrator nowhere", "does not exist"),
        ("--env Acrobot-v1 --demonstrator {}", "this policy does not fit"),
        ("--env CartPole-v1 --memory gru --demonstrator {}", "leave one out"),
    ],
)
def test_others_are_refused(words: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train(tmp_path, QUICK)
    assert main(words.format(run).split()) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
