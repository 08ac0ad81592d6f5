"""Greedy evaluations of a run, in environments of their own, so that evaluating disturbs nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agents.acting.evaluation import Evaluation, evaluate
from agents.core.types import Policy, successes
from agents.run.config import RunConfig
from envs.api import VecEnv
from envs.make import make
from envs.seeding import derive_seed
from envs.single import has_time_limit

EVALUATIONS = 20  # of a run, where their frequency is chosen for it
LEAST_MAX_STEPS, USUAL_MAX_STEPS = 1_000, 10_000
PARALLEL = {"native": 100, "sync": 10}  # evaluation environments by backend; others have as many as sync


def settled(config: RunConfig, first: int = 0) -> RunConfig:
    """Return `config` with what its evaluations would choose by themselves ("auto") chosen.

    Args:
        first: step at which the run begins.
    """
    params = config.params
    steps = params.total_timesteps - first
    chosen: dict[str, Any] = {}
    if params.eval_freq == "auto":
        chosen["eval_freq"] = max(steps // EVALUATIONS, 1)
    if params.eval_share == "auto":
        chosen["eval_share"] = 1.0 if params.eval_freq == "auto" else None
    if params.eval_max_steps == "auto":
        chosen["eval_max_steps"] = most_steps(config.env, config.env_kwargs, steps, params.eval_episodes)
    return config.model_copy(update={"params": params.model_copy(update=chosen)})


def most_steps(env_id: str, env_kwargs: dict[str, Any], total_timesteps: int, eval_episodes: int) -> int | None:
    """Return after how many steps an evaluation cuts an episode; None where the environment has a time limit.

    All its episodes together then take at most a quarter of the training's steps, unless that would be less than
    `LEAST_MAX_STEPS` for each.
    """
    if has_time_limit(env_id, env_kwargs):
        return None
    return max(total_timesteps // (4 * eval_episodes), LEAST_MAX_STEPS)


def most_steps_of(config: RunConfig | None, env_id: str, env_kwargs: dict[str, Any]) -> int | None:
    """Return the same for the policy of a run (None: of something else) that plays outside it, perhaps elsewhere."""
    if has_time_limit(env_id, env_kwargs):
        return None
    chosen = None if config is None else config.params.eval_max_steps
    return chosen if isinstance(chosen, int) else USUAL_MAX_STEPS


class Evaluator:
    """Plays fresh episodes greedily. With the same arguments, the same ones whoever plays."""

    def __init__(
        self,
        env_id: str,
        seed: int,
        *,
        vec: str,
        most_episodes: int,
        max_steps: int | None = None,
        **options: Any,
    ) -> None:
        """Environments are made when the first episode is played.

        Args:
            env_id, vec, options: as `envs.make.make` takes them, `vec` a backend's name.
            seed: of the run; each evaluation has its own stream of it.
            most_episodes: of one evaluation, so that no environment is made for nothing.
            max_steps: steps after which an episode is cut, or None.
        """
        self.seed, self.max_steps = seed, max_steps
        num_envs = min(PARALLEL.get(vec, PARALLEL["sync"]), most_episodes)
        self._arguments: dict[str, Any] = {"env_id": env_id, "num_envs": num_envs, "vec": vec, **options}
        self._env: VecEnv | None = None
        self.shared = False
        self._tried = False

    def share(self, env: VecEnv) -> None:
        """Play in these environments, which are somebody else's to close, from now on."""
        self.shared, self._env = True, env

    @property
    def env(self) -> VecEnv:
        """The environments."""
        if self._env is None:
            self._env = make(**self._arguments)
        return self._env

    def doubts(self) -> str | None:
        """Say, the first time, why the environment's episodes may not repeat; None where nothing is seen."""
        tried, self._tried = self._tried, True
        if tried or (why := self.env.doubts()) is None:
            return None
        return (
            f"an episode of {self._arguments['env_id']} does not follow from its seed and actions alone, so neither "
            f"evaluations nor a resumed run repeat exactly ({why})"
        )

    def evaluate(
        self, policy: Policy, episodes: int, *stream: str | int, report: Callable[[int, int], None] | None = None
    ) -> Evaluation:
        """Let `policy` play `episodes` episodes; `stream` names the random stream they come from."""
        seed = derive_seed(self.seed, *stream)
        return evaluate(self.env, policy, episodes, seed, step_limit=self.max_steps, report=report)

    def close(self) -> None:
        """Close the environments."""
        if self._env is not None and not self.shared:
            self._env.close()


def evaluator_of(config: RunConfig, backend: str, most_episodes: int) -> Evaluator:
    """Return what evaluates the policy of a run.

    Args:
        config: `settled`.
        backend: that of the training's environments.
        most_episodes: of one evaluation.
    """
    params: Any = config.params
    return Evaluator(
        config.env,
        config.seed,
        vec=backend,
        most_episodes=most_episodes,
        env_kwargs=config.env_kwargs,
        wrappers=config.wrappers,
        rescale_action=params.rescales_action,
        max_steps=params.eval_max_steps,
        **params.observations.arguments,
    )


def evaluation_scalars(result: Evaluation, training_seconds: float) -> dict[str, float]:
    """Return TensorBoard tag -> value of an evaluation after `training_seconds` of training."""
    found = {
        "eval/mean_reward": float(result.returns.mean()),
        "eval/std_reward": float(result.returns.std()),
        "eval/mean_ep_length": float(result.lengths.mean()),
        "time/time_elapsed": training_seconds,
    }
    if reported := successes(result.infos):
        found["eval/success_rate"] = sum(reported) / len(reported)
    if result.cut is not None:
        found["eval/cut_episodes"] = float(result.cut)
    return found
