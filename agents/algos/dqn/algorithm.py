"""Deep Q-learning (Mnih et al. 2015) with Double DQN (van Hasselt et al. 2016, arXiv:1509.06461)."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import Space
from torch import Tensor, nn

from agents.acting.policies import EpsilonGreedyPolicy
from agents.algos.dqn.config import DQNConfig
from agents.core.algorithm import Algorithm
from agents.core.schedules import crossings
from agents.core.tree import tree_map
from agents.data.batch import Batch
from agents.networks.curiosity import add_learning, build_curiosity
from agents.networks.demonstrator import below_demonstrator
from agents.networks.heads import QUIET, Noise
from agents.networks.models import ActorCritic, QNetwork, QOutput, action_mask
from agents.networks.normalize import RewardScale
from agents.networks.representation import add_auxiliary, build_auxiliary
from agents.networks.target import alike, copy_of, follow, make_target, tensors
from agents.ops.values import behaviour_loss, conservative_gap, munchausen_bonus, soft_policy


class DQN(Algorithm):
    """Action values, learnt from replayed transitions towards targets of a network that follows slowly.

    With memory it learns from sequences (R2D2: Kapturowski et al. 2019, "Recurrent experience replay in distributed
    reinforcement learning").

    Raises:
        UserError: the action space is not Discrete.
    """

    config_class = DQNConfig
    data = "replay"
    model: QNetwork
    policy: EpsilonGreedyPolicy

    def __init__(self, observation_space: Space, action_space: Space, config: DQNConfig) -> None:
        super().__init__(config)
        actions = self.discrete(action_space)
        # replayed transitions come in no order, so that rewards are divided by the deviation of rewards themselves
        scale = RewardScale(1, gamma=0.0)
        curiosity = build_curiosity(observation_space, actions, config.intrinsic, config.network, scale)
        self.model = QNetwork(observation_space, actions, config.network, curiosity)
        how = config.representation, config.network, self.model, config.augment
        self.model.auxiliary = build_auxiliary(observation_space, *how)
        self.views = config.representation.auxiliary == "curl"
        self.policy = EpsilonGreedyPolicy(self.model, config.exploration)
        self.demonstrator: ActorCritic | QNetwork | None = None  # frozen; of another run, where the settings name one
        self.target = make_target(self.model)

    def constants(self, progress: float) -> dict[str, float]:
        return super().constants(progress) | self.config.demonstration.constants(progress)

    def copy_model(self) -> None:
        """Make the target network a copy of the online one, with the same normalisers."""
        self.model.copy_encoder()
        self.target = copy_of(self.model, self.target)

    def follow_model(self) -> None:
        if not alike(self.target, self.model):
            self.copy_model()

    def prepare(self, data: Batch, constants: dict[str, Tensor]) -> dict[str, Any]:
        """Let the normalisers take in the observations; return the batch by name."""
        self.model.update_statistics(data.obs)
        self.model.bring_bounds_up_to_date()
        curious = {}
        if self.model.curiosity is not None:
            data, curious["bonus"] = self._rewarded(data)
        return (self._sequences(data) if self.model.recurrent else data._asdict()) | curious

    def _rewarded(self, data: Batch) -> tuple[Batch, Tensor]:
        """Return transitions with what they are worth now as they are new, and how new each is."""
        seen = data.obs, data.action, data.next_obs
        if not self.model.recurrent:
            seen = tree_map(lambda leaf: leaf[None], seen)
        ends = torch.zeros(seen[1].shape, dtype=torch.bool, device=data.action.device)
        bonus, reward = self.model.curiosity.rewards(*seen, ends)
        more = reward.view_as(data.return_)
        return data._replace(return_=torch.add(data.return_, more, alpha=self.config.intrinsic.curiosity_coef)), bonus

    def _sequences(self, data: Batch) -> dict[str, Any]:
        """Return sequences by name: observations `[T, B, ...]`, with what each network remembers at their beginning,
        `[B, ...]`, and what belongs to single transitions `[T * B]`, one step after the other.

        Their first steps are only for what is remembered, and are then left out.
        """
        early = self.config.replay.burn_in
        turned = tree_map(
            lambda leaf: leaf.transpose(0, 1),
            {
                name: getattr(data, name)
                for name in ("obs", "next_obs", "start", "action", "return_", "discount", "last")
            },
        )
        carries = dict.fromkeys(("online", "target"), data.carry)
        if early:
            before = tree_map(lambda leaf: leaf[:early], (turned["obs"], turned["start"]))
            turned = tree_map(lambda leaf: leaf[early:], turned)
            for name, network in (("online", self.model), ("target", self.target)):
                carries[name] = network.remember(before[0], data.carry, before[1])
        length, rows = turned["start"].shape
        flat = {name: turned[name].flatten() for name in ("action", "return_", "discount")}
        last = (turned["last"] - early) * rows + torch.arange(rows, device=data.indices.device)
        weight = None if data.weight is None else data.weight.repeat(length)
        return {**turned, **flat, "last": last.flatten(), "weight": weight, "carries": carries}

    def draw(self, rows: int, generator: torch.Generator) -> dict[str, Any]:
        """Return the noise of noisy layers, one for all rows, and the places of sampled quantiles, for each pass."""
        size, network = self.model.noise_size, self.config.network
        sampled = network.distribution == "iqn"
        if not size and not sampled:
            return {}

        def noise() -> Noise:
            where: Any = {"generator": generator, "device": generator.device}
            layers = torch.randn(1, size, **where) if size else None
            return Noise(layers, torch.rand(rows, network.n_quantiles, **where) if sampled else None)

        return {"noise": {name: noise() for name in ("online", "target", "choice")}}

    def loss(
        self, model: nn.Module, minibatch: dict[str, Any], constants: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        noise = minibatch.get("noise") or dict.fromkeys(("online", "target", "choice"), QUIET)
        with torch.no_grad():
            target = self._backed_up(model, minibatch, noise)
        output, action = self._look(model, "online", minibatch, noise["online"]), minibatch["action"]
        taken = output.of(action)
        loss_B = self.model.values.loss(taken, target, noise["online"].tau)
        weight = minibatch["weight"]
        if weight is not None:
            error = (taken - target).abs() if taken.dim() == 1 else loss_B  # of distributions, how far they are apart
        if self.config.cql_alpha:
            loss_B = loss_B + self.config.cql_alpha * conservative_gap(output.q, action)
        also: dict[str, Tensor] = {}
        if self.demonstrator is not None:
            margin = self.config.demonstration.demonstrator_margin
            below_B = below_demonstrator(self.demonstrator, minibatch["obs"], output.q, margin)
            loss_B = loss_B + constants["demonstrator_coef"] * below_B
            also["demonstrator_loss"] = below_B.detach().mean()
        cloned_B = None if output.behaviour is None else behaviour_loss(output.behaviour, action)
        if cloned_B is not None:
            loss_B = loss_B + cloned_B
            also["behaviour_loss"] = cloned_B.detach().mean()
        loss = (loss_B if weight is None else loss_B * weight).mean()
        aux = {"q_mean": self.model.values.mean(taken.detach()).mean(), **also}
        if self.model.curiosity is not None:
            # of sequences actions are one row, as all that belongs to single transitions
            data = minibatch | ({"action": action.view_as(minibatch["start"])} if self.model.recurrent else {})
            loss, learnt = add_learning(loss, model.curiosity, data, self.config.intrinsic)
            aux |= {"curiosity_loss": learnt, "rollout/curiosity": minibatch["bonus"].mean()}
        loss, of_observations = add_auxiliary(loss, model, minibatch, self.config.representation)
        aux |= {"loss": loss.detach(), **of_observations}
        if weight is not None:
            aux["priority"] = error.detach()
        return loss, aux

    def _look(
        self, network: nn.Module, name: str, minibatch: dict[str, Any], noise: Noise, ahead: bool = False
    ) -> QOutput:
        """Return what a network says of transitions, `[B, ...]`, or, looking ahead, of what to bootstrap from."""
        if not self.model.recurrent:
            return network(minibatch["next_obs" if ahead else "obs"], (), None, noise)
        start, next_obs = minibatch["start"], minibatch["next_obs"] if ahead else None
        if noise.tau is not None:
            noise = noise._replace(tau=noise.tau.unflatten(0, start.shape))
        output = network(minibatch["obs"], minibatch["carries"][name], start, noise, next_obs)
        output = tree_map(lambda leaf: leaf.flatten(0, 1), output)
        return tree_map(lambda leaf: leaf[minibatch["last"]], output) if ahead else output

    def _backed_up(self, model: nn.Module, minibatch: dict[str, Any], noise: dict[str, Noise]) -> Tensor:
        """Return the targets `[B, ...]` of a batch's transitions."""
        config, values = self.config.target, self.model.values
        return_, discount = minibatch["return_"], minibatch["discount"]
        if (legal := action_mask(minibatch["next_obs"])) is not None:  # where nothing can be done, nothing is to come
            after_B = legal.to(discount.dtype).amax(-1)
            discount = discount * (after_B.flatten()[minibatch["last"]] if self.model.recurrent else after_B)
        after = self._look(self.target, "target", minibatch, noise["target"], ahead=True)
        if config.munchausen:
            q = self._look(self.target, "target", minibatch, noise["target"]).q
            least, temperature = config.munchausen_clip, config.munchausen_tau
            bonus = munchausen_bonus(q, minibatch["action"], config.munchausen_alpha, temperature, least)
            policy = soft_policy(after.q, temperature)
            return values.soft_backup(
                return_ + bonus, discount, after.q if after.atoms is None else after.atoms, *policy
            )
        if self.config.double_q:  # van Hasselt et al. 2016, eq. 4
            best = self.model.choice(self._look(model, "online", minibatch, noise["choice"], ahead=True)).argmax(1)
        elif after.atoms is None:
            return values.backup(return_, discount, self.model.choice(after).amax(1))
        else:
            best = self.model.choice(after).argmax(1)
        return values.backup(return_, discount, after.of(best))

    def after_round(self, before: int, after: int) -> None:
        if crossings(before, after, self.config.target_update_interval):
            self.update_target()

    def update_target(self) -> None:
        """Move the target network towards the online one by `tau`."""
        follow(tensors(self.target), tensors(self.model), self.config.tau)
