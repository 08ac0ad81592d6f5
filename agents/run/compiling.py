"""What compiling would save of a training that goes on: told, and never done unasked (docs/performance.md says why)."""

from __future__ import annotations

from collections.abc import Iterator

from agents.run.sinks import duration
from agents.run.summary import resume_command
from agents.run.training import Training
from envs.native.vec_env import NativeVecEnv

KNOWN = 10.0  # seconds of training from which on its speed is known
COST = 60.0  # seconds that compiling takes the first time, where PyTorch compiles too
WORTH = 60.0  # seconds: to save less is not worth a word
# Of the time that a training takes in these modes so much is left where it is compiled, at the most: SAC's share, whose
# products of matrices are most of it. By NumPy, PPO's is 0.3 to 0.5, with an LSTM too, and DQN's 0.5.
LEFT = {"off": 0.75, "numpy": 0.9}
GAINING = (None, "gru", "lstm")  # memories with which that is known


def of_compiling(training: Training, seconds: float, steps: int, run: str) -> Iterator[str]:
    """Say how much `--compile on` would save, where it is known to pay and is worth it.

    Args:
        seconds: that the training took.
        steps: that it made in them.
        run: its folder.
    """
    config, params = training.config, training.config.params
    known = config.device == "cpu" and config.compile in LEFT and isinstance(training.env, NativeVecEnv)
    if not known or params.network.encoder != "flat" or params.network.recurrence.memory not in GAINING:
        return
    ahead = seconds / max(steps, 1) * (params.total_timesteps - training.step)
    if (saved := (1 - LEFT[config.compile]) * ahead - COST) >= WORTH:
        yield (
            f"{duration(ahead)} of training are left; --compile on would save {duration(saved)} of them or more, and "
            f"change what is learnt by rounding alone: Ctrl-C, then {resume_command(run)} --compile on"
        )
