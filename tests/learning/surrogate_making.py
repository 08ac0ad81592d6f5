"""Twins that learn from the same rows: one by plain steps, one in kernels."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import Space, spaces
from torch import Tensor

from agents.algos.ppo.config import PPOConfig
from agents.core.runtime import Runtime
from agents.learning.kernels.surrogate import SurrogateUpdate
from agents.learning.learner import Learner
from agents.run.build import make_algorithm
from tests.algos.making import N_STEPS, NUM_ENVS, OBS, Made
from tests.core.kernels import DEVICE


def twin(action_space: Space, runtime: Runtime | None = None, **options: Any) -> Made:
    """Return a learner on the device of kernels; twins are alike."""
    settings = {"n_envs": NUM_ENVS, "n_steps": N_STEPS, "net_arch": (16,), "learning_rate": 0.01, "ent_coef": 0.01}
    config = PPOConfig.model_validate({**settings, **options})
    algorithm = make_algorithm("ppo", OBS, action_space, config, 0).to(DEVICE)
    return Made(algorithm, Learner(algorithm, runtime or Runtime(), 0))


def update_of(made: Made) -> SurrogateUpdate:
    """Return what would take the place of a learner's minibatches."""
    return SurrogateUpdate(made.algorithm, made.learner.parameters, made.learner.optimizer)


def arguments(made: Made, rows: int, steps: int, seed: int = 0) -> tuple[Any, ...]:
    """Return what `_all_minibatches` is called with for some steps, half of whose ratios lie beyond the clip range."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    obs, space = 2 * drawn(rows, *OBS.shape), made.model.action_space
    if isinstance(space, spaces.Box):
        action = drawn(rows, *space.shape)
    else:
        action = torch.randint(int(space.n), (rows,), generator=generator)
    obs, action = obs.to(DEVICE), action.to(DEVICE)
    made.model.update_statistics(obs)
    with torch.no_grad():
        distribution, value = made.model(obs)
        log_prob = distribution.log_prob(action) + 0.3 * drawn(rows).to(DEVICE)
        old = value + 0.3 * drawn(rows).to(DEVICE)
    columns = {"advantage": 3 * drawn(rows) + 1, "return": 2 * drawn(rows)}
    data = {"obs": obs, "action": action, "log_prob": log_prob, "value": old}
    data |= {name: leaf.to(DEVICE) for name, leaf in columns.items()}
    epochs = made.algorithm.n_epochs if steps > 1 else 1
    order = torch.stack([torch.randperm(rows, generator=generator) for _ in range(epochs)]).to(DEVICE)
    rates = made.learner.optimizer.rates(0.01, steps)
    constants = {"clip_range": 0.2, "clip_range_high": made.algorithm.config.clip_range_high}
    ranges = {name: torch.tensor(each, device=DEVICE) for name, each in constants.items() if each is not None}
    return data, order, rates, ranges
