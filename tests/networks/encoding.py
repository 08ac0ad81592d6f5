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
SPACES = {
    "vector": (spaces.Box(-1, 1, (5,), np.float32), 5),
    "matrix": (spaces.Box(-1, 1, (2, 3), np.float32), 6),
    "bytes": (spaces.Box(0, 255, (7,), np.uint8), 7),
    "small picture": (spaces.Box(0, 255, (10, 10, 3), np.uint8), 128),
    "small picture, channels first": (spaces.Box(0, 255, (3, 5, 6), np.uint8), 128),
    "too small for a picture": (spaces.Box(0, 255, (4, 10, 3), np.uint8), 120),
    "grey image": (spaces.Box(0, 255, (36, 36), np.uint8), 512),
    "stacked images": (spaces.Box(0, 255, (4, 36, 40, 3), np.uint8), 512),
    "float image": (spaces.Box(-1, 1, (36, 40, 3), np.float32), 512),
    "float planes": (spaces.Box(0, 1, (8, 8, 12), np.float32), 128),
    "matrix without bounds": (spaces.Box(-np.inf, np.inf, (10, 8), np.float32), 80),
    "image, channels last": (HWC, 512),
    "image, channels first": (CHW, 512),
    "discrete": (spaces.Discrete(4), 4),
    "multidiscrete": (spaces.MultiDiscrete([2, 3, 4]), 9),
    "dict": (EVERYTHING, 512 + 6 + 1 + 4 + 5),
}


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
