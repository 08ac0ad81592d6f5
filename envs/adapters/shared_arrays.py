"""The arrays that processes step environments through: the same memory for all of them."""

from __future__ import annotations

import math
import mmap
import os
from itertools import accumulate

import numpy as np
from gymnasium import Space, spaces

from envs.actions import Hybrid
from envs.api import Obs, Step


class SharedArrays:
    """The arrays that the processes share, one after the other in the memory of file `fd`, empty at first.

    Attributes:
        action: canonical, `[N, ...]`.
        reward, terminated, truncated, valid: of `Step`; `valid` is always an array here.
        obs, final: the arrays of canonical observations; `final` holds the last ones of episodes that just ended.
    """

    def __init__(self, fd: int, num_envs: int, observation_space: Space, action_space: Space) -> None:
        leaves = list(observation_space.values()) if isinstance(observation_space, spaces.Dict) else [observation_space]
        observation = [(leaf.shape or (), np.dtype(leaf.dtype)) for leaf in leaves]
        action = np.dtype(np.float32 if isinstance(action_space, spaces.Box | Hybrid) else np.int64)
        bit = np.dtype(bool)
        columns = [(action_space.shape or (), action), ((), np.dtype(np.float32)), ((), bit), ((), bit), ((), bit)]
        columns += [*observation, *observation]
        counts = [num_envs * math.prod(shape) for shape, _ in columns]
        room = [-(-count * dtype.itemsize // 64) * 64 for count, (_, dtype) in zip(counts, columns, strict=True)]
        if os.fstat(fd).st_size == 0:
            _reserve(fd, sum(room))
        memory = mmap.mmap(fd, sum(room))
        arrays = [
            np.frombuffer(memory, dtype, count, start).reshape(num_envs, *shape)
            for (shape, dtype), count, start in zip(columns, counts, accumulate([0, *room[:-1]]), strict=True)
        ]
        self.action, self.reward, self.terminated, self.truncated, self.valid = arrays[:5]
        self.obs, self.final = arrays[5 : 5 + len(leaves)], arrays[5 + len(leaves) :]

    def write(self, rows: slice, step: Step) -> None:
        """Write what came of a step of some of the environments."""
        self.reward[rows], self.terminated[rows], self.truncated[rows] = step.reward, step.terminated, step.truncated
        self.valid[rows] = True if step.valid is None else step.valid
        for shared, leaf in zip(self.obs, _leaves(step.obs), strict=True):
            shared[rows] = leaf
        if step.next_obs is not step.obs:
            for shared, leaf in zip(self.final, _leaves(step.next_obs), strict=True):
                shared[rows] = leaf


def _reserve(fd: int, size: int) -> None:
    """Give an empty file its size with room for all of it: touching memory that has none ends a process on the spot.

    Raises:
        OSError: there is no room.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(fd, 0, size)
        return
    while size:
        size -= os.write(fd, bytes(min(size, 2**20)))


def _leaves(obs: Obs) -> list[np.ndarray]:
    return list(obs.values()) if isinstance(obs, dict) else [obs]
