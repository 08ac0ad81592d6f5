"""Gymnasium environments in other processes: a worker for each core, each with its share of them.

A worker steps a `SyncVecEnv`, so transitions, seeds, positions and messages are those of that. Actions,
observations, rewards and flags lie in memory that all share; a worker's socket carries the message to step, the
message that it has stepped, and, pickled between processes that are all ours, everything rare: infos of ended
episodes too.

Workers inherit socket and memory as descriptors. Windows has no such thing: there a worker connects to a port of this
machine, showing a secret that its standard input told, and the memory is a file that it opens by name.

A worker is a fresh interpreter, not a fork: a fork would copy locks that other threads (torch's, TensorBoard's) may
hold just then. It imports neither torch nor the program's main module, and ends when its socket closes, however
that came about; in the middle of a step, when its standard input does. So none outlives the main process.
"""

from __future__ import annotations

import hmac
import os
import pickle
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, suppress
from functools import partial
from itertools import pairwise
from multiprocessing.connection import Connection
from typing import IO, Any

import gymnasium
import numpy as np
from gymnasium import Space
from gymnasium.vector.utils import CloudpickleWrapper

from envs import saved
from envs.actions import ActionCodec
from envs.adapters.checks import closed
from envs.adapters.episodes import EpisodeLog
from envs.adapters.episodic import saved_checksums, sentences
from envs.adapters.shared_arrays import SharedArrays
from envs.adapters.sync import SyncVecEnv
from envs.api import Obs, Step
from envs.errors import EnvError, UserError
from envs.names import Names
from envs.processes import APART, SECONDS_TO_CLOSE, cores, kill, parent_word, tie
from envs.spaces import Codec, ObservationCodec

_STEP, _STEPPED = b"step", b"stepped"
_PROGRAM = "import sys; sys.path[:] = sys.argv[5:]; from envs.adapters.workers import work; work(*sys.argv[1:5])"
_INHERITED = os.name == "posix"  # descriptors are
_SECRET = 32  # bytes

Maker = Callable[[], gymnasium.Env]


class WorkersVecEnv:
    """Environments in worker processes. See `envs.api.VecEnv`.

    Args:
        makers: build one environment each; they are pickled (classes of the main module by value).
        rescale_action: actions are in [-1, 1], to be mapped onto the bounds.
        workers: how many processes; None: as many as there are cores.
        example: one environment, to read its spaces from, and to be closed; None: one is built.
        codec: what reads observations.

    Raises:
        UserError: an environment could not be built, or there is no room for what the processes share.
        EnvError: a worker ended before its environments were ready.
    """

    backend = "async"
    backend_reason = ""
    names = Names()
    overlaps = True
    device = "cpu"
    capturable = False

    def __init__(
        self,
        makers: Sequence[Maker],
        rescale_action: bool = False,
        workers: int | None = None,
        example: gymnasium.Env | None = None,
        codec: Codec = ObservationCodec,
    ) -> None:
        self.num_envs = len(makers)
        with closed(makers[0]() if example is None else example) as example:
            self._observations = codec(example.observation_space)
            self.own_spaces = example.observation_space, example.action_space
            self.observation_space = self._observations.space
            self.action_space = ActionCodec(example.action_space, rescale_action).space
        ends = np.linspace(0, self.num_envs, min(workers or cores(), self.num_envs) + 1).astype(int).tolist()
        self._shares = [slice(start, stop) for start, stop in pairwise(ends)]
        self._processes: list[subprocess.Popen[bytes]] = []
        self._sockets: list[Connection] = []
        self._file: str | None = None
        spaces_ = self.observation_space, self.action_space
        with self._share(*spaces_) as file:
            for _ in self._shares:
                if self._file is None:
                    self._start(file.fileno())
                else:
                    self._start_unrelated(self._file)
        try:
            for worker, share in enumerate(self._shares):
                build = partial(_build, makers[share], rescale_action, share.start, codec)
                self._send(worker, pickle.dumps(CloudpickleWrapper(build)))
            self._collect("while its environments were being made")
        except BaseException:
            self.close()
            raise

    def _share(self, observation_space: Space, action_space: Space) -> IO[bytes]:
        """Make the arrays that are shared; return their file, which is memory if there is room, else on the disk."""
        problems = []
        for folder in ["/dev/shm", None] if _INHERITED and os.path.isdir("/dev/shm") else [None]:
            try:
                with ExitStack() as unless_kept:
                    if _INHERITED:
                        file: IO[bytes] = unless_kept.enter_context(tempfile.TemporaryFile(dir=folder))
                    else:
                        fd, self._file = tempfile.mkstemp(prefix="envs-")
                        unless_kept.callback(self._remove_file)
                        file = unless_kept.enter_context(os.fdopen(fd, "w+b"))
                    self._shared = SharedArrays(file.fileno(), self.num_envs, observation_space, action_space)
                    unless_kept.pop_all()
                    return file
            except (OSError, OverflowError) as error:
                problems.append(f"{folder or 'the folder of temporary files'}: {str(error).lower()}")
        raise UserError(
            f"no room for what {len(self._shares)} processes share of {self.num_envs} environments "
            f"({'; '.join(problems)}): lower n_envs, or use --vec sync"
        )

    def _start(self, memory: int) -> None:
        ours, theirs = socket.socketpair()
        words = [sys.executable, "-c", _PROGRAM]
        with theirs:
            process = subprocess.Popen(
                [*words, *map(str, (theirs.fileno(), memory, self.num_envs)), parent_word(), *sys.path],
                stdin=subprocess.PIPE,
                pass_fds=(theirs.fileno(), memory),
                **APART,
            )
            self._processes.append(process)
        self._sockets.append(Connection(ours.detach()))

    def _start_unrelated(self, memory: str) -> None:
        """Start a worker that inherits nothing."""
        secret = secrets.token_bytes(_SECRET)
        with socket.create_server(("127.0.0.1", 0)) as server:
            words = [sys.executable, "-c", _PROGRAM, f":{server.getsockname()[1]}", memory, str(self.num_envs)]
            process = subprocess.Popen([*words, parent_word(), *sys.path], stdin=subprocess.PIPE, **APART)
            self._processes.append(process)
            assert process.stdin is not None
            with suppress(OSError):  # if it is dead, `_collect` finds that too
                process.stdin.write(secret)
                process.stdin.flush()
            self._sockets.append(Connection(_accepted(server, secret, process).detach()))

    def _send(self, worker: int, message: bytes) -> None:
        with suppress(ConnectionError):  # if it is dead, `_collect` finds that too
            self._sockets[worker].send_bytes(message)

    def _collect(self, where: str, workers: Sequence[int] | None = None) -> list[Any]:
        """Return these workers' (None: all workers') answers; raise the first error, once all have answered."""
        answers, errors = [], []
        for worker in range(len(self._shares)) if workers is None else workers:
            try:
                message = self._sockets[worker].recv_bytes()
            except (EOFError, ConnectionError):
                errors.append(EnvError(f"a process died {where}: {self._how_it_ended(worker)}"))
                continue
            if message != _STEPPED:
                answer, error = pickle.loads(message)
                answers.append(answer)
                errors += [error] if error else []
        if errors:
            raise errors[0]
        return answers

    def _how_it_ended(self, worker: int) -> str:
        share = self._shares[worker]
        which = (
            f"environment {share.start}"
            if share.stop == share.start + 1
            else f"environments {share.start} to {share.stop - 1}"
        )
        return f"{which} (exit code {self._processes[worker].wait(SECONDS_TO_CLOSE)})"

    def _call(self, where: str, method: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Call a method of every worker's `SyncVecEnv`, each with arguments of its own, and return the results."""
        for worker, own in enumerate(arguments):
            self._send(worker, pickle.dumps((method, own)))
        return self._collect(where)

    def reset(self, seed: int) -> Obs:
        parts = self._call("at a reset", "reset", [(seed,)] * len(self._shares))
        parts = [self._observations.arrays(part) for part in parts]
        return self._observations.tree([np.concatenate(leaf) for leaf in zip(*parts, strict=True)])

    def send(self, action: np.ndarray) -> None:
        self._shared.action[:] = action
        for worker in range(len(self._shares)):
            self._send(worker, _STEP)

    def receive(self) -> Step:
        answers = self._collect("in a step")
        shared, observations = self._shared, self._observations
        obs = next_obs = observations.tree([leaf.copy() for leaf in shared.obs])
        terminated, truncated = shared.terminated.copy(), shared.truncated.copy()
        ended = np.flatnonzero(terminated | truncated)
        if len(ended):
            next_obs = observations.with_rows(obs, ended, observations.tree([leaf[ended] for leaf in shared.final]))
        valid = None if shared.valid.all() else shared.valid.copy()
        infos = {row: info for found in answers for row, info in found.items()}
        return Step(obs, shared.reward.copy(), terminated, truncated, next_obs, valid, infos)

    def step(self, action: np.ndarray) -> Step:
        self.send(action)
        return self.receive()

    def state_dict(self) -> dict[str, Any]:
        parts = self._call("while its position was saved", "state_dict", [()] * len(self._shares))
        length = max(len(part["actions"]) for part in parts)
        missing = [length - len(part["actions"]) for part in parts]
        actions = [_with_rows_before(part["actions"], rows) for part, rows in zip(parts, missing, strict=True)]
        return {
            "seed": parts[0]["seed"],
            "episodes": np.concatenate([part["episodes"] for part in parts]),
            "starts": np.concatenate([part["starts"] + rows for part, rows in zip(parts, missing, strict=True)]),
            "actions": np.concatenate(actions, axis=1),
            "returns": np.concatenate([part["returns"] for part in parts]),
            "obs": [np.concatenate(leaf) for leaf in zip(*[part["obs"] for part in parts], strict=True)],
            "dummy": np.concatenate([part["dummy"] for part in parts]),
            "checksums": [one for part in parts for one in part["checksums"]],
        }

    def load_state_dict(self, state: dict[str, Any]) -> list[str]:
        log = EpisodeLog(self.num_envs, self.action_space)
        log.load_state_dict(state)  # it must fit before it is cut up
        returns, checksums = log.state_dict()["returns"], saved_checksums(state, self.num_envs)
        dummy = saved.array(state.get("dummy"), "dummy", (self.num_envs,), bool)
        obs = self._observations.from_arrays(saved.entry(state, "obs", list), self.num_envs)
        leaves = self._observations.arrays(obs)
        parts = [
            {
                "seed": state["seed"],
                "episodes": state["episodes"][share],
                "starts": state["starts"][share],
                "actions": state["actions"][:, share],
                "returns": returns[share],
                "obs": [leaf[share] for leaf in leaves],
                "dummy": dummy[share],
                "checksums": checksums[share],
            }
            for share in self._shares
        ]
        found = self._call("while its position was restored", "restore", [(part,) for part in parts])
        lost, doubted = ({row: why for part in found for row, why in part[kind].items()} for kind in (0, 1))
        return sentences(lost, doubted)

    def doubts(self) -> str | None:
        self._send(0, pickle.dumps(("doubts", ())))
        return self._collect("while it was tried out", [0])[0]

    def render(self, index: int = 0) -> np.ndarray:
        worker = next(i for i, share in enumerate(self._shares) if index < share.stop)
        self._send(worker, pickle.dumps(("render", (index - self._shares[worker].start,))))
        return self._collect("while being drawn", [worker])[0]

    def close(self) -> None:
        """Let every worker close its environments and end; one that does not is killed."""
        for connection in self._sockets:
            connection.close()
        limit = time.monotonic() + SECONDS_TO_CLOSE
        for process in self._processes:
            try:
                process.wait(max(limit - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                kill(process)
                process.wait()
            assert process.stdin is not None
            with suppress(OSError):  # it may still hold what a dead process did not take
                process.stdin.close()
        if self._file is not None:
            del self._shared  # Windows removes no file that is mapped
            self._remove_file()

    def _remove_file(self) -> None:
        assert self._file is not None
        with suppress(OSError):
            os.remove(self._file)
        self._file = None


def _accepted(server: socket.socket, secret: bytes, process: subprocess.Popen[bytes]) -> socket.socket:
    """Return the connection that a worker makes to `server`; a closed one if it ends before."""
    server.settimeout(0.1)
    while process.poll() is None:
        with suppress(TimeoutError):
            ours, _ = server.accept()
            ours.settimeout(SECONDS_TO_CLOSE)
            shown = b""
            with suppress(OSError):
                while len(shown) < _SECRET and (more := ours.recv(_SECRET - len(shown))):
                    shown += more
            if hmac.compare_digest(shown, secret):
                ours.settimeout(None)
                ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return ours
            ours.close()
    ours, theirs = socket.socketpair()
    theirs.close()
    return ours


def _with_rows_before(actions: np.ndarray, count: int) -> np.ndarray:
    """Return `actions` after `count` rows that belong to no running episode."""
    return np.concatenate((np.zeros((count, *actions.shape[1:]), actions.dtype), actions))


def _build(makers: Sequence[Maker], rescale_action: bool, first: int, codec: Codec) -> SyncVecEnv:
    return SyncVecEnv([maker() for maker in makers], rescale_action, first, codec)


def work(link: str, memory: str, num_envs: str, parent: str) -> None:
    """Be a worker: build environments, and do with them what the socket says, until it closes.

    Args:
        link: the socket's descriptor, or ":" and the port to connect to.
        memory: descriptor or name of the file with the shared memory.
        parent: as `tie` takes it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ending = threading.Event()
    if link.startswith(":"):
        theirs = socket.create_connection(("127.0.0.1", int(link[1:])))
        theirs.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        theirs.sendall(os.read(0, _SECRET))
        memory_fd = os.open(memory, os.O_RDWR | getattr(os, "O_BINARY", 0))
        connection = Connection(theirs.detach())
    else:
        memory_fd, connection = int(memory), Connection(int(link))
    tie(parent, ending)
    with suppress(EOFError, ConnectionError):
        try:
            env = pickle.loads(connection.recv_bytes())()
        except UserError as error:
            return connection.send_bytes(pickle.dumps((None, error)))
        shared = SharedArrays(memory_fd, int(num_envs), env.observation_space, env.action_space)
        connection.send_bytes(pickle.dumps((None, None)))
        with closing(env):
            try:
                while True:
                    connection.send_bytes(_answer(env, shared, connection.recv_bytes()))
            finally:
                ending.set()


def _answer(env: SyncVecEnv, shared: SharedArrays, message: bytes) -> bytes:
    """Do what `message` says; return `_STEPPED`, or pickled the result and the error, of which one is None.

    The result of a step is the infos of the episodes that ended, where there are any.
    """
    try:
        if message == _STEP:
            rows = slice(env.first, env.first + env.num_envs)
            step = env.step(shared.action[rows])
            shared.write(rows, step)
            infos = {env.first + row: info for row, info in step.infos.items()}
            return pickle.dumps((infos, None)) if infos else _STEPPED
        method, arguments = pickle.loads(message)
        return pickle.dumps((getattr(env, method)(*arguments), None))
    except UserError as error:
        return pickle.dumps((None, error))
