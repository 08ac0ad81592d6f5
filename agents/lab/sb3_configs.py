"""Tuned settings for stable-baselines3 (SB3): `configs/sb3/<algo>/<env>.yaml`, under SB3's own names."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from agents.core.config import Activation, Schedule
from agents.run.config import Layer, load_config_file, packaged_config, validate
from envs.errors import UserError, did_you_mean

Count = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]


class Networks(BaseModel):
    """`policy_kwargs`, as plain values; None leaves SB3's default, here as below."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    net_arch: tuple[Count, ...] | None = None
    activation_fn: Activation | None = None


class PPONetworks(Networks):
    """PPO's own."""

    log_std_init: float | None = None
    ortho_init: bool = True


class Settings(BaseModel):
    """What PPO and DQN share. `total_timesteps` is the budget that the rest is tuned for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    total_timesteps: Count
    n_envs: Count = 1
    normalize: bool = False
    learning_rate: Schedule | None = None
    batch_size: Count | None = None
    gamma: Share | None = None
    max_grad_norm: Weight | None = None


class PPOSettings(Settings):
    """PPO's own."""

    n_steps: Count | None = None
    n_epochs: Count | None = None
    gae_lambda: Share | None = None
    clip_range: Schedule | None = None
    ent_coef: Weight | None = None
    vf_coef: Weight | None = None
    use_sde: bool = False
    sde_sample_freq: int | None = None


class DQNSettings(Settings):
    """DQN's own; `train_freq` counts ticks of all environments, as SB3 does."""

    buffer_size: Count | None = None
    learning_starts: Annotated[int, Field(ge=0)] | None = None
    target_update_interval: Count | None = None
    train_freq: Count | None = None
    gradient_steps: Annotated[int, Field(ge=-1)] | None = None
    exploration_fraction: Share | None = None
    exploration_initial_eps: Share | None = None
    exploration_final_eps: Share | None = None


MODELS: dict[str, tuple[type[Settings], type[Networks]]] = {
    "ppo": (PPOSettings, PPONetworks),
    "dqn": (DQNSettings, Networks),
}


def sb3_config(algo: str, env_id: str) -> Path | None:
    """Return the file with SB3's tuned settings for this environment, or None."""
    return packaged_config(f"sb3/{algo}", env_id)


def load_sb3_config(path: Path, algo: str) -> tuple[dict[str, Any], int]:
    """Read a file: the arguments of `baselines.make_sb3` but environment and seed, and the budget they are tuned for.

    Raises:
        UserError: the file is not there or no YAML, a name is unknown, or a value is not allowed.
    """
    values = load_config_file(path)
    networks = values.pop("policy_kwargs", {})
    if not isinstance(networks, dict):
        raise UserError(f"{path}: policy_kwargs: {networks!r} given, names with values expected.")
    of_all, of_networks = MODELS[algo]
    settings = _checked(of_all, values, str(path), "policy_kwargs")
    n_envs, normalize, budget = (settings.pop(name) for name in ("n_envs", "normalize", "total_timesteps"))
    hyperparameters = settings | {"policy_kwargs": _checked(of_networks, networks, f"{path}: policy_kwargs")}
    gamma = {"gamma": settings["gamma"]} if "gamma" in settings else {}  # as rl-zoo3 does
    arguments = {
        "algo": algo,
        "n_envs": n_envs,
        "hyperparameters": hyperparameters,
        "normalize": gamma if normalize else None,
    }
    return arguments, budget


def _checked(model: type[BaseModel], values: dict[str, Any], source: str, *known: str) -> dict[str, Any]:
    """Return the values that are set, defaults included, all of them valid."""
    for name in values:
        if name not in model.model_fields:
            near = did_you_mean(str(name), [*known, *model.model_fields])
            raise UserError(f"{source}: {name}: unknown setting.{near}")
    for name, field in model.model_fields.items():
        if field.is_required() and name not in values:
            raise UserError(f"{source}: {name} is missing.")
    layer = Layer(source, values)
    checked: BaseModel = validate(model, {name: (value, layer) for name, value in values.items()})
    return checked.model_dump(mode="json", exclude_none=True)
