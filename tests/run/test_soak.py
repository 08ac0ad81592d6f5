"""A day of training in a few minutes: memory, descriptors, threads and files stay as after the first half."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from agents.run.folder import RunFolder
from agents.run.monitor import LOG_ROWS
from agents.run.run import Run
from tests.marks import long_test
from tests.run.running import USER_ENVS, train

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc"),
    long_test,
]
QUICK = "-n 20_000_000 --eval-freq 1_000_000 --save-freq 2_000_000"
SLOW = "-n 100_000 --eval-freq 5_000 --save-freq 10_000"
TINY = "--net-arch 8 --target-reward none --device cpu --final-eval-episodes 1 --eval-episodes 1"
NATIVE = "--env CartPole-v1 --vec native --n-envs 1000"
ENDLESS = f"--env {USER_ENVS}:Endless --n-envs 4 --eval-max-steps 100"
PPO, DQN = "--n-steps 20 --n-epochs 1", "--algo dqn --buffer-size 2000 --learning-starts 1000 --n-step-returns 1"
# What is trained, and the bytes that it may keep for each step. Quick: less than one number; the allocator's ups and
# downs alone are up to 3 MB, 0.6 bytes a step. Slow: of a running episode its actions, 8 bytes each, which a checkpoint
# needs, in memory that doubles when it is full, up to `MOST_BYTES`; and the same ups and downs over fewer steps.
RUNS = {
    "ppo native": (f"{NATIVE} {PPO} --batch-size 20000 {QUICK}", 1.0),
    "dqn native": (f"{NATIVE} {DQN} --train-freq 1000 --gradient-steps 1 {QUICK}", 1.0),
    "ppo sync": (f"{ENDLESS} --vec sync {PPO} --batch-size 80 {SLOW}", 64.0),
    "dqn async": (f"{ENDLESS} --vec async {DQN} --train-freq 16 {SLOW}", 64.0),
}


class Sample(NamedTuple):
    """What a training held when it wrote a row of scalars."""

    step: int
    memory: int  # bytes, those of workers too
    descriptors: int
    threads: int
    processes: int
    files: int
    bytes: int  # of the files but those of checkpoints


def family() -> list[int]:
    """Return the numbers of this process and its children."""
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    return [os.getpid(), *map(int, children)]


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def sample(run: Run, step: int) -> Sample:
    pids = family()
    files = [file for file in run.folder.path.rglob("*") if file.is_file()]
    rest = [file for file in files if "checkpoints" not in file.parts]
    return Sample(
        step,
        sum(map(resident, pids)),
        sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids),
        threading.active_count(),
        len(pids),
        len(files),
        sum(file.stat().st_size for file in rest),
    )


@pytest.mark.parametrize("kind", RUNS)
def test_a_long_training_holds_no_more_than_after_its_first_half(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words, bytes_per_step = RUNS[kind]
    samples: list[Sample] = []
    log = Run.log

    def logged(run: Run, step: int, *more: Any) -> None:
        log(run, step, *more)
        samples.append(sample(run, step))

    monkeypatch.setattr(Run, "log", logged)
    run = train(tmp_path, f"{words} {TINY}")
    held = samples[len(samples) // 2 :]
    third, fourth = (np.median(quarter, axis=0) for quarter in np.array_split([one[:2] for one in held], 2))
    slope = (fourth[1] - third[1]) / (fourth[0] - third[0])
    first, last = held[0], held[-1]
    print(f"\n{kind}: {len(samples)} rows; {slope:.3f} bytes a step\n  {first}\n  {last}")
    assert slope <= bytes_per_step
    for name in ("descriptors", "threads", "processes"):
        assert max(getattr(one, name) for one in held) == getattr(first, name), name
    states = [folder for _, folder in RunFolder(run).checkpoints() if (folder / "state.json").exists()]
    assert len(states) == 2
    assert len(samples) <= LOG_ROWS + 1
    assert last.files - first.files <= 2 * 10, "two for each of ten checkpoints, but for those of the first half"
    assert last.bytes - first.bytes <= 5_000 * len(held), "rows of scalars: 200 whatever the budget"
