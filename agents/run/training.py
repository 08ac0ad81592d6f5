"""Everything that a run trains with, and what a checkpoint of it holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from agents.acting.collector import Collector
from agents.acting.policies import ModelPolicy
from agents.core.algorithm import Algorithm
from agents.core.config import AlgoConfig
from agents.core.runtime import Runtime
from agents.core.saved import count, part, within
from agents.core.tree import to_numpy
from agents.core.types import Iteration
from agents.data.replay import ReplayBuffer
from agents.data.samplers import Sampler
from agents.learning.learner import Learner
from agents.networks.encoders import zeros
from agents.networks.normalize import RewardScale
from agents.run import loops
from agents.run.config import RunConfig
from agents.run.memory import Place, refuse_too_large_on_disk, replay_bytes, transition_bytes
from envs.adapters.around import Around
from envs.adapters.cleaning import CleanVecEnv
from envs.api import VecEnv
from envs.errors import UserError
from envs.seeding import derive_seed

if TYPE_CHECKING:
    from agents.run.imitation import Imitation


@dataclass(slots=True)
class Training:
    """The parts of a training; `config` names what "auto" came to.

    Attributes:
        origin: what it began with, where that is more than its seed, to be kept with the run.
    """

    config: RunConfig
    env: VecEnv
    algorithm: Algorithm
    learner: Learner
    collector: Collector
    replay: ReplayBuffer | None
    sampler: Sampler | None
    device_reason: str
    runtime: Runtime
    place: Place | None = None
    imitation: Imitation | None = None
    notes: list[str] = field(default_factory=list)
    origin: dict[str, Any] | None = None

    @property
    def policy(self) -> ModelPolicy:
        """What acts."""
        return self.algorithm.policy  # type: ignore[return-value]

    @property
    def step(self) -> int:
        """Environment steps taken since the run began."""
        return self.collector.state.step

    @property
    def keeps_best(self) -> bool:
        """Whether the policy as it is may be kept as the best one."""
        return True

    def extend(self, params: AlgoConfig) -> None:
        """Go on under settings that differ in the budget alone."""
        self.config = self.config.model_copy(update={"params": params})
        self.algorithm.config = params
        self.collector.schedule_steps = params.schedule_steps

    def schedules_since(self, before: AlgoConfig) -> list[str]:
        """Say what became of each schedule as the settings `before` were replaced by the present ones."""
        then, now, total = before.schedule_steps, self.config.params.schedule_steps, self.config.params.total_timesteps
        was, is_, first, last = map(self._scheduled, (self.step / then, self.step / now, 0.0, 1.0))
        if changed := [f"{name} was {was[name]:.3g} and is {is_[name]:.3g}" for name in is_ if was[name] != is_[name]]:
            return [
                f"schedules now run over {now:,} steps, before over {then:,}: {', '.join(changed)} "
                f"(--schedule-total {then} leaves them as they were)"
            ]
        if total != before.total_timesteps and (kept := [name for name in is_ if first[name] != last[name]]):
            stay = ", ".join(f"{name} is {is_[name]:.3g} as before" for name in kept)
            return [f"schedules run over {now:,} steps, and then stay at their end value: {stay}"]
        return []

    def _scheduled(self, progress: float) -> dict[str, float]:
        """Return the values that change over a run when `progress` of its schedules is done, by their names."""
        progress = min(progress, 1.0)
        found = self.algorithm.constants(progress) | self.policy.schedules(progress)
        return {name.rpartition("/")[2]: float(value) for name, value in found.items()}

    def iterations(self) -> Iterator[Iteration]:
        """Train from here to the end of the budget."""
        prepared = self.runtime.preparing
        for iteration in self._iterations():
            if self.runtime.preparing > prepared:
                iteration.seconds["compile"] = self.runtime.preparing - prepared
                prepared = self.runtime.preparing
            yield iteration

    def _iterations(self) -> Iterator[Iteration]:
        params: Any = self.config.params
        if self.imitation is not None:
            playback, held_out = self.imitation.playback, self.imitation.held_out
            measure = held_out.scalars if len(held_out.data) else dict[str, float]
            yield from loops.recorded(playback, self.learner, params, measure)
            return
        if self.replay is None or self.sampler is None:
            yield from loops.on_policy(self.collector, self.learner, params)
            return
        recorded = getattr(params, "recorded", None)
        if recorded is not None and recorded.data is not None:
            params = loops.at_once(params)
            alone = round(params.total_timesteps * (1 - recorded.online_fraction))
            yield from loops.offline(self.collector.state, alone, self.sampler, self.learner, params)
        yield from loops.off_policy(self.env, self.collector, self.replay, self.sampler, self.learner, params)

    def state_dict(self, with_env: bool = True) -> dict[str, Any]:
        """Return everything a training needs to go on bit for bit; without the environments' position if asked.

        Leaving it out is for a training that broke off in the middle of a rollout: the next one resets them.
        """
        return {
            "device": self.policy.device.type,
            "algorithm": self.algorithm.state_dict(),
            "learner": self.learner.state_dict(),
            "actor": self.collector.state.state_dict(),
            "env": self.env.state_dict() if with_env else None,
            "replay": None if self.replay is None else self.replay.state_dict(),
            "sampling": None if self.sampler is None else self.sampler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> list[str]:
        """Take back what `state_dict` returned; return a sentence for each thing that could not be restored.

        Raises:
            LookupError, TypeError, ValueError, RuntimeError, UserError: the state is not one of such a training.
        """
        actor, step = self.collector.state, count(part(part(state, "actor"), "step"), "step")
        refuse_spoilt(part(state, "algorithm"), self.algorithm.state_dict())
        self.algorithm.load_state_dict(state["algorithm"])
        notes = []
        device, was = self.policy.device.type, str(part(state, "device"))[:20]
        if device != was:
            notes.append(
                f"the run was on {was} and goes on on {device}: its random streams begin anew, so it does not repeat "
                "what it would have done there bit for bit"
            )
            fresh = self._fresh_streams(step)
            state = state | {
                "learner": part(state, "learner") | {"shuffling": fresh("minibatch")},
                "actor": state["actor"] | {"generator": fresh(self.policy.stream)},
                "sampling": dict(part(state, "sampling") or {})
                | {"generator": fresh("replay", self.policy.device if self.replay is None else self.replay.device)},
            }
        self.learner.load_state_dict(part(state, "learner"))
        actor.load_state_dict(state["actor"])
        within(actor.obs, self.env.observation_space, "obs")
        if self.replay is not None and self.sampler is not None:
            self._load_replay(part(state, "replay"))
            self.sampler.load_state_dict(part(state, "sampling"))
        if part(state, "env") is not None:
            return notes + self.env.load_state_dict(state["env"])
        self.begin_episodes()
        return [*notes, "the environments begin new episodes: the run broke off in the middle of a step"]

    def _load_replay(self, state: Any) -> None:
        """Take back the transitions, which must be of these environments."""
        assert self.replay is not None
        env, n = self.env, self.env.num_envs
        flag = torch.zeros(n, dtype=torch.bool)
        tick = {
            "obs": zeros(env.observation_space, n),
            "action": zeros(env.action_space, n),
            "reward": torch.zeros(n),
            "terminated": flag,
            "truncated": flag,
            "next_obs": zeros(env.observation_space, n),
        }
        if self.policy.recurrent:
            tick["carry"] = self.policy.initial_carry(n)
        self.replay.load_state_dict(state, tick)
        if not self.replay.store:
            return
        every = torch.arange(self.replay.rows * n, device=self.replay.device)
        held = to_numpy(every[self.replay.holds(every)])  # what is elsewhere was never written
        for name in ("obs", "action", "next_obs"):
            space = env.action_space if name == "action" else env.observation_space
            within(self.replay.flat[name], space, name, held)

    @property
    def replayed_bytes(self) -> int:
        """Bytes that a transition takes in the replay buffer."""
        carry, params = self.policy.initial_carry(1), self.config.params
        return replay_bytes(self.env.observation_space, self.env.action_space, params, carry)

    @property
    def data_bytes(self) -> int:
        """Bytes of the replay buffer, or of a rollout."""
        params: Any = self.config.params
        if self.replay is not None:
            return self.replay.rows * self.replay.num_envs * self.replayed_bytes
        spaces, successors = (self.env.observation_space, self.env.action_space), self.algorithm.successors
        return transition_bytes(*spaces, successors) * params.n_steps * params.n_envs

    def faults(self) -> Counter[str]:
        """Return how many numbers of observations had which fault and were made good."""
        layer: Any = self.env
        while isinstance(layer, Around):
            if isinstance(layer, CleanVecEnv):
                return layer.counts
            layer = layer.env
        return Counter()

    def replay_said(self) -> list[str]:
        """Say how much memory the replay buffer will take, and where, if there is one."""
        if self.place is None or self.replay is None:
            return []
        size, each = self.replay.rows * self.replay.num_envs, self.replayed_bytes
        return [
            f"replay buffer: {size:,} transitions of {each:,} bytes, {size * each / 1e9:,.2f} GB {self.place.where}"
        ]

    def keep_files_in(self, folder: Path) -> None:
        """Let what is stored on the disk lie in a folder."""
        if self.place is not None:
            self.place.folder = folder

    def refuse_too_large_on_disk(self, folder: Path, *, resumed: bool) -> None:
        """Refuse a replay buffer in files for which a folder's disk has no room.

        Raises:
            UserError: the message says how many transitions fit.
        """
        if self.place is not None and self.place.on_disk:
            refuse_too_large_on_disk(self.replayed_bytes, self.config.params, folder, resumed=resumed)  # type: ignore[arg-type]

    def begin_episodes(self) -> None:
        """Reset the environments, which something else has used; no transition leads from before to after."""
        if self.replay is not None:
            self.replay.cut()
        for module in self.algorithm.modules():
            if isinstance(module, RewardScale) and module.episodic:
                module.returns.zero_()
        actor = self.collector.state
        actor.restart(self.env, self.policy, derive_seed(self.config.seed, "restart", actor.step))

    def _fresh_streams(self, step: int) -> Any:
        """Return what gives the state of a random stream that has not been used, by the stream's name."""

        def fresh(name: str, device: torch.device = self.policy.device) -> torch.Tensor:
            seed = derive_seed(self.config.seed, "resumed", step, name)
            return torch.Generator(device).manual_seed(seed).get_state()

        return fresh


def restore(training: Training, state: dict[str, Any]) -> list[str]:
    """Take back a checkpoint's state of a training; return a sentence for each thing that could not be restored.

    Raises:
        UserError: it is not one of such a training.
    """
    try:
        return training.load_state_dict(part(state, "training"))
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
        raise UserError(f"it does not fit this run: {' '.join(str(error).split())}") from error


def refuse_spoilt(saved: Any, mine: dict[str, Any]) -> None:
    """Refuse weights and statistics that are not finite where those of a fresh model, `mine`, are.

    Raises:
        ValueError: there are some, or of a type with which PyTorch cannot tell; the message names the first.
    """
    for name, fresh in mine.items():
        found = saved.get(name) if isinstance(saved, dict) else None
        if not isinstance(found, torch.Tensor) or found.shape != fresh.shape or not found.is_floating_point():
            continue
        try:
            finite = found.isfinite()
        except NotImplementedError as error:
            raise ValueError(f"{name} is {str(found.dtype).removeprefix('torch.')}, which is not read") from error
        if not (finite | ~fresh.isfinite().to(found.device)).all():
            raise ValueError(f"{name} holds NaN or infinite values")
