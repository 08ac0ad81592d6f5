"""stable-baselines3 (SB3) trained with our settings: the baseline of every comparison.

SB3 is imported where it is used, and neither our configurations nor our agents are: a process that only trains SB3
takes the time and memory that a script of SB3's own takes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

from envs.errors import UserError
from envs.make import make_single

if TYPE_CHECKING:
    from agents.core.config import AlgoConfig

SHARED = ("learning_rate", "gamma", "max_grad_norm", "batch_size")  # by the same name in SB3's PPO and DQN
PPO_NAMES = (
    "n_steps",
    "n_epochs",
    "gae_lambda",
    "clip_range",
    "clip_range_vf",
    "normalize_advantage",
    "ent_coef",
    "vf_coef",
    "target_kl",
)
DQN_NAMES = (
    "buffer_size",
    "learning_starts",
    "tau",
    "target_update_interval",
    "exploration_fraction",
    "exploration_initial_eps",
    "exploration_final_eps",
)
POLICY_NAMES = ("net_arch", "activation", "optimizer", "ortho_init", "log_std_init")
OTHER_NAMES = ("n_envs", "train_freq", "gradient_steps", "n_step_returns", "norm_obs", "norm_reward")
OF_THE_RUN = (
    "total_timesteps",
    "target_reward",
    "eval_freq",
    "eval_episodes",
    "final_eval_episodes",
    "save_freq",
)


@dataclass(frozen=True, slots=True)
class Trained:
    """What `train_sb3` leaves.

    Attributes:
        model: SB3's `PPO` or `DQN`.
        seconds: of `learn` alone.
        steps: environment steps taken, which may be a part of a rollout more than asked for.
        points: `(steps, seconds)` at the start, at the start of every later rollout and at the end.
    """

    model: Any
    seconds: float
    steps: int
    points: list[tuple[int, float]]


def sb3_settings(params: AlgoConfig) -> tuple[dict[str, Any], list[str]]:
    """Translate our settings into arguments of `train_sb3`; name those that SB3 has nothing like.

    Returns:
        `algo`, `n_envs`, `hyperparameters` and `normalize`, in plain values that can be sent to another process
        (`lin_X` stands for a schedule; activation and optimiser are names), and the names of the settings in use that
        had to be left out.

    Raises:
        UserError: SB3 cannot make as many updates at the same steps.
    """
    from agents.algos.ppo.config import PPOConfig

    values = params.model_dump(mode="json")
    ppo = isinstance(params, PPOConfig)
    hyperparameters = {name: values[name] for name in (*SHARED, *(PPO_NAMES if ppo else DQN_NAMES))}
    net_arch = values["net_arch"]
    policy: dict[str, Any] = {"activation_fn": values["activation"], "optimizer_class": values["optimizer"]}
    if values["optimizer"] != "sgd":
        policy["optimizer_kwargs"] = {"eps": 1e-5 if ppo else 1e-8}
    if ppo:
        policy |= {"net_arch": {"pi": net_arch, "vf": net_arch}}
        policy |= {name: values[name] for name in ("ortho_init", "log_std_init")}
    else:
        policy |= {"net_arch": net_arch}
        hyperparameters |= {"n_steps": values["n_step_returns"], **_rounds(values)}
    norm_obs, norm_reward = values["norm_obs"], values.get("norm_reward", False)
    normalize = {"norm_obs": norm_obs, "norm_reward": norm_reward, "gamma": values["gamma"]}
    arguments = {
        "algo": "ppo" if ppo else "dqn",
        "n_envs": values["n_envs"],
        "hyperparameters": hyperparameters | {"policy_kwargs": policy},
        "normalize": normalize if norm_obs or norm_reward else None,
    }
    known = {*SHARED, *PPO_NAMES, *DQN_NAMES, *POLICY_NAMES, *OTHER_NAMES, *OF_THE_RUN}
    return arguments, [name for name, value in values.items() if value and name not in known]


def _rounds(values: Mapping[str, Any]) -> dict[str, int]:
    """Return SB3's `train_freq` and `gradient_steps` for ours: SB3 counts ticks of all environments, we count steps."""
    train_freq, n_envs = values["train_freq"], values["n_envs"]
    per_round = train_freq if values["gradient_steps"] == -1 else values["gradient_steps"]
    ticks = max(train_freq // n_envs, 1)
    updates, left = divmod(per_round * ticks * n_envs, train_freq)
    if left:
        raise UserError(
            f"train_freq {train_freq} with gradient_steps {per_round} and n_envs {n_envs}: stable-baselines3 trains "
            "after whole ticks of all environments; choose a train_freq that is a multiple of n_envs, or divides it."
        )
    return {"train_freq": ticks, "gradient_steps": updates}


def make_sb3(
    algo: str,
    env_id: str,
    n_envs: int,
    hyperparameters: Mapping[str, Any],
    seed: int,
    *,
    normalize: Mapping[str, Any] | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    device: str = "cpu",
) -> Any:
    """Build SB3's PPO or DQN with its MlpPolicy (MultiInputPolicy, CnnPolicy where observations ask for it).

    Args:
        algo: "ppo" or "dqn".
        env_id: as `envs.make` takes it.
        n_envs: copies, stepped one after the other (DummyVecEnv, SB3's default).
        hyperparameters: SB3's own arguments, those that are missing at SB3's defaults; `sb3_settings` gives them.
        seed: of networks, policy and environments.
        normalize: arguments of VecNormalize, or None to go without.
        env_kwargs: the environment's own arguments.
        device: where SB3's networks live.
    """
    import stable_baselines3
    from gymnasium import spaces
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.preprocessing import is_image_space
    from stable_baselines3.common.vec_env import VecEnv, VecNormalize

    env: VecEnv = make_vec_env(partial(make_single, env_id, env_kwargs=dict(env_kwargs or {})), n_envs, seed=seed)
    image = is_image_space(env.observation_space)
    nested = isinstance(env.observation_space, spaces.Dict)
    if normalize is not None:
        env = VecNormalize(env, **normalize)
    policy = "MultiInputPolicy" if nested else "CnnPolicy" if image else "MlpPolicy"
    kind = {"ppo": stable_baselines3.PPO, "dqn": stable_baselines3.DQN}[algo]
    return kind(policy, env, seed=seed, device=device, **_arguments(hyperparameters))


def train_sb3(total_timesteps: int, **arguments: Any) -> Trained:
    """Train what `make_sb3` builds of the other arguments for a number of environment steps."""
    from stable_baselines3.common.callbacks import BaseCallback

    model = make_sb3(**arguments)
    points: list[tuple[int, float]] = []

    class Clock(BaseCallback):
        def _on_rollout_start(self) -> None:
            points.append((self.num_timesteps, perf_counter() - began))

        def _on_step(self) -> bool:
            return True

    began = perf_counter()
    model.learn(total_timesteps, callback=Clock())
    seconds = perf_counter() - began
    return Trained(model, seconds, model.num_timesteps, [*points, (model.num_timesteps, seconds)])


def _arguments(hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    """Put functions and classes where `sb3_settings` left their names."""
    import torch

    found = {name: _schedule(value) for name, value in hyperparameters.items()}
    policy = dict(found.pop("policy_kwargs", {}))
    activations = {"tanh": "Tanh", "relu": "ReLU", "elu": "ELU", "gelu": "GELU", "silu": "SiLU"}
    optimizers = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD", "rmsprop": "RMSprop"}
    if name := policy.get("activation_fn"):
        policy["activation_fn"] = getattr(torch.nn, activations[name])
    if name := policy.get("optimizer_class"):
        policy["optimizer_class"] = getattr(torch.optim, optimizers[name])
    return found | {"policy_kwargs": policy or None}


def _schedule(value: Any) -> Any:
    """Turn `lin_X` into SB3's kind of schedule: a function of the part of the run that is left."""
    if isinstance(value, str) and value.startswith("lin_"):
        start = float(value.removeprefix("lin_"))
        return lambda left: left * start
    return value


def evaluate_sb3(
    trained: Trained, env_id: str, episodes: int, seed: int, env_kwargs: Mapping[str, Any] | None = None
) -> tuple[list[float], list[int]]:
    """Play fresh episodes greedily; return their raw returns and their lengths in steps."""
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.vec_env import VecEnv, VecNormalize

    parallel = min(episodes, 10)
    env: VecEnv = make_vec_env(partial(make_single, env_id, env_kwargs=dict(env_kwargs or {})), parallel, seed=seed)
    statistics = trained.model.get_vec_normalize_env()
    if statistics is not None:
        env = VecNormalize(env, training=False, norm_obs=statistics.norm_obs, norm_reward=False)
        env.obs_rms = statistics.obs_rms
    try:
        found: Any = evaluate_policy(trained.model, env, episodes, return_episode_rewards=True)
    finally:
        env.close()
    returns, lengths = found
    return returns, lengths


def steady_rate(points: Sequence[tuple[int, float]]) -> float:
    """Return steps per second over the last nine tenths of a training.

    Args:
        points: `(steps, seconds)` in order, the end of the training last.

    What happens once (compiling, first calls, a replay buffer's first samples) lies in the first tenth; the time
    until something is learnt is measured whole elsewhere.
    """
    steps, seconds = points[-1]
    first, then = next((point for point in points if steps / 10 <= point[0] < steps), (0, 0.0))
    return (steps - first) / max(seconds - then, 1e-9)
