"""Students: whose states they see, what they learn, and what is left behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agents.acting.evaluation import evaluate
from agents.core.types import Acted
from agents.distil import main
from agents.run.config import Layer
from agents.run.distil import Both, distil, softened
from agents.run.models import LoadedPolicy, load_policy, save_model
from agents.run.play import policy_env
from agents.train import main as train_command
from envs.errors import UserError
from tests.printed import printed_json
from tests.run.running import train
from tests.run.test_models import DQN_SMALL, PPO_SMALL, trained

QUIET = "--target-reward none --eval-freq 0 --save-freq 0 --final-eval-episodes 0 --device cpu"


def teacher(values: dict[str, Any], folder: Path) -> LoadedPolicy:
    training = trained(values)
    folder.mkdir(exist_ok=True)
    with torch.no_grad():
        for name, parameter in training.algorithm.model.named_parameters():
            if "head" in name and "value" not in name:
                parameter.mul_(30)  # a policy that has its mind made up
    save_model(folder, training.algorithm.model, training.config, training.env.own_spaces, 64)
    training.env.close()
    return load_policy(folder)


@pytest.fixture(scope="module")
def cartpole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of PPO's, to be read alone."""
    return teacher(PPO_SMALL | {"env": "CartPole-v1"}, tmp_path_factory.mktemp("teacher")).path


def test_values_are_softened_by_what_the_best_is_above_the_mean():
    wanted = torch.tensor([[0.0, 3.0], [1.0, 2.0]])  # 1.5 and 0.5 above: 1 on average
    log_p, log_q = softened(wanted + 5.0, wanted, 0.5)
    assert torch.allclose(log_q, (wanted / 0.5).log_softmax(-1))
    assert torch.allclose(log_p, log_q, atol=1e-5)
    illegal = torch.finfo(torch.float32).min / 1024
    masked = torch.tensor([[0.0, 3.0, illegal], [1.0, 2.0, illegal]])
    assert torch.allclose(softened(masked, masked, 0.5)[1][:, :2], log_q)
    nothing = torch.cat([masked, torch.full((1, 3), illegal)])  # as of what is no transition
    assert torch.allclose(softened(nothing, nothing, 1.5 * 0.5)[1][:2, :2], log_q)


class Always:
    """Takes one action; its carry counts the steps."""

    recurrent, device = True, torch.device("cpu")

    def __init__(self, action: int) -> None:
        self.action = action

    def initial_carry(self, num_envs: int) -> torch.Tensor:
        return torch.zeros(num_envs, 1)

    def draw_noise(self, shape: Any, progress: float, generator: Any) -> Any:
        assert progress == 1.0
        noise = torch.full(shape, float(self.action))
        return (noise, noise) if self.action else noise

    def actor(self) -> Any:
        def act(obs: Any, carry: Any, noise: Any) -> Acted:
            assert isinstance(noise, tuple) == bool(self.action)
            assert float((noise[0] if self.action else noise).max()) == self.action
            action = np.full(len(obs), self.action)
            return Acted(action, action + 10, carry + 1 + self.action)

        return act


def test_half_of_the_environments_are_the_students():
    both: Any = Both(Always(0), Always(1), 5)  # type: ignore[arg-type]
    noise = both.draw_noise((5,), 0.0, None)
    acted = both.actor()(np.zeros((5, 2)), both.initial_carry(5), noise)
    assert acted.action.tolist() == [0, 0, 1, 1, 1]
    assert acted.env_action.tolist() == [10, 10, 11, 11, 11]
    assert [part.flatten().tolist() for part in acted.carry] == [[1.0] * 5, [2.0] * 5]


@pytest.mark.parametrize(
    "values",
    [
        PPO_SMALL | {"env": "CartPole-v1", "net_arch": [16], "norm_obs": True},
        DQN_SMALL | {"env": "CartPole-v1", "net_arch": [16], "bcq_threshold": 0.95},
        PPO_SMALL | {"env": "CartPole-v1", "net_arch": [16], "memory": "gru", "memory_size": 6},
    ],
    ids=["ppo", "dqn", "memory"],
)
def test_a_student_comes_to_act_as_its_teacher_does(values: dict[str, Any], tmp_path: Path) -> None:
    master = teacher(values, tmp_path / "teacher")
    smaller = {"net_arch": [8], "final_eval_episodes": 0} | ({"memory_size": 5} if "memory" in values else {})
    summary = distil(master, [Layer("distil", smaller)], steps=4_096, runs_dir=tmp_path / "runs", quiet=True)
    run = Path(summary.run)
    student = load_policy(run, "latest", trust=True)
    assert sum(p.numel() for p in student.policy.model.parameters()) < sum(
        p.numel() for p in master.policy.model.parameters()
    )
    env = policy_env(master, 4, vec="auto")
    same = rows = 0
    obs, carries = env.reset(3), [one.policy.initial_carry(4) for one in (master, student)]
    acts = [one.policy.actor() for one in (master, student)]
    for _ in range(100):
        acted = [act(obs, carry, None) for act, carry in zip(acts, carries, strict=True)]
        actions = [np.asarray(each.env_action) for each in acted]
        same, rows = same + int((actions[0] == actions[1]).sum()), rows + 4
        step = env.step(actions[0])
        obs, carries = step.obs, [each.carry for each in acted]
        if (step.terminated | step.truncated).any():
            obs, carries = env.reset(rows), [one.policy.initial_carry(4) for one in (master, student)]
    env.close()
    assert same / rows > 0.9
    origin = json.loads((run / "origin.json").read_text())
    assert origin["how"] == "distillation"
    assert origin["from"] == str((tmp_path / "teacher").absolute())
    if values.get("norm_obs"):  # the statistics are the teacher's
        mine, theirs = (one.policy.model.state_dict()["encoder.leaves.0.norm.mean"] for one in (student, master))
        assert mine.equal(theirs)


def test_the_command_measures_both_and_the_run_does_not_go_on(tmp_path: Path, capsys) -> None:
    source = train(
        tmp_path / "source", f"--env CartPole-v1 --net-arch 8 --n-steps 16 --n-envs 8 --batch-size 32 {QUIET} -n 128"
    )
    words = f"{source} --net-arch 4 --steps 1024 --episodes 4 --runs-dir {tmp_path / 'runs'} --quiet --json"
    assert main(words.split()) == 0
    found = printed_json(capsys)
    assert found["student"]["parameters"] == 2 * (4 * 4 + 4) + (4 * 2 + 2) + (4 + 1)
    assert found["teacher"]["parameters"] > found["student"]["parameters"]
    run = Path(found["run"])
    loaded = load_policy(run, trust=True)
    env = policy_env(loaded, 2, vec="auto")
    assert len(evaluate(env, loaded.policy, 2, 0).returns) == 2
    env.close()
    assert train_command(["--resume", str(run), "-n", "4096", "--quiet", "--no-record"]) == 2
    error = capsys.readouterr().err
    assert "was made by distillation" in error
    assert f"--from {run}" in error


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--steps 0", "--steps: 0 given"),
        ("--learning-rate 0", "--learning-rate: 0.0 given"),
        ("--learning-rate inf", "--learning-rate: inf given, a finite number above 0 expected"),
        ("--set net", "--set: 'net' given"),
        ("--set layernorm=true", "error: --set: layernorm: unknown setting"),
        ("--net-arch x", "error: --net-arch: ['x'] given"),
        ("--set memory=gru", "remembers if that does"),
    ],
)
def test_mistakes_are_said(words: str, said: str, cartpole: Path, tmp_path: Path, capsys) -> None:
    assert main([str(cartpole), *words.split(), "--runs-dir", str(tmp_path / "runs")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "seed", "widths"),
    [
        ("", 0, (16,)),
        ("--set seed=7 net_arch=32", 7, (32,)),
        ("--set seed=7 net_arch=32 --seed 0 --net-arch 8", 0, (8,)),
    ],
)
def test_what_is_set_counts_over_defaults_and_flags_over_that(
    words: str, seed: int, widths: tuple[int, ...], cartpole: Path, tmp_path: Path
) -> None:
    more = ["--steps", "512", "--episodes", "0", "--quiet", "--runs-dir", str(tmp_path / "runs")]
    assert main([str(cartpole), *words.split(), *more]) == 0
    (run,) = (tmp_path / "runs").iterdir()
    config: Any = load_policy(run, trust=True).config
    assert (config.seed, config.params.network.net_arch) == (seed, widths)


def test_policies_with_critics_of_actions_are_refused(tmp_path: Path) -> None:
    sac = {"algo": "sac", "env": "Pendulum-v1", "learning_starts": 16, "batch_size": 8, "n_envs": 1, "net_arch": [8]}
    loaded = teacher(sac | {"device": "cpu"}, tmp_path / "sac")
    with pytest.raises(UserError, match=r"sac: a policy .* \(bc, dqn, iql, ppo, pqn\).*agents.prune"):
        distil(loaded, [], steps=64, runs_dir=tmp_path)
