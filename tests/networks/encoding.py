"""Spaces, observations and encoders for the tests of what reads observations."""

from __future__ import annotations

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector.utils import batch_space

from agents.core.config import NetworkConfig
from agents.networks.encoders import Encoder

HWC = spaces.Box(0, 255, (36, 40, 3), np.uint8)
CHW = spaces.Box(0, 255, (3, 36, 40), np.uint8)
EVERYTHING = spaces.Dict(
    {
        "camera": CHW,
        "joints/0": spaces.Box(-1, 1, (2, 3), np.float32),
        "joints/1": spaces.Box(-np.inf, np.inf, (1,), np.float32),
        "mode": spaces.Discrete(4),
        "switches": spaces.MultiDiscrete([2, 3]),
    }
)


def made(space, **settings):
    return Encoder(space, NetworkConfig(**settings))


def observations(space, batch, seed=0):
    """Return a batch of canonical observations as tensors."""
    batched = batch_space(space, batch)
    batched.seed(seed)
    sample = batched.sample()
    if isinstance(sample, dict):
        return {key: torch.from_numpy(leaf) for key, leaf in sample.items()}
    return torch.from_numpy(sample)
