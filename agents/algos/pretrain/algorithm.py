"""Pretraining of an encoder on recorded observations, without rewards and actions."""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from gymnasium import Space
from torch import Tensor, nn

from agents.acting.policies import ModelPolicy
from agents.algos.pretrain.config import PretrainConfig
from agents.core.algorithm import RecordedAlgorithm
from agents.core.types import Act
from agents.data.trajectory import Trajectory
from agents.networks.representation import Representation, auxiliary_loss
from envs.errors import UserError

NO_POLICY = "pretrain learns no policy, only what reads observations: begin another training with it (--from)"


class Idle(ModelPolicy):
    """Stands where other algorithms have a policy, and refuses to act."""

    stream = "policy"

    def __init__(self, model: Representation) -> None:
        self.model = model

    def actor(self) -> Act:
        self._refuse()

    def draw_noise(self, shape: Any, progress: Any, generator: torch.Generator) -> NoReturn:
        self._refuse()

    def choose(self, parameters: Any, mask: Any, noise: Any) -> NoReturn:
        self._refuse()

    def describe(self, obs: Any, carry: Any) -> NoReturn:
        self._refuse()

    def read(self, output: Any, action: Any) -> NoReturn:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise UserError(NO_POLICY)


class Pretrain(RecordedAlgorithm):
    """An autoencoder, or CURL (Laskin et al. 2020, arXiv:2004.04136), on recorded observations.

    Raises:
        UserError: the objective does not fit the observations.
    """

    config_class = PretrainConfig
    acts = False
    model: Representation
    policy: Idle

    def __init__(self, observation_space: Space, action_space: Space, config: PretrainConfig) -> None:
        super().__init__(config)
        how = config.objective, config.curl_tau, config.augment
        self.model = Representation(observation_space, config.network, *how)
        self.policy = Idle(self.model)
        self.batch_size = config.batch_size

    def prepare(self, data: Trajectory, constants: dict[str, Tensor]) -> dict[str, Any]:
        """Return nothing but the actions, which stand for the number of transitions."""
        return {"action": data.action}

    def loss(
        self, model: nn.Module, minibatch: dict[str, Any], constants: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        loss = auxiliary_loss(model.auxiliary, model, minibatch)
        return loss, {"loss": loss.detach()}

    def follow_model(self) -> None:
        self.model.copy_encoder()

    def after_update(self, data: dict[str, Any]) -> None:
        """Let the normalisers take in the observations, and what follows the encoder follow it."""
        self.model.update_statistics(data["obs"])
