"""One process trains in a run folder, and notices when somebody takes the folder away."""

from __future__ import annotations

import errno
import os
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agents.run import lock
from agents.run.folder import RunFolder, runs_in
from agents.run.lock import FILE, NO_LOCKS, Lock, trainer_of
from agents.run.run import Run
from agents.runs import main as runs_main
from agents.train import main
from envs.errors import UserError
from tests.run.running import assert_same, last_state, read_tree, resume, signals_at, steps, train

WORDS = "--env CartPole-v1 --n-envs 2 --n-steps 32 --batch-size 32 -n 512 --eval-freq 0 --save-freq 128 --device cpu"
WORDS += " --final-eval-episodes 1 --target-reward none"
ME = f"process {os.getpid()} on {platform.node()}"
HOLDER = """
import sys, time
from pathlib import Path
from agents.run.lock import Lock
held = Lock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(10**6)
"""


def test_a_folder_is_trained_in_by_one(tmp_path: Path) -> None:
    assert trainer_of(tmp_path) is None
    first = Lock(tmp_path)
    assert (first.note, trainer_of(tmp_path)) == ("", ME)
    with pytest.raises(UserError, match=f"is being trained by {ME}: wait until that has ended, or stop it"):
        Lock(tmp_path)
    first.close()
    assert trainer_of(tmp_path) is None
    Lock(tmp_path).close()


def test_the_system_takes_a_lock_from_the_dead(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"held\n"
    assert trainer_of(tmp_path) == f"process {child.pid} on {platform.node()}"
    child.kill()
    child.communicate()
    assert trainer_of(tmp_path) is None
    Lock(tmp_path).close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_copy_of_the_process_holds_no_lock(tmp_path: Path) -> None:
    held = Lock(tmp_path)
    (ours, theirs), (begun, begins) = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        os.close(theirs)
        os.write(begins, b".")
        os.read(ours, 1)  # until the parent has looked
        os._exit(0)
    os.close(ours)
    os.read(begun, 1)
    held.close()
    assert trainer_of(tmp_path) is None
    for descriptor in (theirs, begun, begins):
        os.close(descriptor)
    os.waitpid(child, 0)


def test_a_strangers_lock_file_is_not_followed(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("mine")
    (tmp_path / FILE).symlink_to(other)
    assert trainer_of(tmp_path) is None
    with pytest.raises(UserError, match="cannot write"):
        Lock(tmp_path)
    assert other.read_text() == "mine"
    (tmp_path / FILE).unlink()
    os.mkfifo(tmp_path / FILE)
    assert trainer_of(tmp_path) is None
    with pytest.raises(UserError, match="cannot write"):
        Lock(tmp_path)


def test_without_locks_that_is_said_and_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none(*_: Any, **__: Any) -> bool:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(lock, "taken", none)
    assert main(f"{WORDS} --runs-dir {tmp_path} --no-record".split()) == 0
    assert capsys.readouterr().out.count(NO_LOCKS) == 1


def test_a_run_in_training_is_not_resumed_nor_deleted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with signals_at(300, signal.SIGINT):
        run = train(tmp_path, WORDS, code=130)
    idle = Path(shutil.copytree(run, tmp_path / f"{run.name}-2"))
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    capsys.readouterr()
    held = Lock(run)
    resume(run, code=2)
    assert f"error: {run} is being trained by {ME}" in capsys.readouterr().err
    assert runs_main(["--runs-dir", str(tmp_path)]) == 0
    assert {line.split()[0]: "training" in line for line in capsys.readouterr().out.splitlines()[1:3]} == {
        run.name: True,
        idle.name: False,
    }
    assert runs_main(["--runs-dir", str(tmp_path), "--unfinished", "--delete", "--yes"]) == 1
    told = capsys.readouterr().out
    assert f"Not deleted: {run} is being trained by {ME}." in told
    assert told.endswith("Deleted 1 run.\n")
    held.close()
    assert runs_in(tmp_path) == [run]
    del before[run / FILE]
    assert {file: file.read_bytes() for file in before} == before
    resume(run)


def after_rows(count: int, do: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Do something with the run folder once it has so many rows of scalars."""
    log, rows = Run.log, []

    def logged(run: Run, step: int) -> None:
        log(run, step)
        rows.append(step)
        if len(rows) == count:
            do(run.folder.path)

    monkeypatch.setattr(Run, "log", logged)


@pytest.mark.parametrize("algorithm", ["ppo", "dqn --learning-starts 100 --train-freq 16"])
@pytest.mark.parametrize("do", [shutil.rmtree, lambda run: run.rename(run.with_name("moved"))], ids=["rm", "mv"])
def test_a_folder_that_is_gone_is_said_and_what_was_learnt_saved_beside_it(
    do: Callable[[Path], object],
    algorithm: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = f"{WORDS} --algo {algorithm}".replace(*("--n-steps 32", "") if "dqn" in algorithm else ("", ""))
    unbroken = train(tmp_path / "unbroken", words)
    with monkeypatch.context() as patch:
        after_rows(3, do, patch)
        assert main([*words.split(), "--runs-dir", str(tmp_path / "runs"), "--no-record", "--quiet"]) == 2
    error, note = capsys.readouterr().err.splitlines()
    saved = [run for run in runs_in(tmp_path / "runs") if run.name != "moved"]
    assert len(saved) == 1
    assert error.endswith("is gone: it was deleted or moved while it was trained in")
    assert note == f"What was learnt is saved. To go on: python -m agents.train --resume {saved[0]}"
    at = RunFolder(saved[0]).checkpoints()[-1][0]
    assert at < 512
    resume(saved[0])
    assert_same(read_tree(unbroken, "model"), read_tree(saved[0], "model"))
    assert_same(last_state(unbroken), last_state(saved[0]))
    assert min(steps(saved[0], "progress.csv")) >= at, "its first rows went with the folder"


def test_a_folder_that_is_gone_at_the_very_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate = Run.evaluate

    def gone(run: Run, *arguments: Any) -> Any:
        shutil.rmtree(run.folder.path)
        return evaluate(run, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "evaluate", gone)
        assert main([*WORDS.split(), "--runs-dir", str(tmp_path), "--no-record", "--quiet"]) == 2
    (run,) = runs_in(tmp_path)
    assert f"What was learnt is saved. To go on: python -m agents.train --resume {run}" in capsys.readouterr().err
    resume(run)
    assert RunFolder(run).concluded() == 512
