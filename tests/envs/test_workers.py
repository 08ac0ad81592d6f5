"""Environments in worker processes: as sync to the bit, safe when killed, and without torch."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from envs.adapters import workers as module
from envs.adapters.sync import SyncVecEnv
from envs.adapters.workers import WorkersVecEnv
from envs.errors import EnvError, UserError
from envs.make import make
from tests.envs.small_envs import Drift, Faulty, Noting, Walk
from tests.waiting import wait_for

N = 5


class Reporter(gymnasium.Env):
    """Says what the process it lives in has imported: nothing but its observation leaves a worker."""

    def __init__(self) -> None:
        self.observation_space, self.action_space = gymnasium.spaces.Discrete(2), gymnasium.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        return int("torch" in sys.modules), {}

    def step(self, action: Any) -> tuple[int, float, bool, bool, dict[str, Any]]:
        return int(sys.argv[0] != "-c"), float(os.getpid() % 4096), False, False, {}


@pytest.fixture(params=[True, False], ids=["inherited", "connected"])
def links(request, monkeypatch, tmp_path):
    """Both ways to reach workers; the second is that of Windows, which inherits no descriptors."""
    monkeypatch.setattr(module, "_INHERITED", request.param)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield
    assert list(tmp_path.iterdir()) == [], "the shared memory's file is gone"


@pytest.mark.usefixtures("links")
def test_a_killed_worker_is_told_however_it_was_reached():
    env = WorkersVecEnv([Drift] * 2, workers=2)
    env.reset(seed=0)
    env._processes[1].kill()
    env._processes[1].wait()
    with pytest.raises(EnvError, match=r"a process died in a step: environment 1 \(exit code -9\)"):
        env.step(np.zeros((2, 1), np.float32))
    env.close()


def test_a_worker_that_never_starts_is_told(monkeypatch):
    monkeypatch.setattr(module, "_INHERITED", False)
    monkeypatch.setattr(module, "_PROGRAM", "raise SystemExit(3)")
    with pytest.raises(EnvError, match=r"a process died while its environments were being made: .* \(exit code 3\)"):
        WorkersVecEnv([Drift], workers=1)


def test_a_stranger_on_the_port_is_turned_away():
    secret, alive = b"s" * 32, subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    with socket.create_server(("127.0.0.1", 0)) as server:
        connected = [socket.create_connection(server.getsockname()) for _ in range(3)]
        connected[0].sendall(b"x" * 32)
        connected[1].close()
        connected[2].sendall(secret)
        with closing(module._accepted(server, secret, alive)) as ours:
            assert ours.getpeername() == connected[2].getsockname()
    assert connected[0].recv(1) == b""
    for each in (connected[0], connected[2]):
        each.close()
    alive.communicate()


@pytest.mark.usefixtures("links")
@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="room is reserved by writing")
@pytest.mark.usefixtures("links")
def test_room_for_what_is_shared_is_reserved_in_memory_or_else_on_the_disk(monkeypatch, tmp_path):
    """Memory that is mapped beyond what its file system holds kills the first who touches it, without a word."""
    reserve, places = os.posix_fallocate, []

    def full(fd, start, size):
        places.append(os.fstat(fd).st_dev)
        if places[-1] == os.stat("/dev/shm").st_dev or len(places) > 1:
            raise OSError(28, "No space left on device")
        reserve(fd, start, size)

    monkeypatch.setattr(os, "posix_fallocate", full)
    if module._INHERITED:
        with pytest.raises(UserError, match=r"no room .* of 2 environments \(/dev/shm: .*no space left.*; the folder"):
            WorkersVecEnv([Drift] * 2, workers=2)
        assert places == [os.stat("/dev/shm").st_dev, tmp_path.stat().st_dev]
    places.clear()
    monkeypatch.setattr(module, "_INHERITED", False)
    with closing(WorkersVecEnv([Drift] * 2, workers=2)) as env:
        assert env.reset(seed=0).shape == (2, 3)
    assert places == [tmp_path.stat().st_dev]
    with pytest.raises(
        UserError, match=r"no room .* \(the folder of temporary files: .*\): lower n_envs, or use --vec"
    ):
        WorkersVecEnv([Drift] * 2, workers=2)


SMALL_MEMORY = """
import tempfile, numpy as np
from envs.adapters.workers import WorkersVecEnv
from envs.errors import UserError
from tests.envs.small_envs import Drift
try:
    env = WorkersVecEnv([Drift] * 800, workers=2)
    env.reset(0)
    print(env.step(np.zeros((800, 1), np.float32)).obs.shape)
    env.close()
except UserError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="mounts are Linux's")
@pytest.mark.parametrize("options", ["size=16k", "ro"])
def test_a_memory_file_system_too_small_or_read_only_kills_no_process(options):
    words = ["unshare", "-rm", "sh", "-c"]
    if subprocess.run([*words, "mount -t tmpfs tmpfs /dev/shm"], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    command = f"mount -t tmpfs -o {options} tmpfs /dev/shm && exec {sys.executable} -c '{SMALL_MEMORY}'"
    done = subprocess.run([*words, command], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("(800, 3)\n", "")


@pytest.mark.parametrize("workers", [1, 2, 9])
def test_shares_of_any_size_are_stepped_as_sync(workers):
    env, sync = WorkersVecEnv([Drift] * N, workers=workers), SyncVecEnv([Drift() for _ in range(N)])
    assert len(env._processes) == min(workers, N)
    np.testing.assert_array_equal(env.reset(seed=7), sync.reset(seed=7))
    rng = np.random.default_rng(0)
    for _ in range(40):
        action = rng.normal(size=(N, 1)).astype(np.float32)
        ours, theirs = env.step(action), sync.step(action)
        for name in ("obs", "reward", "terminated", "truncated", "next_obs"):
            np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
        assert (ours.next_obs is ours.obs) == (not (ours.terminated | ours.truncated).any())
    saved, expected = env.state_dict(), sync.state_dict()
    assert saved.keys() == expected.keys()
    for name in ("episodes", "starts", "dummy"):
        np.testing.assert_array_equal(saved[name], expected[name])
    env.close()


def test_a_step_is_its_two_halves_and_other_work_goes_on_between():
    env, whole = WorkersVecEnv([Walk] * 2), SyncVecEnv([Walk(), Walk()])
    env.reset(seed=0)
    whole.reset(seed=0)
    for _ in range(8):
        action = np.array([1, 2])
        env.send(action)
        expected = whole.step(action)
        step = env.receive()
        np.testing.assert_array_equal(step.reward, expected.reward)
        np.testing.assert_array_equal(step.obs["place"], expected.obs["place"])
    env.close()


def test_workers_step_while_the_caller_works(tmp_path: Path):
    env = WorkersVecEnv([partial(Noting, str(tmp_path))] * 4, workers=4)
    env.reset(seed=0)
    for steps in (4, 8):
        env.send(np.zeros((4, 1), np.float32))
        wait_for(lambda: len(list(tmp_path.iterdir())) == steps)  # noqa: B023
        env.receive()
    env.close()


def test_workers_are_other_processes_without_torch_or_the_main_module():
    env = WorkersVecEnv([Reporter] * 2, workers=2)
    assert "torch" in sys.modules
    assert env.reset(seed=0).tolist() == [0, 0]
    step = env.step(np.zeros(2, np.int64))
    assert step.obs.tolist() == [0, 0]
    assert len({*step.reward, os.getpid() % 4096}) == 3
    env.close()


def test_what_only_this_process_registered_is_built_in_the_others():
    gymnasium.register("mine/Walk-v0", entry_point=Walk, max_episode_steps=2)
    try:
        env = make("mine/Walk-v0", 2, vec="async")
        env.reset(seed=0)
        env.step(np.zeros(2, np.int64))
        assert env.step(np.zeros(2, np.int64)).truncated.all()
        env.close()
    finally:
        del gymnasium.registry["mine/Walk-v0"]


def test_a_worker_that_dies_is_named_with_its_share():
    env = WorkersVecEnv([Walk, Walk, Walk], workers=2)
    env.reset(seed=0)
    os.kill(env._processes[1].pid, signal.SIGKILL)
    for _ in range(2):  # and again, instead of waiting for ever
        with pytest.raises(EnvError, match=r"a process died in a step: environments 1 to 2 \(exit code -9\)$"):
            env.step(np.zeros(3, np.int64))
    env.close()


def test_after_an_error_the_workers_still_answer():
    env = WorkersVecEnv([Faulty, lambda: Faulty("raises")], workers=2)
    env.reset(seed=0)
    env.step(np.zeros(2, np.int64))
    env.step(np.zeros(2, np.int64))
    with pytest.raises(EnvError, match="environment 1 raised UnpicklableError"):
        env.step(np.zeros(2, np.int64))
    assert env.reset(seed=0).shape == (2, 2)
    env.close()


@pytest.mark.parametrize("kind", [WorkersVecEnv, lambda makers: SyncVecEnv([maker() for maker in makers])])
def test_a_picture_that_cannot_be_drawn_is_the_environments_error(kind):
    env = kind([Walk, Undrawable])
    env.reset(seed=0)
    with pytest.raises(EnvError, match=r"^environment 1 raised OSError while being drawn at its reset .*: no screen"):
        env.render(1)
    env.close()


class Undrawable(Walk):
    def render(self) -> Any:
        raise OSError("no screen")


def test_what_cannot_be_built_in_a_worker_is_told():
    def fussy() -> gymnasium.Env:
        if os.environ["HOME"] and "pytest" not in sys.modules:
            raise UserError("not in here")
        return Walk()

    with pytest.raises(UserError, match="not in here"):
        WorkersVecEnv([fussy] * 2)


ORPHANS = """
import sys
import numpy as np
sys.path.append(sys.argv[1])
from envs.adapters.workers import WorkersVecEnv
from tests.envs.small_envs import Busy
env = WorkersVecEnv([Busy.idle, Busy.sleeping, Busy.holding], workers=3)
env.reset(seed=0)
print(*[process.pid for process in env._processes], flush=True)
env.step(np.zeros((3, *env.action_space.shape), np.float32))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no /proc, no signals")
def test_no_worker_outlives_a_main_process_that_is_killed():
    """One waits, one sleeps for ever in its step, and one does so without ever letting Python's lock go."""
    root = str(Path(__file__).parents[2])
    main = subprocess.Popen(
        [sys.executable, "-c", ORPHANS, root],
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert main.stdout is not None
    pids = [int(word) for word in main.stdout.readline().split()]
    assert len(pids) == 3
    assert [main.stdout.readline().strip() for _ in pids] == ["in its step"] * 3
    main.kill()
    main.wait()
    pids = pids if sys.platform == "linux" else pids[:2]
    wait_for(lambda: not any(map(_running, pids)))


def _running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"
