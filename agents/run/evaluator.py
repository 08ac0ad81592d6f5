"""Greedy evaluations of a run, in environments of their own, so that evaluating disturbs nothing."""

from __future__ import annotations

from typing import Any

from agents.acting.evaluation import Evaluation, evaluate
from agents.core.types import Policy
from envs.api import VecEnv
from envs.locate import Wrappers
from envs.make import make
from envs.seeding import derive_seed

PARALLEL = {"native": 100, "sync": 10}  # evaluation environments by backend; others have as many as the training


class Evaluator:
    """Plays fresh episodes greedily. With the same arguments, the same ones whoever plays."""

    def __init__(
        self,
        env_id: str,
        seed: int,
        *,
        vec: str,
        most_episodes: int,
        n_envs: int = 1,
        env_kwargs: dict[str, Any] | None = None,
        wrappers: Wrappers = (),
        rescale_action: bool = False,
    ) -> None:
        """Environments are made when the first episode is played.

        Args:
            env_id, env_kwargs, wrappers, vec, rescale_action: as `envs.make.make` takes them, `vec` a backend's name.
            seed: of the run; each evaluation has its own stream of it.
            most_episodes: of one evaluation, so that no environment is made for nothing.
            n_envs: environments where the backend's number is not fixed.
        """
        self.seed = seed
        self._arguments: dict[str, Any] = {
            "env_id": env_id,
            "num_envs": min(PARALLEL.get(vec, n_envs), most_episodes),
            "vec": vec,
            "env_kwargs": env_kwargs,
            "wrappers": wrappers,
            "rescale_action": rescale_action,
        }
        self._env: VecEnv | None = None
        self.shared = False

    def share(self, env: VecEnv) -> None:
        """Play in these environments, which are somebody else's to close, from now on."""
        self.shared, self._env = True, env

    @property
    def env(self) -> VecEnv:
        """The environments."""
        if self._env is None:
            self._env = make(**self._arguments)
        return self._env

    def evaluate(self, policy: Policy, episodes: int, *stream: str | int) -> Evaluation:
        """Let `policy` play `episodes` episodes; `stream` names the random stream they come from."""
        return evaluate(self.env, policy, episodes, derive_seed(self.seed, *stream))

    def close(self) -> None:
        """Close the environments."""
        if self._env is not None and not self.shared:
            self._env.close()


def evaluation_scalars(result: Evaluation, training_seconds: float) -> dict[str, float]:
    """Return TensorBoard tag -> value of an evaluation after `training_seconds` of training."""
    return {
        "eval/mean_reward": float(result.returns.mean()),
        "eval/std_reward": float(result.returns.std()),
        "eval/mean_ep_length": float(result.lengths.mean()),
        "time/time_elapsed": training_seconds,
    }
