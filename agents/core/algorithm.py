"""What every algorithm is. A placeholder until the base class is here."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from agents.core.config import AlgoConfig


class Algorithm(nn.Module):
    """An algorithm with settings of its own class."""

    config_class: ClassVar[type[AlgoConfig]]
