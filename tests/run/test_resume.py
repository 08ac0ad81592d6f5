"""Stop, kill or tear: a run that goes on ends bit for bit where an unbroken one does."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from agents.acting.collector import TickCollector
from agents.learning.learner import Learner
from agents.run import run as run_module
from agents.run import storage
from agents.run.folder import RunFolder
from agents.run.run import Run
from agents.run.sinks import CsvSink
from agents.run.trees import read_tree
from agents.train import main
from tests.run.running import (
    USER_ENVS,
    assert_same,
    assert_same_run,
    killed_after,
    read_config,
    resume,
    rows,
    signals_at,
    steps,
    train,
)
from tests.waiting import wait_for

PPO = "--n-envs 3 --n-steps 16 --batch-size 24 --n-epochs 2"
SAC = "--algo sac --n-envs 3 --learning-starts 100 --buffer-size 240 --batch-size 16 --train-freq 6 --net-arch 16"
DQN = "--algo dqn --n-envs 3 --learning-starts 100 --buffer-size 240 --batch-size 16"
BUDGET = "--total-timesteps 450 --target-reward none --eval-freq 150 --eval-episodes 2 --save-freq 130"
BUDGET += " --final-eval-episodes 0 --device cpu"
SCENARIOS = {
    "ppo native": f"--env CartPole-v1 --vec native {PPO} --norm-obs --norm-reward --learning-rate lin_1e-3",
    "ppo native continuous": f"--env Pendulum-v1 --vec native {PPO} --squash-output --target-kl 0.02",
    "ppo sync dict": f"--env {USER_ENVS}:Signs --vec sync {PPO} --norm-obs --norm-reward --optimizer rmsprop",
    "ppo async multidiscrete": f"--env {USER_ENVS}:Levers --vec async {PPO} --shared-torso",
    "dqn native": f"--env CartPole-v1 --vec native {DQN} --train-freq 64 --gradient-steps 4 --norm-obs "
    "--n-step-returns 3",
    "dqn sync": f"--env CartPole-v1 --vec sync {DQN} --train-freq 7 --gradient-steps 3 --target-update-interval 50",
    "dqn sync dict": f"--env {USER_ENVS}:Signs --vec sync {DQN} --n-step-returns 2 --norm-obs --tau 0.5",
    "dqn async": f"--env {USER_ENVS}:Signs --vec async {DQN}",
    "sac native": f"--env Pendulum-v1 --vec native {SAC} --norm-obs",
    "sac sync, crossq": f"--env Pendulum-v1 --vec sync {SAC} --preset crossq",
}


KILLED = "ppo async multidiscrete"  # `test_kills.py` kills it: that is harder than stopping


@pytest.fixture(scope="module")
def unbroken_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the run of a scenario that nothing broke; each is trained once."""

    @cache
    def trained(scenario: str) -> Path:
        return train(tmp_path_factory.mktemp("unbroken"), f"{SCENARIOS[scenario]} {BUDGET}")

    return trained


@pytest.mark.parametrize("scenario", [name for name in SCENARIOS if name != KILLED])
def test_a_run_stopped_twice_ends_as_an_unbroken_one(
    scenario: str, unbroken_run: Callable[[str], Path], tmp_path: Path
) -> None:
    words, unbroken = SCENARIOS[scenario], unbroken_run(scenario)
    with signals_at(161, signal.SIGINT):
        run = train(tmp_path / "stopped", f"{words} {BUDGET}", code=130)
    stopped_at = RunFolder(run).checkpoints()[-1][0]
    assert 161 <= stopped_at < 240
    with signals_at(stopped_at + 111, signal.SIGTERM):
        resume(run, code=130)
    resume(run)
    assert_same_run(unbroken, run)


def test_more_steps_than_at_first(tmp_path: Path) -> None:
    words = f"{SCENARIOS['dqn sync']} {BUDGET} --exploration-fraction 0 --learning-rate 1e-3"
    longer = train(tmp_path / "longer", f"{words} -n 600")
    run = train(tmp_path / "run", words)
    resume(run, "-n 600")
    assert_same(read_tree(longer, "model"), read_tree(run, "model"))
    assert read_config(run / "config.yaml").params.total_timesteps == 600
    assert len((run / "command.txt").read_text().splitlines()) == 2


SCHEDULES = {
    # scenario -> at step 480 (ppo) or 450 (dqn), with the rest as it was: under 900 steps instead of 450
    "ppo native": "learning_rate was 0 and is 0.000467",
    "dqn sync": "learning_rate was 0 and is 0.0005, exploration_rate was 0.05 and is 0.525",
}


@pytest.mark.parametrize("scenario", SCHEDULES)
def test_what_becomes_of_schedules_is_said(scenario: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = f"{SCENARIOS[scenario]} {BUDGET} --learning-rate lin_1e-3"
    words += " --exploration-fraction 1 --exploration-final-eps 0.05" if "dqn" in scenario else " --clip-range 0.2"
    run = train(tmp_path / "run", words)
    kept = Path(shutil.copytree(run, tmp_path / "kept"))
    capsys.readouterr()
    assert main(["--resume", str(run), "--no-record", "-n", "900"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "schedules now run over 900 steps, before over 450:" in said
    assert f"{SCHEDULES[scenario]} (--schedule-total 450 leaves them as they were)" in said
    assert main(["--resume", str(kept), "--no-record", *["-n", "900", "--schedule-total", "450"]]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "schedules run over 450 steps, and then stay at their end value: learning_rate is 0 as before" in said
    rates = {row["step"]: float(row["train/learning_rate"]) for row in rows(kept, "progress.csv")}
    assert {rate for step, rate in rates.items() if int(step) > 560} == {0.0}
    assert read_config(kept / "config.yaml").params.schedule_total == 450


@pytest.mark.parametrize("scenario", ["ppo native", "dqn native"])
def test_with_schedules_of_their_own_length_two_budgets_are_one(scenario: str, tmp_path: Path) -> None:
    """Schedules that end in the middle: a run that is made longer is the long one."""
    words = f"{SCENARIOS[scenario]} {BUDGET} --learning-rate lin_1e-3 --schedule-total 400"
    words += " --train-freq 6" if "dqn" in scenario else ""  # the shorter budget ends with a round of updates
    longer = train(tmp_path / "longer", f"{words} -n 576")
    run = train(tmp_path / "run", f"{words} -n 288")
    resume(run, "-n 576")
    assert_same(read_tree(longer, "model"), read_tree(run, "model"))


def test_a_finished_run_says_so_and_stays_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train(tmp_path, f"{SCENARIOS['ppo native']} {BUDGET} -n 100 --final-eval-episodes 1")
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    for words, total in (("", 100), ("-n 120", 120)):
        resume(run, words, code=2)
        assert capsys.readouterr().err == (
            f"error: {run} is finished: it has trained 144 steps, and -n, of all together, is {total}. "
            f"To train on: python -m agents.train --resume {run} -n 288\n"
        )
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before


def test_a_run_that_reached_its_target_is_finished(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train(tmp_path, f"{SCENARIOS['ppo native']} {BUDGET} --target-reward 2")
    assert steps(run, "evaluations.csv") == [192]
    resume(run, code=2)
    error = capsys.readouterr().err
    assert f"at step 192 it reached its target_reward 2. To train on: python -m agents.train --resume {run}" in error
    assert error.endswith(" --target-reward none\n")
    resume(run, "--target-reward none")
    assert steps(run, "evaluations.csv") == [192, 336, 480]


def test_what_a_vector_environment_cannot_restore_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = f"--env CartPole-v1 --vec vector {DQN} --n-step-returns 3 {BUDGET}"
    with signals_at(311, signal.SIGINT):
        run = train(tmp_path, words, code=130)
    assert main(["--resume", str(run), "--no-record"]) == 0
    assert "the environments begin new episodes, because a vector environment" in capsys.readouterr().out
    assert RunFolder(run).checkpoints()[-1][0] in (450, 451, 452)


def test_a_break_in_mid_tick_is_saved_without_the_environments(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with signals_at(311, signal.SIGINT, signal.SIGINT):
        run = train(tmp_path, f"{SCENARIOS['dqn native']} {BUDGET} --save-freq 0", code=130)
    assert capsys.readouterr().err == (
        f"interrupted\nWhat was learnt is saved. To go on: python -m agents.train --resume {run}\n"
    )
    step, newest = RunFolder(run).checkpoints()[-1]
    state, _ = read_tree(newest, "state")
    assert step == 258
    assert state["training"]["env"] is None
    resume(run)
    assert RunFolder(run).checkpoints()[-1][0] == 450


def test_a_break_in_the_first_round_after_a_resume_leaves_the_checkpoint_as_it_was(
    tmp_path: Path, unbroken_run: Callable[[str], Path]
) -> None:
    with signals_at(161, signal.SIGINT):
        run = train(tmp_path, f"{SCENARIOS['ppo native']} {BUDGET}", code=130)
    step, _ = RunFolder(run).checkpoints()[-1]
    with signals_at(step + 6, signal.SIGINT, signal.SIGINT):
        resume(run, code=130)
    resume(run)
    assert_same_run(unbroken_run("ppo native"), run)


@pytest.mark.parametrize(
    ("scenario", "part", "again"),
    [
        ("ppo native", (TickCollector, "_write"), False),
        ("dqn native", (TickCollector, "_write"), False),
        ("ppo native", (Learner, "update"), False),
        ("dqn native", (Learner, "update"), False),
        ("ppo native", (Run, "evaluate"), True),
        ("dqn native", (Run, "save_latest"), True),
        ("ppo native", (Run, "checkpoint"), True),
        ("dqn native", (Run, "checkpoint"), True),
        ("ppo native", (CsvSink, "write"), True),
    ],
    ids=lambda given: given[1] if isinstance(given, tuple) else str(given),
)
def test_two_ctrl_c_leave_an_exact_checkpoint_to_go_on_from(
    scenario: str,
    part: tuple[type, str],
    again: bool,
    unbroken_run: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`again`: between two rounds all that was learnt can be saved exactly; within one the checkpoint before it is."""
    words, unbroken = f"{SCENARIOS[scenario]} {BUDGET}", unbroken_run(scenario)
    kind, name = part
    whole, broken = getattr(kind, name), []

    def breaking(self: Any, *arguments: Any, **options: Any) -> Any:
        result = whole(self, *arguments, **options)
        if not broken and list(tmp_path.glob("broken/*/checkpoints/*/state.json")):
            broken.append(True)
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        return result

    with mock.patch.object(kind, name, breaking), mock.patch.object(run_module, "SAVE_EVERY", 0.0):
        run = train(tmp_path / "broken", words, code=130)
    kept = RunFolder(run).resumable()
    assert kept is not None
    state, _ = read_tree(kept[1], "state")
    assert state["training"]["env"] is not None
    said = "What was learnt is saved." if again else f"To go on from the checkpoint at step {kept[0]}:"
    assert said in capsys.readouterr().err
    resume(run)
    assert_same_run(unbroken, run)


@pytest.mark.parametrize("stream", ["evaluation", "confirmation"])
def test_an_evaluation_that_broke_off_is_done_again(
    stream: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = f"{SCENARIOS['ppo native']} {BUDGET} --target-reward 5 --final-eval-episodes 3"
    evaluate = Run.evaluate
    unbroken = train(tmp_path / "unbroken", words)

    def broken(run: Run, episodes: int, *path: str | int) -> object:
        if path[0] == stream:
            raise KeyboardInterrupt
        return evaluate(run, episodes, *path)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "evaluate", broken)
        run = train(tmp_path / "broken", words, code=130)
    resume(run)
    assert_same_run(unbroken, run)


def in_child(words: list[str], said: Path | str = os.devnull) -> multiprocessing.Process:
    """Start the command in a copy of this process, which costs no import of PyTorch; what it says goes to `said`."""

    def command() -> None:
        os.setpgid(0, 0)
        sys.stdout = sys.stderr = open(said, "w", buffering=1)  # noqa: SIM115
        os._exit(main(words))

    child = multiprocessing.get_context("fork").Process(target=command)
    child.start()
    return child


def assert_killed(words: list[str], kill: AbstractContextManager[None], said: Path) -> None:
    """Run the command in a process that dies where `kill` says, and has not ended before."""
    with kill:
        child = in_child(words, said)
    child.join()
    assert child.exitcode == -signal.SIGKILL, said.read_text()


def deaths() -> Iterator[AbstractContextManager[None]]:
    """Yield ways to die, one after the other: in the middle of rounds and of saves; the first has saved before."""
    for step, syncs in ((200, 10), (200, 12), (330, 8), (449, None)):
        yield signals_at(step, signal.SIGKILL)
        if syncs is not None:
            yield killed_after(syncs, storage, "_sync")


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
@pytest.mark.parametrize("scenario", ["ppo native", "dqn sync dict"])
def test_killed_again_and_again_a_run_ends_as_an_unbroken_one(scenario: str, tmp_path: Path) -> None:
    words = f"{SCENARIOS[scenario]} {BUDGET} --save-freq 40 --eval-freq 100"
    unbroken = train(tmp_path / "unbroken", words)
    command, torn = f"{words} --runs-dir {tmp_path / 'killed'}", []
    for kill in deaths():
        assert_killed([*command.split(), "--no-record", "--quiet"], kill, tmp_path / "said")
        (run,) = (tmp_path / "killed").iterdir()
        command = f"--resume {run}"
        torn.append(len(list(run.rglob(".*"))))
        assert RunFolder(run).checkpoints()
        for _, folder in RunFolder(run).checkpoints():
            read_tree(folder, "model")
    assert any(torn), "some died in the middle of a save"
    resume(run)
    assert_same_run(unbroken, run)
    assert not list(run.rglob(".*")), "nothing half written is left"


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_killed_before_the_first_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = f"{SCENARIOS['ppo native']} {BUDGET} --save-freq 0 -n 1000000 --runs-dir {tmp_path} --no-record"
    child = in_child(words.split())
    wait_for(lambda: list(tmp_path.glob("*/progress.csv")))
    child.kill()
    child.join()
    run = next(tmp_path.iterdir())
    resume(run, code=2)
    assert capsys.readouterr().err == (
        f"error: {run}: there is no checkpoint to resume from; "
        f"start it anew: python -m agents.train --config {run / 'config.yaml'}\n"
    )
    train(tmp_path / "anew", f"--config {run / 'config.yaml'} -n 100")


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An unbroken run, and the same one stopped at a step, to be copied and torn."""
    folder = tmp_path_factory.mktemp("torn")
    words = f"{SCENARIOS['ppo native']} {BUDGET} -n 600"
    with signals_at(430, signal.SIGTERM):
        run = train(folder / "stopped", words, code=130)
    return train(folder / "unbroken", words), run


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


DAMAGE = [
    ("state.safetensors", cut, "is torn or was altered"),
    ("state.safetensors", flip, "is torn or was altered"),
    ("state.safetensors", Path.unlink, "no such file"),
    ("state.json", cut, "is torn or malformed"),
    ("state.json", flip, "was altered|is torn or malformed"),
    ("state.json", Path.unlink, "no such file"),
]


@pytest.mark.parametrize(("name", "damage", "reason"), DAMAGE)
def test_a_torn_checkpoint_is_refused_by_name_and_the_one_before_used(
    name: str,
    damage: Callable[[Path], None],
    reason: str,
    stopped: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    unbroken, torn = stopped
    run = Path(shutil.copytree(torn, tmp_path / torn.name))
    (before, _), (newest, folder) = RunFolder(run).checkpoints()[-2:]
    assert before < newest
    damage(folder / name)
    assert main(["--resume", str(run), "--no-record"]) == 0
    told = capsys.readouterr().out
    assert f"checkpoint {newest} was passed over: " in told
    assert str(folder / name) in told
    assert any(word in told for word in reason.split("|"))
    assert_same_run(unbroken, run)


def test_with_every_checkpoint_torn_there_is_nothing_to_resume(
    stopped: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(stopped[1], tmp_path / "run"))
    newest = [folder for _, folder in RunFolder(run).checkpoints()][-2:]
    for folder in newest:
        cut(folder / "state.safetensors")
    resume(run, code=2)
    lines = capsys.readouterr().err.splitlines()
    assert "there is no checkpoint to resume from" in lines[0]
    assert [str(folder / "state.safetensors") in line for folder, line in zip(newest[::-1], lines[1:], strict=True)]


def test_a_checkpoint_of_another_run_is_passed_over(
    stopped: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = train(tmp_path / "other", f"{SCENARIOS['ppo native continuous']} {BUDGET} -n 100")
    run = Path(shutil.copytree(stopped[1], tmp_path / "run"))
    shutil.copytree(RunFolder(other).checkpoints()[-1][1], run / "checkpoints" / "000000000555")
    assert main(["--resume", str(run), "--no-record"]) == 0
    assert "checkpoint 555 was passed over: it does not fit this run" in capsys.readouterr().out
    assert rows(stopped[0], "evaluations.csv") == rows(run, "evaluations.csv")
    assert_same(read_tree(stopped[0], "model"), read_tree(run, "model"))
