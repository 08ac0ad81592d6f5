"""DQN and PQN near a demonstrator: the large-margin term by hand, its weight over the training, and the command."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from agents.algos.pqn.config import PQNConfig
from agents.core.config import ActorCriticConfig, QNetworkConfig
from agents.core.runtime import Runtime
from agents.networks.models import ActorCritic, QNetwork
from agents.run.trees import read_tree
from agents.train import main
from envs.adapters.masks import ACTION_MASK
from tests.algos.making import OBS, Made, make, make_batch, make_dqn
from tests.run.running import assert_same, resume, train

ACTIONS = spaces.Discrete(4)
GIVEN = {"demonstrator": "there", "demonstrator_margin": 0.5}
RUN = "--target-reward none --eval-freq 0 --save-freq 0 --final-eval-episodes 0 --device cpu --env CartPole-v1"
PPO = f"{RUN} --algo ppo --n-envs 2 --n-steps 16 --batch-size 32 --net-arch 8 8 --no-ortho-init -n 96"
QS = {
    "dqn": f"{RUN} --algo dqn --n-envs 2 --net-arch 8 8 --learning-starts 20 --batch-size 16 "
    "--train-freq 64 --gradient-steps 4 --learning-rate 1e-2",
    "pqn": f"{RUN} --algo pqn --n-envs 2 --n-steps 16 --batch-size 32 --net-arch 8 8",
}


def made(algo: str, **options: Any) -> Made:
    options = GIVEN | options
    if algo == "dqn":
        return make_dqn(**options)
    return make(PQNConfig.model_validate({"net_arch": (16,), **options}), ACTIONS)


def demonstrator(kind: str, obs_space: spaces.Space = OBS) -> ActorCritic | QNetwork:
    torch.manual_seed(3)
    if kind == "values":
        network = QNetwork(obs_space, ACTIONS, QNetworkConfig(net_arch=(8,), activation="tanh"))
        torch.nn.init.zeros_(network.head.bias)  # which makes one action the best everywhere
        return network
    return ActorCritic(obs_space, ACTIONS, ActorCriticConfig(net_arch=(8,), ortho_init=False))


def rows(algo: str) -> dict[str, Any]:
    batch = make_batch()
    return batch._asdict() if algo == "dqn" else {"obs": batch.obs, "action": batch.action, "return": batch.return_}


def shown_by(other: ActorCritic | QNetwork, obs: Any) -> list[int]:
    found = other(obs)
    numbers = found.q if isinstance(other, QNetwork) else found.distribution.log_p
    return numbers.argmax(1).tolist()


def below(q: torch.Tensor, shown: list[int], margin: float = 0.5) -> torch.Tensor:
    """Return the term of each row, one action at a time."""
    found = [
        max(x + margin * (a != e) for a, x in enumerate(row)) - row[e] for row, e in zip(q.tolist(), shown, strict=True)
    ]
    return torch.tensor(found)


@pytest.mark.parametrize("kind", ["values", "probabilities"])
@pytest.mark.parametrize("algo", ["dqn", "pqn"])
def test_the_term_is_the_large_margin_to_the_demonstrators_actions(algo: str, kind: str) -> None:
    learning, data, constants = made(algo), rows(algo), {"demonstrator_coef": torch.tensor(0.7)}
    if algo == "pqn":
        data["valid"] = torch.arange(32) % 3 > 0
    without, aux = learning.algorithm.loss(learning.model, data, constants)
    assert "demonstrator_loss" not in aux
    learning.algorithm.demonstrator = other = demonstrator(kind)
    loss, aux = learning.algorithm.loss(learning.model, data, constants)
    term = below(learning.model(data["obs"]).q, shown_by(other, data["obs"]))
    assert len(set(shown_by(other, data["obs"]))) > 1
    wanted = term[data["valid"]].mean() if algo == "pqn" else term.mean()
    assert wanted > 0.1
    assert (loss - without).item() == pytest.approx(0.7 * wanted.item(), rel=1e-4)
    assert aux["demonstrator_loss"].item() == pytest.approx(wanted.item(), rel=1e-5)


@pytest.mark.parametrize("algo", ["dqn", "pqn"])
def test_its_weight_falls_to_0(algo: str) -> None:
    algorithm = made(algo, demonstrator_coef=2.0, demonstrator_fraction=0.4).algorithm
    found = [algorithm.constants(progress)["demonstrator_coef"] for progress in (0, 0.1, 0.4, 1)]
    assert found == pytest.approx([2, 1.5, 0, 0])
    assert "demonstrator_coef" not in made(algo, demonstrator=None).algorithm.constants(0.0)


def test_transitions_that_count_more_count_more_in_the_term_and_priorities_are_of_values_alone() -> None:
    learning, data = make_dqn(**GIVEN), make_batch()._asdict() | {"weight": torch.linspace(0, 1, 32)}
    constants = {"demonstrator_coef": torch.tensor(1.0)}
    without, before = learning.algorithm.loss(learning.model, data, constants)
    learning.algorithm.demonstrator = demonstrator("values")
    loss, aux = learning.algorithm.loss(learning.model, data, constants)
    term = below(learning.model(data["obs"]).q, shown_by(learning.algorithm.demonstrator, data["obs"]))
    assert (loss - without).item() == pytest.approx((term * data["weight"]).mean().item(), rel=1e-4)
    assert aux["priority"].equal(before["priority"])


def test_an_illegal_action_is_not_shown() -> None:
    space = spaces.Dict({"x": OBS, ACTION_MASK: spaces.Box(0, 1, (4,), np.uint8)})
    learning = make_dqn(**GIVEN, obs_space=space)
    other = learning.algorithm.demonstrator = demonstrator("values", space)
    batch = make_batch()
    mask = torch.ones(32, 4, dtype=torch.uint8)
    mask[torch.arange(32), shown_by(other, {"x": batch.obs, ACTION_MASK: mask})] = 0
    obs = {"x": batch.obs, ACTION_MASK: mask}
    _, aux = learning.algorithm.loss(
        learning.model, batch._asdict() | {"obs": obs, "next_obs": obs}, {"demonstrator_coef": torch.tensor(1.0)}
    )
    assert 0 < aux["demonstrator_loss"] < 100  # the value of an illegal action is far below


def test_updates_by_numpy_are_the_same() -> None:
    found = []
    for mode in ("off", "numpy"):
        learning = make_dqn(**GIVEN, runtime=Runtime(mode))
        learning.algorithm.demonstrator = demonstrator("probabilities").requires_grad_(False)
        metrics = [learning.update(make_batch(seed=seed)) for seed in range(4)]
        found.append([each["train/demonstrator_loss"] for each in metrics])
    assert found[0] == pytest.approx(found[1], rel=1e-4)
    assert found[0][0] != pytest.approx(found[0][3], rel=1e-2)


@pytest.mark.parametrize("algo", QS)
def test_the_demonstrator_is_not_trained_and_followed(algo: str, tmp_path: Path) -> None:
    first = train(tmp_path / "first", PPO)
    near = train(tmp_path / "near", f"{QS[algo]} --demonstrator {first} --demonstrator-coef 20 -n 1600")
    with (near / "progress.csv").open() as file:
        term = [float(row["train/demonstrator_loss"]) for row in csv.DictReader(file) if row["train/demonstrator_loss"]]
    assert term[-1] < 0.5 * term[0]
    assert not any("demonstrator" in name for name in read_tree(near, "model")[0])


def test_it_resumes_bit_for_bit(tmp_path: Path) -> None:
    words = f"{QS['dqn']} --schedule-total 192 --demonstrator {train(tmp_path / 'first', PPO)}"
    whole, half = train(tmp_path / "whole", f"{words} -n 192"), train(tmp_path / "half", f"{words} -n 96")
    resume(half, "-n 192")
    assert_same(read_tree(whole, "model")[0], read_tree(half, "model")[0])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--env Acrobot-v1 --demonstrator {}", "this policy does not fit"),
        ("--env CartPole-v1 --memory gru --demonstrator {}", "leave one out"),
    ],
)
@pytest.mark.parametrize("algo", QS)
def test_others_are_refused(
    algo: str, words: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(tmp_path, PPO)
    assert main(f"--algo {algo} {words.format(run)}".split()) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
