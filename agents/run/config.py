"""What a run is made of, put together from layers: class defaults < packaged file < `--config FILE` < flags.

Every mistake in a layer becomes one UserError that names the file or the flag. No PyTorch here: `--help` stays quick.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, SerializeAsAny, ValidationError
from pydantic.fields import FieldInfo

from agents.core.config import AlgoConfig
from agents.core.settings import (
    MOST_WHOLE,
    CompileMode,
    Factors,
    OwnFunction,
    PartNames,
    Precision,
    Seed,
    Settings,
    Source,
)
from agents.core.user_code import is_user_code
from agents.run import code, registry
from agents.run.notation import explain, notation, show
from agents.run.spellings import ours, suggestion
from agents.run.yaml_files import dump_yaml, load_config_file
from envs.errors import UserError, listed, not_one_of
from envs.ids import is_atari

ALIASES = {
    **{"n_timesteps": "total_timesteps", "env_wrapper": "wrappers"},  # rl-zoo3's spelling
    "from": "pretrained",  # no name in Python
    **{"num_envs": "n_envs", "start_e": "exploration_initial_eps", "end_e": "exploration_final_eps"},  # CleanRL's
    **{"train_frequency": "train_freq", "target_network_frequency": "target_update_interval"},
}
CONFIGS = Path(__file__).resolve().parents[2] / "configs"
_RL_ZOO3 = re.compile(r".+-v\d+|atari|default")  # what the blocks in its files are called
RECORD_STEPS = 1_000  # the most of the episode recorded at the end of a run, if nothing else is said
FLAGS = ""  # the source of a layer that holds command-line flags


Wrapper = Annotated[str | dict[str, dict[str, Any]], "module:Wrapper"]  # a name, or name -> arguments


def _wrappers(value: Any) -> Any:
    """Read one wrapper alone as a list of one, and `- module:Wrapper:` as one without arguments."""
    entries = [value] if isinstance(value, str | dict) else [] if value is None else value
    if not isinstance(entries, list | tuple):
        return value
    for entry in entries:
        if not isinstance(entry, str | dict) or not entry or (isinstance(entry, dict) and len(entry) > 1):
            raise ValueError("must be a list of module:Wrapper, or in a file of '- module:Wrapper: {argument: value}'")
    return [
        {name: {} if given is None else given for name, given in entry.items()} if isinstance(entry, dict) else entry
        for entry in entries
    ]


class RunConfig(Settings):
    """Everything that determines a run. Its serialised form is flat: hyperparameters lie beside `env` and `seed`."""

    env: str = Field(
        min_length=1,
        description="environment, named here or in --config: a Gymnasium id, module:Id, or file.py:Class or "
        "file.py:function",
    )
    env_kwargs: dict[str, Any] = Field({}, description="the environment's own arguments, as key=value ...")
    wrappers: Annotated[list[Wrapper], BeforeValidator(_wrappers)] = Field(
        [], description="put around env in order, the first innermost: module:Wrapper or file.py:Wrapper of your own"
    )
    metrics: OwnFunction | None = Field(
        None,
        description="your own function of an episode's last info and of the run's progress (0 to 1), file.py:function, "
        "whose numbers are logged",
    )
    one_instance: bool = Field(
        False, description="only one copy of env may run at a time: training, evaluation and recording take turns"
    )
    action_names: list[str] = Field([], description="names of the actions where they are shown, if not those of env")
    observation_names: list[str] = Field(
        [], description="names of an observation's numbers, or of a picture's channels, if not those of env"
    )
    algo: str = Field("ppo", description="algorithm; your own as file.py:Class, or module:Class")
    preset: str | None = Field(
        None, min_length=1, description="parts of the algorithm that belong together, such as rainbow of dqn"
    )
    seed: Seed = Field(0, description="all randomness of the run follows from it")
    name: str | None = Field(
        None, max_length=100, description="what tells the run from others; part of its folder's name"
    )
    pretrained: Source | None = Field(
        None, description="begin with the weights of another run, checkpoint or file, as far as they fit"
    )
    reset: PartNames = Field([], description="parts of the network, by name, that begin anew all the same")
    freeze: PartNames = Field([], description="parts of the network that stay as they are")
    lr_scale: Factors = Field({}, description="what the learning rate is multiplied by in parts of the network")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="where the networks live")
    compile: CompileMode = Field(
        "auto",
        description="how updates and rollouts are run: off as they are, numpy updates by NumPy where it can, on "
        "compiled, graphs captured on a CUDA GPU, kernels also in kernels of its own there; auto is numpy on a CPU "
        "(off for large networks), kernels on CUDA",
    )
    precision: Precision = Field(
        "auto",
        description="numbers that networks compute with: tf32 shortens float32 in products on a CUDA GPU (auto does), "
        "bf16 is bfloat16 around float32 parameters, float32 neither",
    )
    vec: Literal["auto", "native", "sync", "async", "vector", "envpool", "ale"] = Field(
        "auto", description="how the copies of env are stepped; sync and async take Gymnasium's own version"
    )
    params: SerializeAsAny[AlgoConfig]

    def contradiction(self) -> str | None:
        if self.reset and self.pretrained is None:
            return "reset is of parts that would be loaded: give pretrained (--from), or leave reset out."
        return super().contradiction()

    def to_yaml(self) -> str:
        """Return all of it, resolved, as a flat YAML document."""
        return dump_yaml(self.model_dump(mode="json"))

    @classmethod
    def from_dict(cls, values: Any, source: str) -> RunConfig:
        """Read the flat form back. An algorithm of the user's own is imported: see `code.refuse`.

        Args:
            values: what was read.
            source: the file that errors name.

        Raises:
            UserError: as `resolve`.
        """
        if not isinstance(values, dict):
            raise UserError(f"{source}: the configuration is a {type(values).__name__}, not a mapping")
        return resolve([Layer(source, values)], packaged=False)


def moved_to(before: RunConfig, device: str) -> dict[str, Any]:
    """Return the settings of a run that change where it goes on on another device; {} where it is the same."""
    if device == before.device:
        return {}
    best = {} if before.compile == "on" else {"compile": "auto"}  # what is best differs with the device
    others = {"precision": "auto"} if before.precision == "tf32" else {}  # which others may not have
    return {"device": device, **best, **others}


RUN_FIELDS = {name: field for name, field in RunConfig.model_fields.items() if name != "params"}


@dataclass(frozen=True, slots=True)
class Layer:
    """Values from one place: a file, or the flags."""

    source: str
    values: dict[str, Any]

    def label(self, key: str) -> str:
        """Name one value as the user wrote it."""
        return f"{self.source}: {key}" if self.source != FLAGS else f"--{key.replace('_', '-')}"


def config_layer(path: Path, trust: code.Trust = False) -> Layer:
    """Read a file of settings as a layer.

    Args:
        path: a YAML file; one that lies in a run's folder shares its signature.
        trust: which code outside the package may be imported (`code.refuse`).

    Raises:
        UserError: as `load_config_file`, or it is a file of rl-zoo3's for several environments, or the user has not
            agreed to the code.
    """
    values = load_config_file(path)
    if values and all(isinstance(block, dict) for block in values.values()) and any(map(_RL_ZOO3.fullmatch, values)):
        first = ", ".join(list(values)[:3])
        raise UserError(
            f"{path}: settings by environment ({first}{', ...' * (len(values) > 3)}), as rl-zoo3's files hold them: "
            "give a file with the block beneath one of them alone"
        )
    code.refuse(values, str(path), path.parent, trust)
    return Layer(str(path), values)


def kind_of(env_id: str) -> list[str]:
    """Return what files for all environments of this one's kind are called, if it is of a kind that has any."""
    return ["atari"] if is_atari(env_id) else []


def packaged_config(algo: str, env_id: str) -> Path | None:
    """Return the configuration that comes with the package for this environment, or its kind, or None."""
    if is_user_code(algo):
        return None
    for name in (env_id, env_id.removeprefix("native/"), *kind_of(env_id)):
        path = CONFIGS / algo / f"{name.replace('/', '-')}.yaml"
        if path.is_file():
            return path
    return None


def merge(layers: Sequence[Layer], packaged: bool = True) -> dict[str, tuple[Any, Layer]]:
    """Return each name's value in the last layer that has it, with that layer; `env_kwargs` are merged by key.

    Values may stand in their part (`network: {net_arch: [64]}`) or by themselves; here they come by themselves.
    With `packaged`, the packaged file for the layers' environment and algorithm lies beneath them all.

    Raises:
        UserError: an unknown algorithm or name.
    """
    spec = _chosen(layers)
    fields = spec.config.flat_fields()
    if clash := sorted(fields.keys() & RUN_FIELDS.keys()):
        raise UserError(f"{spec.name}: {spec.config.__name__} has {', '.join(clash)}, which every run has: rename it")
    merged: dict[str, tuple[Any, Layer]] = {}
    for layer in layers:
        for name, value in _unfolded(layer.values, spec.config, layer):
            if name not in RUN_FIELDS and name not in fields:
                raise UserError(unknown_name(name, spec, layer.label(name)))
            before, under = merged.get(name, (None, None))
            if under is layer:
                raise UserError(f"{layer.label(name)}: given twice")
            if name == "env_kwargs" and isinstance(before, dict) and isinstance(value, dict):
                value = before | value
            merged[name] = (code.absolute(name, value), layer)
    if not packaged:
        return merged
    env, (preset, source) = merged.get("env", (None,))[0], merged.get("preset", (None, None))
    paths = [packaged_config(spec.name, env) if isinstance(env, str) else None]
    if preset is not None and source is not None:
        paths += _presets(spec.name, preset, kind_of(env) if isinstance(env, str) else [], source.label("preset"))
    beneath = []
    for path in filter(None, paths):
        values = {key: value for key, value in load_config_file(path).items() if key not in ("env", "algo")}
        beneath.append(Layer(str(path), values))
    return merge([*beneath, *layers], packaged=False) if beneath else merged


def _presets(algo: str, name: Any, kinds: Sequence[str], label: str) -> list[Path]:
    """Return the file of a preset, and after it that of its settings for such kinds of environments, if there is one.

    Raises:
        UserError: the algorithm has none of this name.
    """
    found = {path.stem: path for path in sorted((CONFIGS / algo / "presets").glob("*.yaml"))}
    if not isinstance(name, str) or name not in found:
        has = not_one_of(str(name), list(found)) if found else f"{show(name)} given, but {algo} has no presets"
        raise UserError(f"{label}: {has}")
    folder = found[name].parent
    return [found[name], *filter(Path.is_file, (folder / kind / f"{name}.yaml" for kind in kinds))]


def _chosen(layers: Sequence[Layer]) -> registry.AlgorithmSpec:
    """Return the algorithm that the last layer with one names; a user's own is imported here, which runs its file."""
    algo, source = RUN_FIELDS["algo"].default, "algo"
    for layer in layers:
        if "algo" in layer.values:
            algo, source = layer.values["algo"], layer.label("algo")
    if not isinstance(algo, str):
        raise UserError(f"{source}: {show(algo)} given, {'|'.join(registry.names())} expected.")
    return registry.find(algo, source)


def _unfolded(values: dict[str, Any], model: type[Settings], layer: Layer) -> Iterator[tuple[str, Any]]:
    """Yield each setting by its present name, those that stand in a part too."""
    for written, value in values.items():
        name = ALIASES.get(written, written)
        part = model.parts().get(name)
        if part is None:
            yield name, value
            continue
        if name == "network" and isinstance(value, str) and "encoder" in part.model_fields:
            yield "encoder", value
            continue
        if not isinstance(value, dict):
            raise UserError(f"{layer.label(name)}: {show(value)} given, a mapping of settings expected.")
        for inner, setting in _unfolded(value, part, layer):
            if inner not in part.flat_fields():
                near = suggestion(str(inner), part.flat_fields())
                raise UserError(f"{layer.label(name)}.{inner}: unknown setting of {name}.{near}")
            yield inner, setting


def owners(name: str, algo: str) -> list[str]:
    """Return the other packaged algorithms that have this setting, sorted."""
    configs = {other: registry.find(other).config for other in registry.names() if other != algo}
    return [other for other, config in configs.items() if name in config.flat_fields() | config.parts()]


def of_others(name: str, spec: registry.AlgorithmSpec) -> str:
    """Say which other packaged algorithms have a setting, by our name or another program's; "" where none has."""
    known = [*RUN_FIELDS, *spec.config.flat_fields()]
    fields = {field for other in registry.names() for field in registry.find(other).config.flat_fields()}
    for meant in [name] if ours(name, known) else [name, *ours(name, fields)]:
        if others := owners(meant, spec.name):
            return (
                f"{'this' if meant == name else meant} is a setting of {listed(others, 'and')}; the run uses "
                f"{spec.name} (--algo {listed(others, 'or')} would change that)"
            )
    return ""


def unknown_name(name: str, spec: registry.AlgorithmSpec, label: str) -> str:
    """Say that `name` is no setting of the algorithm, and which is meant perhaps."""
    if said := of_others(name, spec):
        return f"{label}: {said}"
    near = suggestion(name, [*RUN_FIELDS, *spec.config.flat_fields()])
    return f"{label}: unknown setting.{near} 'python -m agents.train --algo {spec.name} --help' lists all."


def resolve(layers: Sequence[Layer], packaged: bool = True) -> RunConfig:
    """Validate what `merge` gives, cross-field rules included.

    Raises:
        UserError: a name is unknown or `env` is missing, a value has the wrong type or is out of range, or two values
            contradict one another.
    """
    merged = merge(layers, packaged)
    if "env" not in merged:
        raise UserError("which environment? Give one, for example: --env CartPole-v1")
    if merged.get("one_instance", (False,))[0] is True:
        _set_alone(merged, _chosen(layers).config.flat_fields(), layers)
    run = {name: found for name, found in merged.items() if name in RUN_FIELDS}
    own = {name: found for name, found in merged.items() if name not in RUN_FIELDS}
    params = validate(_chosen(layers).config, own)
    config: RunConfig = validate(RunConfig, run, params=params)
    if contradiction := config.contradiction():
        raise UserError(contradiction)
    return config


def _set_alone(merged: dict[str, Any], fields: dict[str, FieldInfo], layers: Sequence[Layer]) -> None:
    """Set `n_envs` to 1, and `n_steps` so that a rollout keeps its size, where the user has not set them.

    Raises:
        UserError: the user's `n_envs` is another.
    """
    asked = {name: layer for name, (_, layer) in merged.items() if layer in layers}
    many = merged["n_envs"][0] if "n_envs" in merged else fields["n_envs"].default
    if "n_envs" in asked and many != 1:
        raise UserError(f"{asked['n_envs'].label('n_envs')}: {show(many)} given, but with one_instance it is 1.")
    alone = Layer("one_instance", {})
    merged["n_envs"] = (1, alone)
    steps = merged["n_steps"][0] if "n_steps" in merged else fields["n_steps"].default if "n_steps" in fields else None
    if "n_steps" not in asked and isinstance(steps, int):
        merged["n_steps"] = (steps * many, alone)


def validate(model: type[Any], found: dict[str, tuple[Any, Layer]], **fixed: Any) -> Any:
    """Make settings of the values found, by their own names.

    Raises:
        UserError: a value has the wrong type, is out of range, or is missing.
    """
    fields = model.flat_fields()
    for name, (value, layer) in found.items():
        expected = notation(fields[name].annotation)
        given = value if isinstance(value, list) else [value]  # Pydantic takes true for 1, and 1 for true
        if not all("true|false" in expected if isinstance(item, bool) else expected != "true|false" for item in given):
            raise UserError(f"{layer.label(name)}: {show(value)} given, {expected} expected.")
        try:
            json.dumps(value, ensure_ascii=False, default=str).encode()
        except UnicodeEncodeError as error:  # bytes of the command line that are no text, which no file of ours holds
            raise UserError(f"{layer.label(name)}: {show(value)} given, text in UTF-8 expected.") from error
    values = {name: _plain(value, fields[name]) for name, (value, _) in found.items()}
    try:
        config = model(**values, **fixed)
    except ValidationError as error:
        first = error.errors()[0]  # its place leads through parts to the setting, and on into the value
        name = next((str(place) for place in first["loc"] if place in found), "")
        if not name:
            where = Layer(FLAGS, {}).label(str(first["loc"][-1])) if first["loc"] else model.__name__
            raise UserError(f"{where}: {first['msg']}") from error
        value, layer = found[name]
        raise UserError(f"{layer.label(name)}: {explain(first, fields[name], value)}") from error
    flat = config.model_dump()
    for name, (_, layer) in found.items():
        if isinstance(flat[name], float) and not math.isfinite(flat[name]):
            raise UserError(f"{layer.label(name)}: {flat[name]} given, a finite number expected.")
        bounded = any(type(bound).__name__ in ("Le", "Lt") for bound in fields[name].metadata)  # as a seed is
        if isinstance(flat[name], int) and abs(flat[name]) > MOST_WHOLE and not bounded:
            raise UserError(f"{layer.label(name)}: {show(flat[name])} is out of range; it must be <= {MOST_WHOLE}.")
    return config


def _plain(value: Any, field: FieldInfo) -> Any:
    """Take null, which is how `none` reads, for the option called "none" where there is one."""
    return "none" if value is None and "none" in get_args(field.annotation) else value
