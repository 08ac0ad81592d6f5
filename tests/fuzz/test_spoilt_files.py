"""Every reader takes a spoilt file rightly, or refuses it in a line: no traceback, no endless wait, bounded memory."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import signal
import subprocess
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

import agents
from agents import evaluate, runs, train
from agents.lab.comparison.curves import read_results
from agents.lab.stored import read_stored
from agents.run.folder import find_latest_run
from agents.run.recording import episode_env, load_episode, replay
from envs.errors import UserError
from tests.fuzz.spoil import spoil
from tests.marks import long_test

HANG = 120  # seconds after which a reader is taken to wait for ever
MOST_MB = 60  # megabytes that a file may take beyond those of the libraries that read it
FAULTS = ("HANG", "TRACEBACK", "MEMORY")
COMMON = (
    "--device cpu --seed 1 --n-envs 2 --net-arch 8 --eval-episodes 2 --eval-freq 32 --save-freq 32 "
    "--final-eval-episodes 2 -n 96 --eval-max-steps 50"
)
PPO, DQN = "--n-steps 16 --batch-size 16 --n-epochs 1", "--buffer-size 200 --learning-starts 16 --batch-size 8"
KINDS = {
    "ppo": f"--env CartPole-v1 {PPO}",
    "dqn": f"--env CartPole-v1 --algo dqn {DQN}",
    "sync": f"--env CartPole-v1 --algo dqn --vec sync {DQN}",
    "normalised": f"--env Pendulum-v1 --norm-obs --norm-reward {PPO}",
    "memory": f"--env Corridor-v0 --memory gru --memory-size 4 {PPO}",
    "masks": f"--env Taxi-v4 --vec sync {PPO}",
}


class Hang(BaseException):
    """A reader took longer than any should."""


def _give_up(*_: Any) -> None:
    raise Hang


def make(place: Path, kind: str) -> Path:
    """Train a small run with all its files, its replay among them; return its folder."""
    words = f"{COMMON} {KINDS[kind]} --quiet --runs-dir {place} --replays-dir {place} --no-record"
    assert train.main(words.split()) == 0
    run = find_latest_run(place)
    (run / "curves.csv").write_text(
        "env,algo,library,seed,step,return,time\n" + "".join(f"E,ppo,cleanrl,1,{step},{step},1\n" for step in (1, 2, 3))
    )
    return run


def command(main: Callable[[list[str]], int], *words: str) -> str:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = main(list(words))
    assert code in (0, 2) or (code == 1 and "error" in said.getvalue()), (code, said.getvalue())
    assert "Traceback" not in said.getvalue()
    return "" if code == 0 else said.getvalue()


def _resume(run: Path) -> str:
    return command(train.main, "--resume", str(run), "--no-record", "--quiet", "-n", "128")


def _evaluate(run: Path) -> str:
    return command(evaluate.main, str(run), "--checkpoint", "latest", "--episodes", "1", "--max-steps", "30")


def _best(run: Path) -> str:
    return command(evaluate.main, str(run), "--episodes", "1", "--max-steps", "30")


def _list(run: Path) -> str:
    return command(runs.main, "--runs-dir", str(run.parent))


def _stored(run: Path) -> str:
    read_stored(run).final_returns()
    return ""


def _load(run: Path) -> str:
    agents.load(run, "latest")
    return ""


def _import(run: Path) -> str:
    read_results(run / "curves.csv")
    return ""


def _replay(run: Path) -> str:
    episode = load_episode(run / "episode.json")
    env = episode_env(episode, render=False)
    with contextlib.closing(env):
        for _ in replay(env, episode, render=False):
            pass
    return ""


READERS = {
    "config.yaml": [_resume, _stored, _list],
    "model.json": [_evaluate, _load],
    "model.safetensors": [_evaluate],
    "best/model.json": [_best],
    "best/model.safetensors": [_best],
    "STATE/state.json": [_resume],
    "STATE/state.safetensors": [_resume],
    "STATE/model.json": [_resume],
    "progress.csv": [_resume, _stored],
    "evaluations.csv": [_stored, _resume, _list],
    "summary.json": [_stored, _resume, _list],
    "final_episodes.json": [_stored],
    "versions.json": [_stored],
    "command.txt": [_resume],
    "curves.csv": [_import],
    "episode.json": [_replay],
}
SHARES = {
    "STATE/state.json": 6,
    "STATE/state.safetensors": 5,
    "config.yaml": 3,
    "model.json": 3,
    "model.safetensors": 2,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_all(tmp_path_factory.mktemp("made"), ["ppo", "dqn"])


def make_all(place: Path, kinds: list[str]) -> dict[str, Path]:
    found = {kind: make(place / kind, kind) for kind in kinds}
    for run in found.values():
        write_episode(run)
    return found


def write_episode(run: Path) -> None:
    """Record an episode without its video."""
    import gymnasium
    import numpy as np

    from agents.run.models import load_policy
    from agents.run.play import play, policy_env
    from agents.run.recording import RecordedEpisode, save_episode

    loaded = load_policy(run, "latest")
    env = policy_env(loaded, render=False)
    with contextlib.closing(env):
        played = [moment for moment, _ in zip(play(env, loaded.policy, 3, True, render=False), range(20), strict=False)]
    end = played[-1]
    save_episode(
        run / "episode.json",
        RecordedEpisode(
            env=loaded.env,
            env_kwargs=loaded.env_kwargs,
            rescale_action=loaded.rescale_action,
            run=run.name,
            checkpoint="latest",
            step=loaded.step,
            deterministic=True,
            gymnasium=gymnasium.__version__,
            seed=3,
            total_reward=end.ret,
            length=end.step,
            terminated=end.terminated,
            truncated=end.truncated,
            actions=[np.asarray(moment.action).tolist() for moment in played],
            rewards=[moment.reward for moment in played],
        ),
    )


def case(run: Path, place: Path, number: int) -> Iterator[tuple[str, str, str]]:
    """Spoil a file of a copy of a run; yield file and reader, what was done, and what the reader made of it."""
    random = Random(number)
    name = random.choice([name for name in READERS for _ in range(SHARES.get(name, 1))])
    shutil.rmtree(place, ignore_errors=True)
    copy = place / run.name
    shutil.copytree(run, copy)
    *older, newest = sorted((copy / "checkpoints").glob("*/state.json"))
    for state in older if random.random() < 0.7 else ():  # so that there is nothing else to go on from
        shutil.rmtree(state.parent)
    done = spoil(random, copy / name.replace("STATE", f"checkpoints/{newest.parent.name}"))
    for reader in READERS[name]:
        signal.alarm(HANG)
        try:
            refused = reader(copy)
        except UserError as error:
            refused = str(error)
        except Hang:
            yield f"{name} {reader.__name__}", done, "HANG"
            continue
        except Exception:
            yield f"{name} {reader.__name__}", done, f"TRACEBACK {traceback.format_exc()}"
            continue
        finally:
            signal.alarm(0)
        yield f"{name} {reader.__name__}", done, f"refused: {refused.strip()}" if refused else "accepted"


def memory_mb(name: str) -> int:
    """Return what Linux says of this process: "VmRSS" for what it has, "VmHWM" for the most that it had."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) // 1024


def sweep(
    runs_made: dict[str, Path], place: Path, numbers: range, most_mb: int | None = None
) -> list[tuple[str, str, str, str]]:
    """Spoil a file for each number; what takes more than `most_mb` megabytes, where that is given, is a fault."""
    before = signal.signal(signal.SIGALRM, _give_up)
    kinds, found = list(runs_made), []
    try:
        for number in numbers:
            kind = kinds[number % len(kinds)]
            if most_mb is not None:
                had = memory_mb("VmRSS")
                Path("/proc/self/clear_refs").write_text("5")  # the most so far is forgotten
            made = list(case(runs_made[kind], place, number))
            if most_mb is not None and (took := memory_mb("VmHWM") - had) > most_mb:
                made.append(("memory", made[0][1], f"MEMORY {took} MB"))
            found += [(f"{number} {kind}", *rest) for rest in made]
    finally:
        signal.signal(signal.SIGALRM, before)
    return found


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes and alarms as elsewhere")
def test_spoilt_files_are_taken_or_refused(made: dict[str, Path], tmp_path: Path) -> None:
    found = sweep(made, tmp_path / "case", range(40))
    assert [each for each in found if each[3].startswith(FAULTS)] == []
    assert any(each[3] == "accepted" for each in found)
    assert any(each[3].startswith("refused") for each in found)


@long_test
@pytest.mark.skipif(sys.platform != "linux", reason="bounds the memory as Linux does")
def test_thousands_of_spoilt_files(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.test_spoilt_files", str(tmp_path), "2400"], capture_output=True, text=True
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["faults"] == 0


def main(place: Path, count: int, first: int = 0) -> None:
    """Sweep over all kinds in little memory, and print what was accepted, what failed and the figures."""
    import resource

    with contextlib.suppress(ImportError):
        import envpool  # noqa: F401  # is 150 MB by itself, and an evaluation may take it
    torch.set_num_threads(1)
    made = make_all(place / "made", list(KINDS))
    resource.setrlimit(resource.RLIMIT_AS, (12 * 2**30, 12 * 2**30))
    begin = memory_mb("VmRSS")
    found = sweep(made, place / "case", range(first, first + count), most_mb=MOST_MB)
    faults = [each for each in found if each[3].startswith(FAULTS)]
    for number, what, done, result in found:
        if result == "accepted":
            print(f"accepted {number} {what}: {done}")
    for each in faults:
        print("FAULT", *each)
    results = Counter(each[3].split()[0].strip(":") for each in found)
    print(json.dumps({"files": count, **results, "faults": len(faults), "begin_mb": begin}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), *map(int, sys.argv[3:]))
