"""What takes part in a comparison: our training and SB3's, other settings of ours, and models trained before."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.lab.baselines import sb3_settings
from agents.lab.comparison.job import Kind
from agents.lab.sb3_configs import load_sb3_config, sb3_config
from agents.run.config import FLAGS, Layer, RunConfig, load_config_file, resolve
from agents.run.storage import disk
from envs.errors import UserError, did_you_mean


@dataclass(frozen=True, slots=True)
class Subject:
    """One side of a pair: what it is called, and what its runs do (see `Job`)."""

    label: str
    kind: Kind
    library: str
    settings: dict[str, Any]


def our_subject(config: RunConfig, label: str = "ours") -> Subject:
    """Return our training with these settings; the seed is not one of them."""
    settings = {name: value for name, value in config.model_dump(mode="json").items() if name != "seed"}
    return Subject(label, "ours", "ours", settings)


def sb3_subject(ours: RunConfig, hyper: str) -> tuple[Subject, list[str]]:
    """Return SB3's training, and what it goes without: of our settings, or of what its own are tuned for."""
    tuned, left_out = sb3_config(ours.algo, ours.env), list[str]()
    if hyper == "same":
        settings, left_out = sb3_settings(ours.params)
    elif tuned is not None:
        settings, steps = load_sb3_config(tuned, ours.algo)
        if (cut := steps - ours.params.total_timesteps) > 0:
            left_out = [f"{cut:,} of the {steps:,} steps that its settings are tuned for"]
    else:
        settings = {"algo": ours.algo, "n_envs": 1, "hyperparameters": {}, "normalize": None}
        left_out = ["tuned settings (it has its defaults)"]
    return Subject("sb3", "sb3", "sb3", settings), left_out


def other_subject(file: Path, over: dict[str, Any]) -> Subject:
    """Return our training with the settings of a YAML file.

    Args:
        file: its settings lie over those packaged for the environment.
        over: what is the same for all: environment, algorithm, budget, protocol, device.

    Raises:
        UserError: the file cannot be used, or is for something else.
    """
    values = load_config_file(file)
    for name in ("env", "algo"):
        if values.get(name, over[name]) != over[name]:
            raise UserError(f"{file}: {name} is {values[name]!r}, but it is to be compared on {over[name]!r}")
    return our_subject(resolve([Layer(str(file), values), Layer(FLAGS, over)]), label_of(file))


def model_subject(path: Path, env: str, algo: str, *, trust: bool, vec_normalize: Path | None) -> Subject | None:
    """Return a model that was trained before: a run folder of ours, or SB3's `.zip`; None where it has no part.

    Args:
        env, algo: where it is to take part; SB3's models do not say what environment they learnt.
        trust: whether code that comes with SB3's model may be run.
        vec_normalize: the statistics that SB3's model was trained with.

    Raises:
        UserError: there is no such model, or it is not trusted.
    """
    if path.suffix == ".zip":
        from agents.lab.sb3_policy import refuse_untrusted, sb3_algo

        refuse_untrusted(path, trust)
        if sb3_algo(path) not in (algo, None):
            return None
        settings = {"model": str(path.resolve()), "sha256": _sha256(path)}
        if vec_normalize is not None:
            settings |= {"vec_normalize": str(vec_normalize.resolve()), "vec_normalize_sha256": _sha256(vec_normalize)}
        return Subject(label_of(path), "model", "sb3", settings)
    if not path.exists():
        near = did_you_mean(str(path), ["sb3"])
        raise UserError(
            f"--against: {str(path)!r} given; 'sb3', a YAML file of settings, a run folder, or a .zip of "
            f"stable-baselines3 expected.{near}"
        )
    from agents.run.models import load_policy

    loaded = load_policy(path, "latest")
    if (loaded.env, loaded.algo) != (env, algo):
        return None
    settings = {"model": str(loaded.path.resolve()), "sha256": _sha256(loaded.path / "model.safetensors")}
    return Subject(label_of(path), "model", "ours", settings)


def label_of(path: Path) -> str:
    """Return what a file or folder is called in a comparison: its name, safe in paths."""
    name = path.resolve()
    return re.sub(r"[^\w.-]+", "-", name.name if name.is_dir() else name.stem).strip("-.") or "other"


def _sha256(file: Path) -> str:
    with disk("read", file), file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
