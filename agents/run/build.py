"""From a configuration to the parts of a training, put together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from gymnasium import Space

from agents.algos.dqn.algorithm import DQN
from agents.algos.dqn.config import DQNConfig
from agents.algos.ppo.algorithm import PPO
from agents.algos.ppo.config import PPOConfig
from agents.core.config import AlgoConfig
from agents.core.device import choose_device, use_threads
from agents.core.runtime import Compiler
from agents.core.types import Progress
from agents.data.replay import ReplayBuffer
from agents.loops.off_policy import off_policy
from agents.loops.on_policy import on_policy
from agents.loops.position import Position
from agents.networks.encoder import has_image
from agents.run.config import RunConfig
from envs.api import VecEnv
from envs.make import has_native, make
from envs.seeding import derive_seed

GPU_ENVS = 256  # native environments from which on a GPU has enough to do at each tick


def make_agent(
    observation_space: Space,
    action_space: Space,
    params: AlgoConfig,
    device: torch.device,
    seed: int,
    compiler: Compiler | None = None,
) -> PPO | DQN:
    """Build the agent that `params` belongs to."""
    if isinstance(params, PPOConfig):
        return PPO(observation_space, action_space, params, device, seed, compiler)
    assert isinstance(params, DQNConfig)
    return DQN(observation_space, action_space, params, device, seed, compiler)


@dataclass(slots=True)
class Training:
    """Everything a run trains with, and what a checkpoint of it holds."""

    config: RunConfig
    env: VecEnv
    agent: PPO | DQN
    position: Position
    replay: ReplayBuffer
    sampling: torch.Generator
    device_reason: str
    compiler: Compiler

    def progress(self) -> Iterator[Progress]:
        """Train from where it stands to the end of the budget."""
        params = self.config.params
        if isinstance(self.agent, PPO):
            assert isinstance(params, PPOConfig)
            return on_policy(
                self.env,
                self.agent,
                self.position,
                total_timesteps=params.total_timesteps,
                n_steps=params.n_steps,
                compiler=self.compiler,
            )
        assert isinstance(params, DQNConfig)
        return off_policy(self.env, self.agent, self.position, self.replay, self.sampling, params, self.compiler)

    def state_dict(self, with_env: bool = True) -> dict[str, Any]:
        """Return everything a training needs to go on bit for bit; without the environments' position if asked.

        Leaving it out is for a training that broke off in the middle of a tick: the next one resets them.
        """
        return {
            "agent": self.agent.state_dict(),
            "position": self.position.state_dict(),
            "env": self.env.state_dict() if with_env else None,
            "replay": self.replay.state_dict() if isinstance(self.agent, DQN) else None,
            "sampling": self.sampling.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> list[str]:
        """Take back what `state_dict` returned; return a sentence for each thing that could not be restored."""
        self.agent.load_state_dict(state["agent"])
        self.position.load_state_dict(state["position"])
        self.sampling.set_state(state["sampling"])
        if state["replay"] is not None:
            self.replay.load_state_dict(state["replay"])
        if state["env"] is not None:
            return self.env.load_state_dict(state["env"])
        self.replay.cut()
        step = self.position.step
        restarted = Position.start(self.env, derive_seed(self.config.seed, "restart", step))
        self.position.obs, self.position.tracker = restarted.obs, restarted.tracker
        return ["the environments begin new episodes: the run broke off in the middle of a step"]


def build(config: RunConfig) -> Training:
    """Make environments, agent and buffers, and reset the environments.

    Raises:
        UserError: the environment, its spaces or the device do not fit the configuration.
    """
    params = config.params
    native = config.vec in ("auto", "native") and has_native(config.env)
    choose = partial(choose_device, config.device, batch_size=params.batch_size)
    device, reason = choose(env_on_gpu=native and params.n_envs >= GPU_ENVS, pixels=False)
    env = make(
        config.env,
        params.n_envs,
        vec=config.vec,
        device=device.type if native and device.type == "cuda" else "cpu",
        tensors=config.compile == "on" and device.type == "cpu",
        env_kwargs=config.env_kwargs,
        rescale_action=params.rescales_action,
    )
    pixels = has_image(env.observation_space)
    if not env.capturable:
        device, reason = choose(env_on_gpu=False, pixels=pixels)
    use_threads(device, pixels=pixels, width=max(params.net_arch, default=1), batch_size=params.batch_size)
    compiler = Compiler(config.compile, device)
    agent = make_agent(env.observation_space, env.action_space, params, device, config.seed, compiler)
    capacity = params.buffer_size if isinstance(params, DQNConfig) else 1
    return Training(
        config=config.model_copy(update={"vec": env.backend}),  # measured once: a resumed run steps the same way
        env=env,
        agent=agent,
        position=Position.start(env, derive_seed(config.seed, "training")),
        replay=ReplayBuffer(capacity, params.n_envs, device),
        sampling=torch.Generator(device).manual_seed(derive_seed(config.seed, "replay")),
        device_reason=reason,
        compiler=compiler,
    )
