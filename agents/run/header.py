"""What a run says of itself as it begins: what runs where, and what it understood of its environment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from agents.run.registry import title_of
from agents.run.training import Training


def understood(training: Training) -> Iterator[str]:
    """Yield it, a line at a time."""
    config, params, model = training.config, training.config.params, training.algorithm.model
    parameters = sum(parameter.numel() for parameter in model.parameters())
    yield (
        f"{title_of(config.algo)} on {config.env}: {parameters:,} parameters, {training.runtime.summary} on "
        f"{training.policy.device} ({training.device_reason})"
    )
    yield f"{params.n_envs} environments, {training.env.backend}: {training.env.backend_reason}"
    if config.precision != "float32":
        yield f"networks compute in {config.precision} (--precision)"
    if training.runtime.compiles:
        yield "the first rounds compile: some seconds, or a minute by PyTorch; the next run finds the result on disk"
    yield from training.replay_said()
    yield from training.notes
    encoder: Any = getattr(model, "encoder", None)
    yield from () if encoder is None else encoder.description.splitlines()
    yield from params.observations.said()
    if params.augment:
        yield f"pictures are changed at random in updates: {', '.join(params.augment)}"
