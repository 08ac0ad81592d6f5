"""The networks of implicit Q-learning: a policy and a value function, and critics of actions of any space."""

from __future__ import annotations

from typing import Any

from gymnasium import Space
from torch import Tensor

from agents.core.types import Obs, Tree
from agents.networks.curiosity import ActionCode
from agents.networks.models import ActorCritic
from agents.networks.soft import Critics


class ImplicitActorCritic(ActorCritic):
    """An `ActorCritic` with critics, which have encoders of their own, normalised by the same statistics.

    Args:
        observation_space, action_space: canonical (envs.spaces).
        config: as of `ActorCritic`, with `critics`, what those are made of.

    Attributes:
        code: turns actions into the vectors that critics take, choices one-hot.
    """

    def __init__(self, observation_space: Space, action_space: Space, config: Any) -> None:
        super().__init__(observation_space, action_space, config)
        self.code = ActionCode(action_space)
        self.critics = Critics(observation_space, self.code.features, config.critics)
        self.critics.share_statistics(self)

    def judge(self, obs: Obs, carry: Tree = (), start: Tensor | None = None) -> Tensor:
        """Return what the critics say of the policy's own actions `[n, B, K]`: all networks are called."""
        return self.critics(obs, self.code(self(obs).distribution.mode()))
