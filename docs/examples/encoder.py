"""An encoder of your own: numbers as sines and cosines of several frequencies (Tancik et al. 2020, arXiv:2006.10739).

python -m agents.train --env MountainCar-v0 --encoder docs/examples/encoder.py:Fourier
"""

from __future__ import annotations

import torch
from gymnasium import Space
from torch import Tensor, nn

FREQUENCIES = 4


class Fourier(nn.Module):
    """Made from the whole canonical observation space; `features` numbers come out for each observation."""

    def __init__(self, space: Space) -> None:
        super().__init__()
        assert space.shape is not None
        self.features = 2 * FREQUENCIES * space.shape[0]
        self.register_buffer("scale", torch.pi * 2.0 ** torch.arange(FREQUENCIES))

    def forward(self, obs: Tensor) -> Tensor:
        angles = (obs[:, :, None] * self.get_buffer("scale")).flatten(1)
        return torch.cat([angles.sin(), angles.cos()], dim=1)
