"""Mistakes as a user makes them: one clear message on stderr, exit code 2, and what was learnt is saved."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from agents.evaluate import main as evaluate
from agents.run.folder import RunFolder
from agents.run.trees import read_tree, write_tree
from agents.train import main
from tests.run.running import NAMES, USER_ENVS, resume, setting_of_others, signals_at, train

FAULTY = f"--env {USER_ENVS}:Faulty --n-envs 2 --total-timesteps 600 --eval-freq 0 --final-eval-episodes 0"
PPO = "--n-steps 16 --batch-size 16 --n-epochs 1"
DQN = "--algo dqn --learning-starts 50"
ENVS = str(USER_ENVS)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Call a command that must fail; return its message."""

    def call(words: str, command: Callable[[list[str]], int] = main) -> str:
        assert command(words.split()) == 2
        message = capsys.readouterr().err
        assert message.startswith("error: ")
        assert "Traceback" not in message
        return message.removeprefix("error: ").rstrip("\n")

    return call


WORDS = {
    "--env CartPol-v1": r"no environment 'CartPol-v1'. Did you mean CartPole-v1, .*--env path/to/file.py:Class",
    "--env lunarlander": "no environment 'lunarlander'. Did you mean LunarLander-v3",
    "--algo dqn": "which environment",
    "--env CartPole-v1 --algo pppo": rf"--algo: 'pppo' given, {re.escape(NAMES)} expected. Did you mean ppo",
    "--env Pendulum-v1 --algo dqn": r"DQN needs a Discrete action space; .* has Box\(-2.0.*. Use --algo ppo or sac",
    f"--env {ENVS}:Levers --algo dqn": r"DQN needs a Discrete action space; .*MultiDiscrete.* Use --algo ppo",
    "--env CartPole-v1 --gama 0.9": "--gama: unknown flag. Did you mean --gamma",
    "--env CartPole-v1 --gamma 1.5": "--gamma: 1.5 is out of range; it must be >= 0 and <= 1",
    "--env CartPole-v1 --learning-rate fast": "--learning-rate: 'fast' given, but it must be a number",
    "--env CartPole-v1 --tau 0.5": f"--tau: {setting_of_others('tau', 'ppo')}",
    "--env CartPole-v1 --n-envs 0": "--n-envs: 0 is out of range; it must be > 0",
    "--env CartPole-v1 --seed -1": "--seed: -1 is out of range; it must be >= 0",
    "--env CartPole-v1 -n 0": "--total-timesteps: 0 is out of range; it must be > 0",
    "--env CartPole-v1 --batch-size 9999": r"batch_size 9999 is larger than a whole rollout of \d+ transitions",
    "--env CartPole-v1 --algo dqn --batch-size 64 --buffer-size 32": r"batch_size 64 is larger than the buffer",
    "--env CartPole-v1 --config none.yaml": "none.yaml: there is no such config file",
    "--env CartPole-v1 --vec vectr": r"--vec: 'vectr' given, .* expected. Did you mean vector",
    "--env Blackjack-v1 --vec native": "Blackjack-v1 has no native version",
    "--env Acrobot-v1 --vec vector": "Acrobot-v1 has no vector version of its own",
    "--env CartPole-v1 --env-kwargs gravty=3": "CartPole-v1 takes no argument 'gravty'",
    "--env nothing.py": "there is no file 'nothing.py'",
    "--env nothing:Thing-v0": "there is no module 'nothing'",
    f"--env {ENVS}:Singns": "has no environment 'Singns'; it has .*Endless, .* Signs, .*Did you mean Signs",
    f"--env {ENVS}": "must define one gymnasium.Env class, or name it",
    f"--env {ENVS}:Faulty --env-kwargs fault=reset at=0": "environment 0 raised FileNotFoundError at its reset",
    "--env CartPole-v1 extra": "unexpected argument 'extra'",
    "--resume runs/typo": "runs/typo is no run folder: it does not exist",
    "--resume .": r"\. is no run folder: it has no config.yaml",
    "--resume x --config y": "--config and --resume exclude one another",
}


@pytest.mark.parametrize(("words", "message"), WORDS.items())
def test_mistakes_on_the_command_line(words: str, message: str, told: Callable[..., str]) -> None:
    assert re.search(message, told(words))
    assert os.listdir() == [], "nothing is left behind"


def test_a_misspelt_run_is_guessed(told: Callable[..., str]) -> None:
    run = train(Path("runs"), f"{FAULTY} {PPO} -n 32")
    assert f"Did you mean {run.name}?" in told(f"--resume runs/{run.name[:-1]}")
    assert f"It lies in the run {run}" in told(f"--resume {run}/checkpoints")
    assert f"It holds {run.name}." in told("--resume runs")
    assert "--seed: the run has 0; with 1 it would be another run" in told(f"--resume {run} --seed 1")


@pytest.mark.parametrize("given", ["Pong-v5", "pong"])
def test_a_game_without_its_namespace_is_guessed(given: str, told: Callable[..., str]) -> None:
    pytest.importorskip("ale_py")
    assert "Did you mean ALE/Pong-v5?" in told(f"--env {given}")


def test_a_missing_device(told: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert re.search("--device cuda: .*. Use --device cpu, or auto", told("--env CartPole-v1 --device cuda"))
    assert os.listdir() == []


@pytest.mark.parametrize(
    ("env", "package", "extra"),
    [("LunarLander-v3", "Box2D", "box2d"), ("Hopper-v5", "mujoco", "mujoco"), ("ALE/Pong-v5", "ale_py", "atari")],
)
def test_a_missing_extra(
    env: str, package: str, extra: str, told: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(sys.modules):
        if name.startswith((f"gymnasium.envs.{extra}", f"{package}.")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    assert f'pip install -e ".[{extra}]"' in told(f"--env {env}")


FAULTS = {
    "raises": "raised ZeroDivisionError at step 10 of the episode reset with seed \\d+: the ball left the field",
    "nan": "returned bad data at step 10 of the episode reset with seed \\d+: observation contains NaN",
    "shape": r"returned bad data at step 10 .*: observation has shape \(3,\), but its space says \(2,\)",
    "dtype": r"returned bad data at step 10 .*: observation is array\(\['0', '1'\].*, which is not numbers",
    "reward": "returned bad data at step 10 .*: reward is NaN",
    "reset": "raised FileNotFoundError at its reset with seed \\d+: no level 8",
}


@pytest.mark.parametrize(("fault", "message"), FAULTS.items())
@pytest.mark.parametrize("algorithm", [PPO, DQN], ids=["ppo", "dqn"])
def test_a_broken_environment_is_named_and_what_was_learnt_saved(
    fault: str, message: str, algorithm: str, told: Callable[..., str]
) -> None:
    words = f"{FAULTY} {algorithm} --env-kwargs fault={fault} --no-record --quiet"
    error, note = told(words).splitlines()
    assert re.fullmatch(f"environment 0 {message}.*", error)
    (run,) = Path("runs").iterdir()
    assert note == f"What was learnt is saved. To go on: python -m agents.train --resume {run}"
    ((step, _),) = RunFolder(run).checkpoints()
    began = 288 if algorithm == PPO else 316 if fault == "reset" else 296
    assert step == began, "where the rollout that broke off began"
    assert read_tree(run, "model")[1]["step"] == step
    if fault == "nan":  # it has another 150 steps to live, and the run has less left
        resume(run, "-n 560")
        assert RunFolder(run).checkpoints()[-1][0] >= 560


def test_a_broken_environment_in_a_process_of_its_own(told: Callable[..., str]) -> None:
    told_of = {"raises": "environment . raised ZeroDivisionError", "dies": r"environments? .* \(exit code 3\)"}
    for fault, message in told_of.items():
        words = f"{FAULTY} {PPO} --env-kwargs fault={fault} --vec async --no-record --quiet"
        error, note = told(words).splitlines()
        assert re.search(message, error)
        assert note.startswith("What was learnt is saved.")


def test_an_environment_broken_from_the_first_step_leaves_nothing_to_go_on_with(told: Callable[..., str]) -> None:
    message = told(f"{FAULTY} {PPO} --env-kwargs fault=raises at=1 --no-record --quiet")
    assert "\n" not in message
    (run,) = Path("runs").iterdir()
    assert "there is no checkpoint to resume from" in told(f"--resume {run}")


def no_space_for(name: str, monkeypatch: pytest.MonkeyPatch, after: int = 0) -> None:
    """Let the disk be full whenever a file of this name is to be put in its place, after so many times."""
    replace, count = os.replace, 0

    def full(source: Any, target: Any) -> None:
        nonlocal count
        if Path(target).name == name:
            count += 1
            if count > after:
                raise OSError(errno.ENOSPC, "full")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)


def test_no_disk_space_from_the_start(told: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    no_space_for("config.yaml", monkeypatch)
    assert re.fullmatch(r"cannot write runs/.*/config.yaml: no space left on device", told(f"{FAULTY} {PPO}"))


def test_no_disk_space_for_a_checkpoint(told: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as full:
        no_space_for("state.safetensors", full, after=2)
        error, *notes = told(f"{FAULTY} {PPO} --save-freq 64 --no-record --quiet").splitlines()
    (run,) = Path("runs").iterdir()
    assert error == f"cannot write {run.absolute()}/checkpoints/000000000192/state.safetensors: no space left on device"
    assert notes == [
        "The model is saved, but the state of its training could not be saved, for the same reason.",
        f"To go on from the checkpoint at step 128: python -m agents.train --resume {run}",
    ]
    assert read_tree(run, "model")[1]["step"] == 192
    assert not list(run.rglob(".*"))
    resume(run)
    assert RunFolder(run).checkpoints()[-1][0] == 608


@pytest.mark.parametrize("name", ["progress.csv", "model.safetensors", "summary.json"])
def test_no_disk_space_for_other_files(name: str, told: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    no_space_for(name, monkeypatch)
    message = told(f"{FAULTY} {PPO} -n 64 --no-record --quiet")
    assert re.search(rf"cannot write {Path.cwd()}/runs/.*/{name}: no space left on device", message)


@pytest.fixture
def unprivileged() -> Any:
    """Nothing may be written below the present folder."""
    folder = Path.cwd()
    if os.geteuid() == 0:
        os.seteuid(65534)
        yield
        os.seteuid(0)
    else:
        folder.chmod(0o500)
        yield
        folder.chmod(0o700)


@pytest.mark.skipif(sys.platform == "win32", reason="no such permissions")
@pytest.mark.usefixtures("unprivileged")
def test_no_write_permission(told: Callable[..., str]) -> None:
    assert re.fullmatch(r"cannot create runs/.*: permission denied", told("--env CartPole-v1 -n 100"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("finished"), f"{FAULTY} {PPO} -n 64 --save-freq 32")


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A run's folder, to be spoilt."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_a_torn_altered_or_foreign_model(run: Path, told: Callable[..., str]) -> None:
    words = f"{run} --checkpoint latest --episodes 2"
    weights, description = run / "model.safetensors", run / "model.json"
    whole = weights.read_bytes(), description.read_bytes()
    for spoil, message in (
        (lambda: weights.write_bytes(whole[0][:-8]), f"{weights} is torn or was altered"),
        (lambda: weights.write_bytes(whole[0].replace(b"F32", b"I32", 1)), f"{weights} is torn or was altered"),
        (lambda: weights.unlink(), f"cannot read {weights}: no such file"),
        (lambda: description.write_bytes(whole[1][:-8]), f"{description} is torn or malformed"),
        (lambda: description.write_bytes(whole[1].replace(b"tanh", b"relu")), f"{description} was altered"),
        (lambda: description.write_text("{}"), f"{description} is foreign: this program did not write it"),
        (lambda: description.write_bytes(b"\x80\x04pickle"), f"{description} is torn or malformed"),
    ):
        weights.write_bytes(whole[0])
        description.write_bytes(whole[1])
        spoil()
        assert told(words, evaluate).startswith(message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"net_arch": [16]}, "the weights do not fit model.json"),
        ({"net_arch": [2**40, 2**40]}, "the networks would take more than 8,796.1 GB"),
        ({"learning_rat": 3}, "learning_rat: unknown setting. Did you mean learning_rate"),
        ({"gamma": 7}, "gamma: 7 is out of range"),
        ({"env": None}, "env: none given, TEXT expected"),
    ],
)
def test_a_model_whose_checksums_fit_is_not_trusted_either(
    change: dict[str, Any], message: str, run: Path, told: Callable[..., str]
) -> None:
    weights, meta = read_tree(run, "model")
    write_tree(run, "model", weights, {**meta, "config": meta["config"] | change})
    shown = told(f"{run} --checkpoint latest --episodes 2", evaluate)
    assert message in shown
    assert "model." in shown


def test_commands_that_read_a_run_name_what_there_is(run: Path, told: Callable[..., str]) -> None:
    assert "there are best, latest, 32, 64" in told(f"{run} --checkpoint 33", evaluate)
    assert "is no run folder: it does not exist" in told("runs/typo", evaluate)
    assert "is no run folder: it is a file" in told(f"{run}/summary.json", evaluate)


def test_a_run_without_a_model_yet(told: Callable[..., str]) -> None:
    told(f"{FAULTY} {PPO} --env-kwargs fault=raises at=1 --no-record --quiet")
    (run,) = Path("runs").iterdir()
    assert told(f"{run}", evaluate) == f"{run}: this run has saved no model yet"


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--env", "CartPol-v1", "--debug"]) == 2
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert shown.splitlines()[-1].startswith("error: there is no environment 'CartPol-v1'")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "--resume RUN --runs-dir elsewhere",
            "--runs-dir changes nothing here, as on --resume a run stays in its folder",
        ),
        (
            "--no-record --record-steps 9",
            "--record-steps changes nothing here, as with --no-record nothing is recorded",
        ),
        ("--tracker trackio", "--tracker changes nothing here, as it goes with --track"),
        ("--wandb-project-name x", "--wandb-project-name changes nothing here, as it goes with --track"),
    ],
)
def test_flags_that_would_change_nothing(words: str, said: str, told: Callable[..., str]) -> None:
    if "RUN" in words:
        told(f"{FAULTY} {PPO} --env-kwargs fault=raises at=1 --no-record --quiet")
        words = words.replace("RUN", str(next(Path("runs").iterdir())))
    else:
        words = f"--env CartPole-v1 {words}"
    assert told(words) == f"{said}: leave it out."


def test_two_ctrl_c(capsys: pytest.CaptureFixture[str]) -> None:
    with signals_at(100, signal.SIGINT, signal.SIGINT):
        assert main(f"{FAULTY} {DQN} --no-record --quiet".split()) == 130
    (run,) = Path("runs").iterdir()
    assert capsys.readouterr().err == (
        f"interrupted\nWhat was learnt is saved. To go on: python -m agents.train --resume {run}\n"
    )
