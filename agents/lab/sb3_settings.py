"""Settings for stable-baselines3 (SB3): ours, translated, and SB3's own tuned ones in `configs/sb3/<algo>/<env>.yaml`.

`COUNTERPARTS` is all that the laboratory knows of which algorithm of ours SB3 has too. Settings are plain values that
can be sent to another process: `lin_X` is a linear schedule; activations and optimisers are names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, create_model

from agents.core.config import AlgoConfig, ObservationConfig
from agents.core.settings import OFF, Activation, Schedule, Settings, idle
from agents.run.config import Layer, packaged_config, validate
from agents.run.registry import label
from agents.run.yaml_files import load_config_file
from envs.errors import UserError, did_you_mean

Count = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]
UNCLIPPED = 1e9  # as SB3's max_grad_norm, where ours is none: no gradient is so large


def _model(base: type[BaseModel], **kinds: Any) -> type[BaseModel]:
    """Add fields to a model: a type alone has SB3's default, which is written None; a pair is a type and a default."""
    fields: dict[str, Any] = {
        name: kind if isinstance(kind, tuple) else (kind | None, None) for name, kind in kinds.items()
    }
    return create_model("Tuned", __base__=base, **fields)


# What a file of tuned settings may hold; `total_timesteps` is the budget that the rest is tuned for. SB3's `train_freq`
# counts ticks of all environments.
TUNED = _model(
    Settings,
    **{"total_timesteps": (Count, ...), "n_envs": (Count, 1), "normalize": (bool, False)},
    **{"learning_rate": Schedule, "batch_size": Count, "gamma": Share},
)
TUNED_OFF_POLICY = _model(
    TUNED,
    **{"buffer_size": Count, "learning_starts": Annotated[int, Field(ge=0)], "train_freq": Count},
    **{"gradient_steps": Annotated[int, Field(ge=-1)]},
)
TUNED_PPO = _model(
    TUNED,
    **{"max_grad_norm": Weight, "n_steps": Count, "n_epochs": Count, "gae_lambda": Share, "clip_range": Schedule},
    **{"ent_coef": Weight, "vf_coef": Weight, "use_sde": (bool, False), "sde_sample_freq": int},
)
TUNED_DQN = _model(
    TUNED_OFF_POLICY,
    **{"max_grad_norm": Weight, "target_update_interval": Count, "exploration_fraction": Share},
    **{"exploration_initial_eps": Share, "exploration_final_eps": Share},
)
TUNED_SAC = _model(TUNED_OFF_POLICY, tau=Share, ent_coef=float | str, use_sde=(bool, False))
TUNED_NETWORKS = _model(Settings, net_arch=tuple[Count, ...], activation_fn=Activation)  # `policy_kwargs`
TUNED_QRDQN_NETWORKS = _model(TUNED_NETWORKS, n_quantiles=Count)
TUNED_SAC_NETWORKS = _model(TUNED_NETWORKS, log_std_init=float)
TUNED_PPO_NETWORKS = _model(TUNED_NETWORKS, log_std_init=float, ortho_init=(bool, True))
TUNED_RECURRENT_NETWORKS = _model(
    TUNED_PPO_NETWORKS, lstm_hidden_size=Count, n_lstm_layers=Count, shared_lstm=bool, enable_critic_lstm=bool
)


@dataclass(frozen=True, slots=True)
class Counterpart:
    """The algorithm of the same name in SB3 or its contributions, whatever letters of its class are capitals.

    Attributes:
        arguments: names of our settings that are SB3's arguments too.
        network: the same, of its `policy_kwargs`.
        translated: our settings that have another name or meaning there.
        translate: makes SB3's arguments of those, and further `policy_kwargs`.
        eps: of our optimiser.
        tuned, tuned_networks: what a file of tuned settings may hold.
        actions: the kind of action space that it needs, if only one will do.
        clips: whether it has `max_grad_norm`.
    """

    arguments: tuple[str, ...]
    network: tuple[str, ...]
    translated: tuple[str, ...]
    translate: Callable[[Mapping[str, Any]], tuple[dict[str, Any], dict[str, Any]]]
    eps: float
    tuned: type[BaseModel]
    tuned_networks: type[BaseModel]
    actions: str | None = None
    clips: bool = True


def _translate_ppo(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    widths = values["net_arch"]
    return {}, {"net_arch": widths if isinstance(widths, dict) else {"pi": widths, "vf": widths}}


def _translate_recurrent(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Let policy and value function share one memory, as ours do."""
    arguments, network = _translate_ppo(values)
    if values["memory"] != "lstm":
        raise UserError(f"RecurrentPPO of stable-baselines3 has an LSTM, and memory is {values['memory'] or 'none'}")
    sizes = {"lstm_hidden_size": values["memory_size"], "n_lstm_layers": values["memory_layers"]}
    return arguments, network | sizes | {"shared_lstm": True, "enable_critic_lstm": False}


def _translate_off_policy(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Count `train_freq` and `gradient_steps` as SB3 does, in ticks of all environments where we count steps."""
    train_freq, n_envs = values["train_freq"], values["n_envs"]
    gradient_steps = train_freq if values["gradient_steps"] == -1 else values["gradient_steps"]
    ticks = max(train_freq // n_envs, 1)
    updates, left = divmod(gradient_steps * ticks * n_envs, train_freq)
    if left:
        raise UserError(
            f"train_freq {train_freq} with gradient_steps {gradient_steps} and n_envs {n_envs}: stable-baselines3 "
            "trains after whole ticks of all environments; choose a train_freq that is a multiple of n_envs, or "
            "divides it."
        )
    counts = {"n_steps": values["n_step_returns"], "train_freq": ticks, "gradient_steps": updates}
    return counts, {"net_arch": values["net_arch"]}


SDE = ("use_sde", "sde_sample_freq")
SHARED = ("learning_rate", "gamma", "batch_size")
OFF_POLICY: Any = {
    "translated": ("train_freq", "gradient_steps", "n_step_returns"),
    "translate": _translate_off_policy,
    "eps": 1e-8,
}
COUNTERPARTS = {
    "ppo": Counterpart(
        arguments=(
            *SHARED,
            *("n_steps", "n_epochs", "gae_lambda", "clip_range", "clip_range_vf", "normalize_advantage"),
            *("ent_coef", "vf_coef", "target_kl"),
        ),
        network=("ortho_init", "log_std_init"),
        translated=(),
        translate=_translate_ppo,
        eps=1e-5,
        tuned=TUNED_PPO,
        tuned_networks=TUNED_PPO_NETWORKS,
    ),
    "dqn": Counterpart(
        arguments=(
            *SHARED,
            *("buffer_size", "learning_starts", "tau", "target_update_interval"),
            *("exploration_fraction", "exploration_initial_eps", "exploration_final_eps"),
        ),
        network=(),
        **OFF_POLICY,
        tuned=TUNED_DQN,
        tuned_networks=TUNED_NETWORKS,
        actions="Discrete",
    ),
    "sac": Counterpart(
        arguments=(
            *(*SHARED, "buffer_size", "learning_starts", "tau", "ent_coef"),
            *("target_entropy", "target_update_interval"),
        ),
        network=("n_critics",),
        **OFF_POLICY,
        tuned=TUNED_SAC,
        tuned_networks=TUNED_SAC_NETWORKS,
        actions="Box",
        clips=False,
    ),
}
COUNTERPARTS["qrdqn"] = replace(COUNTERPARTS["dqn"], tuned_networks=TUNED_QRDQN_NETWORKS)
COUNTERPARTS["recurrentppo"] = replace(
    COUNTERPARTS["ppo"],
    translated=("memory", "memory_size", "memory_layers"),
    translate=_translate_recurrent,
    tuned_networks=TUNED_RECURRENT_NETWORKS,
)
COUNTERPARTS["maskableppo"] = COUNTERPARTS["ppo"]
# What `translate_settings` handles by itself, and what says how long a run is or where it stores, not how it learns
COMMON = ("n_envs", "max_grad_norm", "net_arch", "activation", "optimizer", "norm_obs", "norm_reward")
PROTOCOL = (
    *(
        "total_timesteps",
        "target_reward",
        "save_freq",
        "video_freq",
        "record_every",
        "histogram_freq",
        "replay_storage",
    ),
    *("eval_freq", "eval_share", "eval_max_steps", "eval_episodes", "final_eval_episodes"),
)


def translate_settings(algo: str, params: AlgoConfig) -> tuple[dict[str, Any], list[str]]:
    """Translate our settings into arguments of `baselines.make_sb3`; name those that SB3 has nothing like.

    Returns:
        `algo`, `n_envs`, `hyperparameters` and `normalize`, and the names of the settings in use that are left out.

    Raises:
        UserError: SB3 has no such algorithm (Unfit), or cannot make as many updates at the same steps.
    """
    there = counterpart(algo)
    values = params.model_dump(mode="json")
    arguments, network = there.translate(values)
    policy = {"activation_fn": values["activation"], "optimizer_class": values["optimizer"], **network}
    if values["optimizer"] != "sgd":
        policy["optimizer_kwargs"] = {"eps": there.eps}
    policy |= {name: values[name] for name in there.network}
    arguments |= {name: values[name] for name in there.arguments}
    if there.clips:
        arguments["max_grad_norm"] = UNCLIPPED if values["max_grad_norm"] is None else values["max_grad_norm"]
    normalize = {"norm_obs": values["norm_obs"], "norm_reward": values.get("norm_reward", False)}
    if values.get("use_sde"):
        arguments |= {name: values[name] for name in SDE}
        policy["log_std_init"] = values["log_std_init"]
    known = {*SDE, "log_std_init", *there.arguments, *there.network, *there.translated, *COMMON, *PROTOCOL}
    if not there.clips:
        known.remove("max_grad_norm")
    known |= idle(type(params), values).keys()
    known |= {name for name, field in ObservationConfig.model_fields.items() if values.get(name) == field.default}
    left_out = [name for name, value in values.items() if name not in known and value not in OFF]
    return {
        "algo": algo,
        "n_envs": values["n_envs"],
        "hyperparameters": arguments | {"policy_kwargs": policy},
        "normalize": normalize | {"gamma": values["gamma"]} if any(normalize.values()) else None,
    }, left_out


class Unfit(UserError):
    """An algorithm that something cannot be done with, where others could."""


def counterpart(algo: str) -> Counterpart:
    """Return what SB3 has for an algorithm of ours.

    Raises:
        Unfit: nothing.
    """
    if algo not in COUNTERPARTS:
        offered = " or ".join(f"sb3:{name}" for name in COUNTERPARTS)
        raise Unfit(
            f"stable-baselines3 has no algorithm known to match {label(algo)!r}."
            f"{did_you_mean(algo, COUNTERPARTS)} Another one of its "
            f"algorithms (--against {offered}), other settings of ours (FILE.yaml) or a run can be compared instead"
        )
    return COUNTERPARTS[algo]


def tuned_settings(algo: str, env_id: str) -> tuple[dict[str, Any], int] | None:
    """Return what `load_tuned` reads of the file with SB3's tuned settings for an environment; None without one."""
    path = packaged_config(f"sb3/{algo}", env_id)
    return None if path is None else load_tuned(path, algo)


def load_tuned(path: Path, algo: str) -> tuple[dict[str, Any], int]:
    """Read a file: the arguments of `baselines.make_sb3` but environment and seed, and the budget they are tuned for.

    Raises:
        UserError: the file is not there or no YAML, a name is unknown, or a value is not allowed.
    """
    there, values = counterpart(algo), load_config_file(path)
    networks = values.pop("policy_kwargs", {})
    if not isinstance(networks, dict):
        raise UserError(f"{path}: policy_kwargs: {networks!r} given, names with values expected.")
    settings = _checked(there.tuned, values, str(path), "policy_kwargs")
    n_envs, normalize, budget = (settings.pop(name) for name in ("n_envs", "normalize", "total_timesteps"))
    settings["policy_kwargs"] = _checked(there.tuned_networks, networks, f"{path}: policy_kwargs")
    gamma = {"gamma": settings["gamma"]} if "gamma" in settings else {}  # as rl-zoo3 does
    own = {"algo": algo, "n_envs": n_envs, "hyperparameters": settings, "normalize": gamma if normalize else None}
    return own, budget


def _checked(model: type[BaseModel], values: dict[str, Any], source: str, *known: str) -> dict[str, Any]:
    """Return the values that are set, defaults included, all of them valid."""
    for name in values:
        if name not in model.model_fields:
            near = did_you_mean(str(name), [*known, *model.model_fields])
            raise UserError(f"{source}: {name}: unknown setting.{near}")
    if missing := [name for name, field in model.model_fields.items() if field.is_required() and name not in values]:
        raise UserError(f"{source}: {missing[0]} is missing.")
    layer = Layer(source, values)
    checked: BaseModel = validate(model, {name: (value, layer) for name, value in values.items()})
    return checked.model_dump(mode="json", exclude_none=True)
