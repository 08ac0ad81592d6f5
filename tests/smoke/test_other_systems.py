"""Without what Linux has and Windows or macOS have not, the commands work all the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

TAKEN_AWAY = """if True:
    import os, signal, sys, types
    import asyncio, multiprocessing.popen_spawn_posix, numpy, torch, scipy.stats, tensorboard.summary  # use them

    for module, names in (
        (signal, ["SIGHUP"]),
        (os, ["fork", "forkpty", "geteuid", "getuid", "killpg", "setsid", "wait4", "getloadavg", "sysconf", "uname"]),
    ):
        for name in names:
            delattr(module, name)
    for name in ("fcntl", "resource", "pty", "termios"):
        sys.modules[name] = None
    locked = set()

    def locking(fd, mode, count):
        assert (mode, count) == (2, 1)
        locked.add(fd)

    sys.modules["msvcrt"] = types.SimpleNamespace(LK_NBLCK=2, locking=locking)
    isdir = os.path.isdir
    os.path.isdir = lambda path: path != "/dev/shm" and isdir(path)
    import envs.adapters.workers as workers

    workers._INHERITED = False
"""
SMALL = "--env CartPole-v1 --env-kwargs max_episode_steps=25 -n 512 --n-envs 2 --n-steps 64 --batch-size 64"


def test_commands_modules_and_programs_work(tmp_path: Path) -> None:
    """All of it is in one process, as importing PyTorch takes most of the time."""
    code = f"""
    import importlib, pathlib, pkgutil, agents, envs, pytest
    from agents import compare, evaluate, train
    from agents.lab.benchmark.case import Plan
    from agents.lab.benchmark.report import Report
    from agents.lab.comparison import figures
    from agents.lab.drawing import Picture
    from agents.lab.machine import describe_machine
    from agents.lab.processes import own_peak_mb, run_process
    from agents.run.terminal import console
    from envs.errors import UserError

    for vec in ("native", "async"):
        words = f"{SMALL} --vec {{vec}} --runs-dir {{vec}} --replays-dir {{vec}}-replays"
        words += " --eval-freq 256 --eval-episodes 2 --final-eval-episodes 2 --json"
        assert train.main(words.split()) == 0
        (run,) = os.listdir(vec)
        assert train.main(["--resume", f"{{vec}}/{{run}}", "-n", "1024", "--json"]) == 0
        if vec == "native":
            assert evaluate.main(["--episodes", "2", "--json", "--runs-dir", vec]) == 0

    for package in (agents, envs):
        for module in pkgutil.walk_packages(package.__path__, f"{{package.__name__}}."):
            if not module.name.endswith(("__main__", "in_triton")):  # Triton is not on other systems
                importlib.import_module(module.name)

    finished = run_process([sys.executable, "-S", "-c", "print(1)"], {{}})
    assert (finished.output.strip(), finished.peak_mb) == ("1", None)
    with pytest.raises(UserError, match="too slow"):
        run_process([sys.executable, "-S", "-c", "import time; time.sleep(10**6)"], {{}}, patience=0.1)
    machine = describe_machine()
    assert (machine["memory_gb"], machine["load"]) == (None, None)
    Report(Plan(), machine | {{"gpu": None}}, [], pathlib.Path("bench")).show(console())
    platform, sys.platform = sys.platform, "darwin"
    assert own_peak_mb() is None
    sys.platform = platform

    figures.make_picture = lambda name, alt, *_: Picture(f"{{name}}.png", b"", alt, 1, 1)  # drawing takes long
    words = "--env CartPole-v1 --env-kwargs max_episode_steps=20 --seeds 1 -n 256 --eval-freq 256 --eval-episodes 2"
    words += " --final-eval-episodes 2 --workers 2 --out compared"
    assert compare.main(words.split()) == 0
    assert locked and os.path.exists("compared/report/index.html")
    """
    env = os.environ | {"USERNAME": "somebody"}  # as Windows says who somebody is
    done = subprocess.run(
        [sys.executable, "-c", TAKEN_AWAY + code], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    results = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [result["steps"] for result in (*results[:2], *results[3:5])] == [512, 1024] * 2
    assert results[2]["episodes"] == 2
    assert len(results) == 5
    for vec in ("native", "async"):
        assert list((tmp_path / f"{vec}-replays").rglob("*.mp4"))
